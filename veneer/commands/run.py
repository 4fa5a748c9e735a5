"""``veneer run``: train what is not finished of an experiment, then show what came out."""

import sys
import time
from dataclasses import replace
from pathlib import Path

from veneer.commands.options import RunOptions, ask, known, preset_of
from veneer.experiments.named import PRESETS, Experiment
from veneer.tasks.errors import InputError


def command(words: list[str]) -> None:
    """``veneer run``."""
    if not words or words[0].startswith("-"):
        print("usage: veneer run NAME [--preset quick|paper] [options]; veneer run NAME --help lists them")
        print(f"names: {', '.join(PRESETS)}")
        if not words or words[0] not in ("-h", "--help"):
            sys.exit(2)
        return
    name = known("experiment", words[0], list(PRESETS))
    preset = preset_of(words[1:])
    experiment = PRESETS[name][preset]
    about = f"{experiment.about[0].upper()}{experiment.about[1:]}."
    options, experiment = ask(RunOptions(preset), experiment, words[1:], f"veneer run {name}", about)
    out = options.out or Path("runs") / f"{name}-{preset}"
    run_experiment(replace(options, out=out), experiment)


def run_experiment(options: RunOptions, experiment: Experiment) -> None:
    """``veneer run``: train what is not finished, then show what came out.

    Raises:
        InputError: an option or field that cannot be used; nothing has been written then.
    """
    from veneer.commands.progress import console
    from veneer.commands.training import announce, device_of, engine_of, show_run, train_run
    from veneer.experiments.cells import prepare
    from veneer.experiments.run import fleet_size
    from veneer.experiments.store import Run
    from veneer.finetune.trainer import check_device

    assert options.out is not None
    device = device_of(options.device)
    check_device(device.type, experiment.precision, experiment.compile)
    size = fleet_size(device) if options.fleet is None else options.fleet
    if size < 1:
        raise InputError("fleet", size, "1 or more")
    if not options.checkpoint_seconds >= 0:
        raise InputError("checkpoint_seconds", options.checkpoint_seconds, "0 or more")
    Run.check(options.out, experiment)
    engine = engine_of(options, device)
    began = time.monotonic()
    with console.status("getting the capability ready (a compiled one is kept for the next time)"):
        prepared = prepare(experiment)
    run = Run.open(options.out, options.preset, experiment)
    announce(prepared, experiment, options, device)
    train_run(run, prepared, run.plan(prepared.cells, size), options, device, engine, [experiment])
    show_run(run)
    console.print(f"[dim]{time.monotonic() - began:.0f} s[/]")
