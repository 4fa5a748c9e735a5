"""What ``veneer run layers`` asks, as one value, and the trials that follow from it.

As in Zhao, Ziser & Cohen 2024, one model is tuned on all tasks at once (the multi-task model) and one on each
task alone (its specialist), all from the same base and in the same way. Then layers are compared, task by
task, at the last token of the prompt. Two controls are ours: the ceiling, two seeds of one specialist, and
the floor, specialists of different tasks on the same prompts.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from veneer.analysis.embedding import WAYS, Way
from veneer.finetune.recipe import Recipe
from veneer.language.instructions.tasks import HELD_OUT
from veneer.tasks.errors import InputError

if TYPE_CHECKING:  # listing and help answer at once
    from veneer.language.training import Training

Kind = Literal["base", "multi-task", "specialist", "compare", "map", "known"]
Method = Literal["full", "lora"]
METHODS: tuple[Method, ...] = get_args(Method)
Pair = Literal["base", "multi-task", "ceiling", "floor", "other task", "base and multi-task"]
PAIRS: dict[Pair, str] = {
    "base": "base and specialist",
    "multi-task": "multi-task model and specialist",
    "ceiling": "two seeds of the specialist",
    "floor": "specialist and another task's specialist",
    "other task": "multi-task model and another task's specialist",
    "base and multi-task": "base and multi-task model",
}
"""What is compared, always on the prompts of one task."""
QUERIES_AND_VALUES = ("q_proj", "v_proj")
"""Where the paper puts LoRA."""
OTHERS = 2
"""Specialists of other tasks that each specialist is compared with."""


@dataclass(frozen=True)
class Layers:
    """Tune a base on many tasks and on each alone, and compare the models layer by layer.

    The texts below the fields are also what the command line says of its options.
    """

    base: str | None = None
    """Model to tune: a folder or a hub's name; none takes the ready one, which has seen no instruction."""
    data: str | None = None
    """Examples of one's own, .jsonl or .parquet (instruction, input, output, task, cluster); none takes
    seventeen tasks made by program."""
    tasks: tuple[str, ...] = ()
    """Tasks to take; none named takes all."""
    held_out: tuple[str, ...] = HELD_OUT
    """Tasks that the multi-task model is not tuned on; only their specialists are."""
    method: Method = "full"
    """full: all weights move. lora: LoRA on queries and values, as in the paper."""
    rank: int = 8
    """Of LoRA."""
    learning_rate: float = 3e-3
    """AdamW's maximal rate, of every model; a cosine follows, without warm-up."""
    updates: int = 200
    """Most updates of a specialist."""
    multi_updates: int = 800
    """Most updates of the multi-task model."""
    look: int = 40
    """Updates between two looks at examples that decide nothing else; training ends at the first look at
    which enough of their answers are right. 0 always goes to the last update."""
    enough: float = 0.98
    """Share of right answers that is enough."""
    batch: int = 16
    """Examples of an update."""
    examples: int = 1_000
    """Most examples of a task for its specialist."""
    cluster_examples: int = 1_500
    """Most examples of a cluster of tasks for the multi-task model (the paper: 50,000)."""
    texts: int = 256
    """Most prompts of a task on which layers are compared, each once; no training saw their inputs, except
    those of facts."""
    questions: int = 64
    """Most of these whose answers are looked at."""
    mapped: int = 16
    """Prompts of a task in the pictures of layers and in the silhouettes; 0 leaves both out."""
    picture: Way | None = None
    """How layers become a plane: pca, tsne or umap; none takes tsne where scikit-learn is installed."""
    known: int = 1
    """Seeds of the control on written capabilities, where the changed block is known; 0 leaves it out."""
    seeds: int = 3
    """Of order, of LoRA's first weights, and of the examples. One seed has no intervals, and a ceiling only
    by --ceiling."""
    ceiling: tuple[str, ...] = ()
    """With one seed: tasks whose specialist is tuned with a second one, too, so that they have a ceiling."""

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError("method", self.method, ", ".join(METHODS))
        if self.picture is not None and self.picture not in WAYS:
            raise InputError("picture", self.picture, f"{', '.join(WAYS)}, or none")
        for name, least, most in (
            ("seeds", 1, 1000),
            ("rank", 1, 10**4),
            ("examples", 4, 10**7),
            ("cluster_examples", 4, 10**7),
            ("texts", 8, 10**6),
            ("questions", 4, 10**6),
            ("mapped", 0, 10**4),
            ("known", 0, 100),
            ("look", 0, 10**6),
        ):
            if not least <= getattr(self, name) <= most:
                raise InputError(name, getattr(self, name), f"{least} to {most:,}")
        if not 0 < self.enough <= 1:
            raise InputError("enough", self.enough, "a share above 0, up to 1")
        if self.ceiling and self.seeds > 1:
            raise InputError("ceiling", self.ceiling, "none with several seeds: every task has one then")
        for name in ("tasks", "held_out", "ceiling"):
            own = getattr(self, name)
            if len(set(own)) != len(own):
                raise InputError(name, own, "each task once")
        for kind in ("multi-task", "specialist"):
            self.recipe(kind)

    def recipe(self, kind: Kind) -> Recipe:
        """Rate, updates and batch of a model.

        Raises:
            InputError: those that no recipe can have.
        """
        updates = self.multi_updates if kind == "multi-task" else self.updates
        return Recipe("adamw", self.learning_rate, updates, batch=self.batch)

    def looks(self, kind: Kind) -> tuple[int, ...]:
        """Updates after which a training is looked at: at even distances, and at its end."""
        last = self.recipe(kind).iterations
        return (*range(self.look, last, self.look), last) if self.look else (last,)

    def training(self, kind: Kind) -> "Training":
        """How a model is tuned."""
        from veneer.language.training import Training

        recipe = self.recipe(kind)
        if self.method == "full":
            return Training(recipe)
        return Training(recipe, self.rank, within=QUERIES_AND_VALUES)


@dataclass(frozen=True)
class LayerTrial:
    """One model that is tuned, or one comparison.

    Attributes:
        kind: "base", "multi-task" and "specialist" are models; "compare" holds the layers of models against
            each other on one task's prompts; "map" puts one model's layers on a plane; "known" is the control
            on written capabilities.
        task: of a specialist or a comparison; of a map, which model ("base" or "multi-task").
        seed: of what is drawn.
    """

    kind: Kind
    task: str = ""
    seed: int = 0

    @property
    def id(self) -> str:
        """Its name in the folder."""
        return "-".join(filter(None, (self.kind, _plain(self.task), f"seed-{self.seed}")))

    @property
    def told(self) -> str:
        """What is done, in a few words."""
        done = {
            "base": "base as it is",
            "multi-task": "multi-task model",
            "specialist": f"specialist of {self.task}",
            "compare": f"layers compared on {self.task}",
            "map": f"map of the {self.task}",
            "known": "layers of written capabilities",
        }[self.kind]
        return f"{done}, seed {self.seed}"

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def trials(settings: Layers, tasks: tuple[str, ...]) -> tuple[LayerTrial, ...]:
    """Everything that is to be done with these tasks, in order: models, then comparisons."""
    seeds = range(settings.seeds)
    found = [LayerTrial("base")]
    for seed in seeds:
        found.append(LayerTrial("multi-task", seed=seed))
        found += [LayerTrial("specialist", task, seed) for task in tasks]
    found += [LayerTrial("specialist", task, 1) for task in settings.ceiling]
    found += [LayerTrial("compare", task, seed) for seed in seeds for task in tasks]
    if settings.mapped:
        found.append(LayerTrial("map", "base"))
        found += [LayerTrial("map", "multi-task", seed) for seed in seeds]
    if settings.known:
        found.append(LayerTrial("known"))
    return tuple(found)


def _plain(name: str) -> str:
    """A task's name as a part of a file's name."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)


LAYERS: dict[str, Layers] = {
    "quick": Layers(),
    "standard": Layers(
        updates=600,
        multi_updates=6_000,
        look=100,
        examples=5_000,
        cluster_examples=10_000,
        texts=1_000,
        questions=200,
        known=3,
    ),
    "paper": Layers(
        method="lora",
        learning_rate=5e-5,
        look=0,
        updates=10_000,
        multi_updates=100_000,
        examples=50_000,
        cluster_examples=50_000,
        texts=10_000,
        questions=1_000,
        mapped=100,
        known=3,
    ),
}
"""By preset. ``paper`` has the paper's method, rate, batch and caps (3 epochs), and asks for a ``--base``."""
