"""``veneer list``: the experiments, and what each costs in updates and in time."""

import textwrap
from typing import Any

from veneer.commands.manners import current, tell
from veneer.experiments.cddm.settings import DECISIONS, Decisions
from veneer.experiments.layers.settings import LAYERS, Layers
from veneer.experiments.named import (
    PRESETS,
    CompiledExperiment,
    Experiment,
    LearnedExperiment,
    reft_rates_after,
)
from veneer.experiments.stories.settings import STORIES, Stories
from veneer.language.instructions.tasks import TASKS
from veneer.tasks.errors import InputError

ON_TWO_CORES = {
    ("counter", 12): 1.82e-3,
    ("counter", 16): 3.80e-3,
    ("counter", 45): 33.6e-3,
    ("max-identifier", 10): 6.0e-3,
    ("pcfg-counter", 0): 27e-3,
    ("pcfg-indexer", 0): 27e-3,
}
ON_A_GPU = {("counter", 16): 4.31e-5, ("counter", 45): 2.56e-4}
"""Seconds of a model update by experiment and letters of a string (0: the ready GPTs of the preset quick and
standard), on two cores and on an H100 (fleets of 64 and of 42); docs/speed.md says how measured."""
WHOLE_ON_TWO_CORES = {("layers", "quick"): 8.4, ("stories", "quick"): 11.3, ("cddm", "quick"): 6.5}
"""Minutes of a whole run on a text model, by experiment and preset; docs/presets.md says how measured."""
ABOUT_STORIES = (
    "a feature is deleted from a model that writes stories, and revived (Jain et al. 2024, App. F)"
)
ABOUT_LAYERS = "a base tuned on many tasks and on each alone, compared layer by layer (Zhao et al. 2024)"
ABOUT_DECISIONS = (
    "decisions that depend on a context are taught to a pretrained model and to a fresh one (Lin 2024)"
)
WIDTH = 80


def command(words: list[str]) -> None:
    """``veneer list``.

    Raises:
        InputError: an argument, of which it takes none.
    """
    if words[:1] in (["-h"], ["--help"]):
        print("usage: veneer list    (the experiments, their sizes and their times; it takes no arguments)")
        return
    if words:
        raise InputError("argument", words[0], "none: veneer list takes no arguments")
    found = {
        name: {preset: _costs(own, preset) for preset, own in presets.items()}
        for name, presets in PRESETS.items()
    }
    texts = {
        "stories": {preset: _costs_of_stories(own) for preset, own in STORIES.items()},
        "layers": {preset: _costs_of_layers(own) for preset, own in LAYERS.items()},
        "cddm": {preset: _costs_of_decisions(own) for preset, own in DECISIONS.items()},
    }
    for name, presets in texts.items():
        for preset, costs in presets.items():
            minutes = WHOLE_ON_TWO_CORES.get((name, preset))
            costs.update(minutes_on_two_cores=minutes, minutes_on_a_gpu=None)
    if tell("list", {"experiments": {**found, **texts}}):
        return
    column = 1 + max(map(len, found))
    for name, presets in found.items():
        _print(f"{name:{column}}", PRESETS[name]["quick"].about)
        for preset, costs in presets.items():
            _print(f"  {preset:{column - 2}}", f"{costs['size']}; {costs['updates_in_all']:,} updates in all")
            _print(" " * column, _time(costs))
    for name, about in (("stories", ABOUT_STORIES), ("layers", ABOUT_LAYERS), ("cddm", ABOUT_DECISIONS)):
        _print(f"{name:{column}}", about)
        for preset, costs in texts[name].items():
            _print(f"  {preset:{column - 2}}", costs["size"])
            _print(" " * column, _time(costs))
    if not current().quiet:
        print("Next: veneer run counter")


def _print(head: str, text: str) -> None:
    """A line of at most 80 characters, or several, with the text below itself."""
    print(textwrap.fill(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head)))


def _time(costs: dict[str, Any]) -> str:
    """How long it takes, by measurements; where there is none, it says so."""
    devices = {"on two cores": costs["minutes_on_two_cores"], "on a GPU": costs["minutes_on_a_gpu"]}
    if all(minutes is None for minutes in devices.values()):
        return "time not measured"
    return ", ".join(f"{device} {_told(minutes)}" for device, minutes in devices.items())


def _told(minutes: float | None) -> str:
    if minutes is None:
        return "not measured"
    return f"about {minutes:,.0f} min" if minutes < 120 else f"about {minutes / 60:,.0f} h"


def _costs(experiment: Experiment, preset: str) -> dict[str, Any]:
    """Numbers of models and updates, and a line about them."""
    reft = [len(reft_rates_after(vars(experiment), rate)) for rate in experiment.learning_rates]
    models = len(experiment.pretrained) if isinstance(experiment, LearnedExperiment) else 1
    each = len(experiment.c_tr) * models
    first, revivals = len(experiment.learning_rates) * each, sum(reft) * each
    inputs = f"strings of {experiment.length}" if isinstance(experiment, CompiledExperiment) else "GPTs"
    size = (
        f"{first} fine-tunings of {experiment.iterations:,} updates, {revivals} reFTs of "
        f"{experiment.reft_iterations:,}, {inputs}, {experiment.seeds} seed"
        f"{'s' if experiment.seeds != 1 else ''}"
    )
    updates = _updates(experiment, first, revivals)
    length = experiment.length if isinstance(experiment, CompiledExperiment) else 0
    ready = not isinstance(experiment, LearnedExperiment) or preset != "paper"  # the paper's GPTs are larger
    here, there = (
        times.get((experiment.name, length)) if ready else None for times in (ON_TWO_CORES, ON_A_GPU)
    )
    return {
        "fine_tunings": first,
        "updates": experiment.iterations,
        "refts": revivals,
        "reft_updates": experiment.reft_iterations,
        "seeds": experiment.seeds,
        "size": size,
        "updates_in_all": updates,
        "minutes_on_two_cores": None if here is None else updates * here / 60,
        "minutes_on_a_gpu": None if there is None else updates * there / 60,
    }


def _costs_of_stories(settings: Stories) -> dict[str, Any]:
    """Numbers of trials and updates, and a line about them."""
    stages = [trial.stage for trial in settings.trials()]
    deletions, revivals = stages.count("delete"), stages.count("revive")
    updates = deletions * settings.updates + revivals * settings.reft_updates
    seeds = f"{settings.seeds} seed{'s' if settings.seeds != 1 else ''}"
    return {
        "size": f"{deletions} deletions of {settings.updates:,} updates, {revivals} reFTs of "
        f"{settings.reft_updates:,}, {settings.generations:,} stories written at each measurement, {seeds}",
        "updates_in_all": updates,
    }


def _costs_of_layers(settings: Layers) -> dict[str, Any]:
    """Numbers of models and updates, and a line about them."""
    tasks = len(settings.tasks or TASKS)
    updates = settings.seeds * (settings.multi_updates + tasks * settings.updates)
    return {
        "size": f"{settings.seeds} multi-task models of {settings.multi_updates:,} updates, "
        f"{settings.seeds * tasks} specialists of {settings.updates:,}, {settings.texts:,} prompts a task",
        "updates_in_all": updates,
    }


def _costs_of_decisions(settings: Decisions) -> dict[str, Any]:
    """Numbers of trainings and updates, and a line about them."""
    trainings, looks = (len(settings.trials_of(stage)) for stage in ("train", "look"))
    seeds = f"{settings.seeds} seed{'s' if settings.seeds != 1 else ''}"
    return {
        "size": f"{trainings} trainings of at most {settings.updates:,} updates of {settings.batch}, "
        f"{looks} looks inside, {seeds}",
        "updates_in_all": trainings * settings.updates,
    }


def _updates(experiment: Experiment, tunings: int, revivals: int) -> int:
    """Model updates of all seeds, with the controls and the third operand."""
    each = tunings * experiment.iterations + revivals * experiment.reft_iterations
    if experiment.third_operand:
        each += revivals * experiment.reft_iterations
    if experiment.controls and experiment.reft_rates:
        each += experiment.iterations + 2 * len(experiment.reft_rates) * experiment.reft_iterations
    return experiment.seeds * each
