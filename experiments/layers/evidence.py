"""What a run of layers measured, by task and layer, of tasks in which training worked; and its sections.

Similarity says nothing about a model that did not learn its task, so accuracy is looked at first. A task
counts where its specialist has half of the skill or more, mean over seeds (0 is always giving the commonest
answer, 1 is everything right), and so has the multi-task model if the task was among its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl
from jaxtyping import Float

from veneer.analysis.evidence import HALF_SKILL
from veneer.analysis.sections import ENOUGH, Estimate, Sections, estimate
from veneer.experiments.layers.settings import Pair
from veneer.experiments.layers.store import LayersRun

Estimator = Literal["cka", "unbiased"]
FEWEST_TASKS = 4
"""Fewest tasks of which a spread is told."""


@dataclass(frozen=True)
class Learned:
    """How well a task was learned, mean over seeds.

    Attributes:
        task: its name.
        cluster: its cluster.
        unseen: whether the multi-task model was not tuned on it.
        guess: share of the commonest answer.
        base: share of right answers of the base as it is; None where it was not measured.
        multi: of the multi-task model.
        specialist: of the specialist.
        why_not: why the task is left out of the similarity; empty if it is not.
    """

    task: str
    cluster: str
    unseen: bool
    guess: float
    base: float | None
    multi: float | None
    specialist: float | None
    why_not: str


class Measured:
    """The measurements of a run, as far as they are there."""

    def __init__(self, run: LayersRun) -> None:
        self.run, self.settings = run, run.settings

    @cached_property
    def accuracy(self) -> pl.DataFrame:
        """All accuracies (``store.ACCURACY``)."""
        return self.run.accuracy()

    @cached_property
    def similarities(self) -> pl.DataFrame:
        """All similarities (``store.SIMILARITY``); several others of one pair are averaged."""
        keys = ["task", "cluster", "seed", "unseen", "pair", "layer"]
        table = self.run.similarity()
        return table.group_by(keys, maintain_order=True).agg(
            pl.col("cka", "unbiased").mean(), pl.col("samples").first()
        )

    @cached_property
    def learned(self) -> list[Learned]:
        """Every task, in order, with what was learned of it."""
        return [self._learned(task) for task in self.run.lessons.tasks]

    def _learned(self, task: str) -> Learned:
        own = self.accuracy.filter(pl.col("task") == task)
        unseen = task in self.settings.held_out
        means = {
            model: None if rows.is_empty() else float(rows["right"].mean())  # pyright: ignore[reportArgumentType]
            for model in ("base", "multi-task", "specialist")
            for rows in [own.filter(pl.col("model") == model)]
        }
        chance = 0.0 if own.is_empty() else float(own["guess"][0])
        asked = ["specialist"] if unseen else ["specialist", "multi-task"]
        names = {"specialist": "its specialist", "multi-task": "the multi-task model"}
        failed = [names[model] for model in asked if not _has_learned(means[model], chance)]
        why = f"{' and '.join(failed)} did not learn it" if failed else ""
        cluster = self.run.lessons.clusters[task]
        values = (means["base"], means["multi-task"], means["specialist"])
        return Learned(task, cluster, unseen, chance, *values, why)

    def kept(self, unseen: bool = False) -> tuple[str, ...]:
        """Tasks whose similarity says something, of those seen or of those unseen."""
        return tuple(own.task for own in self.learned if not own.why_not and own.unseen == unseen)

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The layers, by number."""
        return tuple(sorted(self.similarities["layer"].unique().to_list()))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of which every kept task was compared."""
        found = self.similarities.filter(pl.col("task").is_in([*self.kept(), *self.kept(True)]))
        if found.is_empty():
            return ()
        counts = found.group_by("seed").agg(pl.col("task").n_unique())
        most = found["task"].n_unique()
        return tuple(sorted(seed for seed, tasks in counts.iter_rows() if tasks == most))

    def values(
        self, pair: Pair, tasks: Sequence[str], estimator: Estimator = "unbiased"
    ) -> Float[np.ndarray, "seed task layer"]:
        """Similarities of a pair; NaN where there is none."""
        found = np.full((len(self.seeds), len(tasks), len(self.layers)), np.nan)
        own = self.similarities.filter(pl.col("pair") == pair)
        depth = {layer: place for place, layer in enumerate(self.layers)}
        places = {(seed, task): (i, j) for i, seed in enumerate(self.seeds) for j, task in enumerate(tasks)}
        for seed, task, layer, value in own.select("seed", "task", "layer", estimator).iter_rows():
            if (seed, task) in places and value is not None and np.isfinite(value):
                found[(*places[seed, task], depth[layer])] = value
        return found

    def by_task(
        self, pair: Pair, tasks: Sequence[str], estimator: Estimator = "unbiased"
    ) -> Float[np.ndarray, "task layer"]:
        """Mean over seeds."""
        values = self.values(pair, tasks, estimator)
        return values.mean(0) if len(values) else np.full(values.shape[1:], np.nan)

    def sections(self, estimator: Estimator = "unbiased", unseen: bool = False) -> Estimate | None:
        """Sections by the rule of ``analysis/sections.py``; None where too little is there to ask."""
        tasks = self.kept(unseen)
        if len(tasks) < FEWEST_TASKS or not self.seeds:
            return None
        tuned, base = (self.values(pair, tasks, estimator) for pair in ("multi-task", "base"))
        return estimate(tuned, base) if np.isfinite(tuned).all() and np.isfinite(base).all() else None

    def spread(self, pair: Pair, tasks: Sequence[str], estimator: Estimator = "unbiased") -> list[float]:
        """Interquartile range over tasks, by layer."""
        own = self.by_task(pair, tasks, estimator)
        low, high = np.nanquantile(own, [0.25, 0.75], axis=0)
        return (high - low).tolist()

    def dimensions(self, model: str, tasks: Sequence[str]) -> list[float]:
        """Dimensions for 99 % of the variance, mean over tasks and seeds, by layer."""
        own = self.run.dimensions().filter(pl.col("task").is_in(list(tasks)) & (pl.col("model") == model))
        return own.group_by("layer").agg(pl.col("dimensions").mean()).sort("layer")["dimensions"].to_list()


def _has_learned(right: float | None, chance: float) -> bool:
    return right is not None and chance < 1 and (right - chance) / (1 - chance) >= HALF_SKILL


def told_sections(found: Estimate | None, layers: int) -> str:
    """The sections as a sentence."""
    if found is None:
        return f"Sections were not asked: fewer than {FEWEST_TASKS} tasks were learned."
    share = f"{100 * found.found:.0f} % of resamples over tasks and seeds show sections"
    if found.sections is None:
        none = "No sections: layers do not fall into shared, transition and refinement ones"
        return f"{none} ({share}; {100 * ENOUGH:.0f} % are asked for)."
    own = found.sections
    assert found.transition is not None and found.refinement is not None
    starts, ends = (_between(low + 1, high + 1) for low, high in (found.transition, found.refinement))
    borders = f"the transition begins at layer {starts}"
    if found.refinement[0] < layers:
        borders += f", the refinement at {ends}"
    return f"{_layers(own, layers)} ({share}; {borders})."


def _layers(own: Sections, layers: int) -> str:
    parts = [
        ("shared", 1, own.transition),
        ("transition", own.transition + 1, own.refinement),
        ("refinement", own.refinement + 1, layers),
    ]
    words = [f"{name} {_between(first, last)}" for name, first, last in parts if first <= last]
    return f"Layers: {', '.join(words)}"


def _between(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def plain_sections(found: Estimate | None) -> dict[str, Any] | None:
    """As plain data, layers counted from 1."""
    if found is None:
        return None
    own = found.sections
    return {
        "found": found.found,
        "shared_to": None if own is None else own.transition,
        "transition_to": None if own is None else own.refinement,
        "transition_begins": None if found.transition is None else [place + 1 for place in found.transition],
        "refinement_begins": None if found.refinement is None else [place + 1 for place in found.refinement],
    }
