"""Begin a run, from a terminal or from Python: everything that can be refused is refused first."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from veneer.experiments.cells import Prepared
from veneer.experiments.estimate import check_memory, fleet_size
from veneer.experiments.reuse import lenders, recorded, take_over
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


def begin(
    sweep: Sweep,
    out: str | os.PathLike[str],
    preset: str = "quick",
    device: str = "auto",
    fleet: int | None = None,
    command: str = "",
    say: Callable[[str], None] = lambda text: None,
    reuse: Sequence[str | os.PathLike[str]] = (),
) -> Begun:
    """Begin a run, or take up the one that the folder holds.

    Args:
        sweep: what is run: one experiment, or a grid of them.
        out: the run's folder.
        preset: the preset that the experiment started from.
        device: ``auto``, ``cpu`` or ``cuda``.
        fleet: most models trained together; None takes what suits the device.
        command: the command line, for whoever wants to repeat it.
        say: told what is being done, once what can be refused at once has been.
        reuse: runs from which finished models are taken over (see ``experiments.reuse``).

    Raises:
        InputError: a field, device, fleet size, folder or run to reuse that cannot be used; nothing has
            been written then.
    """
    where = device_of(device)
    for experiment in sweep.experiments:
        check_device(where.type, experiment.precision, experiment.compile)
    if fleet is not None and fleet < 1:
        raise InputError("fleet", fleet, "1 or more")
    Run.check(Path(out), sweep.base, sweep.axes)
    others = lenders(reuse, where)
    ready = partial(say, "getting the capability ready (a compiled one is kept)")
    prepared, points = prepare_sweep(sweep, slow=ready)
    size = fleet or fleet_size(prepared, where)
    check_memory(prepared, plan(prepared.cells, size), where)
    try_methods(prepared, where)
    run = Run.open(out, preset, sweep.base, sweep.axes, command)
    run.keep_code(sweep.experiments)
    reused = take_over(run, others, prepared.cells)
    return Begun(run, prepared, run.plan(prepared.cells, size, points, recorded(run)), where, reused)
