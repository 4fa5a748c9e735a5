"""A folder of trials: what was asked, what went in, and every trial that is finished.

For questions that are asked of text models, one model at a time: relearning, stories, decisions. A trial's
file appears whole; whoever finds a trial neither finished nor held takes it, so several processes, also on
several machines with one file system, share one folder, and what is interrupted is gone on with by the same
command. ::

    NAME.json                 the settings (relearning.json, stories.json)
    inputs.json               sources, SHA-256 of models and data, versions, commit, device
    trials/ID.json            one finished trial: what was done, what was measured
    states/ID.safetensors     a trial in training; gone when it is done
    locks/ID.lock             held by the process that works on the trial
"""

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from veneer.models.files import exists, held, read_json, write_json
from veneer.tasks.errors import InputError


class AnyTrial(Protocol):
    """One piece of work."""

    @property
    def id(self) -> str:
        """Its name in the folder."""
        ...

    @property
    def told(self) -> str:
        """What is done, in a few words."""
        ...

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        ...


RunKind = TypeVar("RunKind", bound="TrialFolder[Any, Any]")
TrialKind = TypeVar("TrialKind", bound=AnyTrial)
SettingsKind = TypeVar("SettingsKind")


@dataclass(frozen=True)
class Prepared(Generic[RunKind]):
    """A run that can begin.

    Attributes:
        run: its folder.
        fresh: whether the folder was begun now.
        told: what a reader should know first.
    """

    run: RunKind
    fresh: bool
    told: tuple[str, ...]


def begin(
    kind: type[RunKind], out: Path, settings: Any, inputs: dict[str, Any], told: Sequence[str]
) -> Prepared[RunKind]:
    """Open the folder of a run of which all was looked at, and keep what goes in.

    Args:
        kind: of folder.
        out: the folder.
        settings: of the run.
        inputs: what goes in (``TrialFolder.record_inputs``).
        told: what a reader should know first.

    Raises:
        InputError: the folder holds something else, or what went in has changed since.
    """
    fresh = not exists(out / kind.FILE)
    run = kind.open(out, settings)
    run.record_inputs(inputs)
    return Prepared(run, fresh, tuple(told))


class TrialFolder(ABC, Generic[SettingsKind, TrialKind]):
    """The folder, open for reading and writing. Each kind names its file, its settings and its trials."""

    FILE: ClassVar[str]
    FORMAT: ClassVar[int]
    MADE_BY: ClassVar[str]
    SETTINGS: ClassVar[type]

    def __init__(self, path: Path, settings: SettingsKind) -> None:
        self.path, self.settings = path, settings

    @abstractmethod
    def trials(self) -> tuple[TrialKind, ...]:
        """Everything that is to be done, in order."""

    @classmethod
    def open(cls, path: Path, settings: SettingsKind) -> Self:
        """Begin in a new or empty folder, or go on with the one that is there.

        Raises:
            InputError: the folder holds something else, or other settings.
        """
        cls.check(path, settings)
        run = cls(path, settings)
        try:
            write_json(path / cls.FILE, run._described())
        except OSError as error:
            raise InputError("out", str(path), "a folder that can be written", str(error)) from error
        return run

    @classmethod
    def check(cls, path: Path, settings: SettingsKind) -> None:
        """Whether a folder can hold this; nothing is written.

        Raises:
            InputError: it holds something else, or other settings.
        """
        file = path / cls.FILE
        if not exists(file):
            if exists(path) and (not path.is_dir() or any(path.iterdir())):
                valid = "a new or empty folder, or one to go on with"
                raise InputError("out", str(path), valid, "it holds something else")
            return
        found, wanted = read_json(file), cls(path, settings)._described()
        if found != wanted:
            old, new = found.get("settings", {}), wanted["settings"]
            differing = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
            valid = "a new folder, or the same settings"
            raise InputError("out", str(path), valid, f"it holds other settings ({', '.join(differing)})")

    @classmethod
    def read(cls, path: Path) -> Self:
        """What is in a folder.

        Raises:
            InputError: it is of another kind, or of another version.
        """
        found = read_json(path / cls.FILE)
        if not isinstance(found, dict) or found.get("format") != cls.FORMAT:
            raise InputError("run", str(path), f"a folder that {cls.MADE_BY} made")
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in found["settings"].items()
        }
        return cls(path, cls.SETTINGS(**fields))

    def withdraw(self) -> None:
        """Remove the folder if nothing has been measured in it yet: nothing half-written is left."""
        kept = {file.name for file in self.path.iterdir()} - {self.FILE, "inputs.json", "locks"}
        if not kept:
            shutil.rmtree(self.path)

    def _described(self) -> dict[str, Any]:
        settings: Any = self.settings
        return {"format": self.FORMAT, "settings": json.loads(json.dumps(asdict(settings)))}

    def record_inputs(self, told: dict[str, Any]) -> None:
        """Keep what went in, the first time; refuse models or data that changed since.

        Raises:
            InputError: they did.
        """
        file = self.path / "inputs.json"
        if exists(file):
            old = read_json(file)
            for name in ("models", "data"):
                if old.get(name) != told[name]:
                    raise InputError("out", str(self.path), "a new folder", f"its {name} have changed since")
            return
        write_json(file, told)

    def inputs(self) -> dict[str, Any]:
        """What went in."""
        return read_json(self.path / "inputs.json")

    def done(self, trial: TrialKind) -> bool:
        """Whether a trial is finished."""
        return exists(self._file(trial))

    def pending(self) -> list[TrialKind]:
        """The trials that are not finished."""
        return [trial for trial in self.trials() if not self.done(trial)]

    def result(self, trial: TrialKind) -> dict[str, Any] | None:
        """What a trial measured; None if it is not finished."""
        return read_json(self._file(trial))["result"] if self.done(trial) else None

    def finish(self, trial: TrialKind, result: dict[str, Any]) -> None:
        """Keep what a trial measured."""
        write_json(self._file(trial), {"trial": trial.plain(), "result": result})

    def state(self, trial: TrialKind) -> Path:
        """Where the state of a trial in training is kept."""
        return self.path / "states" / f"{trial.id}.safetensors"

    def kept(self, trial: TrialKind) -> tuple[Path, ...]:
        """What else a finished trial leaves, such as weights."""
        del trial
        return ()

    def problems(self) -> list[str]:
        """What is missing or damaged, a sentence each."""
        found = []
        for trial in self.trials():
            if not self.done(trial):
                found.append(f"{trial.id} is not finished")
                continue
            try:
                told = read_json(self._file(trial), {"trial": dict, "result": dict})["trial"]
            except InputError as error:
                found.append(f"{trial.id} is damaged: {error}")
                continue
            if told != json.loads(json.dumps(trial.plain())):
                found.append(f"{trial.id} holds another trial")
            found += [f"{trial.id} lacks {path.name}" for path in self.kept(trial) if not exists(path)]
        return found

    def _file(self, trial: TrialKind) -> Path:
        return self.path / "trials" / f"{trial.id}.json"

    def claim(self, name: str) -> AbstractContextManager[bool]:
        """Hold a lock by name, if nobody else does."""
        return held(self.path / "locks" / f"{name}.lock")
