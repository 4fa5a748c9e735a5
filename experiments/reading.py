"""What is read of a run: its tables, and its models by their settings.

``veneer.experiments.store`` says what lies in the folder, and writes it.
"""

from types import EllipsisType
from typing import Any

import polars as pl

from veneer.experiments.analysis_tables import read_analysis
from veneer.experiments.display import run_html, run_text
from veneer.experiments.folder import RunFolder
from veneer.experiments.shapes import CELL, ORIGIN
from veneer.experiments.tables import KEYS, METRICS, PLANNED, correlated_share
from veneer.experiments.tuned import Capability, TunedModel, capability_in, only_row
from veneer.finetune.cell import Cell
from veneer.models.checkpoint import load_checkpoint
from veneer.models.files import exists, fault, is_file, read_json, read_table
from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError


class RunReading(RunFolder):
    """A run's folder, open for reading."""

    def __repr__(self) -> str:
        return run_text(self.path, len(self.finished()))

    def _repr_html_(self) -> str:
        return run_html(self.path, len(self.finished()))

    def load_model(self, cell: Cell) -> Transformer:
        """The weights after a finished cell."""
        return load_checkpoint(self.cell_path(cell.id) / "model")[0]

    def metrics(self) -> pl.DataFrame:
        """All cells' metrics in one table, with the columns that identify a cell in front.

        In a sweep, a column for each axis follows; a cell that several points of the grid share comes
        once for each. What ``consolidate`` wrote is read where it holds just the finished cells.

        Raises:
            InputError: no cell is finished, or a file is damaged.
        """
        ids, whole = self.finished(), self.path / "metrics.parquet"
        if not ids:
            raise InputError(
                "run", str(self.path), "a run with at least one finished cell", "none is finished"
            )
        if whole.exists():
            try:
                table = read_table(whole, {**KEYS, **METRICS})
            except InputError:  # damaged: made from the cells again
                table = pl.DataFrame(schema={"cell": pl.String})
            if table["cell"].unique().sort().to_list() == ids:
                return table
        return self._collected(ids)

    def _collected(self, ids: list[str]) -> pl.DataFrame:
        keys = self.models()
        files = [self.cell_path(i) / "metrics.parquet" for i in ids]
        valid = "a run whose cells are whole (veneer verify RUN names the others)"
        if strange := next((file for file in files if exists(file) and not is_file(file)), None):
            raise InputError("run", str(self.path), valid, f"{strange} is no ordinary file")
        try:
            values = pl.read_parquet(files, include_file_paths="file", glob=False)
        except (Exception, pl.exceptions.PanicException) as error:
            raise InputError("run", str(self.path), valid, str(error).splitlines()[0]) from error
        if dict(values.schema) != {**METRICS, "file": pl.String}:
            raise InputError("run", str(self.path), valid, "a metrics.parquet in it has other columns")
        values = values.with_columns(cell=pl.col("file").str.extract(r"([^/\\]+)[/\\][^/\\]+$")).drop("file")
        columns = [*keys.columns, *(c for c in values.columns if c != "cell")]
        return keys.join(values, on="cell", how="left", maintain_order="left_right").select(columns)

    @property
    def tables(self) -> list[str]:
        """Names of the tables that are there: metrics, models, and those of ``veneer analyse``."""
        made = sorted(file.stem for file in (self.path / "analysis").glob("*.parquet"))
        return [*(["metrics", "models"] if self.finished() else []), *made]

    def table(self, name: str) -> pl.DataFrame:
        """A table by its name; ``.to_pandas()`` makes it one of pandas.

        Raises:
            InputError: it is not there, or it is damaged; the names of those that are there are given.
        """
        if name in ("metrics", "models"):
            return self.metrics() if name == "metrics" else self.models()
        if name not in self.tables:
            valid = ", ".join(self.tables) or "none is there yet: no cell is finished"
            raise InputError("table", name, valid, f"veneer analyse {self.path} makes more")
        found = read_analysis(self.path, name)
        assert found is not None
        return found

    def verdicts(self) -> pl.DataFrame:
        """The verdict on each setting, with its reasons.

        Raises:
            InputError: ``veneer analyse`` did not make them yet.
        """
        return self.table("verdicts")

    def models(self) -> pl.DataFrame:
        """The models that are there: the columns that identify each (see ``KEYS``), a row for each.

        In a sweep, a column for each axis follows, and a model that several points of the grid share
        comes once for each.
        """
        described = {cell["id"]: cell for cell in self.cells()}
        keys = pl.DataFrame(
            [self.keys(cell, described) for cell in described.values()], schema=KEYS, strict=False
        )
        axes = list(self.experiment.get("axes", {}))
        if not axes:
            return keys
        points = read_table(self.path / "cells.parquet", [*PLANNED, *axes]).select("cell", *axes)
        return keys.join(points, on="cell", how="left", maintain_order="left_right")

    def model(
        self,
        *,
        rate: float | EllipsisType = ...,
        c_tr: float | EllipsisType = ...,
        seed: int | EllipsisType = ...,
        reft: float | None = None,
        capability: str | EllipsisType = ...,
        start: str = "capability",
        **axes: Any,
    ) -> TunedModel:
        """The one model with these settings, ready to be asked; ``models`` lists all.

        What is left out has to be the same for all models that fit.

        Args:
            rate: fine-tuning rate.
            c_tr: share of fine-tuning samples with the correlation.
            seed: the seed.
            reft: rate of the reFT that followed; None takes the model as fine-tuning left it.
            capability: name of the capability, where there are several.
            start: where the chain began: "capability", "scratch" or a construction.
            axes: values of a sweep's axes.

        Raises:
            InputError: no model has a setting, several fit, or its files are damaged; what there is is
                named.
        """
        stage = "fine-tune" if reft is None else "reft"
        known = self.experiment.get("axes", {})
        if unknown := next((name for name in axes if name not in known), None):
            raise InputError("axis", unknown, ", ".join(known) or "none: this run is no sweep")
        wanted = {
            "start": ("start", start),
            "stage": ("stage", stage),
            "capability": ("capability", capability),
            "rate": ("fine_tuning_rate", rate),
            "c_tr": ("c_tr", c_tr),
            "reft": ("learning_rate", ... if reft is None else reft),
            "seed": ("seed", seed),
            **{name: (name, axes.get(name, ...)) for name in known},
        }
        row = only_row(self.models(), wanted, str(self.path))
        model, _ = load_checkpoint(self.cell_path(row["cell"]) / "model")
        return TunedModel(model, self._capability_of(row["cell"]), row)

    def capability(self, name: str | EllipsisType = ..., seed: int | EllipsisType = ...) -> Capability:
        """A capability as the models of a seed started from it: before any fine-tuning, noise included.

        Raises:
            InputError: there is none, or several fit; what there is is named.
        """
        wanted = {
            "start": ("start", "capability"),
            "capability": ("capability", name),
            "seed": ("seed", seed),
        }
        row = only_row(self.models().unique(["capability", "start", "seed", "task"]), wanted, str(self.path))
        return self._capability_of(row["cell"])

    def _capability_of(self, cell_id: str) -> Capability:
        cell = read_json(self.cell_path(cell_id) / "cell.json", CELL)
        while "cell" in cell["start"]:
            cell = read_json(self.cell_path(cell["start"]["cell"]) / "cell.json", CELL)
        return capability_in(self.path / "capabilities", cell["start"])

    def keys(self, cell: dict[str, Any], known: dict[str, dict[str, Any]] | None = None) -> dict[str, Any]:
        """What tells cells apart (see ``KEYS``); cells already read may be given by id."""
        first, passed = cell, set[str]()
        while "cell" in first["start"]:
            parent = str(first["start"]["cell"])
            if parent in passed:
                raise InputError("run", str(self.path), "cells that start somewhere", f"{parent} does not")
            passed.add(parent)
            first = (known or {}).get(parent) or read_json(self.cell_path(parent) / "cell.json", CELL)
        if wrong := fault(first["start"], ORIGIN, "start"):
            raise InputError("run", str(self.path), "cells that start from a capability", wrong)
        tuned = first["stage"] if first["stage"]["name"] == "fine-tune" else None
        return {
            "cell": cell["id"],
            "parent": cell["start"].get("cell", ""),
            "capability": first["start"]["name"],
            "start": first["start"]["start"],
            "task": first["task_id"],
            "stage": cell["stage"]["name"],
            "learning_rate": cell["stage"]["recipe"]["learning_rate"],
            "fine_tuning_rate": tuned and tuned["recipe"]["learning_rate"],
            "c_tr": tuned and correlated_share(tuned["mixture"]),
            "seed": cell["seed"],
            "status": cell["status"],
        }
