"""Curves where users watch their trainings: TensorBoard, trackio, Weights & Biases, while models train.

One hook serves all: whoever trains a fleet, in whatever process, appends its accuracies to
``RUN/fleets/FLEET.jsonl`` (``Live``); the process that drives the run reads on there and hands each cell's
values to the trackers asked for (``Curves``). Once a cell is finished the rest of its ``metrics.parquet``
follows, and ``RUN/tracked/TRACKER/CELL`` says that it is complete. Each tracker is an extra, imported when it
is asked for; no run needs one.
"""

import importlib.util
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import polars as pl
from torch import Tensor

from veneer.experiments.store import Run
from veneer.experiments.tables import METRICS
from veneer.finetune.cell import Cell, Fleet
from veneer.finetune.fleet import EVALUATED
from veneer.models.files import read_table, write_text
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import OPERANDS

PROJECT = "veneer"
Values = Mapping[str, float]
"""By name (``accuracy/natural/pt``)."""


class Tracker(Protocol):
    """Keeps the curves of one cell."""

    def log(self, step: int, values: Values) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in ``RUN/tensorboard/NAME``."""

    def __init__(self, run: Run, cell: Cell) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run.path / "tensorboard" / name_of(cell)))

    def log(self, step: int, values: Values) -> None:
        """Write the values, and let a reader see them at once."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases for each cell, in a group named after the run's folder."""

    def __init__(self, run: Run, cell: Cell) -> None:
        import wandb

        self._run = wandb.init(
            project=PROJECT,
            group=run.path.resolve().name,
            name=name_of(cell),
            config=described(cell),
            dir=str(run.path),
            reinit="create_new",
        )
        self._run.define_metric("*", step_metric="update")  # values of an update may come after later ones

    def log(self, step: int, values: Values) -> None:
        """Send the values."""
        self._run.log({"update": step, **values})

    def close(self) -> None:
        self._run.finish()


class Trackio:
    """A run of trackio for each cell, in a project named after the run's folder."""

    def __init__(self, run: Run, cell: Cell) -> None:
        import trackio

        project = f"{PROJECT}-{run.path.resolve().name}"
        self._run = trackio.init(project=project, name=name_of(cell), config=described(cell), embed=False)

    def log(self, step: int, values: Values) -> None:
        """Write the values."""
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


TRACKERS: dict[str, Callable[[Run, Cell], Tracker]] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": WeightsAndBiases,
}


def require(names: tuple[str, ...]) -> None:
    """Check that the trackers are there.

    Raises:
        InputError: one is not installed.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            valid = f"without it, or after: pip install 'veneer[{name}]'"
            raise InputError("log_to", name, valid, f"{name} is not installed")


def name_of(cell: Cell) -> str:
    """A cell as a person reads it among others."""
    rate = cell.stage.recipe.learning_rate
    return f"{cell.stage.name} rate={rate:g} seed={cell.seed} {cell.id}"


def described(cell: Cell) -> dict[str, Any]:
    """What a tracker may sort cells by."""
    recipe = cell.stage.recipe
    return {
        "cell": cell.id,
        "stage": cell.stage.name,
        "start": cell.origin.start,
        "capability": cell.origin.name,
        "learning_rate": recipe.learning_rate,
        "iterations": recipe.iterations,
        "seed": cell.seed,
    }


def live_file(run: Run, fleet: Fleet) -> Path:
    """Where a fleet's accuracies are while it trains."""
    return run.progress_path(fleet.id).with_suffix(".jsonl")


class Live:
    """Appends what a fleet reaches, as it trains.

    Args:
        run: the run.
        planned: the fleet, as planned; its id names the file.
        trained: the fleet that trains, whose cells the members are.
    """

    def __init__(self, run: Run, planned: Fleet, trained: Fleet) -> None:
        self._file, self._cells = live_file(run, planned), [cell.id for cell in trained.cells]

    def __call__(self, step: int, accuracy: Tensor) -> None:
        """Note an evaluation: [member, kind of text, operand]."""
        by_cell = dict(zip(self._cells, accuracy.tolist(), strict=True))
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "accuracy": by_cell}) + "\n")


class Curves:
    """Hands accuracies on to trackers.

    Args:
        run: the run.
        names: of ``TRACKERS``.

    Raises:
        InputError: one is not installed.
    """

    def __init__(self, run: Run, names: tuple[str, ...]) -> None:
        require(names)
        self._run, self._names = run, names
        self._read: dict[str, int] = {}
        self._open: dict[tuple[str, str], Tracker] = {}
        self._told: dict[tuple[str, str], set[int]] = {}

    def look(self, fleet: Fleet) -> None:
        """Hand on what a fleet in training has reached since the last look."""
        cells = {cell.id: cell for cell in fleet.cells}
        for step, accuracies in self._news(fleet):
            for cell_id, accuracy in accuracies.items():
                self._log(cells[cell_id], step, _named(accuracy))

    def _news(self, fleet: Fleet) -> Iterator[tuple[int, dict[str, Any]]]:
        """Whole lines that are new; what was written before this process began is known already."""
        file = live_file(self._run, fleet)
        if not file.exists():
            self._read.setdefault(fleet.id, 0)
            return
        begin = self._read.setdefault(fleet.id, file.stat().st_size)
        with file.open("rb") as opened:
            opened.seek(begin)
            text, end, _ = opened.read().rpartition(b"\n")
        self._read[fleet.id] = begin + len(text) + len(end)
        for line in text.splitlines():
            told = json.loads(line)
            yield told["step"], told["accuracy"]

    def ended(self, fleet: Fleet) -> None:
        """Complete and close the curves of a fleet's finished cells."""
        self.look(fleet)
        for cell in fleet.cells:
            if self._run.has(cell):
                self._complete(cell)
        live_file(self._run, fleet).unlink(missing_ok=True)

    def _complete(self, cell: Cell) -> None:
        table = read_table(self._run.cell_path(cell.id) / "metrics.parquet", METRICS)
        named = table.with_columns(name=pl.concat_str("measure", "texts", "operand", separator="/"))
        for tracker in self._names:
            whole, key = self._run.path / "tracked" / tracker / cell.id, (tracker, cell.id)
            if whole.exists():
                continue
            told = self._told.pop(key, set())
            known = (pl.col("measure") == "accuracy") & pl.col("step").is_in(list(told))
            left = named.filter(~known & pl.col("value").is_finite())
            for (step,), rows in left.group_by(["step"], maintain_order=True):
                values = dict(rows.select("name", "value").iter_rows())
                self._tracker(tracker, cell).log(int(str(step)), values)
            self._tracker(tracker, cell).close()
            del self._open[key]
            whole.parent.mkdir(parents=True, exist_ok=True)
            write_text(whole, "")

    def _log(self, cell: Cell, step: int, values: Values) -> None:
        for tracker in self._names:
            self._tracker(tracker, cell).log(step, values)
            self._told.setdefault((tracker, cell.id), set()).add(step)

    def _tracker(self, name: str, cell: Cell) -> Tracker:
        key = name, cell.id
        if key not in self._open:
            self._open[key] = TRACKERS[name](self._run, cell)
        return self._open[key]


def _named(accuracy: list[list[float]]) -> dict[str, float]:
    """One member's accuracies by name; those of a model that diverged are no numbers."""
    return {
        f"accuracy/{texts}/{operand}": value
        for texts, pair in zip(EVALUATED, accuracy, strict=True)
        for operand, value in zip(OPERANDS, pair, strict=True)
        if math.isfinite(value)
    }
