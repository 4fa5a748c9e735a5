"""What is in a run's folder, read once and checked before anything is shown or compared."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from veneer.experiments.analysis_tables import read_analysis
from veneer.experiments.evidence import Found, evidence_of, verdicts_on
from veneer.experiments.named import THIRD, reft_rates_after
from veneer.experiments.reuse import recorded
from veneer.experiments.shapes import ACCURACY, BASELINES, ENVIRONMENT, PLAN
from veneer.experiments.store import Run
from veneer.experiments.summary import capability_names
from veneer.models.files import checksum, read_json
from veneer.tasks.errors import InputError

READ = ("metrics.parquet", "attention.safetensors")
ANALYSES = (
    "verdicts",
    "revival",
    "survival",
    "ratios",
    "pruning",
    "pruned",
    "classes",
    "grafting",
    "movement",
    "probes",
    "attention",
)


class ReadRun(Run):
    """A run that is read as it is now: its metrics are read once, and judged once."""

    @cached_property
    def _metrics(self) -> pl.DataFrame:
        return super().metrics()

    def metrics(self) -> pl.DataFrame:
        """As ``Run.metrics``."""
        return self._metrics

    @cached_property
    def evidence(self) -> list[Found]:
        """The evidence on every setting and constructed model."""
        return list(evidence_of(self, self.metrics()))

    @cached_property
    def judged(self) -> pl.DataFrame:
        """As ``veneer.experiments.evidence.verdict_table``."""
        return verdicts_on(self, self.metrics(), self.evidence)


@dataclass(frozen=True)
class CapabilityFiles:
    """One capability as the cells of a seed start from it.

    Attributes:
        folder: its folder in the run.
        accuracy: ``accuracy.json``.
        model: ``model.json``.
    """

    folder: Path
    accuracy: dict[str, Any]
    model: dict[str, Any]

    @property
    def name(self) -> str:
        """The capability's name in tables."""
        return self.accuracy["origin"]["name"]

    @property
    def seed(self) -> int:
        """The seed whose cells start from it."""
        return self.accuracy["origin"]["seed"]


@dataclass(frozen=True)
class Content:
    """What is in a run's folder, read and checked.

    Attributes:
        experiment: ``experiment.json``.
        cells: ``cell.json`` of every finished cell.
        planned: number of cells that will be there at the end; None before they are planned.
        metrics: ``Run.metrics``, or None while no cell is finished.
        baselines: ``baselines.json`` by capability and kind of text; empty before they are written.
        environment: ``environment.json``, or None before it is written.
        reused: ``reused.json``: by cell, which other run trained it.
        capabilities: the capabilities written so far, in order of name and seed.
        analyses: the tables of ``veneer analyse`` that are there, by name.
    """

    experiment: dict[str, Any]
    cells: list[dict[str, Any]]
    planned: int | None
    metrics: pl.DataFrame | None
    baselines: dict[str, dict[str, Any]]
    environment: dict[str, Any] | None
    reused: dict[str, Any]
    capabilities: list[CapabilityFiles]
    analyses: dict[str, pl.DataFrame]

    @property
    def names(self) -> list[str]:
        """The capabilities' names, in the experiment's order."""
        return capability_names(self.experiment["fields"])

    def first_of(self, name: str) -> CapabilityFiles | None:
        """A capability with its least seed."""
        return next((capability for capability in self.capabilities if capability.name == name), None)


def read_content(run: Run) -> Content:
    """Read a run's folder and check what is read.

    Raises:
        InputError: the folder is no run of ours, or files in it are damaged.
    """
    experiment, cells = checked(run)
    plan = _if_written(run.path / "plan.json", PLAN)
    metrics = run.metrics() if cells else None
    names = capability_names(experiment["fields"])
    return Content(
        experiment=experiment,
        cells=cells,
        planned=None if plan is None else _planned(plan, cells, experiment["fields"]),
        metrics=metrics,
        baselines=_baselines(run, metrics, names),
        environment=_if_written(run.path / "environment.json", ENVIRONMENT),
        reused=recorded(run),
        capabilities=_capabilities(run, names),
        analyses=_analyses(run),
    )


def checked(run: Run) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """``experiment.json`` and every ``cell.json``, after their files were held against their checksums.

    Raises:
        InputError: the folder is no run of ours, or files in it are damaged.
    """
    experiment, cells = run.experiment, run.cells()
    valid = "a folder made by this version of veneer run"
    for cell in cells:
        folder = run.cell_path(cell["id"])
        for name in READ:
            if name not in cell["files"]:
                raise InputError(
                    "run", str(run.path), "a run with its attention maps", f"kept without {name}"
                )
            if not (folder / name).exists() or checksum(folder / name) != cell["files"].get(name):
                raise InputError("run", str(run.path), valid, f"{folder / name} is missing or damaged")
    return experiment, cells


def _if_written(path: Path, shape: Any) -> Any:
    return read_json(path, shape) if path.exists() else None


def _capabilities(run: Run, names: list[str]) -> list[CapabilityFiles]:
    found = []
    for file in sorted((run.path / "capabilities").glob("*/accuracy.json")):
        file = file.resolve()  # of a point of a sweep it is a link, which would tell a reader nothing
        accuracy = read_json(file, ACCURACY, "what veneer run measured of a capability")
        own = file.parent / "model.json"
        model = read_json(own, {"config": dict, "metadata": dict})
        written = (accuracy.get("files") or {}).get(own.name)
        if written is not None and written != checksum(own):
            raise InputError("file", str(own), "the file that veneer run wrote", "it was changed")
        found.append(CapabilityFiles(file.parent, accuracy, model))
    order = {name: place for place, name in enumerate(names)}
    return sorted(found, key=lambda own: (order.get(own.name, len(order)), own.seed))


def _baselines(run: Run, metrics: pl.DataFrame | None, names: list[str]) -> dict[str, dict[str, Any]]:
    """Baselines by capability, through the task that its cells are asked.

    Capabilities without a finished cell have those of the first task, which is most often theirs.
    """
    file = run.path / "baselines.json"
    if not file.exists():
        return {}
    by_task = {task: own["texts"] for task, own in read_json(file, BASELINES).items()}
    if not by_task:
        return {}
    tasks = {}
    if metrics is not None:
        tasks = dict(metrics.select("capability", "task").unique(maintain_order=True).iter_rows())
    fallback = next(iter(by_task.values()))
    return {name: by_task.get(tasks.get(name, ""), fallback) for name in names}


def _analyses(run: Run) -> dict[str, pl.DataFrame]:
    """The tables of ``veneer analyse`` that are there.

    Raises:
        InputError: a table is damaged.
    """
    found = {name: read_analysis(run.path, name) for name in ANALYSES}
    return {name: table for name, table in found.items() if table is not None}


def _planned(plan: dict[str, Any], cells: list[dict[str, Any]], settings: dict[str, Any]) -> int:
    """Cells at the end: those planned, less the reFTs of what diverged."""
    total = sum(len(fleet["cells"]) for fleet in plan["fleets"])
    third = any(cell["stage"]["name"] == THIRD for cell in cells)
    return total - sum(_without_start(cell, settings, third) for cell in cells)


def _without_start(cell: dict[str, Any], settings: dict[str, Any], third: bool) -> int:
    """How many trainings cannot begin because this fine-tuning diverged; ``third``: third operands too."""
    if cell["status"] == "done" or cell["stage"]["name"] != "fine-tune":
        return 0
    start = cell["start"].get("start", "capability")
    if start == "scratch":
        return len(settings["reft_rates"])
    return (1 + third) * len(reft_rates_after(settings, cell["stage"]["recipe"]["learning_rate"]))
