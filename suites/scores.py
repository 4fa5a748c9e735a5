"""Scores of an outside model's predictions: accuracy with and without the correlation, shortcut reliance.

The shortcut is to answer O_FT's question with O_PT's answer + q. On correlated samples that is right;
on uncorrelated ones it is wrong, and how often it is given tells how far a model relies on it.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float

from veneer.analysis.binomial import wilson
from veneer.compiled.choose import ABSOLUTE, RELATIVE
from veneer.models.files import exists, is_file
from veneer.suites import statistics
from veneer.suites import table as dataset_table
from veneer.suites.verify import read_manifest, read_plan
from veneer.tasks.errors import InputError

_READERS: dict[str, Callable[[IO[bytes]], pl.DataFrame]] = {
    ".parquet": pl.read_parquet,
    ".csv": pl.read_csv,
    ".jsonl": pl.read_ndjson,
    ".ndjson": pl.read_ndjson,
}
"""How predictions are read, from an open file: a name is no pattern then."""
_ANSWERED = ("label", "prediction")
_RESAMPLES = 2000
_RIGHT, _PT, _FT = "right", "result_pt", "result_ft"


@dataclass(frozen=True)
class Share:
    """A share of samples with its 95 % interval (Wilson 1927).

    Attributes:
        samples: out of how many.
        value: the share; None without samples.
        low: end of the interval.
        high: end of the interval.
    """

    samples: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Reliance:
    """How far the predictions on uncorrelated samples that ask for O_FT are the shortcut's.

    Attributes:
        given: share answered with O_PT's answer + q.
        chance: share expected if predictions and shortcut had nothing to do with each other: the sum,
            over answers, of the product of both frequencies.
        index: ``given`` - ``chance``; 0 for a model whose answers have nothing to do with the shortcut,
            slightly below for one that is always right, up to 1 - ``chance`` for one that always takes it.
        low: end of the index's 95 % interval (bootstrap over samples, 2,000 times).
        high: end of that interval.
    """

    given: Share
    chance: float
    index: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """Scores on one split.

    Attributes:
        dataset: its name.
        split: the split scored.
        accuracy: on all samples. A label that is no whole number is met within 0.001 + 0.5 % of it.
        correlated: accuracy where the correlation holds.
        uncorrelated: accuracy where the difference is neither q nor 0.
        equal: accuracy where both answers are the same (natural text only).
        majority: accuracy of always giving the commonest label.
        shortcut: accuracy of the shortcut on samples that ask for O_FT.
        reliance: None without uncorrelated samples that ask for O_FT.
        labels: accuracy by label.
    """

    dataset: str
    split: str
    accuracy: Share
    correlated: Share
    uncorrelated: Share
    equal: Share
    majority: float
    shortcut: float | None
    reliance: Reliance | None
    labels: dict[str, Share]

    def to_json(self) -> dict[str, Any]:
        """The scores in JSON's types."""
        return asdict(self)


def evaluate(
    folder: str | os.PathLike[str], predictions: str | os.PathLike[str], split: str | None = None
) -> Scores:
    """Score predictions for one split.

    Args:
        folder: the dataset.
        predictions: Parquet, CSV or JSON lines with the columns ``id`` and ``prediction``.
        split: which split they are for; None: the only one, or "test".

    Raises:
        InputError: no such dataset or split, a file that cannot be read, or one that has not exactly
            one prediction for every sample.
    """
    folder, predictions = Path(folder), Path(predictions)
    manifest = read_manifest(folder)
    plan = read_plan(manifest)
    names = [each.name for each in plan.splits]
    chosen = split or (names[0] if len(names) == 1 else "test")
    if chosen not in names:
        raise InputError("split", split, f"one of {', '.join(names)}")
    index = names.index(chosen)
    files = [folder / plan.file(s, plan.formats[0]) for s in plan.shards() if s.split == index]
    columns = ["id", "operand", "operand_ft", "label", _PT, _FT, "correlated"]
    try:
        table = pl.concat([dataset_table.read(file).select(columns) for file in files])
    except (Exception, pl.exceptions.PanicException) as error:
        problem = " ".join(str(error).split())[:200]
        raise InputError("DIR", str(folder), "a whole dataset; see veneer verify", problem) from error
    joined = _joined(table, _read_predictions(predictions), str(predictions), chosen)
    return _scores(joined, manifest, chosen)


def _read_predictions(path: Path) -> pl.DataFrame:
    valid = f"a file with columns id and prediction: {', '.join(_READERS)}"
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError("predictions", str(path), valid, "its name ends otherwise")
    if not is_file(path):
        problem = "it is no ordinary file" if exists(path) else "there is no such file"
        raise InputError("predictions", str(path), valid, problem)
    try:
        with path.open("rb") as file:
            table = reader(file)
    except (Exception, pl.exceptions.PanicException) as error:
        raise InputError("predictions", str(path), valid, " ".join(str(error).split())[:200]) from error
    if not {"id", "prediction"} <= set(table.columns):
        raise InputError("predictions", str(path), valid, f"its columns are {', '.join(table.columns)}")
    if not table["id"].dtype.is_integer():
        raise InputError("predictions", str(path), "whole numbers as id", f"they are {table['id'].dtype}")
    if not (table["prediction"].dtype.is_numeric() or table["prediction"].dtype in (pl.String, pl.Boolean)):
        raise InputError(
            "predictions", str(path), "numbers or words", f"they are {table['prediction'].dtype}"
        )
    try:
        return table.select(pl.col("id").cast(pl.Int64), "prediction")
    except pl.exceptions.PolarsError as error:
        problem = "some need more than 64 bits"
        raise InputError("predictions", str(path), "ids of the dataset", problem) from error


def _joined(table: pl.DataFrame, given: pl.DataFrame, path: str, split: str) -> pl.DataFrame:
    """Samples with their predictions; every sample must have exactly one."""
    valid = f"exactly one prediction for each of the {len(table):,} samples of {split}"
    faults = {
        "missing": table.join(given, on="id", how="anti")["id"],
        "extra": given.join(table, on="id", how="anti")["id"],
        "repeated": given.filter(pl.col("id").is_duplicated())["id"].unique().sort(),
        "empty": given.filter(pl.col("prediction").is_null())["id"],
    }
    told = [f"{len(ids):,} {name} (e.g. id {ids[0]})" for name, ids in faults.items() if len(ids)]
    if told:
        raise InputError("predictions", path, valid, ", ".join(told))
    return table.join(given, on="id", how="left", maintain_order="left")


def _scores(table: pl.DataFrame, manifest: dict[str, Any], split: str) -> Scores:
    order = statistics.order(manifest["answers"], _words(table))
    numbers = {name: _numbers(table[name], order) for name in ("label", "prediction", _PT, _FT)}
    same_text = (table["prediction"].cast(pl.String) == table["label"].cast(pl.String)).to_numpy()
    right = same_text | (numbers["prediction"] == numbers["label"]) | _near(table)
    difference = numbers[_FT] - numbers[_PT]
    correlated = table["correlated"].to_numpy()
    uncorrelated = ~correlated & (difference != 0) & ~np.isnan(difference)
    asks_ft = (table["operand"] == table["operand_ft"]).to_numpy()
    q = manifest["q"]
    counted = uncorrelated & asks_ft
    reliance = None
    if q is not None and counted.any():
        reliance = _reliance(numbers["prediction"][counted], numbers[_PT][counted] + q)
    stated = manifest["splits"][split]
    labels = table["label"].cast(pl.String).to_numpy()
    return Scores(
        dataset=manifest["name"],
        split=split,
        accuracy=share(right),
        correlated=share(right[correlated]),
        uncorrelated=share(right[uncorrelated]),
        equal=share(right[~correlated & (difference == 0)]),
        majority=stated["majority"],
        shortcut=stated["shortcut"],
        reliance=reliance,
        labels={label: share(right[labels == label]) for label in stated["labels"]},
    )


def _near(table: pl.DataFrame) -> Bool[np.ndarray, "sample"]:
    """Which predictions are as near to a label that is no whole number as ``close`` asks.

    A compiled program's output is a sum of rounded numbers, and no model's is more exact than that.
    """
    label, prediction = (table[name].cast(pl.String).cast(pl.Float64, strict=False) for name in _ANSWERED)
    whole = (label.is_nan() | (label == label.round())).fill_null(True)
    bound = ABSOLUTE + RELATIVE * label.abs()
    return ((label - prediction).abs() <= bound).fill_null(False).to_numpy() & ~whole.to_numpy()


def _words(table: pl.DataFrame) -> statistics.Joint:
    words = {w for name in ("label", "prediction", _PT, _FT) for w in table[name].unique()}
    return {("", word, word, False): 1 for word in words}


def _numbers(column: pl.Series, order: dict[Any, float]) -> Float[np.ndarray, "sample"]:
    """What answers stand for; not a number for what is no answer."""
    by_text = {str(answer): value for answer, value in order.items()}
    found = {}
    for value in column.unique():
        found[value] = by_text.get(_plain(value, by_text), math.nan)
    return column.replace_strict(found, return_dtype=pl.Float64).to_numpy()


def _plain(value: Any, known: Mapping[str, float]) -> str:
    """An answer as it is written among the known ones: "3.0", " 3" and 3.0 are 3."""
    text = str(value).strip()
    if text in known:
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if math.isfinite(number) and number.is_integer() else str(number)


def share(right: Sequence[bool] | np.ndarray) -> Share:
    """The share of true values with Wilson's interval."""
    n = len(right)
    if n == 0:
        return Share(0, None, None, None)
    hits = int(np.count_nonzero(right))
    return Share(n, hits / n, *wilson(hits, n))


def _reliance(predictions: Float[np.ndarray, "sample"], shortcut: Float[np.ndarray, "sample"]) -> Reliance:
    values, codes = np.unique(np.nan_to_num([predictions, shortcut], nan=-np.inf), return_inverse=True)
    given, wanted = codes.reshape(2, -1)
    cells, counts = np.unique(given * len(values) + wanted, return_counts=True)
    row, column = np.divmod(cells, len(values))
    known = values[row] != -np.inf

    def measured(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Share given and share expected by chance, for each row of weights."""
        total = weights.sum(-1)
        by_row, by_column = (np.zeros((len(weights), len(values))) for _ in range(2))
        np.add.at(by_row.T, row, weights.T)
        np.add.at(by_column.T, column, weights.T)
        by_row[:, values == -np.inf] = 0
        hits = (weights * ((row == column) & known)).sum(-1)
        return hits / total, (by_row * by_column).sum(-1) / total**2

    found, chance = (float(x[0]) for x in measured(counts[None].astype(float)))
    again = np.random.default_rng(0).multinomial(len(given), counts / counts.sum(), size=_RESAMPLES)
    resampled, resampled_chance = measured(again.astype(float))
    low, high = np.quantile(resampled - resampled_chance, [0.025, 0.975])
    return Reliance(
        share((given == wanted) & (predictions == shortcut)), chance, found - chance, float(low), float(high)
    )
