"""The folder of ``veneer run cddm``: a folder of trials (``experiments/trial_folder.py``), and besides

::

    cddm.json                 the settings
    models/ID.safetensors     what a training gave: all weights, or LoRA's
    looks/ID/NAME.parquet     what was found inside one model
    NAME.parquet              the same of all models, and accuracy.parquet
    answer.json               what came out
    report.html               the page
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from veneer.experiments.cddm.settings import Decisions, DecisionTrial
from veneer.experiments.trial_folder import TrialFolder
from veneer.models.files import checksum, exists, read_table, write_table
from veneer.tasks.errors import InputError

KEYS = {"arm": pl.String, "seed": pl.Int64}
ACCURACY = {
    **KEYS,
    "step": pl.Int64,
    "accuracy": pl.Float64,
    "congruent": pl.Float64,
    "incongruent": pl.Float64,
    "difference": pl.Float64,
    "loss": pl.Float64,
}
"""Columns of accuracy.parquet: on held-out pairs of numbers, after each measured update; ``difference`` of
the two answers' logits (right less wrong), ``loss`` of the answers taught since the measurement before."""
LOOKS = (
    "final",
    "ablation",
    "generic",
    "similarity",
    "decoding",
    "units",
    "one-unit",
    "attention",
    "maps",
    "points",
    "silhouettes",
)
"""Tables of a look; ``experiments/cddm/look.py`` makes them, docs/run-folder.md names their columns."""


class DecisionsRun(TrialFolder[Decisions, DecisionTrial]):
    """The folder, open for reading and writing."""

    FILE = "cddm.json"
    FORMAT = 1
    MADE_BY = "veneer run cddm"
    SETTINGS = Decisions

    def trials(self) -> tuple[DecisionTrial, ...]:
        """Everything that is to be done, in order."""
        return self.settings.plan()

    def weights(self, trial: DecisionTrial) -> Path:
        """Where what a training gave is kept."""
        return self.path / "models" / f"{trial.id}.safetensors"

    def problems(self) -> list[str]:
        """What is missing or damaged, weights and tables of looks too, a sentence each."""
        found = super().problems()
        for trial in self.trials():
            try:
                result = self.result(trial) or {}
            except InputError:  # said above
                continue
            files = {self.weights(trial): result["weights"]} if "weights" in result else {}
            for name, own in result.get("tables", {}).items():
                files[self.path / "looks" / trial.id / f"{name}.parquet"] = own
            for file, own in files.items():
                if checksum(file) != own:
                    what = "changed" if exists(file) else "missing"
                    found.append(f"{file.relative_to(self.path)}: {what}")
        return found

    def keep_tables(self, trial: DecisionTrial, tables: Mapping[str, pl.DataFrame]) -> dict[str, str]:
        """Write what was found inside one model; the checksum of each table, by name."""
        kept = {}
        for name, table in tables.items():
            file = self.path / "looks" / trial.id / f"{name}.parquet"
            write_table(file, table)
            kept[name] = checksum(file)
        return kept

    def table(self, name: str) -> pl.DataFrame:
        """A table of every look that is done, with arm and seed in front; empty if there is none.

        Raises:
            InputError: a damaged table.
        """
        found = []
        for trial in self.settings.trials_of("look"):
            file = self.path / "looks" / trial.id / f"{name}.parquet"
            if self.done(trial) and file.exists():
                keys = (pl.lit(trial.arm).alias("arm"), pl.lit(trial.seed, pl.Int64).alias("seed"))
                own = read_table(file)
                found.append(own.select(*keys, *own.columns))
        if not found and (whole := self.path / f"{name}.parquet").exists():
            return read_table(whole)
        return pl.concat(found, how="vertical_relaxed") if found else pl.DataFrame(schema=KEYS)

    def accuracy(self) -> pl.DataFrame:
        """Every measurement while arms trained (``ACCURACY``); what is missing is missing."""
        rows = []
        for trial in self.settings.trials_of("train"):
            if (found := self.result(trial)) is None:
                continue
            for step, scores, loss in zip(found["steps"], found["scores"], found["losses"], strict=True):
                rows.append({"arm": trial.arm, "seed": trial.seed, "step": step, "loss": loss, **scores})
        if not rows and (whole := self.path / "accuracy.parquet").exists():
            return read_table(whole, ACCURACY)
        return pl.DataFrame(rows, ACCURACY)
