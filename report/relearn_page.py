"""The page of a relearning evaluation: the outcome, curves on T, V and retain, attacks, what went in.

One file that loads nothing and needs no script: its curves are drawn as SVG.
"""

from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from math import log1p
from pathlib import Path

import polars as pl
from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup

from veneer.experiments.relearn.evidence import Measured
from veneer.experiments.relearn.judge import Outcome
from veneer.experiments.relearn.result import ARMS, NAMES, rows
from veneer.experiments.relearn.store import RelearningRun
from veneer.models.files import write_text
from veneer.report.colours import ATTACKS, style_sheet
from veneer.tasks.errors import InputError

WEB = Path(__file__).parent / "web"
PARTS = {"taught": "T, taught", "held": "V, held out", "retain": "retain set"}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 260, 44, 12, 12, 36


def write_relearning_page(run: RelearningRun, outcome: Outcome) -> Path:
    """Write ``report.html`` into the evaluation's folder, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    path = run.path / "report.html"
    try:
        write_text(path, render(run, outcome))
    except OSError as error:
        raise InputError("out", str(path), "a file that can be written", str(error)) from error
    return path


def render(run: RelearningRun, outcome: Outcome) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(WEB), autoescape=select_autoescape(default=True), trim_blocks=True
    )
    measured = Measured(run)
    known = measured.as_it_is("before") is not None and measured.as_it_is("after") is not None
    charts = [(name, _chart(measured, part)) for part, name in PARTS.items()] if known else []
    inputs = run.inputs()
    return environment.get_template("relearn.html.jinja").render(
        outcome=outcome,
        settings=asdict(run.settings),
        rows=rows(run),
        charts=[(name, Markup(chart)) for name, chart in charts if chart],
        legend=_legend(measured) if known else [],
        hashes=[(own, file, sha) for own, files in inputs["models"].items() for file, sha in files.items()],
        data=list(inputs["data"].items()),
        environment=inputs["environment"],
        unfinished=len(run.pending()) if known else 0,
        trials=len(run.settings.trials()),
        style=Markup(f"{(WEB / 'page.css').read_text(encoding='utf-8')}\n{style_sheet()}"),
    )


def _legend(measured: Measured) -> list[tuple[str, str]]:
    """Colour and name of every arm that is finished."""
    found = []
    for (subject, lesson), colour in zip(ARMS, ATTACKS, strict=True):
        arm = measured.arm(subject, lesson)
        if arm is not None:
            who = "known wrapper" if subject == "wrapper" else subject
            found.append((colour, f"{who}: {NAMES[subject, lesson]}, {arm.recipe.name}"))
    return found


def _chart(measured: Measured, part: str) -> str:
    """Skill over updates on one set of questions, every finished arm; empty if nothing is measured."""
    lines = []
    for (subject, lesson), colour in zip(ARMS, ATTACKS, strict=True):
        arm = measured.arm(subject, lesson, part)
        if arm is not None and not arm.curves.is_empty():
            lines.append((colour, arm.curves))
    if not lines:
        return ""
    last = max(int(curves["step"].max()) for _, curves in lines)  # pyright: ignore[reportArgumentType]
    drawn = [_axes(last)]
    for colour, curves in lines:
        for _, own in curves.group_by("seed", maintain_order=True):
            points = own.sort("step").select("step", "value").rows()
            drawn.append(_line(points, last, colour, 1, 0.35))
        average = curves.group_by("step").agg(pl.col("value").mean()).sort("step").rows()
        drawn.append(_line(average, last, colour, 2.5, 1))
    label = escape(f"Skill over updates: {PARTS[part]}")
    inside = "".join(drawn)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}" class="curve">{inside}</svg>'


def _place(step: float, value: float, last: int) -> tuple[float, float]:
    """Where a point is drawn: updates on a logarithmic axis, skill from -0.1 to 1.1."""
    x = LEFT + (WIDTH - LEFT - RIGHT) * log1p(step) / log1p(last)
    share = (min(1.1, max(-0.1, value)) + 0.1) / 1.2
    return x, TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _line(points: Sequence[tuple[float, ...]], last: int, colour: str, width: float, opacity: float) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in (_place(step, value, last) for step, value in points))
    return (
        f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="{width}" '
        f'opacity="{opacity}"/>'
    )


def _axes(last: int) -> str:
    drawn = []
    for value in (0.0, 0.5, 1.0):
        _, y = _place(0, value, last)
        dash = ' stroke-dasharray="4 4"' if value == 0.5 else ""
        drawn.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
            f'opacity=".3"{dash}/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * value:.0f}</text>'
        )
    ticks = [0, 1, *(2**i for i in range(1, 20) if 2**i < last * 0.8), last]
    for step in dict.fromkeys(ticks):
        x, _ = _place(step, 0, last)
        drawn.append(f'<text x="{x:.1f}" y="{HEIGHT - 18}" text-anchor="middle">{step}</text>')
    drawn.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 2}" text-anchor="middle">updates</text>')
    return "".join(drawn)
