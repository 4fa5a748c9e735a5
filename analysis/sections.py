"""Sections of a multi-task model: shared, transition and refinement layers, by a stated rule, or none.

Zhao, Ziser & Cohen 2024 (Fig. 1 and 2) compare a model tuned on many tasks, and the pretrained one, with
specialists of one task each, layer by layer. They read three sections off the box plots and print no rule.
Ours, on the *gap* (similarity of the tuned model less that of the pretrained one, median over tasks) and the
*spread* (interquartile range over tasks of the tuned model's similarity):

1. The transition starts at the first layer that has half of the peak of the spread or less, with that peak
   before it, and a gap above 0 there and in every later layer.
2. It ends where the spread is smallest, at the last such layer (ties up to ``TIE``).
3. Layers before it are shared, if the gap is below 0 in one of them; layers after it are refinement.

Where a step finds nothing there are no sections. On the numbers digitised from the paper's figures the rule
gives their sections, 1 to 9, 10 to 15, 16 to 32, and none for unseen tasks; it was made with these in view.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from veneer.tasks.errors import InputError

HALF = 0.5  # of the peak: the spread has collapsed
TIE = 0.005  # two spreads are alike: half of the last digit that can be read off the paper's figure
ENOUGH = 0.95  # of the resamples must have sections

Similarities = Float[np.ndarray, "seed task layer"]


@dataclass(frozen=True)
class Sections:
    """Where the sections lie, by index of the layers compared.

    Attributes:
        transition: its first layer; all before it are shared.
        refinement: the first layer after the transition (the number of layers where there is none).
    """

    transition: int
    refinement: int


@dataclass(frozen=True)
class Estimate:
    """Sections with what other tasks and seeds would have said.

    Attributes:
        sections: None where the medians show none or fewer than ``ENOUGH`` of the resamples do.
        found: the share of resamples that show sections.
        transition: interval of the first layer of the transition over the resamples that show one.
        refinement: the same of the first layer after it.
    """

    sections: Sections | None
    found: float
    transition: tuple[int, int] | None
    refinement: tuple[int, int] | None


def sections(gap: Float[np.ndarray, "layer"], spread: Float[np.ndarray, "layer"]) -> Sections | None:
    """The rule of this module on one gap and one spread for each layer."""
    peak = int(spread.argmax())
    if not spread[peak] > TIE:
        return None
    above = np.minimum.accumulate(gap[::-1] > 0)[::-1]
    collapsed = spread <= HALF * spread[peak]
    start = next((i for i in range(peak + 1, len(gap)) if above[i] and collapsed[i]), None)
    if start is None or not (gap[:start] < 0).any():
        return None
    last = int(np.flatnonzero(spread[start:] <= spread[start:].min() + TIE)[-1])
    return Sections(start, start + last + 1)


def estimate(
    tuned: Similarities,
    pretrained: Float[np.ndarray, "_ _ _"],
    resamples: int = 1000,
    interval: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Sections of measured similarities, with an interval over tasks and seeds.

    Resamples draw seeds and tasks with replacement; a task keeps all of its layers, and both models.

    Args:
        tuned: similarity of the tuned model with each task's specialist.
        pretrained: the same of the pretrained model.
        resamples: how many.
        interval: share of the resamples within the intervals.
        seed: of the resamples.

    Raises:
        InputError: arrays of different shape, fewer than four tasks (a spread of fewer says nothing), or
            similarities that are not finite (a layer that is constant has none: leave it out).
    """
    if tuned.shape != pretrained.shape:
        raise InputError("pretrained", pretrained.shape, f"the shape of the tuned model's: {tuned.shape}")
    if tuned.shape[1] < 4:
        raise InputError("tasks", tuned.shape[1], "4 or more")
    if not (np.isfinite(tuned).all() and np.isfinite(pretrained).all()):
        raise InputError("similarities", "not finite", "layers whose similarity is a number")
    whole = sections(*gap_and_spread(tuned, pretrained))
    drawn = [
        found
        for rows in _resampled(tuned.shape[:2], resamples, seed)
        if (found := sections(*gap_and_spread(tuned[rows], pretrained[rows])))
    ]
    share = len(drawn) / resamples
    if not drawn:
        return Estimate(None, 0.0, None, None)
    tails = ((1 - interval) / 2, (1 + interval) / 2)
    starts = np.quantile([s.transition for s in drawn], tails, method="nearest")
    ends = np.quantile([s.refinement for s in drawn], tails, method="nearest")
    return Estimate(
        whole if share >= ENOUGH else None,
        share,
        (int(starts[0]), int(starts[1])),
        (int(ends[0]), int(ends[1])),
    )


def gap_and_spread(
    tuned: Similarities, pretrained: Similarities
) -> tuple[Float[np.ndarray, "layer"], Float[np.ndarray, "layer"]]:
    """Median over tasks of the difference, and interquartile range of the tuned; seeds are averaged first."""
    after, before = tuned.mean(0), pretrained.mean(0)
    low, high = np.quantile(after, [0.25, 0.75], axis=0)
    return np.median(after, axis=0) - np.median(before, axis=0), high - low


def _resampled(shape: tuple[int, ...], resamples: int, seed: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Rows that draw seeds and tasks with replacement."""
    generator = np.random.default_rng(seed)
    seeds, tasks = shape
    for _ in range(resamples):
        yield np.ix_(generator.integers(seeds, size=seeds), generator.integers(tasks, size=tasks))
