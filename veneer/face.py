"""What is called from Python: open runs, make them, look into them, compile programs, load capabilities.

These functions do what the commands do, without a terminal: they print nothing unless asked to, raise
``InputError`` for what cannot be used, and return values. ``import veneer`` offers them all.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from veneer.commands.manners import runs_folder
from veneer.commands.progress import LiveProgress
from veneer.experiments.analyse import ANALYSES
from veneer.experiments.analyse import analyse as make_tables
from veneer.experiments.begin import ask, device_of
from veneer.experiments.named import PRESETS, Experiment
from veneer.experiments.origins import capability_at
from veneer.experiments.run import Progress, Silent, execute
from veneer.experiments.store import Run
from veneer.experiments.sweep import sweep_of
from veneer.experiments.tuned import Capability
from veneer.tasks.errors import InputError

AnyPath = str | os.PathLike[str]


def load(path: AnyPath) -> Run:
    """Open a run that exists.

        run = veneer.load("runs/demo")
        run.metrics()                                  # a polars table; .to_pandas() makes it one of pandas
        run.table("pruning")                           # run.tables lists what is there
        run.model(rate=1e-3, c_tr=1, seed=0).answer("abcabcabcabcabca")

    Args:
        path: its folder.

    Raises:
        InputError: there is no run, or it has the format of another version.
    """
    return Run.read(path)


def run(
    experiment: str | Experiment,
    out: AnyPath | None = None,
    *,
    preset: str = "quick",
    device: str = "auto",
    fleet: int | None = None,
    reuse: AnyPath | Sequence[AnyPath] = (),
    progress: bool | Progress = False,
    **fields: Any,
) -> Run:
    """Train what is not finished of an experiment, and give the run.

        run = veneer.run("counter", "runs/mine", learning_rates=[0.1, 0.001], seeds=3)

    It stops and goes on as ``veneer run`` does: called again with the same settings, it trains what is
    missing. Several values of a field that is no list make a sweep: ``batch=[32, 96]``.

    Args:
        experiment: the name of one (``veneer list``), or a value such as ``CounterExperiment(q=2)``.
        out: the run's folder; None takes runs/NAME-PRESET (or VENEER_RUNS/NAME-PRESET).
        preset: ``quick`` or ``paper``, for an experiment by name.
        device: ``auto``, ``cpu`` or ``cuda``.
        fleet: most models trained together; None takes what suits the device.
        reuse: a run or runs that have trained some of these models already, which are copied from there.
        progress: True shows a bar; a ``Progress`` is told of every fleet and update.
        fields: values of the experiment's fields.

    Raises:
        InputError: a name, field, value or folder that cannot be used.
    """
    if isinstance(experiment, str):
        if experiment not in PRESETS:
            raise InputError("experiment", experiment, ", ".join(PRESETS))
        if preset not in PRESETS[experiment]:
            raise InputError("preset", preset, ", ".join(PRESETS[experiment]))
        experiment = PRESETS[experiment][preset]
    sweep = sweep_of(experiment, {name: _values(value) for name, value in fields.items()})
    folder = runs_folder() / f"{experiment.name}-{preset}" if out is None else Path(out)
    others = [reuse] if isinstance(reuse, str | os.PathLike) else reuse
    begun = ask(sweep, folder, device, fleet, others).ready().begin(preset, "")
    total = sum(fleet.steps for fleet in begun.fleets)
    shown = LiveProgress(total) if progress is True else nullcontext(progress or Silent())
    with shown as told:
        execute(begun.prepared, begun.run, begun.device, begun.fleets, told)
    return begun.run


def _values(value: Any) -> list[Any]:
    """One value or several of a field, as ``sweep_of`` takes them."""
    if isinstance(value, list | tuple):
        return list(value) or ["none"]
    return ["none" if value is None else value]


def analyse(
    run: Run | AnyPath,
    only: Sequence[str] = (),
    *,
    device: str = "auto",
    say: Callable[[str], None] = lambda text: None,
) -> Run:
    """Look inside the models of a run, as ``veneer analyse`` does; ``Run.table`` then has the tables.

    Args:
        run: a run with finished models, or its folder.
        only: names of analyses; none given makes all.
        device: ``auto``, ``cpu`` or ``cuda``.
        say: told what is being done.

    Raises:
        InputError: no run, an analysis that does not exist, or a run that lacks what it needs.
    """
    run = run if isinstance(run, Run) else load(run)
    make_tables(run, device_of(device), tuple(only) or tuple(ANALYSES), say)
    return run


def write_report(run: Run | AnyPath) -> Path:
    """Write RUN/report.html, and say where it is.

    Args:
        run: a run, finished or not, or its folder.

    Raises:
        InputError: no run, or files in it are damaged.
    """
    from veneer.report.page import write_report as write

    return write(run if isinstance(run, Run) else load(run))


def load_capability(path: AnyPath) -> Capability:
    """A capability: one that ``veneer compile`` or ``veneer pretrain`` made, or a ready one by its name.

        veneer.load_capability("M").answer(40 * "a", operand="a")

    Args:
        path: a folder with model.json, a checkpoint's path, or L, M, H or jailbreak.

    Raises:
        InputError: there is none, or it is damaged.
    """
    return capability_at(path)
