"""Begin a run, from a terminal or from Python: everything that can be refused is refused first."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl
import torch

from veneer.experiments.cells import Prepared
from veneer.experiments.estimate import check_memory, fleet_size
from veneer.experiments.reuse import lenders, recorded, take_over, to_take
from veneer.experiments.store import Run
from veneer.experiments.sweep import Sweep, prepare_sweep
from veneer.experiments.trial import try_methods
from veneer.finetune.cell import Fleet, plan
from veneer.finetune.trainer import check_device
from veneer.tasks.errors import InputError


@dataclass(frozen=True)
class Begun:
    """A run whose folder is there and whose fleets are planned.

    Attributes:
        run: its folder.
        prepared: what trains.
        fleets: the plan, parents before children.
        device: where to train.
        reused: how many finished models were taken over from other runs.
    """

    run: Run
    prepared: Prepared
    fleets: list[Fleet]
    device: torch.device
    reused: int = 0


def device_of(name: str) -> torch.device:
    """The device meant by ``auto``, ``cpu`` or ``cuda``.

    Raises:
        InputError: another name, or cuda without a GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError("device", name, "auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device", name, "cpu or auto", "this machine's PyTorch sees no GPU")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Asked:
    """What a run is to be, once all that can be refused at once has been; nothing is written yet.

    Attributes:
        sweep: what is run: one experiment, or a grid of them.
        out: the run's folder.
        device: where to train.
        fleet: most models trained together; None takes what suits the device.
        others: runs from which finished models are taken over.
    """

    sweep: Sweep
    out: Path
    device: torch.device
    fleet: int | None
    others: list[Run]

    def ready(self, say: Callable[[str], None] = lambda text: None) -> "Ready":
        """Get the capabilities ready, and see whether what is planned fits into memory.

        Args:
            say: told if that takes long.

        Raises:
            InputError: a capability that cannot be had, or fleets that do not fit.
        """
        slow = partial(say, "getting the capability ready (a compiled one is kept)")
        prepared, points = prepare_sweep(self.sweep, slow=slow)
        size = self.fleet or fleet_size(prepared, self.device)
        fleets = plan(prepared.cells, size)
        check_memory(prepared, fleets, self.device)
        return Ready(self, prepared, points, size, fleets)


@dataclass(frozen=True)
class Ready:
    """What would be trained, and in which fleets, if nothing were finished.

    Attributes:
        asked: what was asked for.
        prepared: what trains.
        points: the points of the grid that each cell belongs to (see ``prepare_sweep``).
        size: most models trained together.
        fleets: the plan, parents before children.
    """

    asked: Asked
    prepared: Prepared
    points: pl.DataFrame | None
    size: int
    fleets: list[Fleet]

    def finished(self) -> set[str]:
        """The cells that need no training: those that the run has, or would take over."""
        run = Run(self.asked.out)
        return set(run.finished()) | to_take(run, self.asked.others, self.prepared.cells).keys()

    def begin(self, preset: str, command: str) -> Begun:
        """Begin the run, or take up the one that the folder holds.

        Args:
            preset: the preset that the experiment started from.
            command: the command line, for whoever wants to repeat it.

        Raises:
            InputError: a method of the user's that does not work; nothing has been written then.
        """
        asked, cells = self.asked, self.prepared.cells
        try_methods(self.prepared, asked.device)
        run = Run.open(asked.out, preset, asked.sweep.base, asked.sweep.axes, command)
        run.keep_code(asked.sweep.experiments)
        reused = take_over(run, asked.others, cells)
        fleets = run.plan(cells, self.size, self.points, recorded(run))
        return Begun(run, self.prepared, fleets, asked.device, reused)


def ask(
    sweep: Sweep,
    out: str | os.PathLike[str],
    device: str = "auto",
    fleet: int | None = None,
    reuse: Sequence[str | os.PathLike[str]] = (),
) -> Asked:
    """Refuse what can be refused at once.

    Args:
        sweep: what is run.
        out: the run's folder.
        device: ``auto``, ``cpu`` or ``cuda``.
        fleet: most models trained together; None takes what suits the device.
        reuse: runs from which finished models are taken over (see ``experiments.reuse``).

    Raises:
        InputError: a field, device, fleet size, folder or run to reuse that cannot be used.
    """
    where = device_of(device)
    for experiment in sweep.experiments:
        check_device(where.type, experiment.precision, experiment.compile)
    if fleet is not None and fleet < 1:
        raise InputError("fleet", fleet, "1 or more")
    Run.check(Path(out), sweep.base, sweep.axes)
    return Asked(sweep, Path(out), where, fleet, lenders(reuse, where))
