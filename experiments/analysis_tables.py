"""The tables of ``veneer analyse``: the columns that each has, and how one is read.

A table that lacks a column, or has it with another type, is refused where it is read, and named.
"""

import os
from pathlib import Path

import polars as pl

from veneer.models.files import read_table

_Types = dict[str, pl.DataType | type[pl.DataType]]


def _typed(strings: str = "", numbers: str = "", counts: str = "", answers: str = "") -> _Types:
    """Columns of text, of real numbers, of whole numbers, and of yes or no."""
    kinds = ((strings, pl.String), (numbers, pl.Float64), (counts, pl.Int64), (answers, pl.Boolean))
    return {name: kind for names, kind in kinds for name in names.split()}


_CELL = _typed(
    "cell parent capability start task stage status", "learning_rate fine_tuning_rate c_tr", "seed"
)
_SETTING = _typed("capability task", "fine_tuning_rate c_tr")
COLUMNS: dict[str, _Types] = {
    "pruning": _CELL | _typed("unit criterion texts operand", "accuracy", "draw k"),
    "pruned": _CELL
    | _typed(
        "unit criterion name matrix row_label column_label", "value score", "draw rank block row column"
    ),
    "classes": _CELL | _typed("unit criterion texts", "share expected", "draw k class"),
    "grafting": _CELL | _typed("direction level name texts operand", "accuracy change", "block k"),
    "movement": _CELL | _typed("name", "squared_change share_of_change used change_in_used", "block weights"),
    "directions": _CELL | _typed("label access", "squared_change share_of_change", "direction used"),
    "probes": _CELL
    | _typed("target method labels", "accuracy train_accuracy majority", "residual", "converged"),
    "attention": _CELL
    | _typed("asked kind on", "", "block head")
    | dict.fromkeys(("share", "uniform", "enrichment"), pl.Float32),
    "attention_hidden": _CELL | _typed("asked texts hidden", "changed right_pt right_ft"),
    "attention_sorting": _CELL | _typed("", "sorting distance", "block head"),
    "jailbreak": _CELL | _typed("token texts operand", "accuracy"),
    "revival": _SETTING | _typed("arm", "learning_rate threshold time", "seed after by", "reached already"),
    "survival": _SETTING | _typed("arm", "learning_rate threshold median low high", "seeds reached"),
    "ratios": _SETTING | _typed("control", "learning_rate threshold ratio low high", "seeds"),
    "verdicts": _SETTING
    | _typed(
        "start kind strength leaning decides rule_version",
        "kept kept_low kept_high learned learned_low learned_high",
        "seeds",
    )
    | dict.fromkeys(("reasons", "needed"), pl.List(pl.String)),
}
"""Of each table, by its name; a sweep's have its axes besides."""


def read_analysis(run: Path, name: str) -> pl.DataFrame | None:
    """A table of ``veneer analyse`` in a run's folder; None where it was not made.

    Raises:
        InputError: the file is damaged, lacks a column, or has it with another type.
    """
    file = run / "analysis" / f"{name}.parquet"
    if not os.path.lexists(file):
        return None
    return read_table(file, COLUMNS.get(name, {}), "a table made by veneer analyse, as it is now")
