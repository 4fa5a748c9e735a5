"""What similarity goes with over tasks: how hard prompts read, and how many examples there are (Fig. 6)."""

from collections.abc import Sequence
from math import atanh, sqrt, tanh

import numpy as np

from veneer.analysis.revival import Estimate
from veneer.experiments.layers.evidence import Measured
from veneer.language.readability import coleman_liau, flesch_kincaid

READ = 100
"""Prompts of a task of which the grades are told."""
NORMAL = 1.96
"""Of Fisher's interval."""
MEASURES = ("Flesch-Kincaid grade", "Coleman-Liau index", "number of examples")
"""What similarity is held against."""


def described(measured: Measured, tasks: Sequence[str]) -> dict[str, list[float]]:
    """Each of ``MEASURES`` of each task: grades of instruction and input, and different examples taught."""
    lessons, sizes = measured.run.lessons, measured.run.sizes()
    texts = [[f"{own.instruction} {own.input}" for own in lessons.asked(task, READ)] for task in tasks]
    values = (
        [flesch_kincaid(own) for own in texts],
        [coleman_liau(own) for own in texts],
        [float(sizes[task]) for task in tasks],
    )
    return dict(zip(MEASURES, values, strict=True))


def correlation(one: Sequence[float], other: Sequence[float], least: int, seeds: int) -> Estimate:
    """Pearson's correlation with Fisher's interval; nothing is told of too few pairs or a constant.

    Args:
        one: a value of each task or cluster.
        other: another.
        least: fewest pairs; below 4 there is no interval.
        seeds: behind each value.
    """
    if len(one) < max(least, 4) or np.std(one) == 0 or np.std(other) == 0:
        return Estimate(None, None, None, seeds)
    found = float(np.clip(np.corrcoef(one, other)[0, 1], -1 + 1e-9, 1 - 1e-9))
    wide = NORMAL / sqrt(len(one) - 3)
    return Estimate(found, tanh(atanh(found) - wide), tanh(atanh(found) + wide), seeds)


def by_layer(measured: Measured, tasks: Sequence[str]) -> dict[str, dict[str, list[float | None]]]:
    """The correlation of similarity with each of ``MEASURES`` over tasks: by model, measure and layer."""
    about, found = described(measured, tasks), {}
    for pair in ("base", "multi-task"):
        values = measured.by_task(pair, tasks)
        found[pair] = {
            name: [correlation(values[:, i].tolist(), own, 4, 1).value for i in range(values.shape[1])]
            for name, own in about.items()
        }
    return found
