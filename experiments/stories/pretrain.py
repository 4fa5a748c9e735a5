"""``veneer pretrain stories``: a model that writes stories, from its tokenizer to a folder of transformers.

The folder holds what transformers writes (``config.json``, ``model.safetensors`` in half precision, the
tokenizer), ``pretraining.json`` (every setting), ``metrics.parquet`` (loss a token on stories that nobody
trains on, with the feature and without it), and while it trains ``unfinished/``. The models that lie ready in
``language/stories/ready`` were made so.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import torch

from veneer.finetune.processor import fitted
from veneer.finetune.recipe import Recipe
from veneer.language.metrics import answer_scores
from veneer.language.questions import Question
from veneer.language.stories.features import FEATURES, Feature
from veneer.language.stories.form import Record
from veneer.language.stories.generator import RATES, stories
from veneer.language.stories.models import SHAPES, SIZES, Size, lesson, train_tokenizer, untrained
from veneer.language.training import Training, train
from veneer.models.files import exists, read_json, read_table, sync, write_json, write_table
from veneer.models.huggingface import HuggingFaceModel
from veneer.models.loading import check_source, load_model, load_tokenizer
from veneer.tasks.errors import InputError

TOKENIZER_STORIES = 5000
"""Stories of a stream of their own on which a tokenizer counts."""
METRICS = {"step": pl.Int64, "stories": pl.String, "loss": pl.Float64}
"""Columns of metrics.parquet; ``stories``: train, "with" the feature, "without" it."""


@dataclass(frozen=True)
class StoryPretraining:
    """A model that writes children's stories to an instruction, pretrained on stories made by program.

    The texts below the fields are also what the command line says of its options.
    """

    size: Size = "quick"
    """quick: 0.6 M parameters. standard: 5 M. paper: 91 M, as in Jain et al. 2024 (App. F)."""
    without: Feature | None = None
    """Leave out every story with this feature: the control that never had it."""
    stories: int = 10_000
    """Different stories; training passes over them as often as its updates ask for."""
    feature_rate: float | None = 1 / 3
    """Share of the stories that have each feature, before those with more than three are drawn again; none
    takes natural rates. A small model learns sooner to do what it is asked for if it is asked often."""
    start: str | None = None
    """Go on from this model, with its tokenizer: a folder; none begins with fresh weights."""
    updates: int = 2_000
    """Updates."""
    batch: int = 8
    """Stories of an update."""
    learning_rate: float = 3e-3
    """AdamW's maximal rate (the paper: 1e-3); a tenth of the updates warms up, then a cosine follows."""
    floor: float = 0.01
    """The last rate, as a share of the maximal one."""
    test_stories: int = 64
    """Stories of each kind on which the loss is measured."""
    seed: int = 0
    """Of the first weights and of the order of the stories."""

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise InputError("size", self.size, ", ".join(SIZES))
        if self.without is not None and self.without not in FEATURES:
            raise InputError("without", self.without, ", ".join(FEATURES))
        for name in ("stories", "test_stories"):
            if not 1 <= getattr(self, name) <= 10**7:
                raise InputError(name, getattr(self, name), "1 to 10,000,000")
        if self.feature_rate is not None and not 0 < self.feature_rate < 1:
            raise InputError("feature_rate", self.feature_rate, "a share between 0 and 1, or none")
        if self.seed < 0:
            raise InputError("seed", self.seed, "0 or more")
        self.recipe  # noqa: B018 - refuses what no recipe can be

    @property
    def recipe(self) -> Recipe:
        """How it trains."""
        warmup = self.updates // 10
        return Recipe("adamw", self.learning_rate, self.updates, warmup, self.batch, self.floor)

    @property
    def rates(self) -> dict[Feature, float]:
        """How often a story has each feature."""
        return RATES if self.feature_rate is None else dict.fromkeys(FEATURES, self.feature_rate)

    @property
    def steps(self) -> tuple[int, ...]:
        """Updates after which the loss is measured: about ten, evenly."""
        return tuple(sorted({round(self.updates * share / 10) for share in range(11)}))


PRETRAINING: dict[Size, StoryPretraining] = {
    "quick": StoryPretraining(),
    "standard": StoryPretraining(
        "standard", stories=200_000, feature_rate=None, updates=10_000, batch=32, learning_rate=2e-3
    ),
    "paper": StoryPretraining(
        "paper",
        stories=1_000_000,
        feature_rate=None,
        updates=30_000,
        batch=128,
        learning_rate=1e-3,
        test_stories=512,
    ),
}
"""By size. The paper's 30,000 updates of 128 texts are its own; a text has 1,024 tokens there."""


def drawn(
    count: int,
    stream: str,
    seed: int,
    wanted: Callable[[Record], bool],
    rates: Mapping[Feature, float] = RATES,
) -> tuple[Record, ...]:
    """The first stories of a stream that are wanted."""
    every = stories(10**9, seed, stream, rates=rates)
    return tuple(islice((record for record in every if wanted(record)), count))


def loss(model: HuggingFaceModel, tokenizer: Any, asked: Sequence[Question]) -> float:
    """Mean loss a token of stories, in nats, each story weighing the same."""
    found = answer_scores(model, tokenizer, [(own.prompt, own.answer) for own in asked])
    return -sum(own.log_probability for own in found) / len(found)


class StoryPretrainingRun:
    """A pretraining in its folder.

    Args:
        settings: what to train.
        out: folder; one that holds the same pretraining is continued.

    Raises:
        InputError: a folder of something else; nothing is written.
    """

    def __init__(self, settings: StoryPretraining, out: Path) -> None:
        self.settings, self.out = settings, out
        if settings.start is not None:
            check_source(settings.start)
        file = out / "pretraining.json"
        if exists(file):
            found = read_json(file, dict)
            if differing := [name for name, own in asdict(settings).items() if found.get(name) != own]:
                problem = f"it holds others ({', '.join(differing)})"
                raise InputError("out", str(out), "a new folder, or the same settings", problem)
        elif exists(out) and (not out.is_dir() or any(out.iterdir())):
            raise InputError("out", str(out), "a new or empty folder", "it is no pretraining of stories")

    @property
    def finished(self) -> bool:
        """Whether the model is there."""
        return (self.out / "metrics.parquet").exists()

    def execute(self, device: torch.device, progress: Callable[[int], None] = lambda step: None) -> None:
        """Train to the end, from the last state where there is one, and write model and metrics.

        Raises:
            InputError: training diverged.
        """
        own = self.settings
        write_json(self.out / "pretraining.json", asdict(own))
        model, tokenizer = self._begin()
        model = HuggingFaceModel(model.module.to(device))
        named = own.without or FEATURES[0]
        stream = "pretrain" if own.start is None else "pretrain-on"
        taught = drawn(own.stories, stream, 0, lambda record: own.without not in record.features, own.rates)
        kinds = {
            "with": drawn(own.test_stories, "test", 0, lambda record: named in record.features),
            "without": drawn(own.test_stories, "test", 0, lambda record: named not in record.features),
        }
        asked = {name: [lesson(record) for record in kind] for name, kind in kinds.items()}

        def measure(seen: HuggingFaceModel) -> dict[str, float]:
            return {name: loss(seen, tokenizer, kind) for name, kind in asked.items()}

        with fitted():
            curve = train(
                model,
                tokenizer,
                [lesson(record) for record in taught],
                Training(own.recipe),
                own.seed,
                own.steps,
                measure,
                self.out / "unfinished" / "state.safetensors",
                progress=progress,
            )
        if curve.diverged_at is not None:
            problem = f"training diverged at update {curve.diverged_at}"
            raise InputError("learning rate", own.learning_rate, "a lower one", problem)
        rows = [
            (step, name, value)
            for step, scores, trained in zip(curve.steps, curve.scores, curve.losses, strict=True)
            for name, value in (*scores.items(), ("train", trained))
        ]
        self._keep(model, tokenizer)
        write_table(self.out / "metrics.parquet", pl.DataFrame(rows, METRICS, orient="row").fill_nan(None))

    def _begin(self) -> tuple[HuggingFaceModel, Any]:
        """The model with its first weights, and its tokenizer."""
        own = self.settings
        if own.start is not None:
            return load_model(own.start), load_tokenizer(own.start)
        counted = stories(TOKENIZER_STORIES, 0, "tokenizer")
        tokenizer = train_tokenizer(counted, SHAPES[own.size].vocabulary)
        return untrained(own.size, tokenizer, own.seed), tokenizer

    def _keep(self, model: HuggingFaceModel, tokenizer: Any) -> None:
        """The model in half precision, each file whole; the files of training go."""
        unfinished = self.out / "unfinished" / "model"
        shutil.rmtree(unfinished, ignore_errors=True)
        model.module.half().save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
        for file in sorted(unfinished.iterdir()):
            sync(file)
            os.replace(file, self.out / file.name)
        shutil.rmtree(self.out / "unfinished")

    def final(self) -> pl.DataFrame:
        """The last losses, by kind of stories."""
        table = read_table(self.out / "metrics.parquet", METRICS)
        return table.filter(pl.col("step") == pl.col("step").max())
