"""Pretraining of a text model of our own, from its tokenizer to a folder of transformers.

The folder holds what transformers writes (``config.json``, ``model.safetensors`` in half precision, the
tokenizer), ``pretraining.json`` (every setting), ``metrics.parquet`` (loss a token on texts that nobody
trains on, by their kind), and while it trains ``unfinished/``.
"""

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import polars as pl
import torch

from veneer.finetune.processor import fitted
from veneer.finetune.recipe import Recipe
from veneer.language.metrics import answer_scores
from veneer.language.questions import Question
from veneer.language.training import Training, train
from veneer.models.files import exists, read_json, read_table, sync, write_json, write_table
from veneer.models.huggingface import HuggingFaceModel
from veneer.models.loading import check_source
from veneer.tasks.errors import InputError


@dataclass(frozen=True)
class Pretraining:
    """The settings that every pretraining has.

    The texts below the fields are also what the command line says of its options.
    """

    start: str | None = None
    """Go on from this model, with its tokenizer: a folder; none begins with fresh weights."""
    updates: int = 2_000
    """Updates."""
    batch: int = 8
    """Texts of an update."""
    learning_rate: float = 3e-3
    """AdamW's maximal rate; a tenth of the updates warms up, then a cosine follows."""
    floor: float = 0.01
    """The last rate, as a share of the maximal one."""
    seed: int = 0
    """Of the first weights and of the order of the texts."""

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError("seed", self.seed, "0 or more")
        self.recipe  # noqa: B018 - refuses what no recipe can be

    @property
    def recipe(self) -> Recipe:
        """How it trains."""
        warmup = self.updates // 10
        return Recipe("adamw", self.learning_rate, self.updates, warmup, self.batch, self.floor)


SettingsKind = TypeVar("SettingsKind", bound=Pretraining)


def tenths(updates: int) -> tuple[int, ...]:
    """Updates after which to measure: about ten, evenly, with the first and the last."""
    return tuple(sorted({round(updates * share / 10) for share in range(11)}))


def loss(model: HuggingFaceModel, tokenizer: Any, asked: Sequence[Question]) -> float:
    """Mean loss a token of answers, in nats, each answer weighing the same."""
    found = answer_scores(model, tokenizer, [(own.prompt, own.answer) for own in asked])
    return -sum(own.log_probability for own in found) / len(found)


class TextPretraining(ABC, Generic[SettingsKind]):
    """A pretraining in its folder. Each kind says what is taught, what is asked, and what it begins with.

    Args:
        settings: what to train.
        out: folder; one that holds the same pretraining is continued.

    Raises:
        InputError: a folder of something else; nothing is written.
    """

    OF: ClassVar[str]
    """What the texts are, in the plural: a column of ``metrics.parquet``."""

    def __init__(self, settings: SettingsKind, out: Path) -> None:
        self.settings, self.out = settings, out
        if settings.start is not None:
            check_source(settings.start)
        file = out / "pretraining.json"
        if exists(file):
            found = read_json(file, dict)
            if differing := [name for name, own in self._described().items() if found.get(name) != own]:
                problem = f"it holds others ({', '.join(differing)})"
                raise InputError("out", str(out), "a new folder, or the same settings", problem)
        elif exists(out) and (not out.is_dir() or any(out.iterdir())):
            problem = f"it is no pretraining on {self.OF}"
            raise InputError("out", str(out), "a new or empty folder", problem)

    @abstractmethod
    def taught(self) -> list[Question]:
        """What is trained on."""

    @abstractmethod
    def asked(self) -> dict[str, list[Question]]:
        """What the loss is measured on, by kind."""

    @abstractmethod
    def begin(self) -> tuple[HuggingFaceModel, Any]:
        """The model with its first weights, and its tokenizer."""

    def _described(self) -> dict[str, Any]:
        settings: Any = self.settings
        return asdict(settings)

    @property
    def columns(self) -> dict[str, Any]:
        """Columns of metrics.parquet; the kinds are those of ``asked``, and train."""
        return {"step": pl.Int64, self.OF: pl.String, "loss": pl.Float64}

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
        write_json(self.out / "pretraining.json", self._described())
        model, tokenizer = self.begin()
        model = HuggingFaceModel(model.module.to(device))
        asked = self.asked()

        def measure(seen: HuggingFaceModel) -> dict[str, float]:
            return {name: loss(seen, tokenizer, kind) for name, kind in asked.items()}

        with fitted():
            curve = train(
                model,
                tokenizer,
                self.taught(),
                Training(own.recipe),
                own.seed,
                tenths(own.updates),
                measure,
                self.out / "unfinished" / "state.safetensors",
                progress=progress,
            )
        if curve.diverged_at is not None:
            problem = f"training diverged at update {curve.diverged_at}"
            raise InputError("learning_rate", own.learning_rate, "a lower one", problem)
        rows = [
            (step, name, value)
            for step, scores, trained in zip(curve.steps, curve.scores, curve.losses, strict=True)
            for name, value in (*scores.items(), ("train", trained))
        ]
        self._keep(model, tokenizer)
        table = pl.DataFrame(rows, self.columns, orient="row").fill_nan(None)
        write_table(self.out / "metrics.parquet", table)

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
        """The last losses, by kind of texts."""
        table = read_table(self.out / "metrics.parquet", self.columns)
        return table.filter(pl.col("step") == pl.col("step").max())
