"""The folder of ``veneer run layers``: a folder of trials (``experiments/trial_folder.py``), and besides

::

    layers.json               the settings
    models/ID.safetensors     a tuned model: all its weights, or those of LoRA
    accuracy.parquet          how well each model answers each task it was asked
    similarity.parquet        CKA of pairs of models, by task, seed and layer
    dimensions.parquet        how many dimensions the variance of each layer takes
    separation.parquet        silhouettes of clusters by model, seed and layer
    pictures.parquet          the layers on a plane
    known.parquet             the control on written capabilities
    sections.json             the sections, or that there are none
    report.html               the page
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from veneer.experiments.layers.lessons import Lessons, lessons_of
from veneer.experiments.layers.settings import Kind, Layers, LayerTrial, trials
from veneer.experiments.trial_folder import TrialFolder

ACCURACY = {
    "model": pl.String,
    "task": pl.String,
    "cluster": pl.String,
    "seed": pl.Int64,
    "unseen": pl.Boolean,
    "right": pl.Float64,
    "guess": pl.Float64,
    "questions": pl.Int64,
    "diverged": pl.Boolean,
    "updates": pl.Int64,
}
"""Columns of accuracy.parquet. ``model``: base, multi-task or specialist; ``right``: share of answers that
greedy decoding gives; ``guess``: the share of the commonest answer; ``unseen``: the multi-task model was not
tuned on the task; ``updates``: those after which its training ended."""
SIMILARITY = {
    "task": pl.String,
    "cluster": pl.String,
    "seed": pl.Int64,
    "unseen": pl.Boolean,
    "pair": pl.String,
    "other": pl.String,
    "layer": pl.Int64,
    "cka": pl.Float64,
    "unbiased": pl.Float64,
    "samples": pl.Int64,
}
"""Columns of similarity.parquet. ``pair``: see ``settings.PAIRS``; ``other``: the other seed or task of the
pair; ``layer``: after that block, counted from 1; ``cka`` biased as in the paper; null where a layer is
constant."""
DIMENSIONS = {
    "task": pl.String,
    "seed": pl.Int64,
    "unseen": pl.Boolean,
    "model": pl.String,
    "layer": pl.Int64,
    "dimensions": pl.Float64,
    "effective_rank": pl.Float64,
    "samples": pl.Int64,
}
"""Columns of dimensions.parquet. ``dimensions``: principal axes that hold 99 % of the variance."""
SEPARATION = {"model": pl.String, "seed": pl.Int64, "layer": pl.Int64, "silhouette": pl.Float64}
"""Columns of separation.parquet: the mean silhouette of clusters, of tasks that were seen."""
PICTURES = {
    "model": pl.String,
    "layer": pl.Int64,
    "task": pl.String,
    "cluster": pl.String,
    "x": pl.Float64,
    "y": pl.Float64,
    "way": pl.String,
}
"""Columns of pictures.parquet, of the first seed."""


class LayersRun(TrialFolder[Layers, LayerTrial]):
    """The folder, open for reading and writing."""

    FILE = "layers.json"
    FORMAT = 2
    MADE_BY = "veneer run layers"
    SETTINGS = Layers

    @cached_property
    def lessons(self) -> Lessons:
        """The tasks."""
        return lessons_of(self.settings)

    def trials(self) -> tuple[LayerTrial, ...]:
        """Everything that is to be done, in order."""
        return trials(self.settings, self.lessons.tasks)

    def weights(self, trial: LayerTrial) -> Path:
        """Where a tuned model is kept."""
        return self.path / "models" / f"{trial.id}.safetensors"

    def kept(self, trial: LayerTrial) -> tuple[Path, ...]:
        """The weights of a model that was tuned."""
        return (self.weights(trial),) if trial.kind in ("multi-task", "specialist") else ()

    def _found(self, *kinds: Kind) -> list[tuple[LayerTrial, dict[str, Any]]]:
        """Finished trials of these kinds with what they measured."""
        own = [trial for trial in self.trials() if trial.kind in kinds]
        return [(trial, found) for trial in own if (found := self.result(trial)) is not None]

    def _unseen(self, task: str) -> bool:
        return task in self.settings.held_out

    def accuracy(self) -> pl.DataFrame:
        """How well models answer (``ACCURACY``)."""
        rows = []
        for trial, found in self._found("base", "multi-task", "specialist"):
            diverged = found["diverged_at"] is not None
            for task, own in found["answers"].items():
                about = (trial.kind, task, self.lessons.clusters[task], trial.seed, self._unseen(task))
                rows.append(
                    (*about, own["right"], own["guess"], own["questions"], diverged, found["updates"])
                )
        return pl.DataFrame(rows, ACCURACY, orient="row")

    def similarity(self) -> pl.DataFrame:
        """All comparisons (``SIMILARITY``)."""
        rows = []
        for trial, found in self._found("compare"):
            about = {"task": trial.task, "cluster": self.lessons.clusters[trial.task], "seed": trial.seed}
            about["unseen"] = self._unseen(trial.task)
            rows += [{**about, **own} for own in found["pairs"]]
        return pl.DataFrame(rows, SIMILARITY)

    def dimensions(self) -> pl.DataFrame:
        """Dimensions of layers (``DIMENSIONS``)."""
        rows = []
        for trial, found in self._found("compare"):
            about = {"task": trial.task, "seed": trial.seed, "unseen": self._unseen(trial.task)}
            rows += [{**about, **own} for own in found["dimensions"]]
        return pl.DataFrame(rows, DIMENSIONS)

    def separation(self) -> pl.DataFrame:
        """Silhouettes (``SEPARATION``)."""
        rows = [
            (trial.task, trial.seed, layer, value)
            for trial, found in self._found("map")
            for layer, value in enumerate(found["silhouettes"], 1)
        ]
        return pl.DataFrame(rows, SEPARATION, orient="row")

    def pictures(self) -> pl.DataFrame:
        """Layers on a plane (``PICTURES``)."""
        rows = []
        for trial, found in self._found("map"):
            for layer, points in enumerate(found["planes"], 1):
                for task, (x, y) in zip(found["tasks"], points, strict=True):
                    cluster = self.lessons.clusters[task]
                    rows.append((trial.task, layer, task, cluster, x, y, found["way"]))
        return pl.DataFrame(rows, PICTURES, orient="row")

    def known(self) -> pl.DataFrame | None:
        """What ``known_layers`` gave on the written capabilities; None if it was not asked."""
        found = self._found("known")
        return pl.DataFrame(found[0][1]["rows"], infer_schema_length=None) if found else None

    def sizes(self) -> dict[str, int]:
        """Different examples of each task that the multi-task model of the first seed was tuned on."""
        mixture = self.lessons.mixture(0)
        return {task: len({own.prompt for own in mixture if own.task == task}) for task in self.lessons.seen}
