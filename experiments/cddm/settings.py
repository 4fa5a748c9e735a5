"""What ``veneer run cddm`` asks, as one value, and the trials that follow from it.

Arms are those of Lin (2024), a pretrained model that is fine-tuned and the same network trained from scratch,
and two that say what a difference between them means: the pretrained model as it is, and one whose pretrained
weights are permuted within each matrix and then fine-tuned, which keeps their sizes and loses what they say.
All are taught the same decisions in the same order. Each trains until its accuracy on held-out pairs of
numbers reaches one level, or to the end of its updates: insides are compared of arms that decide equally
well.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from veneer.analysis.embedding import WAYS, Way
from veneer.finetune.recipe import Recipe
from veneer.language.cddm import TRAINED
from veneer.tasks.errors import InputError

Arm = Literal["pretrained", "fine-tuned", "scratch", "shuffled"]
Taught = Literal["fine-tuned", "scratch", "shuffled"]
Stage = Literal["train", "look"]
ARMS: tuple[Arm, ...] = get_args(Arm)
TAUGHT: tuple[Taught, ...] = get_args(Taught)
NAMES: dict[Arm, str] = {
    "pretrained": "Pretrained, as it is",
    "fine-tuned": "Pretrained and fine-tuned",
    "scratch": "From scratch",
    "shuffled": "Shuffled, then fine-tuned",
}


@dataclass(frozen=True)
class Decisions:
    """Teach a pretrained model decisions that depend on a context, and a fresh one; compare their insides.

    The texts below the fields are also what the command line says of its options.
    """

    base: str | None = None
    """Pretrained model: a folder or a hub's name; none takes the ready one, which has read of numbers."""
    arms: tuple[Taught, ...] = TAUGHT
    """Arms that are taught: fine-tuned, scratch, shuffled. The pretrained model as it is is always there."""
    wordings: tuple[int, ...] = (1,)
    """Wordings of a decision that are taught, of 1 to 3; another one is kept for testing."""
    reach: float = 0.85
    """Accuracy on held-out pairs of numbers at which an arm stops training."""
    learning_rate: float = 2e-3
    """AdamW's rate, the same for every arm; a twentieth of the updates warms up, then it stays."""
    updates: int = 1_500
    """Most updates of an arm."""
    every: int = 25
    """Updates between two measurements, at each of which an arm may stop."""
    batch: int = 32
    """Decisions of an update."""
    rank: int = 0
    """LoRA's rank for what starts from pretrained weights; 0 moves all weights. From scratch all move."""
    trials: int = 20_000
    """Different decisions that are taught; each seed has its own."""
    checked: int = 256
    """Held-out decisions on which accuracy is measured while an arm trains."""
    looked: int = 512
    """Held-out decisions, others than these, on which arms are measured at the end and looked into."""
    ablated: int = 192
    """Of these, how many are answered without each head, MLP and block."""
    mean_ablation: bool = True
    """Also put the mean in a part's place, and not zero alone; it takes as long again."""
    generic: int = 32
    """Ordinary texts on which heads of the pretrained model are ablated."""
    embeddings: tuple[Way, ...] = ("pca", "tsne")
    """Ways to draw hidden states on a plane: pca, tsne, umap."""
    seeds: int = 3
    """Each has its own decisions, order and first weights. Fewer than 3 answer no claim."""

    def __post_init__(self) -> None:
        if not self.wordings or not set(self.wordings) <= set(range(1, len(TRAINED) + 1)):
            raise InputError("wordings", self.wordings, f"one or more of 1 to {len(TRAINED)}")
        if not set(self.embeddings) <= set(WAYS):
            raise InputError("embeddings", self.embeddings, f"of {', '.join(WAYS)}")
        if not self.arms or not set(self.arms) <= set(TAUGHT):
            raise InputError("arms", self.arms, f"one or more of {', '.join(TAUGHT)}")
        for name in ("arms", "wordings", "embeddings"):
            if len(set(getattr(self, name))) != len(getattr(self, name)):
                raise InputError(name, getattr(self, name), "each once")
        if not 0.5 < self.reach <= 1:
            raise InputError("reach", self.reach, "above 0.5, which is guessing, to 1")
        for name, least, most in (
            ("seeds", 1, 1000),
            ("trials", 8, 10**7),
            ("checked", 8, 10**6),
            ("looked", 64, 10**6),
            ("ablated", 8, 10**6),
            ("generic", 1, 10**6),
            ("updates", 1, 10**9),
            ("every", 1, 10**9),
            ("rank", 0, 10**6),
        ):
            if not least <= getattr(self, name) <= most:
                raise InputError(name, getattr(self, name), f"{least:,} to {most:,}")
        if self.ablated > self.looked:
            raise InputError("ablated", self.ablated, f"at most looked, {self.looked}")
        self.recipe  # noqa: B018 - refuses what no recipe can be

    @property
    def recipe(self) -> Recipe:
        """How every arm trains: AdamW at a constant rate, so that stopping early is no other schedule.

        Raises:
            InputError: a rate or batch that no recipe can have.
        """
        warmup = self.updates // 20
        return Recipe("adamw", self.learning_rate, self.updates, warmup, self.batch, floor=1.0)

    @property
    def steps(self) -> tuple[int, ...]:
        """Updates after which accuracy is measured."""
        return tuple(sorted({*range(0, self.updates, self.every), self.updates}))

    @property
    def templates(self) -> tuple[str, ...]:
        """The wordings that are taught."""
        return tuple(TRAINED[number - 1] for number in self.wordings)

    def plan(self) -> "tuple[DecisionTrial, ...]":
        """Everything that is to be done: first what is compared, then the arm with shuffled weights.

        The model as it is needs no training, and is looked at once.
        """
        found: list[DecisionTrial] = []
        for arms in (ARMS[:-1], ARMS[-1:]):
            trained: list[tuple[Arm, int]] = [
                (arm, seed) for seed in range(self.seeds) for arm in arms if arm in self.arms
            ]
            untrained: list[tuple[Arm, int]] = [(arm, 0) for arm in arms if arm == "pretrained"]
            looked = [*untrained, *trained]
            found += [DecisionTrial(arm, "train", seed) for arm, seed in trained]
            found += [DecisionTrial(arm, "look", seed) for arm, seed in looked]
        return tuple(found)

    def trials_of(self, stage: Stage) -> "tuple[DecisionTrial, ...]":
        """The trials of a stage, in order."""
        return tuple(trial for trial in self.plan() if trial.stage == stage)


@dataclass(frozen=True)
class DecisionTrial:
    """One arm with one seed: its training, or what is found inside it.

    Attributes:
        arm: which model.
        stage: "train" or "look".
        seed: draws decisions, their order, first weights and permutations.
    """

    arm: Arm
    stage: Stage
    seed: int

    @property
    def id(self) -> str:
        """Its name in the folder."""
        return f"{self.arm}-{self.stage}-seed-{self.seed}"

    @property
    def trained(self) -> "DecisionTrial | None":
        """The trial that trains the model that this one looks into; None of what needs none."""
        if self.stage == "train" or self.arm == "pretrained":
            return None
        return DecisionTrial(self.arm, "train", self.seed)

    @property
    def told(self) -> str:
        """What is done, in a few words."""
        doing = "training" if self.stage == "train" else "a look inside"
        return f"{NAMES[self.arm]}: {doing}, seed {self.seed}"

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


DECISIONS: dict[str, Decisions] = {
    "quick": Decisions(arms=("fine-tuned", "scratch"), rank=8),
    "standard": Decisions(
        wordings=(1, 2, 3),
        rank=8,
        updates=6_000,
        every=50,
        batch=64,
        trials=100_000,
        checked=512,
        looked=1_024,
        ablated=1_024,
        generic=128,
        embeddings=("pca", "tsne", "umap"),
        seeds=5,
    ),
    "paper": Decisions(
        wordings=(1, 2, 3),
        learning_rate=1e-4,
        updates=5_000,
        every=50,
        batch=64,
        trials=100_000,
        checked=512,
        looked=1_024,
        ablated=1_024,
        generic=128,
        embeddings=("pca", "umap"),
        seeds=5,
    ),
}
"""By preset. LoRA of rank 8 is the gentlest way that was tried (docs/cddm.md): all weights at the same rate
forget what the base knew. ``quick`` leaves out the arm that no claim asks for. ``paper`` asks for GPT-2
(``--base gpt2``), on a GPU; its rate and updates are ours, as the paper's could not be read."""
