"""How far a run is, from its folder alone: what is done, in training, given up or damaged.

Fleets in training say how far they are in a small file beside their checkpoint; whether somebody still
trains them is asked of the lock, never of a clock.
"""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veneer.experiments.analysis_tables import read_analysis
from veneer.experiments.folder import RunFolder
from veneer.experiments.shapes import ACCURACY, BASELINES, CELL, ENVIRONMENT, PLAN, PROGRESS, RECORD, REUSED
from veneer.models.files import checksum, exists, is_file, read_json, read_table, write_json
from veneer.tasks.errors import InputError

if TYPE_CHECKING:  # fleets load PyTorch, and a look at a folder should answer at once
    from veneer.finetune.cell import Fleet

EVERY = 1.0  # least seconds between two progress files of a fleet


@dataclass(frozen=True)
class FleetProgress:
    """How far a fleet is.

    Attributes:
        members: models in it.
        step: updates done.
        updates: of the whole stage.
        restored: updates done before this process took it up.
        seconds: since then.
        failed: why it was given up, or nothing.
        host: where it is trained.
        process: the process there.
    """

    members: int
    step: int
    updates: int
    restored: int = 0
    seconds: float = 0.0
    failed: str = ""
    host: str = ""
    process: int = 0

    @property
    def rate(self) -> float:
        """Model updates per second of this process; what was restored does not count."""
        return (self.step - self.restored) * self.members / self.seconds if self.seconds > 0 else 0.0


class Reporter:
    """Writes how far a fleet is, now and then.

    Args:
        run: the run.
        fleet: the fleet, as planned.
        restored: updates that its checkpoint holds.
    """

    def __init__(self, run: RunFolder, fleet: "Fleet", restored: int) -> None:
        self._path, self._fleet, self._restored = run.progress_path(fleet.id), fleet, restored
        self._began = self._written = time.monotonic()
        self._write(restored)

    def __call__(self, step: int) -> None:
        if time.monotonic() - self._written >= EVERY:
            self._write(step)

    def _write(self, step: int) -> None:
        self._written = time.monotonic()
        size, updates = len(self._fleet.cells), self._fleet.cells[0].stage.recipe.iterations
        spent = self._written - self._began
        here = {"host": socket.gethostname(), "process": os.getpid()}
        found = FleetProgress(size, step, updates, self._restored, spent, **here)
        write_json(self._path, asdict(found))


def fleet_progress(run: RunFolder, fleet_id: str) -> FleetProgress | None:
    """How far a fleet says it is; None where it says nothing."""
    try:
        found = read_json(run.progress_path(fleet_id), PROGRESS)
    except InputError:
        return None
    return FleetProgress(**{name: found[name] for name in PROGRESS})


def give_up(run: RunFolder, fleet: "Fleet", why: str) -> None:
    """Record that a fleet was given up."""
    updates = fleet.cells[0].stage.recipe.iterations
    write_json(run.progress_path(fleet.id), asdict(FleetProgress(len(fleet.cells), 0, updates, failed=why)))


@dataclass(frozen=True)
class RunStatus:
    """A run at a moment.

    Attributes:
        cells: planned.
        done: finished, diverged ones among them.
        diverged: finished because the loss was no longer finite.
        without_start: never trained, because the cell they would start from diverged.
        running: fleets in training, by id.
        interrupted: fleets begun that nobody trains now.
        failed: why fleets were given up, by id.
        updates: model updates planned, and of these done.
        rate: model updates per second of what is in training.
    """

    cells: int
    done: int
    diverged: int
    without_start: int
    running: dict[str, FleetProgress]
    interrupted: dict[str, FleetProgress]
    failed: dict[str, str]
    updates: tuple[int, int]
    rate: float

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None while nothing is measured."""
        planned, done = self.updates
        return (planned - done) / self.rate if self.rate > 0 else None


def status(run: RunFolder) -> RunStatus:
    """Look at a run's folder, whoever is at work on it.

    Raises:
        InputError: no plan is written yet, or a file is damaged.
    """
    plan = [fleet for fleet in read_json(run.path / "plan.json", PLAN)["fleets"] if fleet["cells"]]
    finished = set(run.finished())
    diverged = diverged_cells(run, finished)
    orphans = _orphans(_planned(run), diverged) if diverged else set[str]()
    done_updates, running, interrupted, failed = 0, {}, {}, {}
    for fleet in plan:
        missing = [i for i in fleet["cells"] if i not in finished and i not in orphans]
        each = fleet["updates"] // len(fleet["cells"])
        done_updates += each * (len(fleet["cells"]) - len(missing))
        found = fleet_progress(run, fleet["fleet"]) if missing else None
        if found is None:
            continue
        done_updates += min(found.step, each) * len(missing)
        if run.is_held(fleet["fleet"]):
            running[fleet["fleet"]] = found
        elif found.failed:
            failed[fleet["fleet"]] = found.failed
        else:
            interrupted[fleet["fleet"]] = found
    return RunStatus(
        cells=sum(len(fleet["cells"]) for fleet in plan),
        done=len(finished),
        diverged=len(diverged),
        without_start=len(orphans),
        running=running,
        interrupted=interrupted,
        failed=failed,
        updates=(sum(fleet["updates"] for fleet in plan), done_updates),
        rate=sum(found.rate for found in running.values()),
    )


def verify(run: RunFolder) -> list[str]:
    """What of a run is missing or damaged, a line each; nothing if all planned cells are whole.

    Raises:
        InputError: no plan is written yet, or it is damaged.
    """
    problems = [problem for problem in map(_fault_of_file(run), FILES) if problem]
    planned, diverged = _planned(run), set()
    for cell in planned:
        found = _damage(run, cell)
        if not found and read_json(run.cell_path(cell) / "cell.json", CELL)["status"] != "done":
            diverged.add(cell)
        problems += [f"cells/{cell}: {problem}" for problem in found]
    orphans = _orphans(planned, diverged)
    problems = [p for p in problems if p not in {f"cells/{cell}: not trained" for cell in orphans}]
    if exists(record := run.path / RECORD):
        try:
            read_json(record, REUSED)
        except InputError as error:
            problems.append(f"{RECORD} is damaged: {error.problem}")
    for folder in sorted(folder for folder in (run.path / "capabilities").glob("*") if folder.is_dir()):
        problems += [f"capabilities/{folder.name}: {problem}" for problem in capability_damage(folder)]
    for file in sorted((run.path / "analysis").glob("*.parquet")):
        try:
            read_analysis(run.path, file.stem)
        except InputError as error:
            problems.append(f"analysis/{file.name} is damaged: {error.problem}")
    return problems


FILES: dict[str, Any] = {"environment.json": ENVIRONMENT, "baselines.json": BASELINES, "plan.json": PLAN} | {
    "cells.parquet": ("cell", "parent")
}


def _fault_of_file(run: RunFolder) -> Callable[[str], str]:
    """What is wrong with one of the run's files, by its name; nothing if it is whole."""

    def found(name: str) -> str:
        file = run.path / name
        if not file.exists():
            return f"{name} is missing"
        read = read_table if file.suffix == ".parquet" else read_json
        try:
            empty = len(read(file, FILES[name])) == 0
        except InputError as error:
            return f"{name} is damaged: {error.problem}"
        return f"{name} is damaged: it is empty" if empty else ""

    return found


def capability_damage(folder: Path) -> list[str]:
    """What of a capability's folder in a run is missing or damaged."""
    try:
        files = read_json(folder / "accuracy.json", ACCURACY).get("files") or {}
    except InputError as error:
        return [f"accuracy.json is damaged: {error.problem}"]
    return _faults(folder, files)


def _faults(folder: Path, files: dict[str, str]) -> list[str]:
    missing = [f"{name} is missing" for name in files if not (folder / name).exists()]
    damaged = [
        f"{name} is damaged"
        for name, sha in files.items()
        if (folder / name).exists() and checksum(folder / name) != sha
    ]
    return missing + damaged


def _damage(run: RunFolder, cell: str) -> list[str]:
    folder = run.cell_path(cell)
    if not folder.is_dir():
        return ["not trained"]
    try:
        files = read_json(folder / "cell.json", CELL)["files"]
    except InputError:
        return ["cell.json is missing or damaged"]
    return _faults(folder, files)


def _planned(run: RunFolder) -> dict[str, str]:
    """Every planned cell's parent, by its id."""
    try:
        table = read_table(run.path / "cells.parquet", ["cell", "parent"])
        return dict(table.select("cell", "parent").iter_rows())
    except InputError:
        fleets = read_json(run.path / "plan.json", PLAN)["fleets"]
        return {cell: "" for fleet in fleets for cell in fleet["cells"]}


def diverged_cells(run: RunFolder, finished: set[str]) -> set[str]:
    """Finished cells that diverged, found without parsing what they hold."""
    found = set()
    for cell in finished:
        file = run.cell_path(cell) / "cell.json"
        if not is_file(file):  # a pipe in its place would never end
            continue
        try:
            head = file.read_bytes()[:200]
        except OSError:
            continue
        if b'"status": "diverged' in head:
            found.add(cell)
    return found


def _orphans(parents: dict[str, str], diverged: set[str]) -> set[str]:
    """Planned cells with an ancestor that diverged."""
    lost: set[str] = set()
    if not diverged:
        return lost
    while more := {c for c, p in parents.items() if c not in lost and (p in lost or p in diverged)}:
        lost |= more
    return lost
