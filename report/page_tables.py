"""Tables of ``veneer analyse`` as a report carries them: what its script draws, thinned and deflated.

Nothing is computed but means over the draws of a random control. Columns of text are stored as codes
into their distinct values, numbers with 4 significant digits.
"""

import base64
import json
import zlib
from typing import Any

import polars as pl

from veneer.report.page_data import rounded

CHOICE = ("cell", "capability", "start", "stage", "learning_rate", "fine_tuning_rate", "c_tr", "seed")
"""What a reader picks a model by."""
MOST_CELLS = 500  # fine-tuned models whose predicted classes and grafts are kept
COLUMNS: dict[str, tuple[str, ...]] = {
    "pruning": ("unit", "criterion", "k", "texts", "operand", "accuracy"),
    "classes": ("unit", "k", "class", "share", "expected"),
    "grafting": ("level", "name", "block", "k", "operand", "change", "accuracy"),
    "movement": ("name", "block", "share_of_change"),
    "probes": ("residual", "target", "labels", "accuracy", "majority"),
    "attention": ("asked", "block", "head", "on", "share", "uniform"),
}
KEPT: dict[str, pl.Expr] = {
    "pruning": pl.col("texts").is_in(["natural", "uncorrelated"]),
    "classes": (pl.col("criterion") == "saliency") & (pl.col("texts") == "natural"),
    "grafting": (pl.col("direction") == "back") & (pl.col("texts") == "natural"),
    "movement": pl.lit(True),
    "probes": pl.lit(True),
    "attention": (pl.col("kind") == "natural"),
}
"""The rows that are drawn."""


def page_tables(
    analyses: dict[str, pl.DataFrame], most: int = MOST_CELLS
) -> tuple[dict[str, str], list[str]]:
    """Every table that is there, packed, and what was left out, in words.

    Args:
        analyses: the tables by name.
        most: models whose predicted classes and grafts are kept, those of the first seeds.
    """
    packed, left_out = {}, []
    for name, columns in COLUMNS.items():
        if name not in analyses:
            continue
        table = thinned(name, analyses[name], columns)
        cells = table.sort("seed", maintain_order=True)["cell"].unique(maintain_order=True)
        if name in ("classes", "grafting") and len(cells) > most:
            left_out.append(f"{name} of {len(cells) - most} of {len(cells)} models")
            table = table.filter(pl.col("cell").is_in(cells.head(most).to_list()))
        packed[name] = pack(table)
    return packed, left_out


def thinned(name: str, table: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    """The rows and columns that are drawn; draws of the random control become their mean."""
    own = table.filter(KEPT[name]).select(*CHOICE, *columns, *(["draw"] if name == "pruning" else []))
    if name == "pruning":
        keys = [column for column in own.columns if column not in ("draw", "accuracy")]
        own = own.group_by(keys, maintain_order=True).agg(pl.col("accuracy").mean())
    return own


def pack(table: pl.DataFrame) -> str:
    """A table as deflated JSON in base64: by column, its values or its levels and codes."""
    columns: dict[str, Any] = {}
    for name in table.columns:
        values = table[name]
        if values.dtype == pl.Float64 or values.dtype == pl.Float32:
            known = values.unique()
            if name not in ("learning_rate", "fine_tuning_rate", "c_tr") or len(known) > 1000:
                columns[name] = {"values": rounded(values.to_list())}
                continue
            values = pl.Series([None if v is None else f"{v:g}" for v in values])
        elif values.dtype != pl.String:
            values = values.cast(pl.String)
        levels = values.unique(maintain_order=True).to_list()
        code = {level: i for i, level in enumerate(levels)}
        columns[name] = {"levels": levels, "codes": [code[value] for value in values]}
    text = json.dumps({"rows": len(table), "columns": columns}, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def unpack(text: str) -> pl.DataFrame:
    """The inverse of ``pack``; what is not a measured number is text."""
    content = json.loads(zlib.decompress(base64.b64decode(text)))
    return pl.DataFrame(
        {
            name: column["values"] if "values" in column else [column["levels"][i] for i in column["codes"]]
            for name, column in content["columns"].items()
        }
    )
