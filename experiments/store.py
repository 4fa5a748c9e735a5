"""The run store: a run is a folder that a person can read without us.

::

    experiment.json            name, preset and every field of the experiment
    environment.json           versions, commit, device
    plan.json                  which cells train together as a fleet
    cells.parquet              every planned cell: its parent, its fleet, its place in a sweep's grid
    metrics.parquet            all cells' metrics in one table, written at the end
    baselines.json             majority-class and shortcut baselines of every evaluation set
    capabilities/NAME-seed-0/  a capability as the cells start from it, with what it can do
    cells/ID/cell.json         what was trained, how it ended, checksums of the files beside it
    cells/ID/metrics.parquet   accuracy and loss over the updates
    cells/ID/model.safetensors weights after the last update (and model.json, their shape)
    cells/ID/attention.safetensors  attention after the last update
    fleets/ID.safetensors      state of a fleet in training, and beside it, ID.json, how far it is
    locks/ID.lock              held by the process that trains the fleet

A cell's folder is written under a temporary name and renamed, so it is there whole or not at all.
"""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors.torch import save_file
from torch import Tensor

from veneer.experiments.environment import environment
from veneer.experiments.files import checksum, read_json, write_json, write_text
from veneer.experiments.folder import FORMAT
from veneer.experiments.named import Experiment, differences
from veneer.experiments.reading import RunReading
from veneer.experiments.tables import KEYS, metrics_table
from veneer.finetune.cell import Cell, Fleet, Origin, content_hash, plan
from veneer.models.checkpoint import save_checkpoint
from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError

__all__ = ["FORMAT", "KEYS", "Run", "checksum", "metrics_table", "read_json", "write_json"]


class Run(RunReading):
    """A run's folder, open for writing or reading."""

    @staticmethod
    def open(
        path: str | os.PathLike[str],
        preset: str,
        experiment: Experiment,
        axes: dict[str, Any] | None = None,
        command: str = "",
    ) -> "Run":
        """Begin a run in an empty or new folder, or go on with the one that is there.

        Args:
            path: the folder.
            preset: the preset that the experiment started from.
            experiment: what is run; of a sweep the first of its grid.
            axes: a sweep's fields with several values each.
            command: the command line, for whoever wants to repeat it.

        Raises:
            InputError: as ``check``, or the folder cannot be written.
        """
        path = Path(path)
        Run.check(path, experiment, axes)
        described = {
            "format": FORMAT,
            "name": experiment.name,
            "preset": preset,
            "fields": json.loads(json.dumps(asdict(experiment))),
            **({"axes": json.loads(json.dumps(axes))} if axes else {}),
            **({"command": command} if command else {}),
        }
        file = path / "experiment.json"
        try:
            if not file.exists():
                write_json(file, described)
        except OSError as error:
            raise InputError("out", str(path), "a folder that can be written", str(error)) from error
        return Run(path)

    @staticmethod
    def check(
        path: str | os.PathLike[str], experiment: Experiment, axes: dict[str, Any] | None = None
    ) -> None:
        """Whether a folder can hold an experiment's run; nothing is written.

        Raises:
            InputError: the folder holds another experiment, or something that is no run.
        """
        path = Path(path)
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
            differing = differences(experiment, found.get("fields", {}))
            if json.loads(json.dumps(axes or {})) != found.get("axes", {}):
                differing.append(f"axes: {found.get('axes', {})} -> {axes or {}}")
            if differing:
                valid = "a new folder, or the same settings"
                raise InputError("out", str(path), valid, f"it holds other settings ({'; '.join(differing)})")
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise InputError("out", str(path), "a new or empty folder, or a run to continue", "it is no run")

    def capability_path(self, origin: Origin, task_id: str = "") -> Path:
        """Folder of a capability as an origin's cells start from it; a sweep's ask it several tasks."""
        name = f"{origin.name}-{content_hash([asdict(origin), task_id])[:8]}" if task_id else origin.name
        return self.path / "capabilities" / f"{name}-seed-{origin.seed}"

    def checkpoint_path(self, fleet: Fleet) -> Path:
        """Where a fleet in training keeps its state."""
        return self.path / "fleets" / f"{fleet.id}.safetensors"

    def drop_checkpoint(self, fleet: Fleet) -> None:
        """Remove a fleet's state, and what a process that was killed while writing it left behind."""
        for file in (self.path / "fleets").glob(f"{fleet.id}.*"):
            file.unlink(missing_ok=True)

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
        """Store a finished cell, whole or not at all; its fleet's lease is held meanwhile.

        Args:
            cell: what was trained.
            model: its last weights, a fleet of one.
            metrics: see ``metrics_table``.
            attention: named attention maps.
            diverged: update at which it diverged, or -1.
        """
        folder = self.cell_path(cell.id)
        temporary = folder.with_name(f".{cell.id}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)  # left by a process that was killed
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
            (self.path / "metrics.parquet").unlink(missing_ok=True)  # it lacks this cell
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def consolidate(self) -> Path:
        """Write ``metrics`` to one file, for other tools and for the next reading."""
        path = self.path / "metrics.parquet"
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            self.metrics().write_parquet(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def plan(self, cells: list[Cell], size: int, points: pl.DataFrame | None = None) -> list[Fleet]:
        """Which cells train together: as recorded, or planned now and recorded.

        A run that goes on follows its first plan, whatever the fleet size asked for now, because
        another grouping changes results by floating-point order.

        Args:
            cells: parents before children.
            size: most cells of a fleet.
            points: a sweep's grid: column cell, and one for each axis.
        """
        file, by_id = self.path / "plan.json", {cell.id: cell for cell in cells}
        with self.setup():
            if file.exists():
                recorded = [fleet["cells"] for fleet in read_json(file).get("fleets", [])]
                if sorted(i for ids in recorded for i in ids) == sorted(by_id):
                    return [Fleet(tuple(by_id[i] for i in ids)) for ids in recorded]
            fleets = plan(cells, size)
            self._write_cells(fleets, points)
            described = [
                {"fleet": fleet.id, "updates": fleet.steps, "cells": [cell.id for cell in fleet.cells]}
                for fleet in fleets
            ]
            lines = ",\n".join(json.dumps(fleet) for fleet in described)
            write_text(file, f'{{"format": {FORMAT}, "fleets": [\n{lines}\n]}}\n')
        return fleets

    def _write_cells(self, fleets: list[Fleet], points: pl.DataFrame | None) -> None:
        rows = [
            (c.id, c.start.id if isinstance(c.start, Cell) else "", fleet.id, c.stage.name)
            for fleet in fleets
            for c in fleet.cells
        ]
        table = pl.DataFrame(rows, schema=["cell", "parent", "fleet", "stage"], orient="row")
        if points is not None:
            table = table.join(points, on="cell", how="left", maintain_order="left_right")
        temporary = self.path / f"cells.parquet.{os.getpid()}.tmp"
        table.write_parquet(temporary)
        os.replace(temporary, self.path / "cells.parquet")

    def write_environment(self, device: torch.device) -> None:
        """Record versions, commit and device."""
        write_json(self.path / "environment.json", environment(device))
