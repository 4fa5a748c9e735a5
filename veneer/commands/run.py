"""``veneer run``: train what is not finished of an experiment, then show what came out."""

import sys
import time
from dataclasses import replace
from importlib import import_module

from veneer.commands.manners import runs_folder
from veneer.commands.options import RunOptions, ask, known, preset_of
from veneer.experiments.named import PRESETS, Experiment
from veneer.finetune.workers import start_server

TEXTS = {
    "stories": ("veneer.commands.stories_run", "run_stories"),
    "cddm": ("veneer.commands.cddm_run", "run_decisions"),
    "layers": ("veneer.commands.layers_run", "run_layers"),
}
"""Experiments on text models: what runs each."""
SERVER_PAYS = 10_000
"""Model updates of fine-tuning from which on workers are likely; to import for them takes two seconds."""


def command(words: list[str]) -> None:
    """``veneer run``."""
    if not words or words[0].startswith("-"):
        print("usage: veneer run NAME [--preset quick|standard|paper] [options]")
        print("veneer run NAME --help lists the options")
        print(f"names: {', '.join([*PRESETS, *TEXTS])}")
        if not words or words[0] not in ("-h", "--help"):
            sys.exit(2)
        return
    words = with_programs(words)
    name = known("experiment", words[0], [*PRESETS, *TEXTS])
    if name in TEXTS:
        module, function = TEXTS[name]
        getattr(import_module(module), function)(words[1:])
        return
    preset = preset_of(words[1:])
    experiment = PRESETS[name][preset]
    about = f"{experiment.about[0].upper()}{experiment.about[1:]}."
    options, experiment = ask(
        RunOptions(preset), experiment, spelled_out(words[1:], experiment), f"veneer run {name}", about
    )
    out = options.out or runs_folder() / f"{name}-{preset}"
    run_experiment(replace(options, out=out), experiment)


def with_programs(words: list[str]) -> list[str]:
    """``mine.py:old --to mine.py:new`` written out: the experiment of two programs of the user's."""
    if not words or ".py:" not in words[0]:
        return words
    rest = [
        word.replace("--to", "--program-ft", 1) if word.split("=")[0] == "--to" else word
        for word in words[1:]
    ]
    return ["program", "--program-pt", words[0], *rest]


def run_experiment(options: RunOptions, experiment: Experiment) -> None:
    """``veneer run``: train what is not finished, then show what came out.

    Raises:
        InputError: an option or field that cannot be used; nothing has been written then.
    """
    if options.engine in ("auto", "processes") and options.jobs != 1 and _updates(experiment) > SERVER_PAYS:
        start_server()  # imports what workers need while this process imports the same

    from veneer.commands.progress import Steps, following, quoted
    from veneer.commands.screen import console
    from veneer.commands.training import announce, engine_of, show_run, train_run
    from veneer.experiments.begin import ask, device_of
    from veneer.experiments.sweep import Sweep

    assert options.out is not None
    engine, clock = engine_of(options, device_of(options.device)), time.monotonic()
    with Steps() as say:
        asked = ask(Sweep(experiment), options.out, options.device, options.fleet, options.reuse)
        begun = asked.ready(say).begin(options.preset, "")
    announce(begun.prepared, experiment, options, begun.device, reused=begun.reused)
    train_run(begun.run, begun.prepared, begun.fleets, options, begun.device, engine, [experiment])
    page = show_run(begun.run)
    console.print(f"{time.monotonic() - clock:.0f} s", style="dim")
    following(f"veneer analyse {quoted(begun.run.path)}", page=page)


def _updates(experiment: Experiment) -> int:
    """Model updates of all fine-tunings."""
    models = experiment.seeds * len(experiment.learning_rates) * len(experiment.c_tr)
    return models * experiment.iterations


def spelled_out(words: list[str], base: Experiment) -> list[str]:
    """The words with what ``veneer sweep`` takes written out: ``--lr``, and ``none`` for an empty list."""
    from veneer.experiments.sweep import ALIASES, is_list

    found: list[str] = []
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        flag, equals, value = word.partition("=")
        listed = found and found[-1].startswith("--") and is_list(base, found[-1][2:].replace("-", "_"))
        if listed and word == "none" and following.startswith("--"):
            continue
        name = ALIASES.get(flag.removeprefix("--").replace("-", "_"), "") if flag.startswith("--") else ""
        found.append(f"--{name.replace('_', '-')}{equals}{value}" if name else word)
    return found
