"""What can be read of a run's folder without loading PyTorch: what is planned, finished and held.

So that asking how far a run is answers at once. ``veneer.experiments.store`` reads and writes the rest.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from veneer.experiments.files import check_format, read_json
from veneer.tasks.errors import InputError

FORMAT = 3
"""Version of what lies in a run's folder, and of what the ids of its cells are made from."""


class RunFolder:
    """A run's folder, open for a look."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """A run that exists.

        Raises:
            InputError: there is none, or it has the format of another version.
        """
        path = Path(path)
        if not (path / "experiment.json").exists():
            raise InputError("run", str(path), "a folder made by veneer run", "it has no experiment.json")
        check_format(path, FORMAT)
        return cls(path)

    @property
    def experiment(self) -> dict[str, Any]:
        """``experiment.json``."""
        return read_json(self.path / "experiment.json")

    def cell_path(self, cell_id: str) -> Path:
        """Folder of a cell."""
        return self.path / "cells" / cell_id

    def baselines(self, task_id: str) -> dict[str, Any]:
        """Majority-class and shortcut baselines of a task's evaluation sets, by kind of text."""
        return read_json(self.path / "baselines.json")[task_id]["texts"]

    def progress_path(self, fleet_id: str) -> Path:
        """Where a fleet in training says how far it is."""
        return self.path / "fleets" / f"{fleet_id}.json"

    @contextmanager
    def lease(self, fleet_id: str) -> Iterator[bool]:
        """Hold a fleet, so that no other process trains it; gives False where another one does.

        The operating system's lock on a file: it ends with its process, however that ends.
        """
        lock = self._lock(fleet_id)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def is_held(self, fleet_id: str) -> bool:
        """Whether a process trains a fleet at this moment."""
        if not (self.path / "locks" / f"{fleet_id}.lock").exists():
            return False
        with self.lease(fleet_id) as free:
            return not free

    def setup(self) -> FileLock:
        """To be held while what all fleets share is written."""
        return self._lock("setup")

    def _lock(self, name: str) -> FileLock:
        (self.path / "locks").mkdir(parents=True, exist_ok=True)
        return FileLock(self.path / "locks" / f"{name}.lock")

    def finished(self) -> list[str]:
        """Ids of the finished cells, in order, by the names of their folders alone."""
        try:
            with os.scandir(self.path / "cells") as entries:
                return sorted(entry.name for entry in entries if not entry.name.startswith("."))
        except FileNotFoundError:
            return []

    def cells(self) -> list[dict[str, Any]]:
        """``cell.json`` of every finished cell, in order of id."""
        return [read_json(self.cell_path(cell) / "cell.json") for cell in self.finished()]
