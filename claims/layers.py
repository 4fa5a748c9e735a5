"""The rules of the claims of Zhao, Ziser & Cohen 2024, on runs that compare layers.

All were fixed on 2026-11-27, before any run was looked at that they judge. Similarity is unbiased CKA here,
since tasks have 30 to 500 prompts and the biased one, which the paper ran, grows where prompts are few;
medians and spreads (interquartile ranges) are over the tasks that were seen and learned, for each seed.

The trap: claims Z1 to Z4 could follow from nothing but a common start and common data. So each of them tells
the ceiling (two seeds of one specialist) and the floor (specialists of different tasks), and Z10, which is
ours, asks whether similarity says more than those.
"""

from dataclasses import asdict
from functools import cached_property
from math import nan
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float

from veneer.analysis.revival import Estimate, estimate
from veneer.analysis.sections import Estimate as Sections
from veneer.claims.evidence import Measured, Part
from veneer.claims.view import NotAnalysed
from veneer.experiments.layers.difficulty import MEASURES, correlation, described
from veneer.experiments.layers.evidence import FEWEST_TASKS
from veneer.experiments.layers.evidence import Measured as Numbers
from veneer.experiments.layers.settings import Pair
from veneer.experiments.layers.store import LayersRun

HIGH = 0.8
"""Similarity that counts as high: below the lower quartile that the paper shows at any depth (0.89)."""
COLLAPSED = 0.5
"""Share of its peak to which the spread falls in a transition; as in ``analysis/sections.py``."""
LITTLE = 0.5
"""Correlation with data size that counts as little: a little above the largest of the paper (0.43)."""
ENOUGH_TASKS = 10
"""Fewest tasks of which a correlation over tasks is told."""
ENOUGH_CLUSTERS = 5
"""Fewest clusters of which one is told."""

Values = Float[np.ndarray, "seed task layer"]
ByLayer = Float[np.ndarray, "seed layer"]


class LayersView:
    """A run of layers as claims ask for it."""

    name = "layers"

    def __init__(self, run: LayersRun) -> None:
        self.run, self.path = run, str(run.path)
        self.fields: dict[str, Any] = asdict(run.settings)
        self.numbers = Numbers(run)

    @property
    def seeds(self) -> int:
        """Seeds that the run was asked for."""
        return self.run.settings.seeds

    @property
    def breadth(self) -> tuple[int, int, int]:
        """What tells the run to ask of several: seeds, tasks, prompts."""
        return self.seeds, len(self.run.lessons.tasks), self.run.settings.texts

    @cached_property
    def finished(self) -> bool:
        """Whether there is a task to look at."""
        return bool(self.numbers.seeds)

    def tasks(self, unseen: bool = False) -> tuple[str, ...]:
        """Tasks that were learned.

        Raises:
            NotAnalysed: they are too few.
        """
        found = self.numbers.kept(unseen)
        least = 1 if unseen else FEWEST_TASKS
        if len(found) < least:
            kind = "held-out" if unseen else "seen"
            raise NotAnalysed(f"{self.path} has {len(found)} {kind} tasks that were learned, of {least}")
        return found

    @cached_property
    def sections(self) -> Sections | None:
        """Sections with their interval; None where they could not be asked."""
        return self.numbers.sections()

    def values(self, pair: Pair, unseen: bool = False) -> Values:
        """Similarities of a pair of models."""
        return self.numbers.values(pair, self.tasks(unseen))

    def median(self, pair: Pair, unseen: bool = False) -> ByLayer:
        """Median over tasks, by seed and layer."""
        return np.median(self.values(pair, unseen), axis=1)

    def spread(self, pair: Pair, unseen: bool = False) -> ByLayer:
        """Interquartile range over tasks, by seed and layer."""
        low, high = np.quantile(self.values(pair, unseen), [0.25, 0.75], axis=1)
        return high - low

    def dimensions(self, model: str) -> ByLayer:
        """Dimensions for 99 % of the variance, mean over tasks, by seed and layer."""
        table = self.run.dimensions().filter(pl.col("model") == model, pl.col("task").is_in(self.tasks()))
        means = table.group_by("seed", "layer").agg(pl.col("dimensions").mean())
        known = {(seed, layer): value for seed, layer, value in means.iter_rows()}
        return np.array([[known[seed, own] for own in self.numbers.layers] for seed in self.numbers.seeds])

    @property
    def third(self) -> int:
        """How many layers are the lower third; the paper's shared layers lie within it."""
        return max(1, round(len(self.numbers.layers) / 3))

    @property
    def half(self) -> int:
        """How many layers are the lower half."""
        return len(self.numbers.layers) // 2

    def controls(self) -> list[str]:
        """Ceiling and floor at the last layer, in words, for the claims that they could explain."""
        pairs: tuple[Pair, ...] = ("ceiling", "floor")
        told = [
            f"{pair} {own.value:.2f}"
            for pair in pairs
            if (own := _over_seeds(self.median(pair)[:, -1])).value is not None
        ]
        return [f"at the last layer {' and '.join(told)}"] if told else []


def _over_seeds(values: Float[np.ndarray, "seed"]) -> Estimate:
    """Mean and interval over seeds of what is a number."""
    finite = values[np.isfinite(values)]
    return estimate(finite.tolist()) if len(finite) else Estimate(None, None, None, 0)


def _unknown(view: LayersView) -> Estimate:
    """What cannot be told."""
    return Estimate(None, None, None, len(view.numbers.seeds))


def base_falls(view: LayersView) -> Measured:
    """Z1: base and specialist grow apart with depth, and tasks more unlike each other."""
    middle, spread = view.median("base"), view.spread("base")
    fall, wider = (_over_seeds(own[:, -1] - own[:, 0]) for own in (middle, spread))
    return Measured(
        [
            Part("median similarity at the last layer less that at the first", "", fall, below=0.0),
            Part("spread over tasks at the last layer less that at the first", "", wider, above=0.0),
        ],
        view.controls(),
        paper=0.53 - 0.99,
    )


def tuned_stays_high(view: LayersView) -> Measured:
    """Z2: the multi-task model stays similar to specialists at depth, and more so than the base."""
    tuned, base = view.median("multi-task"), view.median("base")
    parts = [
        Part("multi-task less base", f"layer {layer + 1}", _over_seeds(tuned[:, layer] - base[:, layer]), 0.0)
        for layer in range(view.half, tuned.shape[1])
    ]
    high = _over_seeds(tuned[:, -1])
    parts.append(Part("multi-task at the last layer", "", high, above=HIGH, unit="share"))
    return Measured(parts, view.controls(), paper=0.91 - 0.53)


def lower_layers_are_shared(view: LayersView) -> Measured:
    """Z3: in the lower third of the layers the multi-task model lies below the base."""
    gap = (view.median("multi-task") - view.median("base"))[:, : view.third].mean(1)
    what = f"multi-task less base, mean over layers 1 to {view.third}"
    return Measured([Part(what, "", _over_seeds(gap), below=0.0)], view.controls(), paper=0.94 - 0.98)


def spread_collapses(view: LayersView) -> Measured:
    """Z4: there is a band in the middle where the spread over tasks of the multi-task model collapses."""
    spread = view.spread("multi-task")
    left = _over_seeds(_after_peak(spread))
    notes = view.controls()
    found = view.sections
    if found is not None:
        notes.append(f"{100 * found.found:.0f} % of resamples over tasks and seeds show sections")
    what = "least spread after its peak, as a share of the peak"
    return Measured([Part(what, "", left, below=COLLAPSED, unit="share")], notes, paper=0.03 / 0.15)


def _after_peak(spread: ByLayer) -> Float[np.ndarray, "seed"]:
    """The least spread from the peak on, as a share of the peak, by seed."""
    return np.array([own[own.argmax() :].min() / own.max() if own.max() > 0 else nan for own in spread])


def poorly_encoded_gain_most(view: LayersView) -> Measured:
    """Z5: clusters that the base encodes poorly gain most by tuning."""
    clusters = view.run.lessons.clusters
    tasks = view.tasks()
    names = sorted({clusters[task] for task in tasks})
    members = [[i for i, task in enumerate(tasks) if clusters[task] == name] for name in names]
    before, after = (view.values(pair).mean((0, 2)) for pair in ("base", "multi-task"))
    start = [float(before[own].mean()) for own in members]
    gain = [float((after - before)[own].mean()) for own in members]
    found = correlation(start, gain, ENOUGH_CLUSTERS, len(view.numbers.seeds))
    what = (
        f"correlation over {len(names)} clusters of the base's similarity with the gain (Fisher's interval)"
    )
    note = "a gain is less the base's by definition: where tuning makes all alike, this follows by itself"
    return Measured([Part(what, "", found, below=0.0, unit="share")], [note])


def more_dimensions(view: LayersView) -> Measured:
    """Z6: tuning adds dimensions from the lower middle on, most in the transition."""
    mean = {model: view.dimensions(model) for model in ("base", "multi-task")}
    tuned = mean["multi-task"]
    more = _over_seeds((tuned - mean["base"])[:, view.third :].mean(1))
    what = f"dimensions of the multi-task model less the base's, mean over layers from {view.third + 1} on"
    parts = [Part(what, "", more, above=0.0, unit="dimensions")]
    found, notes = view.sections, []
    steepest = np.diff(tuned, axis=1).argmax(1) + 1
    if found is None or found.sections is None:
        inside = _unknown(view)
        notes.append("without sections there is no transition in which dimensions could rise most")
    else:
        own = found.sections
        inside = _over_seeds(((steepest >= own.transition) & (steepest < own.refinement)).astype(float))
    parts.append(
        Part("share of seeds with the steepest rise in the transition", "", inside, 0.5, unit="share")
    )
    return Measured(parts, notes, paper=1340 - 800)


def clusters_separate(view: LayersView) -> Measured:
    """Z7: from the middle up clusters lie further apart in the multi-task model than in the base."""
    table = view.run.separation()
    base = table.filter(model="base").sort("layer")["silhouette"].to_numpy()
    if not len(base):
        raise NotAnalysed(f"{view.path} has no silhouettes: veneer run layers --mapped 24")
    found = [
        own.sort("layer")["silhouette"].to_numpy() - base
        for _, own in table.filter(model="multi-task").group_by("seed", maintain_order=True)
    ]
    more = _over_seeds(np.array([own[view.half :].mean() for own in found]))
    what = "silhouette of clusters in the multi-task model less that in the base, mean over the upper half"
    return Measured([Part(what, "", more, above=0.0, unit="share")])


def unseen_tasks_differ(view: LayersView) -> Measured:
    """Z8: on tasks that were held out the base is ahead below, tuning above, and no spread collapses."""
    gap = view.median("multi-task", unseen=True) - view.median("base", unseen=True)
    low, high = _over_seeds(gap[:, : view.third].mean(1)), _over_seeds(gap[:, -view.third :].mean(1))
    parts = [
        Part("multi-task less base, mean over the lower third of layers", "", low, below=0.0),
        Part("multi-task less base, mean over the upper third of layers", "", high, above=0.0),
    ]
    enough = len(view.tasks(unseen=True)) >= FEWEST_TASKS
    left = _over_seeds(_after_peak(view.spread("multi-task", True))) if enough else _unknown(view)
    what = "least spread after its peak, as a share of the peak"
    parts.append(Part(what, "", left, above=COLLAPSED, unit="share"))
    notes = [] if enough else [f"fewer than {FEWEST_TASKS} held-out tasks were learned: no spread is told"]
    return Measured(parts, notes, paper=0.93 - 0.97)


def difficulty_not_size(view: LayersView) -> Measured:
    """Z9: similarity after tuning goes with how hard the prompts read, and hardly with how many there are."""
    tasks = view.tasks()
    upper = view.values("multi-task").mean(0)[:, view.half :].mean(1).tolist()
    about, seeds = described(view.numbers, tasks), len(view.numbers.seeds)
    parts = []
    for name in MEASURES:
        what = f"correlation over {len(tasks)} tasks with the {name} (Fisher's interval)"
        found = correlation(upper, about[name], ENOUGH_TASKS, seeds)
        size = name == MEASURES[-1]
        parts.append(Part(what, "", found, -LITTLE if size else 0.0, LITTLE if size else None, "share"))
    return Measured(parts, paper=0.40)


def more_than_a_common_start(view: LayersView) -> Measured:
    """Z10, ours: what claims Z1 to Z4 show is more than a common start and common data would give."""
    if view.seeds < 2:
        raise NotAnalysed(
            f"{view.path} has one seed, and so no ceiling of every task: veneer run layers --seeds 3"
        )
    ceiling, floor, base = (view.median(pair) for pair in ("ceiling", "floor", "base"))
    tuned, other = view.median("multi-task"), view.median("other task")
    upper = slice(view.half, None)
    return Measured(
        [
            Part(
                "multi-task with the task's specialist less with other tasks' specialists, upper half",
                "",
                _over_seeds((tuned - other)[:, upper].mean(1)),
                above=0.0,
            ),
            Part(
                "multi-task with the specialist less the floor, upper half",
                "",
                _over_seeds((tuned - floor)[:, upper].mean(1)),
                above=0.0,
            ),
            Part(
                "base with the specialist less the ceiling, last layer",
                "",
                _over_seeds(base[:, -1] - ceiling[:, -1]),
                below=0.0,
            ),
            Part("ceiling less floor, last layer", "", _over_seeds(ceiling[:, -1] - floor[:, -1]), above=0.0),
        ]
    )
