"""The report's tables: verdicts, revival times beside their controls, and the paper's numbers beside ours."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from veneer.analysis.evidence import revival_threshold
from veneer.experiments.content import Content
from veneer.experiments.curves import MARGIN, Course
from veneer.experiments.named import THIRD, reft_rates_after
from veneer.experiments.paper import SAME, comparable_table, paper_name, paper_size, paper_table
from veneer.experiments.returns import revival_tables
from veneer.experiments.store import Run
from veneer.experiments.summary import REVIVED, fine_tuning_grid
from veneer.report import figures
from veneer.tasks.errors import InputError

NOTABLE = 0.15  # a difference from the paper that is pointed out
ARMS = {"reft": "reFT", "scratch-ft": "Scr. + FT", "scratch": "Scr."}
SYMBOLS = {
    "wrapped": "◐",
    "rewritten": "○",
    "frozen": "∅",
    "came back": "↑",
    "did not come back": "↓",
    "came part of the way": "~",
    "too few seeds": "?",
    "mixed evidence": "?",
    "unchanged": "●",
    "never left": "●",
    "not fine-tuned": "–",
    "diverged": "✕",
    "not reFTed": "–",
    "not finished": "…",
}
MEANINGS = {
    "wrapped": "the old task is only hidden: it came back sooner than the model learns one that it never had",
    "rewritten": "the old task is gone: the model learns it no sooner than one that it never had",
    "frozen": "the model learns nothing any more, so nothing can be said",
    "came back": "retrained, the old task came back; whether it was there, the verdict says",
    "did not come back": "retraining did not bring the old task back",
    "came part of the way": "retraining brought the old task part of the way back",
    "too few seeds": "the evidence leans one way, but seeds are too few or scatter too much",
    "mixed evidence": "the evidence is missing, or points both ways",
    "unchanged": "fine-tuning left the old task as it was",
    "never left": "fine-tuning left the old task as it was",
    "not fine-tuned": "fine-tuning did not teach the new task, so nothing can be said",
    "diverged": "fine-tuning diverged, so nothing can be said",
    "not reFTed": "no retraining was planned",
    "not finished": "not trained yet",
}


@dataclass(frozen=True)
class Judged:
    """The verdict that is shown for a setting.

    Attributes:
        curves: what the reFT curves alone say, with the accuracies.
        kind: the verdict: of ``veneer analyse`` where it was made, else of the curves.
        strength: of the former ("weak", "moderate", "strong"), else empty.
        reasons: of the former, what decided first.
        needed: of the former, what would decide.
        leaning: of the former, the kind that the evidence leans to where nothing is decided.
        decides: of the former, the command that would decide, with its minutes.
    """

    curves: Course
    kind: str
    strength: str = ""
    reasons: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    leaning: str = ""
    decides: str = ""


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage, or a dash."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}"


def judged(table: pl.DataFrame | None, found: list[Course]) -> list[Judged]:
    """Every setting's verdict, of a table of verdicts where there is one."""
    made: dict[tuple[str, float, float], dict[str, Any]] = {}
    if table is not None:
        for row in table.filter(pl.col("start") == "capability").iter_rows(named=True):
            made[row["capability"], row["fine_tuning_rate"], row["c_tr"]] = row
    result = []
    for verdict in found:
        row = made.get((verdict.capability, verdict.fine_tuning_rate, verdict.c_tr))
        if row is None:
            result.append(Judged(verdict, verdict.kind))
            continue
        strength = "" if row["strength"] == "none" else row["strength"]
        told = tuple(row["reasons"]), tuple(row["needed"])
        more = row.get("leaning") or "", row.get("decides") or ""
        result.append(Judged(verdict, row["kind"], strength, *told, *more))
    return result


def headline(found: list[Judged]) -> list[dict[str, Any]]:
    """The answer, by verdict: its kind, what it means, how many settings and which."""
    groups = []
    several = len({own.curves.capability for own in found}) > 1
    for kind, meaning in MEANINGS.items():
        own = [verdict for verdict in found if verdict.kind == kind]
        by_place: dict[tuple[str, float], list[str]] = {}
        for verdict in own:
            place = verdict.curves.capability if several else "", verdict.curves.c_tr
            by_place.setdefault(place, []).append(figures.rate_name(verdict.curves.fine_tuning_rate))
        where = "; ".join(
            f"{name and f'{name}, '}C_Tr = {c:g} at rate{'s' if len(rates) > 1 else ''} {_listed(rates)}"
            for (name, c), rates in sorted(by_place.items())
        )
        if own:
            groups.append(
                {"kind": kind, "meaning": meaning, "count": len(own), "of": len(found), "where": where}
            )
    return groups


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def diverged_cells(content: Content) -> list[str]:
    """Every cell that diverged, in words."""
    if content.metrics is None:
        return []
    broken = content.metrics.filter(pl.col("status") != "done")
    keys = ["capability", "start", "stage", "learning_rate", "fine_tuning_rate", "c_tr", "seed", "status"]
    found = []
    for row in broken.select(keys).unique(maintain_order=True).iter_rows(named=True):
        back, rate = row["stage"] != "fine-tune", row["learning_rate"]
        after = (
            f" after fine-tuning at {row['fine_tuning_rate']:g}" if back and row["c_tr"] is not None else ""
        )
        fields, scratch = content.experiment["fields"], row["start"] == "scratch"
        later = fields["reft_rates"] if scratch else reft_rates_after(fields, rate)
        lost = 0 if back else len(later)
        orphans = f"; its {lost} reFT{'s were' if lost != 1 else ' was'} not started" if lost else ""
        share = "" if row["c_tr"] is None else f", C_Tr = {row['c_tr']:g}"
        model = f"{row['capability']}: " if len(content.names) > 1 else ""
        control = "Control from scratch, " if row["start"] == "scratch" else ""
        third = "a third operand" if row["stage"] == THIRD else "reFT"
        name = third if back else "fine-tuning" if model or control else "Fine-tuning"
        what = f"{model}{control}{name} at {rate:g}{after}{share}"
        found.append(f"{what}, seed {row['seed']}: {row['status']}{orphans}.")
    return found


def verdict_rows(run: Run, content: Content, found: list[Course]) -> list[dict[str, Any]]:
    """Each verdict with the accuracies on O_FT that fine-tuning ended with, and what it learned."""
    ended: dict[tuple[str, float, float, int], float] = {}
    if content.baselines and content.cells:
        grid = fine_tuning_grid(run).filter(pl.col("operand") == "ft")
        columns = grid.select("capability", "learning_rate", "c_tr", "c_te", "value").iter_rows()
        ended = {(name, rate, c_tr, c_te): value for name, rate, c_tr, c_te, value in columns}
    rows = []
    for verdict in found:
        baselines = content.baselines.get(verdict.capability)
        guess = baselines["uncorrelated"]["majority"]["ft"] if baselines else 0.0
        setting = verdict.capability, verdict.fine_tuning_rate, verdict.c_tr
        right = [ended.get((*setting, c_te)) for c_te in (1, 0)]
        words = "–" if verdict.kind == "diverged" else taught(right[0], right[1], guess)
        rows.append({"verdict": verdict, "ft_1": right[0], "ft_0": right[1], "learned": words})
    return rows


def taught(correlated: float | None, uncorrelated: float | None, guess: float) -> str:
    """What fine-tuning taught, from O_FT's accuracies on the two kinds of text and that of guessing."""
    if correlated is None or uncorrelated is None:
        return "–"
    if correlated >= REVIVED and uncorrelated >= REVIVED:
        return "the task"
    return "the shortcut" if correlated >= REVIVED and uncorrelated <= guess + MARGIN else "neither"


def revival_times(
    run: Run, content: Content, best: Mapping[tuple[str, float, float], float]
) -> list[dict[str, Any]]:
    """Median updates to each threshold, reFT beside its controls, and the ratio of Scr. + FT to reFT.

    Args:
        run: the run.
        content: what is in its folder.
        best: by capability, fine-tuning rate and C_Tr, the reFT rate that says most.

    Returns:
        By threshold, the verdict's own in front: ``threshold`` and ``label`` (as text), ``unreached``
        (settings that neither reFT nor a control brought there, in words) and ``rows``, of which each has
        capability, rate, c_tr, reft, ``best`` (whether that is the reFT rate that says most), the times
        ``reft``, ``scratch-ft`` and ``scratch`` in words, and the ratio.
    """
    if content.metrics is None or not content.baselines:
        return []
    try:
        guess = content.baselines[content.names[0]]["natural"]["majority"]["pt"]
        own = revival_tables(run, [revival_threshold(guess)])
    except InputError:  # nothing was retrained
        return []
    first = _times(content, best, own["survival"], own["ratios"])
    for part in first:
        part.update(threshold="verdict", label=f"as often as the verdict asks ({part['threshold']} %)")
    found = content.analyses
    rest = _times(content, best, found["survival"], found.get("ratios")) if "survival" in found else []
    return [*first, *rest]


def _times(
    content: Content,
    best: Mapping[tuple[str, float, float], float],
    survival: pl.DataFrame,
    ratios: pl.DataFrame | None,
) -> list[dict[str, Any]]:
    order = {name: place for place, name in enumerate(content.names)}
    found = []
    for (threshold,), table in survival.sort("threshold").group_by(["threshold"], maintain_order=True):
        own = table.filter(pl.col("arm") == "reft")
        rows = []
        for row in own.iter_rows(named=True):
            same = table.filter(
                (pl.col("capability") == row["capability"])
                & (pl.col("learning_rate") == row["learning_rate"])
            )
            times, reached = {"reft": _time(row)}, row["median"] is not None
            for arm in ("scratch-ft", "scratch"):
                control = same.filter(pl.col("arm") == arm)
                times[arm] = "–" if control.is_empty() else _time(control.row(0, named=True))
                reached |= not control.is_empty() and control["median"][0] is not None
            key = {"capability": row["capability"], "rate": row["fine_tuning_rate"], "c_tr": row["c_tr"]}
            ratio = "–" if ratios is None else _ratio(ratios, row)
            leads = best.get((key["capability"], key["rate"], key["c_tr"])) == row["learning_rate"]
            key |= {"reft_rate": row["learning_rate"], "best": leads}
            rows.append({**key, "times": times, "ratio": ratio, "reached": reached})
        rows.sort(key=lambda r: (order.get(r["capability"], 0), -r["rate"], r["c_tr"], -r["reft_rate"]))
        share = percent(float(str(threshold)), 0)
        reached = [row for row in rows if row.pop("reached")]
        unreached = [
            f"rate {row['rate']:g}, shortcut share {row['c_tr']:g}, retrained at {row['reft_rate']:g}"
            for row in rows
            if row not in reached
        ]
        part = {"threshold": share, "label": f"on {share} %", "rows": reached, "unreached": unreached}
        found.append(part)
    return found


def _time(row: dict[str, Any]) -> str:
    """A median time with its interval; one that was not reached says so."""
    counted = f"{row['reached']} of {row['seeds']}"
    if row["median"] is None:
        return f"not reached ({counted})"
    text = f"{row['median']:,.0f}"
    if row["low"] is not None and row["seeds"] > 1:
        high = "∞" if row["high"] is None else f"{row['high']:,.0f}"
        text += f" [{row['low']:,.0f}, {high}]"
    return text


def _ratio(ratios: pl.DataFrame, row: dict[str, Any]) -> str:
    same = [pl.col(n) == row[n] for n in ("capability", "learning_rate", "threshold")]
    same += [pl.col(n).eq_missing(pl.lit(row[n])) for n in ("fine_tuning_rate", "c_tr")]
    own = ratios.filter(pl.col("control") == "scratch-ft", *same)
    if own.is_empty():
        return "–"
    found = own.row(0, named=True)
    if found["ratio"] is not None:
        text = f"{found['ratio']:.1f}"
        if found["low"] is not None and found["high"] is not None:
            text += f" [{found['low']:.1f}, {found['high']:.1f}]"
        return text
    if found["low"] is not None:
        return f"≥ {found['low']:.1f}"
    return f"≤ {found['high']:.1f}" if found["high"] is not None else "–"


def against_paper(run: Run, content: Content) -> dict[str, Any]:
    """Ours beside the paper's table: a row per capability, rate and C_Tr, cells by C_Te and operand.

    Returns:
        ``name`` of the table, ``rows`` (with ``counterpart``, whether the paper has any of its cells),
        ``dashes`` (whether it lacks others of these), ``note`` on how many cells have a counterpart, in
        words, and ``shorter``, the paper's own size in brackets where that is another: then a difference is
        no finding.
    """
    name = content.experiment["name"]
    theirs = comparable_table(content.experiment)
    if theirs.is_empty():
        of = "this task, method and size" if not paper_table(name).is_empty() else f"“{name}”"
        return {"name": "", "rows": [], "note": f"No table of the paper is at hand for {of}."}
    if not content.cells:
        return {"name": paper_name(name), "rows": [], "note": ""}
    grid, rows = fine_tuning_grid(run), []
    settings = ["capability", "learning_rate", "c_tr"]
    for capability, rate, c_tr in grid.select(settings).unique(maintain_order=True).iter_rows():
        own = grid.filter(
            (pl.col("capability") == capability)
            & (pl.col("learning_rate") == rate)
            & (pl.col("c_tr") == c_tr)
        )
        cells = {(cell["c_te"], cell["operand"]): cell for cell in own.iter_rows(named=True)}
        order = [(c_te, operand) for c_te in (1, 0) for operand in ("pt", "ft")]
        compared = [_compared(cells[key]) for key in order]
        rows.append({"capability": capability, "rate": rate, "c_tr": c_tr, "cells": compared})
        rows[-1]["counterpart"] = any(cell["paper"] is not None for cell in compared)
    met = [cell["paper"] for row in rows if row["counterpart"] for cell in row["cells"]]
    return {
        "name": paper_name(name),
        "rows": rows,
        "dashes": None in met,
        "note": _coincidence(grid, theirs),
        "shorter": paper_size(content.experiment),
    }


def _coincidence(grid: pl.DataFrame, theirs: pl.DataFrame) -> str:
    """How far the settings are the paper's own."""
    matched = grid["paper"].is_not_null().sum()
    note = f"{matched} of {len(grid)} numbers have a counterpart."
    for column, what in (("capability", "Models"), ("learning_rate", "Rates"), ("c_tr", "C_Tr")):
        ours, paper = (set(table[column].unique()) for table in (grid, theirs))
        if ours - paper:
            note += f" {what} here: {_values(ours)}; in the paper: {_values(paper)}."
    return f"{note}{_rates_held(grid)}"


def _rates_held(grid: pl.DataFrame) -> str:
    """Which rates of the paper's ours are held against, where they differ."""
    pairs = sorted(grid.select("learning_rate", "paper_rate").drop_nulls().unique().iter_rows(), reverse=True)
    if all(abs(ours / theirs - 1) < SAME for ours, theirs in pairs):
        return ""
    told = ", ".join(f"{ours:g} against {theirs:g}" for ours, theirs in pairs)
    return f" Held against each other by rate times updates, as far as AdamW can move a weight: {told}."


def _values(values: set[Any]) -> str:
    return ", ".join(v if isinstance(v, str) else f"{v:g}" for v in sorted(values))


def _compared(cell: dict[str, Any]) -> dict[str, Any]:
    ours, paper = cell["value"], cell["paper"]
    mark = ""
    if ours is not None and paper is not None and abs(ours - paper) > NOTABLE:
        mark = f"{100 * abs(ours - paper):.0f} {'higher' if ours > paper else 'lower'}"
    status = "" if cell["status"] == "done" else cell["status"]
    higher = mark.endswith("higher")
    return {"ours": ours, "paper": paper, "mark": mark, "higher": higher, "status": status}
