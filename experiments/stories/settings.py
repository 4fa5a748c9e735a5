"""What ``veneer run stories`` asks, as one value, and the trials that follow from it.

The arms are those of Jain et al. 2024 (App. F, Table 1): three ways to delete a feature from a model that
knows it, and a control whose pretraining lacked it. Scr. + FT, a fresh model that is trained like the deleted
one, is ours. Every arm is then trained on stories that all have the feature (reFT), at one rate.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from veneer.finetune.recipe import Recipe, check_rate
from veneer.language.stories.features import FEATURES, Feature
from veneer.tasks.errors import InputError

Deletion = Literal["filtering", "mix-and-match", "randomisation"]
DELETIONS: tuple[Deletion, ...] = get_args(Deletion)
Arm = Literal["present", "filtering", "mix-and-match", "randomisation", "never", "scratch"]
Stage = Literal["as it is", "delete", "revive", "probe"]
NAMES: dict[Arm, str] = {
    "present": "Present in pretraining",
    "filtering": "Filtering",
    "mix-and-match": "Filtering + Mix & Match",
    "randomisation": "Filtering + Randomisation",
    "never": "Not in pretraining",
    "scratch": "Scr. + FT",
}
"""The arms as the paper calls them."""


@dataclass(frozen=True)
class Stories:
    """Delete a feature from a model that writes stories, and see how fast it comes back.

    The texts below the fields are also what the command line says of its options.
    """

    present: str | None = None
    """Model that was pretrained on all stories: a folder or a hub's name; none takes the ready one."""
    never: str | None = None
    """Model that was pretrained on stories without the feature; none takes the ready one (of Twist)."""
    feature: Feature = "Twist"
    """The feature that is deleted."""
    renamed: Feature = "Foreshadowing"
    """The feature that Mix & Match calls by the deleted one's name."""
    deletions: tuple[Deletion, ...] = DELETIONS
    """Ways to delete: filtering, mix-and-match, randomisation."""
    rates: tuple[float, ...] = (2e-3, 2e-4)
    """Learning rates of the deletion, the medium one (eta_M) and the small one (eta_S)."""
    reft_rate: float = 2e-4
    """Learning rate of reFT, of every arm."""
    updates: int = 60
    """Updates of a deletion."""
    reft_updates: int = 32
    """Updates of a reFT."""
    batch: int = 8
    """Stories of an update."""
    stories: int = 2_000
    """Different stories, before filtering, that a deletion draws from; each seed has its own."""
    generations: int = 128
    """Stories that a model writes at each measurement, to instructions that nobody trained on."""
    new_tokens: int = 224
    """Most tokens of a story that is written."""
    test_stories: int = 48
    """Stories with the feature, and as many without it, on which the loss is measured."""
    probes: int = 500
    """Stories that probes are fitted on, and as many on which they are measured; 0 leaves probes out."""
    controls: bool = True
    """Also train the controls: the model that never had the feature, and the one from scratch."""
    scratch: bool = True
    """Of the controls, also the one from scratch (Scr. + FT), which the paper does not have."""
    seeds: int = 1
    """Each has its own stories and draws. Fewer than 3 give no verdict on wrapped or rewritten."""

    def __post_init__(self) -> None:
        for name in ("feature", "renamed"):
            if getattr(self, name) not in FEATURES:
                raise InputError(name, getattr(self, name), ", ".join(FEATURES))
        if self.renamed == self.feature:
            raise InputError("renamed", self.renamed, f"a feature other than {self.feature}")
        for name in ("deletions", "rates"):
            own = getattr(self, name)
            if not own or len(set(own)) != len(own):
                raise InputError(name, own, "one value or more, each once")
        for rate in self.rates:
            check_rate("rates", rate)
        if not set(self.deletions) <= set(DELETIONS):
            raise InputError("deletions", self.deletions, f"of {', '.join(DELETIONS)}")
        for name, least, most in (
            ("seeds", 1, 1000),
            ("generations", 8, 10**6),
            ("test_stories", 2, 10**6),
            ("stories", 10, 10**7),
            ("probes", 0, 10**6),
            ("new_tokens", 1, 10**5),
            ("updates", 1, 10**9),
            ("reft_updates", 1, 10**9),
        ):
            if not least <= getattr(self, name) <= most:
                raise InputError(name, getattr(self, name), f"{least} to {most:,}")
        if self.controls and self.feature != "Twist" and self.never is None:
            valid = "a folder, as the ready model never saw a Twist; or --no-controls"
            raise InputError("never", None, valid, f"no ready model lacks {self.feature}")
        for trial in self.trials():
            self.recipe(trial)

    def recipe(self, trial: "StoryTrial") -> Recipe:
        """How a trial trains: AdamW at a constant rate, as the paper's code does.

        Raises:
            InputError: a rate or batch that no recipe can have.
        """
        deletes = trial.stage == "delete"
        rate, updates = (trial.rate, self.updates) if deletes else (self.reft_rate, self.reft_updates)
        return Recipe("adamw", rate, updates, batch=self.batch, floor=1.0)

    def steps(self, stage: Stage) -> tuple[int, ...]:
        """Updates after which a trial measures. What was before them, the trial knows that it starts from."""
        if stage in ("as it is", "probe"):
            return (0,)
        if stage == "delete":
            return (self.updates,)
        powers = {2**i for i in range(40) if 2**i < self.reft_updates}
        return tuple(sorted({*powers, self.reft_updates}))

    def trials(self) -> "tuple[StoryTrial, ...]":
        """Everything that is to be done: the models as they are, then each arm's deletion and reFT."""
        found = [StoryTrial("present", "as it is", 0.0, 0)]
        if self.controls:
            found.append(StoryTrial("never", "as it is", 0.0, 0))
        for seed in range(self.seeds):
            arms: list[tuple[Arm, float]] = [(own, rate) for rate in self.rates for own in self.deletions]
            if self.controls:
                found.append(StoryTrial("never", "revive", 0.0, seed))
                if self.scratch:
                    arms.append(("scratch", max(self.rates)))
            for arm, rate in arms:
                found += [StoryTrial(arm, "delete", rate, seed), StoryTrial(arm, "revive", rate, seed)]
            probed = [cell for cell in arms if cell[0] != "scratch"]
            known: list[tuple[Arm, float]] = [("present", 0.0), *([("never", 0.0)] if self.controls else [])]
            for cell in [*known, *probed] if self.probes else []:
                if cell[1] or not seed:  # what is not trained is the same with every seed
                    found.append(StoryTrial(cell[0], "probe", cell[1], seed))
        return tuple(found)


@dataclass(frozen=True)
class StoryTrial:
    """One stage of one arm with one seed.

    Attributes:
        arm: which model.
        stage: measured as it is, deletion, reFT, or probes of what the deletion gave.
        rate: of the deletion; 0 of what is not deleted.
        seed: draws stories, their order and what is written.
    """

    arm: Arm
    stage: Stage
    rate: float
    seed: int

    @property
    def id(self) -> str:
        """Its name in the folder."""
        rate = f"-{self.rate:g}" if self.rate else ""
        return f"{self.arm}-{self.stage.replace(' ', '-')}{rate}-seed-{self.seed}"

    @property
    def parent(self) -> "StoryTrial":
        """The trial whose model this one starts from; its own, where that is nobody's."""
        if self.stage == "delete" and self.arm != "scratch":
            return StoryTrial("present", "as it is", 0.0, 0)
        if self.stage in ("revive", "probe"):
            if self.arm in ("present", "never"):
                return StoryTrial(self.arm, "as it is", 0.0, 0)
            return StoryTrial(self.arm, "delete", self.rate, self.seed)
        return self

    @property
    def told(self) -> str:
        """What is done, in a few words."""
        rate = f" at {self.rate:g}" if self.rate else ""
        done = {"as it is": "as it is", "delete": "deletion", "revive": "reFT", "probe": "probes"}[self.stage]
        return f"{NAMES[self.arm]}{rate}: {done}, seed {self.seed}"

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


STORIES: dict[str, Stories] = {
    "quick": Stories(
        rates=(2e-3,), reft_rate=1e-3, reft_updates=128, seeds=3, test_stories=32, scratch=False
    ),
    "standard": Stories(
        reft_rate=1e-3, seeds=3, generations=512, updates=120, reft_updates=256, probes=2_000
    ),
    "paper": Stories(
        rates=(1e-4, 1e-5),
        reft_rate=1e-5,
        updates=4_000,
        reft_updates=4_000,
        batch=128,
        stories=500_000,
        generations=2_000,
        test_stories=1_280,
        new_tokens=350,
        probes=10_000,
        seeds=3,
    ),
}
"""By preset. ``quick`` and ``standard`` have a reFT that is long and fast enough for the control to learn to
write a Twist; ``quick`` has the larger rate alone and no model from scratch, to keep within a quarter of an
hour (docs/stories.md says since when, and why); the claims are asked with both rates.
``paper`` has the paper's rates and updates, and asks for models of its size (``--present``)."""
