"""``veneer list``: the experiments, and what each costs."""

from veneer.experiments.named import PRESETS, CompiledExperiment, Experiment, LearnedExperiment
from veneer.tasks.errors import InputError


def command(words: list[str]) -> None:
    """``veneer list``."""
    if words:
        raise InputError("argument", words[0], "none: veneer list takes no arguments")
    width = max(map(len, PRESETS))
    for name, presets in PRESETS.items():
        print(f"{name:{width}}  {presets['quick'].about}")
        for preset, experiment in presets.items():
            print(f"{'':{width}}    {preset:6} {_size(experiment)}")


def _size(experiment: Experiment) -> str:
    reft = [sum(r <= rate for r in experiment.reft_rates) for rate in experiment.learning_rates]
    models = len(experiment.pretrained) if isinstance(experiment, LearnedExperiment) else 1
    first = len(experiment.learning_rates) * len(experiment.c_tr) * models
    revivals = sum(reft) * len(experiment.c_tr) * models
    inputs = f"strings of {experiment.length}" if isinstance(experiment, CompiledExperiment) else "GPTs"
    return (
        f"{first} fine-tunings of {experiment.iterations:,} updates and {revivals} reFTs of "
        f"{experiment.reft_iterations:,}, {inputs}, {experiment.seeds} seed"
        f"{'s' if experiment.seeds != 1 else ''}"
    )
