"""What can be said of a split without reading its texts: labels, correlation, and what is had for free.

All of it follows from how often each pair of answers occurs, so a shard keeps a table of these and
the tables of shards add up.
"""

import math
from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

Answer = int | str
Joint = dict[tuple[str, Answer, Answer, bool], int]
"""How often an operand ("pt" or "ft") is asked with these results, and whether they are correlated."""


@dataclass(frozen=True)
class Statistics:
    """A split in numbers.

    Attributes:
        samples: how many.
        correlated: how many carry the spurious correlation.
        uncorrelated: how many have a difference that is neither q nor 0.
        labels: how often each label occurs.
        results_pt: how often each answer for O_PT occurs.
        results_ft: how often each answer for O_FT occurs.
        differences: how often each r(x, O_FT) - r(x, O_PT) occurs; empty for words without order.
        pearson: correlation coefficient of the two answers; None where one does not vary.
        majority_label: the commonest label.
        majority: accuracy of always giving it.
        shortcut: accuracy of "O_PT's answer + q" on the samples that ask for O_FT; None without any.
        lengths: how often each length of text occurs.
    """

    samples: int
    correlated: int
    uncorrelated: int
    labels: dict[str, int]
    results_pt: dict[str, int]
    results_ft: dict[str, int]
    differences: dict[str, int]
    pearson: float | None
    majority_label: str
    majority: float
    shortcut: float | None
    lengths: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """The statistics in JSON's types."""
        return asdict(self)


def joint(table: pl.DataFrame) -> Joint:
    """Count a shard's pairs of answers."""
    is_ft = (pl.col("operand") == pl.col("operand_ft")).alias("is_ft")
    counts = table.group_by(is_ft, "result_pt", "result_ft", "correlated").len()
    return {("ft" if ft else "pt", pt, r_ft, bool(held)): n for ft, pt, r_ft, held, n in counts.rows()}


def lengths(table: pl.DataFrame, spaced: bool) -> dict[int, int]:
    """Count a shard's lengths of text, in tokens."""
    length = pl.col("text").str.count_matches(" ") + 1 if spaced else pl.col("text").str.len_chars()
    return dict(table.group_by(length.alias("length")).len().rows())


def add(tallies: Iterable[Mapping[Any, int]]) -> dict[Any, int]:
    """The sum of several counts."""
    total: Tally[Any] = Tally()
    for tally in tallies:
        total.update(tally)
    return dict(total)


def summarize(counts: Joint, sizes: Mapping[int, int], order: Mapping[Answer, float]) -> Statistics:
    """A split's statistics.

    Args:
        counts: its pairs of answers.
        sizes: its lengths of text.
        order: the number that an answer stands for in differences; answers that stand for none are left out.
    """
    total = sum(counts.values())
    labels, results_pt, results_ft, differences = ({} for _ in range(4))
    correlated = uncorrelated = asks_ft = shortcut = 0
    for (asked, pt, ft, held), n in counts.items():
        _count(labels, ft if asked == "ft" else pt, n)
        _count(results_pt, pt, n)
        _count(results_ft, ft, n)
        correlated += n * held
        asks_ft += n * (asked == "ft")
        shortcut += n * (held and asked == "ft")
        if pt in order and ft in order:
            difference = order[ft] - order[pt]
            _count(differences, difference, n)
            uncorrelated += n * (not held and difference != 0)
    most = min(labels, key=lambda label: (-labels[label], _sorting(label)))
    return Statistics(
        samples=total,
        correlated=correlated,
        uncorrelated=uncorrelated,
        labels=_ordered(labels),
        results_pt=_ordered(results_pt),
        results_ft=_ordered(results_ft),
        differences=_ordered(differences),
        pearson=_pearson(counts, order),
        majority_label=str(most),
        majority=labels[most] / total,
        shortcut=shortcut / asks_ft if asks_ft else None,
        lengths=_ordered(sizes),
    )


def _count(tally: dict[Any, int], value: Any, number: int) -> None:
    tally[value] = tally.get(value, 0) + number


def _sorting(value: Any) -> tuple[int, Any]:
    return (1, value) if isinstance(value, str) else (0, value)


def _ordered(tally: Mapping[Any, int]) -> dict[str, int]:
    """Keys as text, numbers in order and before words."""
    keys = sorted(tally, key=_sorting)
    return {f"{key:g}" if isinstance(key, float) else str(key): tally[key] for key in keys}


def _pearson(counts: Joint, order: Mapping[Answer, float]) -> float | None:
    points = [
        (order[pt], order[ft], n) for (_, pt, ft, _), n in counts.items() if pt in order and ft in order
    ]
    total = sum(n for *_, n in points)
    if not total:
        return None
    points.sort()
    mean_x, mean_y = (math.fsum(p[i] * p[2] for p in points) / total for i in (0, 1))
    xx = math.fsum((x - mean_x) ** 2 * n for x, _, n in points)
    yy = math.fsum((y - mean_y) ** 2 * n for _, y, n in points)
    xy = math.fsum((x - mean_x) * (y - mean_y) * n for x, y, n in points)
    return None if xx == 0 or yy == 0 else round(xy / math.sqrt(xx * yy), 12)


def order(answers: Sequence[Any] | None, counts: Joint) -> dict[Answer, float]:
    """The number that each answer stands for: its index, or without known answers what it says."""
    if answers is not None:
        return {answer: float(i) for i, answer in enumerate(answers)}
    words = {value for _, pt, ft, _ in counts for value in (pt, ft)}
    return {word: value for word in words if (value := number(str(word))) is not None}


def number(word: str) -> float | None:
    """The number that a word says; True and False count as 1 and 0, as in RASP."""
    if word in ("True", "False"):
        return float(word == "True")
    try:
        return float(word)
    except ValueError:
        return None
