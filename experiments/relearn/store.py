"""The folder of a relearning evaluation: what was asked, what went in, and every finished trial.

::

    relearning.json           the settings
    inputs.json               sources, SHA-256 of models and data, versions, commit, device
    trials/ID.json            one finished trial: what was done, what was measured
    states/ID.safetensors     a trial in training; gone when it is done
    locks/ID.lock             held by the process that works on the trial
    known-wrapper.safetensors LoRA's weights that make ``before`` refuse
    curves.parquet            all measurements of all training, in one table
    free.parquet              the attacks without training
    verdict.json              what came out
    report.html               the page

A trial's file appears whole. A run that is interrupted is gone on with by the same command.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock, Timeout

from veneer.experiments.relearn.settings import Relearning, Trial
from veneer.models.files import checksum, read_json, write_json
from veneer.models.loading import load_model, source_hashes, weights_hash
from veneer.tasks.errors import InputError

FORMAT = 1
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


class RelearningRun:
    """The folder, open for reading and writing."""

    def __init__(self, path: Path, settings: Relearning) -> None:
        self.path, self.settings = path, settings

    @staticmethod
    def open(path: Path, settings: Relearning) -> "RelearningRun":
        """Begin in a new or empty folder, or go on with the one that is there.

        Raises:
            InputError: the folder holds something else, or other settings.
        """
        RelearningRun.check(path, settings)
        run = RelearningRun(path, settings)
        try:
            write_json(path / "relearning.json", run._described())
        except OSError as error:
            raise InputError("out", str(path), "a folder that can be written", str(error)) from error
        return run

    @staticmethod
    def check(path: Path, settings: Relearning) -> None:
        """Whether a folder can hold this evaluation; nothing is written.

        Raises:
            InputError: it holds something else, other settings, or other models and data than before.
        """
        file = path / "relearning.json"
        if not file.exists():
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                valid = "a new or empty folder, or an evaluation to go on with"
                raise InputError("out", str(path), valid, "it holds something else")
            return
        found, wanted = read_json(file), RelearningRun(path, settings)._described()
        if found != wanted:
            old, new = found.get("settings", {}), wanted["settings"]
            differing = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
            valid = "a new folder, or the same settings"
            raise InputError("out", str(path), valid, f"it holds other settings ({', '.join(differing)})")

    @staticmethod
    def read(path: Path) -> "RelearningRun":
        """The evaluation in a folder.

        Raises:
            InputError: there is none.
        """
        found = read_json(path / "relearning.json")
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise InputError("run", str(path), "a folder that veneer relearn made")
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in found["settings"].items()
        }
        return RelearningRun(path, Relearning(**fields))

    def withdraw(self) -> None:
        """Remove the folder if nothing has been measured in it yet: nothing half-written is left."""
        kept = {file.name for file in self.path.iterdir()} - {"relearning.json", "inputs.json", "locks"}
        if not kept:
            shutil.rmtree(self.path)

    def _described(self) -> dict[str, Any]:
        return {"format": FORMAT, "settings": json.loads(json.dumps(asdict(self.settings)))}

    def record_inputs(self, told: dict[str, Any]) -> None:
        """Keep what went in, the first time; refuse models or data that changed since.

        Raises:
            InputError: they did.
        """
        file = self.path / "inputs.json"
        if file.exists():
            old = read_json(file)
            for name in ("models", "data"):
                if old.get(name) != told[name]:
                    raise InputError("out", str(self.path), "a new folder", f"its {name} have changed since")
            return
        write_json(file, told)

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
                place.parent.mkdir(parents=True, exist_ok=True)
                temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
                shutil.copyfile(file, temporary)
                os.replace(temporary, place)

    def inputs(self) -> dict[str, Any]:
        """What went in."""
        return read_json(self.path / "inputs.json")

    def done(self, trial: Trial) -> bool:
        """Whether a trial is finished."""
        return self._file(trial).exists()

    def pending(self) -> list[Trial]:
        """The trials that are not finished."""
        return [trial for trial in self.settings.trials() if not self.done(trial)]

    def result(self, trial: Trial) -> dict[str, Any] | None:
        """What a trial measured; None if it is not finished."""
        return read_json(self._file(trial))["result"] if self.done(trial) else None

    def finish(self, trial: Trial, result: dict[str, Any]) -> None:
        """Keep what a trial measured."""
        write_json(self._file(trial), {"trial": trial.plain(), "result": result})

    def state(self, trial: Trial) -> Path:
        """Where the state of a trial in training is kept."""
        return self.path / "states" / f"{trial.id}.safetensors"

    def _file(self, trial: Trial) -> Path:
        return self.path / "trials" / f"{trial.id}.json"

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Hold a lock by name, if nobody else does."""
        file = self.path / "locks" / f"{name}.lock"
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

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
