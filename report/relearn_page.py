"""The page of a relearning evaluation: the outcome, curves on T, V and retain, attacks, what went in.

One file that loads nothing and needs no script: its curves are drawn as SVG.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from veneer.analysis.revival import estimate
from veneer.experiments.relearn.evidence import Arm, Measured, Recipe
from veneer.experiments.relearn.judge import Outcome, told_first
from veneer.experiments.relearn.result import ARMS, NAMES, rows
from veneer.experiments.relearn.store import RelearningRun
from veneer.report.colours import ATTACKS
from veneer.report.line_chart import PERCENT, Band, Line, chart
from veneer.report.plain_page import rendered, write_page

PARTS = {"taught": "T, taught", "held": "V, held out", "retain": "retain set"}


def write_relearning_page(run: RelearningRun, outcome: Outcome) -> Path:
    """Write ``report.html`` into the evaluation's folder, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    return write_page(run.path, render(run, outcome))


def render(run: RelearningRun, outcome: Outcome) -> str:
    """The page as text."""
    measured = Measured(run)
    known = measured.as_it_is("before") is not None and measured.as_it_is("after") is not None
    recipe = told_first(measured) if known else None
    charts = [(name, _chart(measured, part, recipe)) for part, name in PARTS.items()] if known else []
    inputs = run.inputs()
    values: dict[str, Any] = dict(
        outcome=outcome,
        settings=asdict(run.settings),
        rows=rows(run),
        charts=[(name, Markup(chart)) for name, chart in charts if chart],
        legend=_legend(measured, recipe) if known else [],
        hashes=[(own, file, sha) for own, files in inputs["models"].items() for file, sha in files.items()],
        data=list(inputs["data"].items()),
        environment=inputs["environment"],
        unfinished=len(run.pending()) if known else 0,
        trials=len(run.settings.trials()),
    )
    return rendered("relearn.html.jinja", values)


def _legend(measured: Measured, recipe: Recipe | None) -> list[tuple[str, str]]:
    """Colour and name of every arm that is finished."""
    found = []
    for (subject, lesson), colour in zip(ARMS, ATTACKS, strict=True):
        arm = measured.arm(subject, lesson, recipe=recipe)
        if arm is not None:
            who = "known wrapper" if subject == "wrapper" else subject
            found.append((colour, f"{who}: {NAMES[subject, lesson]}, {arm.recipe.name}"))
    return found


def _chart(measured: Measured, part: str, recipe: Recipe | None) -> str:
    """Skill over updates on one set of questions, every finished arm; empty if nothing is measured."""
    lines, bands = [], []
    for (subject, lesson), colour in zip(ARMS, ATTACKS, strict=True):
        arm = measured.arm(subject, lesson, part, recipe)
        if arm is None or arm.curves.is_empty():
            continue
        for _, own in arm.curves.group_by("seed", maintain_order=True):
            lines.append(Line(own.sort("step").select("step", "value").rows(), colour, 1, 0.35))
        average = arm.curves.group_by("step").agg(pl.col("value").mean()).sort("step").rows()
        lines.append(Line(average, colour))
        bands.append(Band(_intervals(arm), colour))
    return chart(lines, PERCENT, f"Skill over updates: {PARTS[part]}", bands)


def _intervals(arm: Arm) -> list[tuple[float, float, float]]:
    """At each measurement the interval over seeds; none where there is one seed."""
    found = []
    for (step,), own in arm.curves.group_by("step", maintain_order=True):
        mean = estimate(own["value"].to_list())
        if mean.low is not None and mean.high is not None:
            found.append((float(step), mean.low, mean.high))  # pyright: ignore[reportArgumentType]
    return sorted(found)
