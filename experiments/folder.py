"""What can be read of a run's folder without loading PyTorch: what is planned, finished and held.

So that asking how far a run is answers at once. ``veneer.experiments.store`` reads and writes the rest.
"""

import json
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

from filelock import FileLock

from veneer.experiments.shapes import CELL, EXPERIMENT, MAJORITIES, PLAN, completed, experiment_fault
from veneer.models.files import exists, held, read_json, read_text
from veneer.tasks.errors import InputError

FORMAT = 3
"""Version of what lies in a run's folder, and of what the ids of its cells are made from."""


class RunFolder:
    """A run's folder, open for a look."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._plan: tuple[tuple[int, int, int], list[str]] | None = None

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """A run that exists.

        Raises:
            InputError: there is none, or it has the format of another version.
        """
        path = Path(path)
        if not exists(path / "experiment.json"):
            raise InputError("run", str(path), "a folder made by veneer run", "it has no experiment.json")
        run = cls(path)
        _ = run.experiment
        return run

    @property
    def experiment(self) -> dict[str, Any]:
        """``experiment.json``.

        Raises:
            InputError: it is missing or damaged, or is not that of a run of this version.
        """
        file, valid = self.path / "experiment.json", "that of a run made by this version of veneer"
        if (found := _format_of(file)) not in (None, FORMAT):  # another version may have sealed it otherwise
            other = (
                f"a run of format {FORMAT}; read this one with the version in its environment.json, or "
                "run it again into a new folder"
            )
            raise InputError("run", str(self.path), other, f"it has format {found!r}")
        described = completed(read_json(file, EXPERIMENT, valid))
        if described["format"] != FORMAT:
            raise InputError("file", str(file), valid, f"its format is {described['format']!r}")
        if wrong := experiment_fault(described):
            raise InputError("file", str(file), valid, wrong)
        return described

    def cell_path(self, cell_id: str) -> Path:
        """Folder of a cell."""
        return self.path / "cells" / cell_id

    def baselines(self, task_id: str) -> dict[str, Any]:
        """Majority-class and shortcut baselines of a task's evaluation sets, by kind of text."""
        file = self.path / "baselines.json"
        found = read_json(file, MAJORITIES)
        if task_id not in found:
            raise InputError("file", str(file), "the baselines of the run's tasks", f"it lacks {task_id}")
        return found[task_id]["texts"]

    def progress_path(self, fleet_id: str) -> Path:
        """Where a fleet in training says how far it is."""
        return self.path / "fleets" / f"{fleet_id}.json"

    def lease(self, fleet_id: str) -> AbstractContextManager[bool]:
        """Hold a fleet, so that no other process trains it; gives False where another one does."""
        return held(self._lock(fleet_id))

    def is_held(self, fleet_id: str) -> bool:
        """Whether a process trains a fleet at this moment."""
        if not self._lock(fleet_id).exists():
            return False
        with self.lease(fleet_id) as free:
            return not free

    def setup(self) -> FileLock:
        """To be held while what all fleets share is written."""
        file = self._lock("setup")
        file.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(file)

    def _lock(self, name: str) -> Path:
        return self.path / "locks" / f"{name}.lock"

    def planned(self) -> list[str] | None:
        """Ids of the planned cells; None before they are planned.

        Raises:
            InputError: ``plan.json`` is damaged.
        """
        file = self.path / "plan.json"
        try:
            state = file.stat()
        except OSError:
            return None
        moment = state.st_mtime_ns, state.st_size, state.st_ino
        if self._plan is None or self._plan[0] != moment:
            fleets = read_json(file, PLAN, "the plan of a run")["fleets"]
            self._plan = moment, [cell for fleet in fleets for cell in fleet["cells"]]
        return self._plan[1]

    def stored(self) -> list[str]:
        """Ids of the cells whose folders are there, in order, planned or not."""
        try:
            with os.scandir(self.path / "cells") as entries:
                return sorted(entry.name for entry in entries if not entry.name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def finished(self) -> list[str]:
        """Ids of the finished cells, in order, by the names of their folders alone.

        Cells that an earlier plan made and the present one has not are left aside.

        Raises:
            InputError: ``plan.json`` is damaged.
        """
        planned, stored = self.planned(), self.stored()
        return stored if planned is None else sorted({*planned} & {*stored})

    def cells(self) -> list[dict[str, Any]]:
        """``cell.json`` of every finished cell, in order of id.

        Raises:
            InputError: one is missing or damaged.
        """
        found = [read_json(self.cell_path(cell) / "cell.json", CELL) for cell in self.finished()]
        for cell, name in zip(found, self.finished(), strict=True):
            if cell["id"] != name or cell["format"] != FORMAT:
                file = self.cell_path(name) / "cell.json"
                raise InputError("file", str(file), "that of a cell of this version", "it is another cell's")
        return found


def _format_of(file: Path) -> object:
    """The format that an ``experiment.json`` states; None where it states none or cannot be read."""
    try:
        content = json.loads(read_text(file))
    except (ValueError, RecursionError):
        return None
    return content.get("format") if isinstance(content, dict) else None
