"""The overview of a sweep in the report: every answer at every point, and what each axis changes.

Answers are those that each point's own section gives; here they are put side by side. An axis is judged
by the points that differ in it alone, so that it does not answer for another one.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import polars as pl

from veneer.experiments.points import Point, value_name
from veneer.experiments.store import Run
from veneer.experiments.summary import final_accuracies
from veneer.report import figures
from veneer.report.tables import MEANINGS, Judged

Span = tuple[float | None, float | None, float | None]  # mean over seeds, least, greatest
OPEN = ("not finished", "not reFTed")  # kinds that say nothing about an axis
MEASURES = {
    "kind": "the answer",
    "before": "O_PT after fine-tuning",
    "after": "O_PT after the best reFT",
    "ft_1": "O_FT, C_Te = 1",
    "ft_0": "O_FT, C_Te = 0",
}
NOTES = {
    "kind": "Each cell is an answer, with accuracy on O_PT, natural texts, after fine-tuning → after the "
    "best reFT, in percent.",
    "before": "Accuracy on O_PT, natural texts, after fine-tuning, in percent.",
    "after": "Accuracy on O_PT, natural texts, after the reFT rate that ends best, in percent.",
    "ft_1": "Accuracy on O_FT after fine-tuning, texts on which the shortcut works, in percent.",
    "ft_0": "Accuracy on O_FT after fine-tuning, texts on which the shortcut fails, in percent.",
}


@dataclass(frozen=True)
class Answer:
    """What became of one setting at one point.

    Attributes:
        point: the point's place in the grid.
        values: the point's value of each axis, as text.
        judged: the verdict.
        learned: what fine-tuning taught, in words.
        spans: accuracies by the names of ``MEASURES``.
    """

    point: int
    values: tuple[str, ...]
    judged: Judged
    learned: str
    spans: dict[str, Span]

    @property
    def setting(self) -> tuple[str, float, float]:
        """Capability, rate of fine-tuning, C_Tr."""
        curves = self.judged.curves
        return curves.capability, curves.fine_tuning_rate, curves.c_tr


def answers(points: Sequence[Point], judged: Sequence[list[Judged]], rows: Sequence[Any]) -> list[Answer]:
    """Every setting at every point.

    Args:
        points: the points, in the grid's order.
        judged: the verdicts of each.
        rows: of each, what ``tables.verdict_rows`` returns.
    """
    found = []
    for place, (point, verdicts, accuracies) in enumerate(zip(points, judged, rows, strict=True)):
        spread = _spread(point.run)
        values = tuple(value_name(value) for value in point.values.values())
        for verdict, row in zip(verdicts, accuracies, strict=True):
            curves = verdict.curves
            key = curves.capability, curves.fine_tuning_rate, curves.c_tr
            spans: dict[str, Span] = {
                "before": _span(curves.before, spread.get((*key, "natural", "pt"))),
                "after": (curves.after, curves.lowest, curves.highest),
                "ft_1": _span(row["ft_1"], spread.get((*key, "correlated", "ft"))),
                "ft_0": _span(row["ft_0"], spread.get((*key, "uncorrelated", "ft"))),
            }
            found.append(Answer(place, values, verdict, row["learned"], spans))
    return found


def _span(value: float | None, ends: tuple[float, float] | None) -> Span:
    return (value, None, None) if ends is None else (value, *ends)


def _spread(run: Run) -> dict[tuple[Any, ...], tuple[float, float]]:
    """Least and greatest accuracy after fine-tuning over the seeds that did not diverge.

    Returns:
        By capability, rate, C_Tr, texts and operand.
    """
    if not run.finished():
        return {}
    keys = ["capability", "fine_tuning_rate", "c_tr", "texts", "operand"]
    final = final_accuracies(run).filter(
        (pl.col("stage") == "fine-tune") & (pl.col("start") == "capability") & (pl.col("status") == "done")
    )
    ends = final.group_by(keys).agg(low=pl.col("value").min(), high=pl.col("value").max())
    return {tuple(row[:5]): (row[5], row[6]) for row in ends.iter_rows()}


def kinds(found: Sequence[Answer]) -> list[dict[str, Any]]:
    """How many answers are of each kind, in the order of the legend."""
    counted = [(kind, sum(own.judged.kind == kind for own in found)) for kind in MEANINGS]
    return [{"kind": kind, "count": n, "meaning": MEANINGS[kind]} for kind, n in counted if n]


def effects(axes: dict[str, list[Any]], found: Sequence[Answer]) -> list[dict[str, Any]]:
    """What changes with each axis alone, at the same setting and the same values of the other axes.

    Returns:
        For each axis ``name``, ``values``, ``compared`` (comparisons with an answer at two values or
        more), ``changed`` (those whose answers differ), and by how much accuracy moves, greatest less
        least, mean over comparisons: ``before`` and ``after`` (None without any).
    """
    result = []
    for place, (name, values) in enumerate(axes.items()):
        groups: dict[Any, list[Answer]] = {}
        for own in found:
            if own.judged.kind not in OPEN:
                others = own.values[:place] + own.values[place + 1 :]
                groups.setdefault((own.setting, others), []).append(own)
        compared = [group for group in groups.values() if len(group) > 1]
        moved = {part: _moved(compared, part) for part in ("before", "after")}
        changed = sum(len({own.judged.kind for own in group}) > 1 for group in compared)
        texts = [value_name(value) for value in values]
        result.append({"name": name, "values": texts, "compared": len(compared), "changed": changed, **moved})
    return result


def _moved(groups: Sequence[Sequence[Answer]], part: str) -> float | None:
    ranges = []
    for group in groups:
        values = [value for own in group if (value := own.spans[part][0]) is not None]
        if len(values) > 1:
            ranges.append(max(values) - min(values))
    return mean(ranges) if ranges else None


def seed_range(found: Sequence[Answer]) -> float | None:
    """How far the seeds of one setting lie apart in O_PT after fine-tuning, mean over settings."""
    ends = [own.spans["before"][1:] for own in found]
    ranges = [high - low for low, high in ends if low is not None and high is not None]
    return mean(ranges) if ranges else None


def headline(axes: dict[str, list[Any]], found: Sequence[Answer]) -> str:
    """The overview in a sentence or two."""
    by_setting: dict[Any, list[Answer]] = {}
    for own in found:
        if own.judged.kind not in OPEN:
            by_setting.setdefault(own.setting, []).append(own)
    several = [group for group in by_setting.values() if len(group) > 1]
    if not several:
        return "Too little is finished to compare points."
    same = sum(len({own.judged.kind for own in group}) == 1 for group in several)
    points = len(list(itertools.product(*axes.values())))
    where = f"{same} of {len(several)} settings (rate × C_Tr)"
    if same == len(several):
        return (
            f"The answer does not depend on where in this sweep one looks: it is the same at all {points} "
            f"points for each of the {len(several)} settings (rate × C_Tr)."
        )
    moving = [own for own in effects(axes, found) if own["changed"]]
    told = [f"{own['name']} ({own['changed']} of {own['compared']} comparisons)" for own in moving]
    still = [own["name"] for own in effects(axes, found) if own["compared"] and not own["changed"]]
    sentence = f"The answer is the same at all {points} points for {where}. For the others it changes"
    sentence += f" with {' and with '.join(told)}" if told else ", though never with one axis alone"
    return f"{sentence}{f', and never with {_listed(still)} alone' if still and told else ''}."


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def overview(axes: dict[str, list[Any]], found: Sequence[Answer]) -> dict[str, Any]:
    """What the template shows of all points, by the names of the functions here, and every answer."""
    return {
        "headline": headline(axes, found),
        "kinds": kinds(found),
        "effects": effects(axes, found),
        "seed_range": seed_range(found),
        "answers": [_row(own) for own in found],
    }


def _row(own: Answer) -> dict[str, Any]:
    """An answer as the template and the script show it: plain data, accuracies by name."""
    return {
        "point": own.point,
        "at": own.values,
        "capability": own.setting[0],
        "rate": figures.rate_name(own.setting[1]),
        "c_tr": figures.rate_name(own.setting[2]),
        "kind": own.judged.kind,
        "strength": own.judged.strength,
        "learned": own.learned,
        "seeds": own.judged.curves.seeds,
        "agreeing": own.judged.curves.agreeing,
        **own.spans,
    }
