"""The folder of ``veneer run stories``: a folder of trials (``experiments/trial_folder.py``), and besides

::

    stories.json              the settings
    models/ID.safetensors     a model after its deletion
    curves.parquet            all measurements, in one table
    probes.parquet            probes for every feature, by model and residual stream
    verdicts.json             what came out
    report.html               the page
"""

from pathlib import Path

import polars as pl

from veneer.analysis.binomial import wilson
from veneer.experiments.stories.probes import PROBES
from veneer.experiments.stories.settings import Stories, StoryTrial
from veneer.experiments.trial_folder import TrialFolder

CURVES = {
    "arm": pl.String,
    "rate": pl.Float64,
    "seed": pl.Int64,
    "stage": pl.String,
    "step": pl.Int64,
    "measure": pl.String,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "texts": pl.Int64,
}
"""Columns of curves.parquet. ``measure``: share (of the stories written to instructions that ask for the
feature, those that have it), others (of the other features asked for, those that are there), loss_with and
loss_without (nats a token of stories with and without the feature). Shares have Wilson's 95 % interval."""
PROBE_ROWS = {"arm": pl.String, "rate": pl.Float64, "seed": pl.Int64, **PROBES}
"""Columns of probes.parquet: the model that was probed, and ``probes.PROBES``."""
SHARES = ("share", "others")


class StoriesRun(TrialFolder[Stories, StoryTrial]):
    """The folder, open for reading and writing."""

    FILE = "stories.json"
    FORMAT = 1
    MADE_BY = "veneer run stories"
    SETTINGS = Stories

    def trials(self) -> tuple[StoryTrial, ...]:
        """Everything that is to be done, in order."""
        return self.settings.trials()

    def weights(self, trial: StoryTrial) -> Path:
        """Where the model is kept that a deletion gave."""
        return self.path / "models" / f"{trial.id}.safetensors"

    def kept(self, trial: StoryTrial) -> tuple[Path, ...]:
        """The model that a deletion gave."""
        return (self.weights(trial),) if trial.stage == "delete" else ()

    def curves(self) -> pl.DataFrame:
        """All measurements of finished trials (``CURVES``); what is missing is missing."""
        rows = []
        for trial in self.trials():
            if trial.stage == "probe" or (found := self.result(trial)) is None:
                continue
            named = (trial.arm, trial.rate, trial.seed, trial.stage)
            for step, scores in zip(found["steps"], found["scores"], strict=True):
                for measure in ("loss_with", "loss_without"):
                    rows.append((*named, step, measure, scores[measure], None, None, None))
                for measure in SHARES:
                    hits, texts = round(scores[measure]), round(scores[f"{measure}_of"])
                    low, high = wilson(hits, texts) if texts else (None, None)
                    share = hits / texts if texts else None
                    rows.append((*named, step, measure, share, low, high, texts))
        return pl.DataFrame(rows, CURVES, orient="row")

    def probes(self) -> pl.DataFrame:
        """All probes that are fitted (``PROBE_ROWS``)."""
        rows = []
        for trial in self.trials():
            if trial.stage != "probe" or (found := self.result(trial)) is None:
                continue
            named = {"arm": trial.arm, "rate": trial.rate, "seed": trial.seed}
            rows += [{**named, **row} for row in found["probes"]]
        return pl.DataFrame(rows, PROBE_ROWS)
