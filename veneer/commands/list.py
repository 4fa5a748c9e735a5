"""``veneer list``: the experiments, and what each costs in updates and in time."""

from typing import Any

from veneer.commands.manners import tell
from veneer.experiments.named import (
    PRESETS,
    CompiledExperiment,
    Experiment,
    LearnedExperiment,
    reft_rates_after,
)
from veneer.tasks.errors import InputError


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
        name: {preset: _costs(own) for preset, own in presets.items()} for name, presets in PRESETS.items()
    }
    if tell("list", {"experiments": found}):
        return
    for name, presets in found.items():
        print(f"{name:16}{PRESETS[name]['quick'].about}")
        for preset, costs in presets.items():
            print(f"  {preset:7}{costs['size']}")
    print("Next: veneer run counter")


def _costs(experiment: Experiment) -> dict[str, Any]:
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
    return {
        "fine_tunings": first,
        "updates": experiment.iterations,
        "refts": revivals,
        "reft_updates": experiment.reft_iterations,
        "seeds": experiment.seeds,
        "size": size,
    }
