"""Curves reach trackers while models train, each value once, and no run needs a tracker."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from tests.tiny import CPU, EXPERIMENT, UPDATES, Quiet, interrupted_at
from veneer.experiments import tracking
from veneer.experiments.cells import Prepared
from veneer.experiments.run import execute
from veneer.experiments.store import Run
from veneer.experiments.tracking import Curves
from veneer.finetune.cell import Cell
from veneer.finetune.engines import Processes
from veneer.tasks.errors import InputError


class Kept:
    """Keeps what it is told, of all cells in one list."""

    told: list[tuple[str, int, str, float]]
    closed: list[str]

    def __init__(self, run: Run, cell: Cell) -> None:
        self.cell = cell.id

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.told.extend((self.cell, step, name, value) for name, value in values.items())

    def close(self) -> None:
        self.closed.append(self.cell)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> type[Kept]:
    """A tracker called json: a module that everybody has."""
    monkeypatch.setattr(Kept, "told", [], raising=False)
    monkeypatch.setattr(Kept, "closed", [], raising=False)
    monkeypatch.setitem(tracking.TRACKERS, "json", Kept)
    return Kept


def stored(run: Run) -> list[tuple[str, int, str, float]]:
    """What the cells' files hold, as a tracker should have it."""
    rows = []
    for cell in run.finished():
        table = pl.read_parquet(run.cell_path(cell) / "metrics.parquet", glob=False)
        for step, measure, texts, operand, value in table.iter_rows():
            if math.isfinite(value):
                rows.append((cell, step, f"{measure}/{texts}/{operand}", value))
    return sorted(rows)


def test_values_come_while_models_train_and_all_of_them_once(
    prepared: Prepared, tmp_path: Path, kept: type[Kept]
) -> None:
    run = Run.open(tmp_path / "run", "quick", EXPERIMENT)
    seen: list[tuple[int, int]] = []
    progress = Quiet(lambda trained: seen.append((trained, len(kept.told))))
    execute(prepared, run, CPU, run.plan(prepared.cells, 4), progress, curves=Curves(run, ("json",)))
    before_the_end = [told for trained, told in seen if trained < UPDATES / 3]
    assert any(before_the_end), "nothing was told before the first fleet ended"
    assert sorted(kept.told) == stored(run)
    assert sorted(kept.closed) == sorted(run.finished())
    assert not list((run.path / "fleets").glob("*.jsonl"))


def test_a_run_that_goes_on_repeats_nothing(prepared: Prepared, tmp_path: Path, kept: type[Kept]) -> None:
    run = Run.open(tmp_path / "run", "quick", EXPERIMENT)
    with pytest.raises(KeyboardInterrupt):
        execute(
            prepared,
            run,
            CPU,
            run.plan(prepared.cells, 4),
            interrupted_at(30),
            0.0,
            curves=Curves(run, ("json",)),
        )
    for _ in range(2):  # the second time all is finished and known
        execute(prepared, run, CPU, run.plan(prepared.cells, 4), Quiet(), curves=Curves(run, ("json",)))
    assert {(c, s, n) for c, s, n, _ in kept.told} == {(c, s, n) for c, s, n, _ in stored(run)}
    assert sorted(kept.closed) == sorted(run.finished())


@pytest.mark.slow
def test_what_other_processes_train_is_told_by_the_one_that_drives(
    prepared: Prepared, tmp_path: Path, kept: type[Kept]
) -> None:
    run = Run.open(tmp_path / "run", "quick", EXPERIMENT)
    fleets = run.plan(prepared.cells, 1)
    execute(prepared, run, CPU, fleets, Quiet(), engine=Processes(2), curves=Curves(run, ("json",)))
    assert sorted(kept.told) == stored(run)


def test_a_run_that_was_not_tracked_is_told_afterwards(
    prepared: Prepared, tmp_path: Path, kept: type[Kept]
) -> None:
    run = Run.open(tmp_path / "run", "quick", EXPERIMENT)
    execute(prepared, run, CPU, run.plan(prepared.cells, 4), Quiet())
    assert not (run.path / "tracked").exists()
    execute(prepared, run, CPU, run.plan(prepared.cells, 4), Quiet(), curves=Curves(run, ("json",)))
    assert sorted(kept.told) == stored(run)


@pytest.mark.parametrize("name", sorted(tracking.TRACKERS))
def test_a_tracker_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda wanted: None)
    with pytest.raises(InputError, match=rf"log_to = '{name}'.*veneer\[{name}\]"):
        Curves(Run(tmp_path), (name,))


class Recorded(ModuleType):
    """Stands for trackio or wandb: notes each call on it and on what it gives."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def noted(*given: Any, **named: Any) -> "Recorded":
            self.calls.append((name, given, named))
            return self

        return noted


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_cell_is_a_run_of_its_own_that_ends(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    recorded = Recorded(name)
    monkeypatch.setitem(sys.modules, name, recorded)
    run = Run.open(tmp_path / "my-run", "quick", EXPERIMENT)
    cell = prepared.cells[0]
    tracker = tracking.TRACKERS[name](run, cell)
    tracker.log(5, {"accuracy/natural/pt": 0.5})
    tracker.close()
    (kind, _, named), *_ = recorded.calls
    assert kind == "init" and named["name"] == tracking.name_of(cell)
    assert named["config"]["learning_rate"] == cell.stage.recipe.learning_rate
    assert "my-run" in (named["group"] if name == "wandb" else named["project"])
    logged = next(call for call in recorded.calls if call[0] == "log")
    assert logged[1][0]["accuracy/natural/pt"] == 0.5
    assert (logged[1][0] | logged[2])["update" if name == "wandb" else "step"] == 5
    assert recorded.calls[-1][0] == "finish"


@pytest.mark.slow
def test_weights_and_biases_itself_takes_the_values_offline(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = Run.open(tmp_path / "run", "quick", EXPERIMENT)
    execute(prepared, run, CPU, run.plan(prepared.cells, 4), Quiet(), curves=Curves(run, ("wandb",)))
    kept = list((run.path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(kept) == len(run.finished())
    assert all(file.stat().st_size > 1000 for file in kept)
