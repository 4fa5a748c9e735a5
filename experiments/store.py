"""The run store: a run is a folder that a person can read without us.

::

    experiment.json            name, preset and every field of the experiment
    environment.json           versions, commit, device
    reused.json                which cells other runs trained
    plan.json                  which cells train together as a fleet
    cells.parquet              every planned cell: its parent, its fleet, its place in a sweep's grid
    metrics.parquet            all cells' metrics in one table, written at the end
    programs/KEY/              two programs of the user's own: the compiled one, texts with both answers
    methods.json               methods of the user's own, with their text
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
from collections.abc import Collection, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors.torch import save_file
from torch import Tensor

from veneer.compiled.capability import CompiledCapability
from veneer.compiled.pairs import load_task, save_task
from veneer.experiments.cells import FILES
from veneer.experiments.environment import environment
from veneer.experiments.folder import FORMAT
from veneer.experiments.growth import differences
from veneer.experiments.named import Experiment, ProgramExperiment, pair_key
from veneer.experiments.reading import RunReading
from veneer.experiments.shapes import CELL, ENVIRONMENT, PLAN, completed
from veneer.experiments.tables import KEYS, metrics_table
from veneer.finetune.cell import Cell, Fleet, Origin, content_hash, plan
from veneer.finetune.method import Method, recorded
from veneer.finetune.methods import is_file_spec, load_method, source_file
from veneer.models.checkpoint import save_checkpoint
from veneer.models.files import (
    Each,
    check_place,
    checksum,
    exists,
    later,
    put_in_place,
    read_json,
    read_table,
    write_json,
    write_sealed,
    write_table,
)
from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError
from veneer.tasks.pair import PairTask
from veneer.tasks.user_code import sources

__all__ = ["FORMAT", "KEYS", "Run", "checksum", "metrics_table", "read_json", "write_json"]

METHODS, PROGRAMS = "methods.json", "programs"
RECORDED = Each({"description": {"type": str}, "teaches": bool, "files": Each(str)})
OVER_SEEDS = ("verdicts", "revival", "survival", "ratios")
"""Tables of ``veneer analyse`` that are about seeds together, not about single cells."""


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
        described = json.loads(
            json.dumps(
                {
                    "format": FORMAT,
                    "name": experiment.name,
                    "preset": preset,
                    "fields": asdict(experiment),
                    **({"axes": axes} if axes else {}),
                    **({"command": command} if command else {}),
                }
            )
        )
        file = path / "experiment.json"
        try:
            kept = completed(read_json(file)) if file.exists() else {}
            if any(kept.get(name, {}) != described.get(name, {}) for name in ("fields", "axes")):
                write_sealed(file, described)
        except OSError as error:
            raise InputError("out", str(path), "a folder that can be written", str(error)) from error
        return Run(path)

    @staticmethod
    def check(
        path: str | os.PathLike[str], experiment: Experiment, axes: dict[str, Any] | None = None
    ) -> None:
        """Whether a folder can hold an experiment's run; nothing is written.

        A run may grow: more seeds, rates, shares, pretrained models or values of a sweep's axes.

        Raises:
            InputError: the folder holds another experiment, or something that is no run.
        """
        path = Path(path)
        file = path / "experiment.json"
        check_place(path)
        if exists(file):
            found = completed(
                read_json(file, {"name": str, "fields": dict}, "one of Veneer's (remove it and go on)")
            )
            if found["name"] != experiment.name:
                valid = f"a new folder, or one of {experiment.name}"
                raise InputError("out", str(path), valid, f"it holds the experiment {found['name']}")
            if differing := differences(experiment, axes or {}, found):
                valid = "a new folder, or the same settings (seeds and values of lists may be added)"
                raise InputError("out", str(path), valid, f"it holds other settings ({'; '.join(differing)})")
        elif exists(path) and not _lacks_only_its_experiment(path):
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
        for pattern in (f"{fleet.id}.*", f".{fleet.id}.*"):
            for file in (self.path / "fleets").glob(pattern):
                file.unlink(missing_ok=True)

    def has(self, cell: Cell) -> bool:
        """Whether a cell is finished: its folder is complete and its files are what was written."""
        folder = self.cell_path(cell.id)
        try:
            files = read_json(folder / "cell.json", CELL)["files"]
        except InputError:  # not there, or damaged: it is then made again
            return False
        return all(checksum(folder / name) == sha for name, sha in files.items())

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
            with later():  # put_in_place brings all to the disk
                save_checkpoint(temporary / "model", model)
                metrics.write_parquet(temporary / "metrics.parquet")
                own = {k: v.contiguous() for k, v in attention.items()}
                save_file(own, temporary / "attention.safetensors")
                described = {
                    "format": FORMAT,
                    "id": cell.id,
                    "status": "done" if diverged < 0 else f"diverged at step {diverged}",
                    **cell.describe(),
                    "files": {file.name: checksum(file) for file in sorted(temporary.iterdir())},
                }
                write_json(temporary / "cell.json", described)
            shutil.rmtree(folder, ignore_errors=True)
            put_in_place(temporary, folder)
            (self.path / "metrics.parquet").unlink(missing_ok=True)  # it lacks this cell
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def consolidate(self) -> Path:
        """Write ``metrics`` to one file, for other tools and for the next reading."""
        path = self.path / "metrics.parquet"
        write_table(path, self.metrics())
        return path

    def plan(
        self,
        cells: list[Cell],
        size: int,
        points: pl.DataFrame | None = None,
        reused: Collection[str] = (),
    ) -> list[Fleet]:
        """Which cells train together: as recorded, or planned now and recorded.

        A run that goes on follows its first plan, whatever the fleet size asked for now, because
        another grouping changes results by floating-point order.

        Args:
            cells: parents before children.
            size: most cells of a fleet.
            points: a sweep's grid: column cell, and one for each axis.
            reused: cells that are there already, which have fleets of their own: a fleet trains as a whole.
        """
        file, by_id = self.path / "plan.json", {cell.id: cell for cell in cells}
        with self.setup():
            recorded = self._recorded_plan()
            planned = {i for ids in recorded for i in ids}
            if planned == by_id.keys():
                fleets = [Fleet(tuple(by_id[i] for i in ids)) for ids in recorded]
                if not _is_table(self.path / "cells.parquet"):
                    self._write_cells(fleets, points)
                return fleets
            kept = [Fleet(tuple(by_id[i] for i in ids)) for ids in recorded if by_id.keys() >= {*ids}]
            known = {cell.id for fleet in kept for cell in fleet.cells}
            new = [cell for cell in cells if cell.id not in known]
            there = [cell for cell in new if cell.id in reused]
            fleets = [*kept, *plan(there, size, known)]
            known |= {cell.id for cell in there}
            fleets += plan([cell for cell in new if cell.id not in known], size, known)
            if planned:
                self._drop_tables(all_of_them=not planned <= by_id.keys())
            self._write_cells(fleets, points)
            described = [
                {"fleet": fleet.id, "updates": fleet.steps, "cells": [cell.id for cell in fleet.cells]}
                for fleet in fleets
            ]
            write_sealed(file, {"format": FORMAT, "fleets": described})
        return fleets

    def _recorded_plan(self) -> list[list[str]]:
        """The fleets of the plan that is there; none if it is damaged, for then it is made anew."""
        try:
            return [fleet["cells"] for fleet in read_json(self.path / "plan.json", PLAN)["fleets"]]
        except InputError:
            return []

    def _drop_tables(self, all_of_them: bool) -> None:
        """Remove tables that another plan made: those over seeds, or where cells went, all."""
        for file in (self.path / "analysis").glob("*.parquet"):
            if all_of_them or file.stem in OVER_SEEDS:
                file.unlink(missing_ok=True)

    def _write_cells(self, fleets: list[Fleet], points: pl.DataFrame | None) -> None:
        rows = [
            (c.id, c.start.id if isinstance(c.start, Cell) else "", fleet.id, c.stage.name)
            for fleet in fleets
            for c in fleet.cells
        ]
        table = pl.DataFrame(rows, schema=["cell", "parent", "fleet", "stage"], orient="row")
        if points is not None:
            table = table.join(points, on="cell", how="left", maintain_order="left_right")
        write_table(self.path / "cells.parquet", table)

    @property
    def knows_environment(self) -> bool:
        """Whether ``environment.json`` is there and whole."""
        try:
            read_json(self.path / "environment.json", ENVIRONMENT)
        except InputError:
            return False
        return True

    def write_environment(self, device: torch.device) -> None:
        """Record versions, commit and device."""
        write_sealed(self.path / "environment.json", environment(device))

    def keep_code(self, experiments: Iterable[Experiment]) -> None:
        """Keep what experiments take from the user's code: methods, and what two programs came to.

        So the run can be read and analysed anywhere, without running anything of the user's. The texts of
        methods are kept for readers.
        """
        methods, file = dict[str, Any](), self.path / METHODS
        for experiment in experiments:
            if isinstance(experiment, ProgramExperiment):
                capability, task = FILES.pair(experiment)
                capability.save(self.path / PROGRAMS / pair_key(asdict(experiment)))
                save_task(self.path / PROGRAMS / pair_key(asdict(experiment)), task)
            if is_file_spec(spec := experiment.method) and spec not in methods:
                method = load_method(spec)
                files = {name: path.read_text() for name, path in sources(source_file(spec)).items()}
                methods[spec] = {"description": method.describe(), "teaches": method.teaches, "files": files}
        if methods:
            before = read_json(file, RECORDED, "the methods of a run") if exists(file) else {}
            write_sealed(file, {**before, **methods})

    def pair(self, experiment: ProgramExperiment) -> tuple[CompiledCapability, PairTask]:
        """The compiled program and the texts of two programs, as they were kept.

        Raises:
            InputError: they are missing or damaged.
        """
        folder = self.path / PROGRAMS / pair_key(asdict(experiment))
        return CompiledCapability.load(folder), load_task(folder)

    def method(self, spec: str) -> Method:
        """The method meant by a field of the run; one of the user's as it was kept, without running it.

        Raises:
            InputError: the run does not hold it.
        """
        if not is_file_spec(spec):
            return load_method(spec)
        file = self.path / METHODS
        found = read_json(file, RECORDED, "the methods of a run") if exists(file) else {}
        if spec not in found:
            raise InputError("run", str(self.path), "a run that keeps its methods", f"it lacks {spec}")
        return recorded(found[spec]["description"], found[spec]["teaches"])


def _is_table(file: Path) -> bool:
    """Whether the planned cells can be read."""
    try:
        return bool(len(read_table(file, ["cell", "parent"])))
    except InputError:
        return False


def _lacks_only_its_experiment(path: Path) -> bool:
    """Whether a folder is empty, or a run without its ``experiment.json``."""
    return path.is_dir() and (not any(path.iterdir()) or (path / "plan.json").is_file())
