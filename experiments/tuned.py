"""A model that a run trained, picked by its settings and asked like the capability that it came from."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from jaxtyping import Float
from torch import Tensor

from veneer.compiled.capability import CompiledCapability
from veneer.models.answering import Answering, Text
from veneer.models.files import read_json
from veneer.models.transformer import Transformer
from veneer.pcfg.capability import LearnedCapability
from veneer.tasks.errors import InputError

Capability = CompiledCapability | LearnedCapability
SHOWN = 8  # values that a refusal lists


@dataclass(frozen=True)
class TunedModel(Answering):
    """A fine-tuned or revived model.

    It reads texts as its capability does. What it says about texts that are shorter than those it was
    trained on is up to the training.

    Attributes:
        model: the weights after its last update, a fleet of one.
        capability: what its chain of cells started from, with the weights of the start.
        settings: the columns that identify its cell (``veneer.experiments.tables.KEYS``).
    """

    model: Transformer
    capability: Capability
    settings: dict[str, Any]

    @property
    def answer_position(self) -> int | None:
        """As its capability's."""
        return self.capability.answer_position

    def token_ids(self, text: Text, operand: str | None = None, task_token: str | None = None) -> list[int]:
        """As its capability's."""
        return self.capability.token_ids(text, operand, task_token)

    def decode(self, logits: Float[Tensor, "*lead classes"]) -> Any:
        """As its capability's."""
        return self.capability.decode(logits)

    def __repr__(self) -> str:
        own = self.settings
        words = [own["capability"], own["stage"]]
        if own["start"] != "capability":
            words.append(f"from {own['start']}")
        if own["fine_tuning_rate"] is not None:
            words.append(f"fine-tuned at {own['fine_tuning_rate']:g} with C_Tr {own['c_tr']:g}")
        if own["stage"] == "reft":
            words.append(f"reFT at {own['learning_rate']:g}")
        words += [f"seed {own['seed']}", f"{self.model.parameter_count:,} parameters"]
        return f"TunedModel({', '.join(words)})"


def read_capability(folder: str | os.PathLike[str]) -> Capability:
    """A stored capability, written or learned: a folder with model.safetensors and model.json.

    Raises:
        InputError: there is none, or it is damaged.
    """
    folder = Path(folder)
    metadata = read_json(folder / "model.json").get("metadata", {})
    return (
        CompiledCapability.load(folder)
        if "residual_labels" in metadata
        else LearnedCapability.load(folder / "model")
    )


def capability_in(folder: Path, origin: Mapping[str, Any]) -> Capability:
    """The capability of an origin among those that a run keeps, of the same seed and noise if there is one.

    A chain that starts from scratch has no capability of its own: it reads texts as the one does whose
    shape it has.

    Args:
        folder: RUN/capabilities.
        origin: ``Origin`` as plain data.

    Raises:
        InputError: there is none, or its files are damaged.
    """
    found = [
        (kept["origin"], file.parent)
        for file in sorted(folder.glob("*/accuracy.json"))
        if (kept := read_json(file))["origin"]["capability"] == origin["capability"]
    ]
    if not found:
        raise InputError("file", str(folder), "the capabilities that a run started from", "one is missing")
    wanted = {**origin, "start": "capability"}
    best = min(found, key=lambda pair: (pair[0] != wanted, pair[0]["seed"] != origin["seed"]))
    return read_capability(best[1])


def only_row(table: pl.DataFrame, wanted: Mapping[str, tuple[str, Any]], where: str) -> dict[str, Any]:
    """The one row of a table that has all the values wanted.

    Args:
        table: the rows, with a column cell.
        wanted: by the name that a refusal uses: the column, and its value; ... (an ellipsis) where
            nothing was said, so that the rows have to agree in it.
        where: what the table is of, for refusals.

    Raises:
        InputError: no row has them, or several do; what there is is named.
    """
    left = table
    for name, (column, value) in wanted.items():
        if value is ...:
            continue
        rows = left.filter(_is(column, value))
        if rows.is_empty():
            raise InputError(name, value, _listed(left[column]), f"no model in {where} has it")
        left = rows
    for name, (column, value) in wanted.items():
        if value is ... and left["cell"].n_unique() > 1 and left[column].n_unique() > 1:
            raise InputError(name, None, _listed(left[column]), f"several models in {where} fit; choose one")
    return left.row(0, named=True)


def _is(column: str, value: Any) -> pl.Expr:
    """Whether a column has a value; numbers may differ in the last digits."""
    if isinstance(value, float | int) and not isinstance(value, bool):
        close = (pl.col(column) - value).abs() <= 1e-9 * max(1e-9, abs(value))
        return close.fill_null(False) if math.isfinite(value) else pl.lit(False)
    return pl.col(column).eq_missing(pl.lit(value))


def _listed(values: pl.Series) -> str:
    found = values.unique().sort(descending=values.dtype.is_float()).to_list()
    words = [f"{value:g}" if isinstance(value, float) else str(value) for value in found]
    return ", ".join(words[:SHOWN]) + (f", … ({len(words)})" if len(words) > SHOWN else "")
