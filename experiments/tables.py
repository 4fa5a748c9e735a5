"""The tables of a run: the columns that identify a cell, and one member's metrics as rows."""

from typing import Any

import polars as pl
from torch import Tensor

KEYS: dict[str, Any] = {
    "cell": pl.String,
    "parent": pl.String,
    "capability": pl.String,
    "start": pl.String,
    "task": pl.String,
    "stage": pl.String,
    "learning_rate": pl.Float64,
    "fine_tuning_rate": pl.Float64,
    "c_tr": pl.Float64,
    "seed": pl.Int64,
    "status": pl.String,
}
"""Columns that identify a cell in every table: its id and its parent's; the capability's name and where
the chain starts ("capability", "scratch", ...); the id of the task that the chain is about; the stage; its
rate; rate and C_Tr of the fine-tuning at the beginning (null where there was none); the seed; how it
ended."""

METRICS: dict[str, Any] = {
    "step": pl.Int64,
    "measure": pl.String,
    "texts": pl.String,
    "operand": pl.String,
    "value": pl.Float64,
}
"""Columns of a cell's ``metrics.parquet``."""
PLANNED: dict[str, Any] = {"cell": pl.String, "parent": pl.String}
"""Columns of ``cells.parquet`` that every run has."""


def correlated_share(mixture: dict[str, Any]) -> float:
    """C_Tr of a described mixture: the correlated share of the samples that teach O_FT as asked."""
    own = [c for c in mixture["components"] if c["operand"] == c["label"] == "ft" and c["kind"] != "natural"]
    total = sum(c["weight"] for c in own)
    return sum(c["weight"] for c in own if c["kind"] == "correlated") / total if total else 0.0


def metrics_table(
    steps: tuple[int, ...], accuracy: Tensor, loss: Tensor, train_loss: Tensor, kinds: tuple[str, ...]
) -> pl.DataFrame:
    """One member's metrics as a long table.

    Args:
        steps: updates at which it was evaluated.
        accuracy: by evaluation, kind and operand.
        loss: cross-entropy, by the same.
        train_loss: by evaluation.
        kinds: names of the evaluation sets.

    Returns:
        Columns step, measure ("accuracy", "loss"), texts (kind of the evaluation set, or "train"),
        operand ("pt", "ft"; "asked" for the training loss) and value.
    """
    rows = []
    for i, step in enumerate(steps):
        rows.append((step, "loss", "train", "asked", float(train_loss[i])))
        for k, kind in enumerate(kinds):
            for o, operand in enumerate(("pt", "ft")):
                rows.append((step, "accuracy", kind, operand, float(accuracy[i, k, o])))
                rows.append((step, "loss", kind, operand, float(loss[i, k, o])))
    return pl.DataFrame(rows, schema=["step", "measure", "texts", "operand", "value"], orient="row")
