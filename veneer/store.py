"""The run store: a run is a folder that a person can read without us.

::

    experiment.json            name, preset and every field of the experiment
    environment.json           versions, commit, device
    plan.json                  which cells train together as a fleet
    baselines.json             majority-class and shortcut baselines of every evaluation set
    capabilities/NAME-seed-0/  a capability as the cells start from it, with what it can do
    cells/ID/cell.json         what was trained, how it ended, checksums of the files beside it
    cells/ID/metrics.parquet   accuracy and loss over the updates
    cells/ID/model.safetensors weights after the last update (and model.json, their shape)
    cells/ID/attention.safetensors  attention after the last update
    fleets/ID.safetensors      state of a fleet in training

A cell's folder is written under a temporary name and renamed, so it is there whole or not at all.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors.torch import save_file
from torch import Tensor

from finetune.cell import Cell, Fleet, Origin, plan
from models.checkpoint import load_checkpoint, save_checkpoint
from models.transformer import Transformer
from tasks.errors import InputError
from veneer.experiments import Experiment, differences

FORMAT = 2
KEYS: dict[str, Any] = {
    "cell": pl.String,
    "parent": pl.String,
    "capability": pl.String,
    "start": pl.String,
    "task": pl.String,
    "stage": pl.String,
    "learning_rate": pl.Float64,
    "fine_tuning_rate": pl.Float64,
    "c_tr": pl.Float64,
    "seed": pl.Int64,
    "status": pl.String,
}
"""Columns that identify a cell in every table: its id and its parent's; the capability's name and where
the chain starts ("capability", "scratch", ...); the task's id; the stage; its rate; rate and C_Tr of the
fine-tuning at the beginning (null where there was none); the seed; how it ended."""


def write_json(path: Path, content: Any) -> None:
    """Write JSON under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, path)


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError("file", str(path), "a JSON file that Veneer wrote", str(error)) from error


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Run:
    """A run's folder, open for writing or reading."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def open(path: Path, preset: str, experiment: Experiment) -> "Run":
        """Begin a run in an empty or new folder, or go on with the one that is there.

        Raises:
            InputError: as ``check``, or the folder cannot be written.
        """
        Run.check(path, experiment)
        described = {
            "format": FORMAT,
            "name": experiment.name,
            "preset": preset,
            "fields": json.loads(json.dumps(asdict(experiment))),
        }
        file = path / "experiment.json"
        try:
            if not file.exists():
                write_json(file, described)
        except OSError as error:
            raise InputError("out", str(path), "a folder that can be written", str(error)) from error
        return Run(path)

    @staticmethod
    def check(path: Path, experiment: Experiment) -> None:
        """Whether a folder can hold an experiment's run; nothing is written.

        Raises:
            InputError: the folder holds another experiment, or something that is no run.
        """
        file = path / "experiment.json"
        if file.exists():
            found = read_json(file)
            if not isinstance(found, dict):
                raise InputError(
                    "out", str(path), "a new folder", "its experiment.json is not one of Veneer's"
                )
            if found.get("name") != experiment.name:
                valid = f"a new folder, or one of {experiment.name}"
                raise InputError("out", str(path), valid, f"it holds the experiment {found.get('name')}")
            if differing := differences(experiment, found.get("fields", {})):
                valid = "a new folder, or the same settings"
                raise InputError("out", str(path), valid, f"it holds other settings ({'; '.join(differing)})")
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError("out", str(path), "a new or empty folder, or a run to continue", "it is no run")

    @staticmethod
    def read(path: Path) -> "Run":
        """A run that exists.

        Raises:
            InputError: there is none.
        """
        if not (path / "experiment.json").exists():
            raise InputError("run", str(path), "a folder made by veneer run", "it has no experiment.json")
        return Run(path)

    @property
    def experiment(self) -> dict[str, Any]:
        """``experiment.json``."""
        return read_json(self.path / "experiment.json")

    def cell_path(self, cell_id: str) -> Path:
        """Folder of a cell."""
        return self.path / "cells" / cell_id

    def capability_path(self, origin: Origin) -> Path:
        """Folder of a capability as an origin's cells start from it."""
        return self.path / "capabilities" / f"{origin.name}-seed-{origin.seed}"

    def baselines(self, task_id: str) -> dict[str, Any]:
        """Majority-class and shortcut baselines of a task's evaluation sets, by kind of text."""
        return read_json(self.path / "baselines.json")[task_id]["texts"]

    def checkpoint_path(self, fleet: Fleet) -> Path:
        """Where a fleet in training keeps its state."""
        return self.path / "fleets" / f"{fleet.id}.safetensors"

    def drop_checkpoint(self, fleet: Fleet) -> None:
        """Remove a fleet's state, and what a process that was killed while writing it left behind."""
        path = self.checkpoint_path(fleet)
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()

    def has(self, cell: Cell) -> bool:
        """Whether a cell is finished: its folder is complete and its files are what was written."""
        folder = self.cell_path(cell.id)
        try:
            files = json.loads((folder / "cell.json").read_text())["files"]
        except (OSError, ValueError, KeyError):  # not there, or damaged: it is then made again
            return False
        return all((folder / name).exists() and checksum(folder / name) == sha for name, sha in files.items())

    def write_cell(
        self,
        cell: Cell,
        model: Transformer,
        metrics: pl.DataFrame,
        attention: dict[str, Tensor],
        diverged: int,
    ) -> None:
        """Store a finished cell, whole or not at all.

        Args:
            cell: what was trained.
            model: its last weights, a fleet of one.
            metrics: see ``metrics_table``.
            attention: named attention maps.
            diverged: update at which it diverged, or -1.
        """
        folder = self.cell_path(cell.id)
        temporary = folder.with_name(f".{cell.id}.{os.getpid()}.tmp")
        for left in folder.parent.glob(f".{cell.id}.*.tmp"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            save_checkpoint(temporary / "model", model)
            metrics.write_parquet(temporary / "metrics.parquet")
            save_file({k: v.contiguous() for k, v in attention.items()}, temporary / "attention.safetensors")
            described = {
                "format": FORMAT,
                "id": cell.id,
                "status": "done" if diverged < 0 else f"diverged at step {diverged}",
                **cell.describe(),
                "files": {file.name: checksum(file) for file in sorted(temporary.iterdir())},
            }
            (temporary / "cell.json").write_text(json.dumps(described, indent=1) + "\n")
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def load_model(self, cell: Cell) -> Transformer:
        """The weights after a finished cell."""
        return load_checkpoint(self.cell_path(cell.id) / "model")[0]

    def cells(self) -> list[dict[str, Any]]:
        """``cell.json`` of every finished cell, in order of id."""
        return [read_json(file) for file in sorted((self.path / "cells").glob("[0-9a-f]*/cell.json"))]

    def metrics(self) -> pl.DataFrame:
        """All cells' metrics in one table, with the columns that identify a cell in front."""
        tables = []
        for cell in self.cells():
            table = pl.read_parquet(self.cell_path(cell["id"]) / "metrics.parquet")
            keys = self._keys(cell)
            tables.append(table.select(*[pl.lit(keys[k], t).alias(k) for k, t in KEYS.items()], pl.all()))
        if not tables:
            raise InputError(
                "run", str(self.path), "a run with at least one finished cell", "none is finished"
            )
        return pl.concat(tables, how="vertical_relaxed")

    def _keys(self, cell: dict[str, Any]) -> dict[str, Any]:
        """What tells cells apart (see ``KEYS``)."""
        first = cell
        while "cell" in first["start"]:
            first = read_json(self.cell_path(first["start"]["cell"]) / "cell.json")
        tuned = first["stage"] if first["stage"]["name"] == "fine-tune" else None
        return {
            "cell": cell["id"],
            "parent": cell["start"].get("cell", ""),
            "capability": first["start"]["name"],
            "start": first["start"]["start"],
            "task": cell["task_id"],
            "stage": cell["stage"]["name"],
            "learning_rate": cell["stage"]["recipe"]["learning_rate"],
            "fine_tuning_rate": tuned and tuned["recipe"]["learning_rate"],
            "c_tr": tuned and correlated_share(tuned["mixture"]),
            "seed": cell["seed"],
            "status": cell["status"],
        }

    def plan(self, cells: list[Cell], size: int) -> list[Fleet]:
        """Which cells train together: as recorded, or planned now and recorded.

        A run that goes on follows its first plan, whatever the fleet size asked for now, because
        another grouping changes results by floating-point order.
        """
        file, by_id = self.path / "plan.json", {cell.id: cell for cell in cells}
        if file.exists():
            recorded = [fleet["cells"] for fleet in read_json(file).get("fleets", [])]
            if sorted(i for ids in recorded for i in ids) == sorted(by_id):
                return [Fleet(tuple(by_id[i] for i in ids)) for ids in recorded]
        fleets = plan(cells, size)
        described = [{"fleet": fleet.id, "cells": [cell.id for cell in fleet.cells]} for fleet in fleets]
        write_json(file, {"format": FORMAT, "fleets": described})
        return fleets

    def write_environment(self, device: torch.device) -> None:
        """Record versions, commit and device."""
        names = ["veneer", "torch", "numpy", "tracr-pypi", "jax", "dm-haiku", "polars", "safetensors"]
        versions = {}
        for name in names:
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                versions[name] = "not installed"
        content = {
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "versions": versions,
            "commit": _commit(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
        }
        write_json(self.path / "environment.json", content)


def correlated_share(mixture: dict[str, Any]) -> float:
    """C_Tr of a described mixture: the correlated share of the samples that teach O_FT as asked."""
    own = [c for c in mixture["components"] if c["operand"] == c["label"] == "ft" and c["kind"] != "natural"]
    total = sum(c["weight"] for c in own)
    return sum(c["weight"] for c in own if c["kind"] == "correlated") / total if total else 0.0


def metrics_table(
    steps: tuple[int, ...], accuracy: Tensor, loss: Tensor, train_loss: Tensor, kinds: tuple[str, ...]
) -> pl.DataFrame:
    """One member's metrics as a long table.

    Args:
        steps: updates at which it was evaluated.
        accuracy: by evaluation, kind and operand.
        loss: cross-entropy, by the same.
        train_loss: by evaluation.
        kinds: names of the evaluation sets.

    Returns:
        Columns step, measure ("accuracy", "loss"), texts (kind of the evaluation set, or "train"),
        operand ("pt", "ft"; "asked" for the training loss) and value.
    """
    rows = []
    for i, step in enumerate(steps):
        rows.append((step, "loss", "train", "asked", float(train_loss[i])))
        for k, kind in enumerate(kinds):
            for o, operand in enumerate(("pt", "ft")):
                rows.append((step, "accuracy", kind, operand, float(accuracy[i, k, o])))
                rows.append((step, "loss", kind, operand, float(loss[i, k, o])))
    return pl.DataFrame(rows, schema=["step", "measure", "texts", "operand", "value"], orient="row")


def _commit() -> str:
    """Commit of the source tree that is running, or "unknown" for an installed package."""
    root = Path(__file__).resolve().parent.parent
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + (" with changes" if dirty.stdout.strip() else "")
