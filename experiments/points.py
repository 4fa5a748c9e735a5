"""The points of a sweep, each as a run of its own: what reads a run can then read a point.

A point has its values of the axes among its fields, and of the sweep's cells, tables, baselines and
capabilities those that are its own. It is a folder of links and small tables beside the sweep's files,
which are neither copied nor changed.
"""

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from veneer.experiments.analysis_tables import read_analysis
from veneer.experiments.content import ReadRun, checked
from veneer.experiments.shapes import BASELINES, PLAN, RECORD
from veneer.experiments.store import Run
from veneer.experiments.tables import PLANNED
from veneer.finetune.cell import Origin
from veneer.models.files import read_json, read_table, write_json

TABLES_OF_CELLS = ("start", "stage", "task", "cell")


@dataclass(frozen=True)
class Point:
    """One point of a sweep's grid.

    Attributes:
        values: its value of each axis.
        run: its cells and tables, as a run.
        origins_known: whether analyses of models before any training could be told from other points'.
    """

    values: dict[str, Any]
    run: Run
    origins_known: bool = True

    @property
    def name(self) -> str:
        """Its values in words, as ``batch 32, clip none``."""
        return point_name(self.values)

    @property
    def folder(self) -> str:
        """Its values as the name of a folder."""
        return "_".join(f"{axis}-{value_name(value)}" for axis, value in self.values.items()).replace(
            "/", "-"
        )


def value_name(value: Any) -> str:
    """A value of an axis as it is written on the command line."""
    match value:
        case None | bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
    return str(value)


def point_name(values: dict[str, Any]) -> str:
    """A point's values of the axes in words, as ``batch 32, clip none``."""
    return ", ".join(f"{axis} {value_name(value)}" for axis, value in values.items())


def axes_of(run: Run) -> dict[str, list[Any]]:
    """The axes of a run, with their values; empty for a run of one experiment."""
    return run.experiment.get("axes") or {}


@contextmanager
def points_of(run: Run) -> Iterator[list[Point]]:
    """Every point of a sweep's grid, the last axis fastest; their folders last as long as the context.

    Raises:
        InputError: files of the sweep are damaged.
    """
    with tempfile.TemporaryDirectory(prefix="veneer-points-") as folder:
        yield _Split(run).points(Path(folder))


@contextmanager
def runs_in(run: Run) -> Iterator[dict[str, Run]]:
    """A run by itself under an empty name, or a sweep's points by the names of their folders.

    Raises:
        InputError: files of a sweep are damaged.
    """
    if not axes_of(run):
        yield {"": run}
        return
    with points_of(run) as points:
        yield {point.folder: point.run for point in points}


class _Split:
    """A sweep's files, read once, and handed out to its points."""

    def __init__(self, run: Run) -> None:
        self.run = ReadRun(run.path)
        self.axes = axes_of(run)
        self.cells = {cell["id"]: cell for cell in checked(self.run)[1]}
        self.metrics = self.run.metrics() if self.cells else None
        planned = run.path / "cells.parquet"
        self.planned = read_table(planned, [*PLANNED, *self.axes]) if planned.exists() else None
        files = sorted((run.path / "analysis").glob("*.parquet"))
        read = {file.stem: read_analysis(run.path, file.stem) for file in files}
        self.analyses = {name: table for name, table in read.items() if table is not None}
        self.origins_known = not self._mixes_origins()

    def points(self, folder: Path) -> list[Point]:
        return [
            self._point(dict(zip(self.axes, values, strict=True)), folder / f"{i}")
            for i, values in enumerate(itertools.product(*self.axes.values()))
        ]

    def _point(self, values: dict[str, Any], folder: Path) -> Point:
        described = {key: value for key, value in self.run.experiment.items() if key != "axes"}
        described["fields"] = described["fields"] | values
        write_json(folder / "experiment.json", described)
        for name in ("environment.json", RECORD, "methods.json", "programs"):
            if (self.run.path / name).exists():
                (folder / name).symlink_to((self.run.path / name).resolve())
        if self.planned is not None:
            own = self.planned.filter(*_at(values))
            self._write_cells(folder, own, values)
        return Point(values, Run(folder), self.origins_known)

    def _write_cells(self, folder: Path, planned: pl.DataFrame, values: dict[str, Any]) -> None:
        """What depends on which cells are the point's."""
        ids = set(planned["cell"])
        self._write_plan(folder, ids)
        planned.drop(*values).write_parquet(folder / "cells.parquet")
        own = [cell for cell in self.cells.values() if cell["id"] in ids]
        (folder / "cells").mkdir()
        for cell in own:
            (folder / "cells" / cell["id"]).symlink_to(self.run.cell_path(cell["id"]).resolve())
        self._link_capabilities(folder, own)
        tasks = {cell["task_id"] for cell in own}
        if tasks and (self.run.path / "baselines.json").exists():
            baselines = read_json(self.run.path / "baselines.json", BASELINES)
            write_json(folder / "baselines.json", {k: v for k, v in baselines.items() if k in tasks})
        if self.metrics is not None and own:
            self.metrics.filter(*_at(values)).drop(*values).write_parquet(folder / "metrics.parquet")
        if self.analyses:
            (folder / "analysis").mkdir()
        for name, table in self.analyses.items():
            self._share(table, values, ids, tasks).write_parquet(folder / "analysis" / f"{name}.parquet")

    def _write_plan(self, folder: Path, ids: set[str]) -> None:
        file = self.run.path / "plan.json"
        if file.exists():
            plan = read_json(file, PLAN)
            fleets = [{**fleet, "cells": [i for i in fleet["cells"] if i in ids]} for fleet in plan["fleets"]]
            write_json(
                folder / "plan.json", {**plan, "fleets": [fleet for fleet in fleets if fleet["cells"]]}
            )

    def _link_capabilities(self, folder: Path, own: list[dict[str, Any]]) -> None:
        """The capabilities that the point's cells start from, under the names that a run gives them."""
        for cell in own:
            if cell["start"].get("start") != "capability":
                continue
            origin = Origin(**cell["start"])
            kept, link = (
                self.run.capability_path(origin, cell["task_id"]),
                Run(folder).capability_path(origin),
            )
            if kept.exists() and not link.is_symlink():
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(kept.resolve())

    def _share(
        self, table: pl.DataFrame, values: dict[str, Any], ids: set[str], tasks: set[str]
    ) -> pl.DataFrame:
        """A point's rows of an analysis: by its axes where these are columns, else by its cells."""
        if set(values) <= set(table.columns):
            return table.filter(*_at(values)).drop(*values)
        if not set(TABLES_OF_CELLS) <= set(table.columns):
            return table
        before = (pl.col("stage") == "capability") & pl.col("task").is_in(list(tasks))
        return table.filter(pl.col("cell").is_in(list(ids)) | (before & self.origins_known))

    def _mixes_origins(self) -> bool:
        """Whether models before any training differ between points by more than their task and seed.

        Tables name these by capability, seed, start and task, so that an axis of the noise or of the
        exactness gives several the same name.
        """
        seen: dict[tuple[Any, ...], Origin] = {}
        for cell in self.cells.values():
            if "cell" in cell["start"]:
                continue
            origin = Origin(**cell["start"])
            name = origin.name, origin.seed, origin.start, cell["task_id"]
            if seen.setdefault(name, origin) != origin:
                return True
        return False


def _at(values: dict[str, Any]) -> list[pl.Expr]:
    return [pl.col(name).eq_missing(pl.lit(value)) for name, value in values.items()]
