"""How far a run is, from its folder alone: what is done, in training, given up or damaged.

Fleets in training say how far they are in a small file beside their checkpoint; whether somebody still
trains them is asked of the lock, never of a clock.
"""

import os
import socket
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from veneer.experiments.files import checksum, read_json, write_json
from veneer.experiments.folder import RunFolder
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
        return FleetProgress(**read_json(run.progress_path(fleet_id)))
    except (InputError, TypeError):
        return None


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
    plan = read_json(run.path / "plan.json")["fleets"]
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
    problems = []
    for name in ("environment.json", "baselines.json", "cells.parquet"):
        if not (run.path / name).exists():
            problems.append(f"{name} is missing")
    planned, diverged = _planned(run), set()
    for cell in planned:
        found = _damage(run, cell)
        if not found and read_json(run.cell_path(cell) / "cell.json")["status"] != "done":
            diverged.add(cell)
        problems += [f"cells/{cell}: {problem}" for problem in found]
    orphans = _orphans(planned, diverged)
    return [p for p in problems if p not in {f"cells/{cell}: not trained" for cell in orphans}]


def _damage(run: RunFolder, cell: str) -> list[str]:
    folder = run.cell_path(cell)
    if not folder.is_dir():
        return ["not trained"]
    try:
        files: dict[str, str] = read_json(folder / "cell.json")["files"]
    except (InputError, KeyError, TypeError):
        return ["cell.json is missing or damaged"]
    missing = [f"{name} is missing" for name in files if not (folder / name).exists()]
    damaged = [
        f"{name} is damaged" for name, sha in files.items()
        if (folder / name).exists() and checksum(folder / name) != sha
    ]  # fmt: skip
    return missing + damaged


def _planned(run: RunFolder) -> dict[str, str]:
    """Every planned cell's parent, by its id."""
    import polars as pl  # which takes half of a second to load, and a look at a run needs it seldom

    try:
        rows = pl.read_parquet(run.path / "cells.parquet", columns=["cell", "parent"]).rows()
        return dict(rows)
    except (pl.exceptions.PolarsError, OSError):
        fleets = read_json(run.path / "plan.json")["fleets"]
        return {cell: "" for fleet in fleets for cell in fleet["cells"]}


def diverged_cells(run: RunFolder, finished: set[str]) -> set[str]:
    """Finished cells that diverged, found without parsing what they hold."""
    found = set()
    for cell in finished:
        try:
            head = (run.cell_path(cell) / "cell.json").read_bytes()[:200]
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
