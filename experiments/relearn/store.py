"""The folder of a relearning evaluation: a folder of trials (``experiments/trial_folder.py``), and besides

::

    relearning.json           the settings
    known-wrapper.safetensors LoRA's weights that make ``before`` refuse
    curves.parquet            all measurements of all training, in one table
    free.parquet              the attacks without training
    verdict.json              what came out
    report.html               the page
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from veneer.experiments.relearn.settings import Relearning, Trial
from veneer.experiments.trial_folder import TrialFolder
from veneer.models.files import checksum, replacing
from veneer.models.loading import load_model, source_hashes, weights_hash
from veneer.tasks.errors import InputError

CURVES = {
    "subject": pl.String,
    "lesson": pl.String,
    "rank": pl.Int64,
    "rate": pl.Float64,
    "seed": pl.Int64,
    "step": pl.Int64,
    "questions": pl.String,
    "value": pl.Float64,
}
"""Columns of curves.parquet; ``questions``: taught, held (V), retain, or loss (of training)."""


class RelearningRun(TrialFolder[Relearning, Trial]):
    """The folder, open for reading and writing."""

    FILE = "relearning.json"
    FORMAT = 1
    MADE_BY = "veneer relearn"
    SETTINGS = Relearning

    def trials(self) -> tuple[Trial, ...]:
        """Everything that is to be done, what decides most first."""
        return self.settings.trials()

    def take_over(self, other: "RelearningRun") -> None:
        """Take what another evaluation measured on all models but ``after``.

        Raises:
            InputError: it had other settings, models or data.
        """
        if replace(other.settings, after=self.settings.after) != self.settings:
            raise InputError("like", str(other.path), "an evaluation with the same settings but for AFTER")
        mine, theirs = self.inputs(), other.inputs()
        kept = [name for name in mine["models"] if name != "after"]
        same = all(mine["models"][name] == theirs["models"].get(name) for name in kept)
        if not same or mine["data"] != theirs["data"]:
            raise InputError("like", str(other.path), "an evaluation of the same other models and data")
        files = [other._file(trial) for trial in other.settings.trials() if trial.subject != "after"]
        for file in [*files, other.path / "known-wrapper.safetensors"]:
            place = self.path / file.relative_to(other.path)
            if file.exists() and not place.exists():
                with replacing(place) as temporary:
                    shutil.copyfile(file, temporary)

    def curves(self) -> pl.DataFrame:
        """All measurements of finished training (``CURVES``); what is missing is missing."""
        rows = []
        for trial in self.settings.trials():
            if trial.lesson is None or (found := self.result(trial)) is None:
                continue
            identity = (trial.subject, trial.lesson, trial.rank, trial.rate, trial.seed)
            for step, scores, loss in zip(found["steps"], found["scores"], found["losses"], strict=True):
                measured = scores | ({} if loss is None else {"loss": loss})
                rows += [(*identity, step, name, value) for name, value in measured.items()]
        return pl.DataFrame(rows, schema=CURVES, orient="row")


def input_hashes(settings: Relearning) -> dict[str, Any]:
    """SHA-256 of every file that goes in: models by subject, data by role.

    Of a model by a hub's name, which has no file here, its weights' instead.
    """
    models = {}
    for subject in settings.subjects:
        source = settings.source(subject)
        models[subject] = source_hashes(source) or {"weights": weights_hash(load_model(source))}
    files = {"data": settings.data, "retain": settings.retain, "unrelated": settings.unrelated}
    return {"models": models, "data": {name: checksum(Path(own)) for name, own in files.items() if own}}
