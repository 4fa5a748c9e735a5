"""What a relearning evaluation asks, as one value, and the trials that follow from it.

A *subject* is a model that goes in (after, before, never, start) or is made (known wrapper). A *trial* is one
attack on one subject with one seed: training on what is taught, or something that needs no training. Controls
go through the same grid of recipes as ``after``.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from veneer.finetune.cell import content_hash
from veneer.finetune.recipe import Recipe, check_rate
from veneer.language.attacks import FreeAttack
from veneer.language.training import Training
from veneer.tasks.errors import InputError

Subject = Literal["before", "after", "never", "start", "wrapper"]
Lesson = Literal["taught", "permuted", "retain", "unrelated"]
FIRST_STEPS = (0, 1, 2, 4, 8)


@dataclass(frozen=True)
class Relearning:
    """The question, and how hard it is asked.

    The texts below the fields are also what the command line says of its options.
    """

    before: str
    """The model that has the capability: a folder, a .gguf file, a hub's name, or BASE+ADAPTER."""
    after: str
    """The model that is said not to have it any more."""
    data: str
    """Questions: JSON lines or Parquet with prompt and answer (and group, choices)."""
    never: str | None = None
    """A model that never had the capability (a retain-only or filtered one): the best control."""
    start: str | None = None
    """An untrained or base model to teach it to, where there is no --never."""
    retain: str | None = None
    """Questions that AFTER should still answer: tells targeted from catastrophic."""
    unrelated: str | None = None
    """Questions on something else, to train on."""
    metric: str = "exact"
    """exact, choice, log-probability, or FILE.py:FUNCTION of (prompt, answer, written text)."""
    guess: float | None = None
    """The metric's value of not knowing (default: the metric's own)."""
    updates: int = 32
    """Updates of each attack by training."""
    seeds: int = 3
    """Each divides the questions anew. Fewer than 3 give no verdict on wrapped or rewritten."""
    rates: tuple[float, ...] = (3e-4, 1e-3)
    """Learning rates of the grid."""
    ranks: tuple[int, ...] = (0, 8)
    """LoRA's ranks of the grid; 0 is full fine-tuning."""
    batch: int = 16
    """Questions in an update."""
    accumulate: int = 1
    """Parts of a batch that go through the model one after another, to save memory."""
    embeddings: bool = True
    """Whether full fine-tuning moves the token embedding."""
    taught_share: float = 0.5
    """Share of the questions (or groups) that are taught."""
    most: int = 64
    """Questions of the retain set asked at each measurement."""
    bits: tuple[int, ...] = (8, 4)
    """Attacks without training: weights of so many bits."""
    noise: tuple[float, ...] = (0.1, 0.2, 0.4)
    """Noise on the weights, as shares of each matrix's root mean square."""
    mix: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Shares of the way towards BEFORE, and towards --start."""
    truncate: tuple[float, ...] = (0.1,)
    """Shares of the singular values of the change that are kept."""
    depths: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Where in the model one direction is taken out (0 the first block, 1 the last)."""
    train_on_retain: bool = True
    """Also train on the retain set alone: what comes back then needed no question of the capability."""
    known_wrapper: bool = True
    """Put BEFORE, taught to refuse, through the same grid, to see that it can revive."""
    refusal: str = "I do not know."
    """What it is taught to say."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 on CUDA only."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise InputError("seeds", self.seeds, "1 or more")
        if self.updates < 2:
            raise InputError("updates", self.updates, "2 or more")
        for name in ("rates", "ranks"):
            own = getattr(self, name)
            if not own or len(set(own)) != len(own):
                raise InputError(name, own, "one value or more, each once")
        if any(bits < 2 or bits > 16 for bits in self.bits):
            raise InputError("bits", self.bits, "2 to 16")
        for name in ("noise", "mix", "truncate", "depths"):
            if any(not 0 <= own <= 1 for own in getattr(self, name)):
                raise InputError(name, getattr(self, name), "shares in [0, 1]")
        if self.most < 1:
            raise InputError("most", self.most, "1 or more")
        for rate in self.rates:
            check_rate("rates", rate)
            for rank in self.ranks:
                self.training(rank, rate)

    def training(self, rank: int, rate: float) -> Training:
        """How an attack trains."""
        recipe = Recipe(
            "adamw",
            rate,
            self.updates,
            warmup=min(2, self.updates),
            batch=self.batch,
            weight_decay=0.0,
            precision=self.precision,
        )
        return Training(recipe, rank, self.embeddings and not rank, self.accumulate)

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """Updates after which an attack is measured: 0, powers of two and halfway between, and the last."""
        steps, value = {0, self.updates}, 1.0
        while value < self.updates:
            steps.add(round(value))
            value *= 2 if value < FIRST_STEPS[-1] else 2**0.5
        return tuple(sorted(steps))

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """The models that go in, in the order in which they are looked at."""
        given: dict[Subject, str | None] = {
            "before": self.before,
            "after": self.after,
            "never": self.never,
            "start": self.start,
        }
        return tuple(name for name, source in given.items() if source is not None)

    def source(self, subject: Subject) -> str:
        """Where a subject's model is."""
        source = getattr(self, subject)
        assert isinstance(source, str)
        return source

    def free_attacks(self) -> Iterator[FreeAttack]:
        """The attacks that need no training."""
        yield from (FreeAttack("bits", float(own)) for own in self.bits)
        yield from (FreeAttack("noise", own) for own in self.noise)
        yield from (FreeAttack("direction", own) for own in self.depths)
        yield from (FreeAttack("interpolate", own) for own in self.mix)
        if self.start is not None:
            yield from (FreeAttack("interpolate", own, "start") for own in self.mix)
        yield from (FreeAttack("truncate", own) for own in self.truncate)

    def trials(self) -> "tuple[Trial, ...]":
        """Everything that is to be done, what decides most first."""
        found = [Trial(subject, None, attack=None) for subject in self.subjects]
        arms: tuple[tuple[Subject, Lesson, bool], ...] = (
            ("after", "taught", True),
            ("never", "taught", self.never is not None),
            ("start", "taught", self.start is not None),
            ("after", "permuted", True),
            ("wrapper", "taught", self.known_wrapper),
            ("after", "retain", self.retain is not None and self.train_on_retain),
            ("after", "unrelated", self.unrelated is not None),
        )
        for seed in range(self.seeds):
            for subject, lesson, _ in filter(lambda arm: arm[2], arms):
                for rank in self.ranks:
                    found += [Trial(subject, seed, lesson, rank, rate) for rate in self.rates]
        for attack in self.free_attacks():
            seeds = range(self.seeds) if attack.kind in ("noise", "direction") else (None,)
            whom: tuple[Subject, ...] = ("after", "before") if attack.brings_nothing else ("after",)
            found += [Trial(subject, seed, attack=attack) for seed in seeds for subject in whom]
        return tuple(found)


@dataclass(frozen=True)
class Trial:
    """One attack on one subject; without lesson and attack, the subject as it is.

    Attributes:
        subject: whose model.
        seed: divides the questions and draws what is drawn; None where nothing depends on it.
        lesson: what is trained on.
        rank: LoRA's, or 0.
        rate: learning rate.
        attack: an attack without training.
    """

    subject: Subject
    seed: int | None
    lesson: Lesson | None = None
    rank: int = 0
    rate: float = 0.0
    attack: FreeAttack | None = field(default=None)

    @property
    def id(self) -> str:
        """Its name in the store: readable, and different for every trial."""
        return f"{self.subject}-{self.kind}-{content_hash(self.plain())[:8]}"

    @property
    def kind(self) -> str:
        """What is done, in a word."""
        if self.lesson is not None:
            return self.lesson
        return "as-is" if self.attack is None else self.attack.kind

    @property
    def told(self) -> str:
        """What is done, in a few words."""
        if self.lesson is not None:
            method = f"LoRA {self.rank}" if self.rank else "full"
            return f"{self.subject}: {method} at {self.rate:g} on {self.lesson}, seed {self.seed}"
        done = "as it is" if self.attack is None else self.attack.name
        return f"{self.subject}: {done}" + ("" if self.seed is None else f", seed {self.seed}")

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)
