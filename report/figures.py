"""Figures of a run: functions from tables to plotly figures as plain data, for the report and notebooks
(``plotly.graph_objects.Figure(figure)`` shows one; checking thousands of traces would take a minute).

Curves follow the figures of Jain et al. 2024 (accuracy against updates, Fig. 5, 9, 43). A trace's
``meta`` says which capability, C_Tr, reFT rate and seeds it belongs to, so that the report can show
some of a figure's traces without drawing it again.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import polars as pl

from veneer.report.colours import ROLES, share_colour

Figure = dict[str, Any]  # plotly's "data" and "layout"

OPERAND_COLOURS = {"pt": ROLES["old"], "ft": ROLES["new"]}
NAMES = {"pt": "old task", "ft": "new task"}
TEXTS = {
    "correlated": "texts on which the shortcut works (C_Te = 1)",
    "uncorrelated": "texts on which the shortcut fails (C_Te = 0)",
    "natural": "texts as drawn (natural)",
}
CONTROL_STYLES = {  # models trained from scratch: grey, told apart by shade and symbol
    "Scr. + FT": {"color": ROLES["scratch-new"], "symbol": "triangle-up"},
    "Scr.": {"color": ROLES["scratch"], "symbol": "triangle-down"},
}
DASHES = ("solid", "dash", "dashdot", "longdash")
BOLD, THIN = 3.5, 1.5
BEST = "best"
"""Stands in a trace's ``meta`` for the rate of retraining that says most of its model."""


def rate_name(rate: float) -> str:
    """A learning rate as the report writes it."""
    return f"{rate:g}"


def diverged_at(status: str) -> int | None:
    """The update in a cell's status "diverged at step N", None for a cell that did not diverge."""
    found = re.fullmatch(r"diverged at step (\d+)", status)
    return int(found[1]) if found else None


def behaviour(
    curves: pl.DataFrame,
    rate: float,
    texts: str,
    majority: Mapping[str, Mapping[str, float]],
    operand_names: dict[str, str],
) -> Figure:
    """Accuracy on O_PT and O_FT during fine-tuning at one rate, tested on one kind of text.

    Args:
        curves: ``Run.metrics`` of fine-tuning cells, all capabilities, C_Tr and seeds to be drawn.
        rate: the learning rate to draw.
        texts: the kind of text to draw.
        majority: by capability, accuracy of always giving the commonest answer, for "pt" and "ft".
        operand_names: what O_PT and O_FT are, for the hover text.
    """
    own = curves.filter(
        (pl.col("learning_rate") == rate) & (pl.col("texts") == texts) & (pl.col("measure") == "accuracy")
    )
    axis, traces = UpdatesAxis(own["step"].unique().to_list()), []
    for capability in own["capability"].unique().sort().to_list():
        for operand, level in majority[capability].items():
            name = f"majority class, {NAMES[operand]}"
            colour = OPERAND_COLOURS[operand]
            traces.append(_level(axis, level, colour, name, {"capability": [capability]}))
    for (capability, c_tr, operand), table in own.group_by(
        "capability", "c_tr", "operand", maintain_order=True
    ):
        colour, symbol = OPERAND_COLOURS[str(operand)], "circle" if operand == "pt" else "square"
        meta = {"capability": [str(capability)], "c_tr": [rate_name(float(str(c_tr)))]}
        name = f"{NAMES[str(operand)]} {operand_names[str(operand)]}"
        traces += _curves(table, axis, name, meta=meta, color=colour, symbol=symbol)
    return _panel(f"fine-tuned at {rate_name(rate)}", axis, traces)


def revival(
    curves: pl.DataFrame,
    fine_tuning_rate: float,
    majority: Mapping[str, float],
    best: Mapping[tuple[str, float, float], float],
) -> Figure:
    """O_PT accuracy on natural text during the reFTs of what was fine-tuned at one rate.

    Args:
        curves: what ``summary.revival_curves`` returns.
        fine_tuning_rate: the rate to draw.
        majority: by capability, accuracy of always giving the commonest O_PT answer.
        best: by capability, fine-tuning rate and C_Tr, the reFT rate that is drawn bold.
    """
    own = curves.filter(pl.col("fine_tuning_rate") == fine_tuning_rate)
    axis, traces = UpdatesAxis(curves["step"].unique().to_list()), []
    for capability in own["capability"].unique().sort().to_list():
        meta = {"capability": [capability]}
        traces.append(_level(axis, majority[capability], ROLES["guess"], "majority class", meta))
    shares = sorted(curves["c_tr"].unique().to_list())
    rates = sorted(curves["learning_rate"].unique().to_list(), reverse=True)
    keys = ["capability", "c_tr", "learning_rate"]
    for (capability, c_tr, rate), table in own.group_by(keys, maintain_order=True):
        style = {"color": share_colour(shares, float(str(c_tr))), **_rate_style(rates, float(str(rate)))}
        leads = best.get((str(capability), fine_tuning_rate, float(str(c_tr)))) == rate
        meta = {"capability": [str(capability)], "c_tr": [f"{c_tr:g}"], "reft": [f"{rate:g}"]}
        meta["reft"] += [BEST] if leads else []
        name = f"shortcut share {c_tr:g}, retrained at {rate:g}"
        traces += _curves(table, axis, name, meta=meta, width=BOLD if leads else THIN, **style)
    return _panel(f"after fine-tuning at {rate_name(fine_tuning_rate)}", axis, traces)


def controls(curves: pl.DataFrame) -> Figure:
    """O_PT accuracy of models trained from scratch, to be drawn beside reFT (Fig. 9 of the paper).

    Args:
        curves: rows of ``Run.metrics`` with ``start`` "scratch" and stage "reft" (O_PT, natural text);
            those with a fine_tuning_rate learned O_FT first (Scr. + FT).
    """
    axis, traces = UpdatesAxis(curves["step"].unique().to_list()), []
    rates = sorted(curves["learning_rate"].unique().to_list(), reverse=True)
    tuned = pl.col("fine_tuning_rate").is_not_null()
    marked = curves.with_columns(arm=pl.when(tuned).then(pl.lit("Scr. + FT")).otherwise(pl.lit("Scr.")))
    for (capability, arm, rate), table in marked.group_by(
        "capability", "arm", "learning_rate", maintain_order=True
    ):
        meta = {"capability": [str(capability)], "reft": [f"{rate:g}"], "arm": [str(arm)]}
        style = _rate_style(rates, float(str(rate))) | CONTROL_STYLES[str(arm)]
        traces += _curves(table, axis, f"{arm} at {rate:g}", meta=meta, width=THIN, **style)
    return _panel("from scratch", axis, traces)


def _rate_style(rates: Sequence[float], rate: float) -> dict[str, str]:
    place = list(rates).index(rate)
    symbol = ("circle", "square", "diamond", "cross")[place % 4]
    return {"dash": DASHES[place % len(DASHES)], "symbol": symbol}


class UpdatesAxis:
    """A logarithmic axis with a place for update 0, left of the first update evaluated."""

    def __init__(self, steps: Iterable[int]) -> None:
        above = [step for step in steps if step > 0]
        self.first, self.last = (min(above), max(above)) if above else (10, 100)
        self.zero = self.first / 2.5

    def place(self, step: int) -> float:
        return step if step > 0 else self.zero

    def layout(self) -> dict[str, object]:
        decades = [10**power for power in range(8) if self.first <= 10**power <= self.last]
        ticks = decades if len(decades) > 1 else [self.first, self.last]
        edges = [np.log10(self.zero * 0.8), np.log10(self.last * 1.2)]
        return {
            "type": "log",
            "range": [float(edge) for edge in edges],
            "tickvals": [self.zero, *ticks],
            "ticktext": [
                "0",
                *(f"{tick // 1000}k" if tick >= 1000 and tick % 1000 == 0 else f"{tick}" for tick in ticks),
            ],
            "title": {"text": "updates", "standoff": 4},
            "ticklabeloverflow": "allow",
            "gridcolor": ROLES["grid"],
            "zeroline": False,
            "fixedrange": True,
        }


def _panel(title: str, axis: "UpdatesAxis", traces: list[dict[str, Any]]) -> Figure:
    layout = {
        "title": {"text": title, "x": 0, "xanchor": "left", "font": {"size": 13}},
        "height": 230,
        "margin": {"l": 42, "r": 10, "t": 32, "b": 42},
        "dragmode": False,
        "showlegend": False,
        "hovermode": "closest",
        "xaxis": axis.layout(),
        "yaxis": {
            "range": [-0.04, 1.04],
            "tickvals": [0, 0.25, 0.5, 0.75, 1],
            "tickformat": ".0%",
            "gridcolor": ROLES["grid"],
            "zeroline": False,
            "fixedrange": True,
        },
    }
    return {"data": traces, "layout": layout}


def literal(name: str) -> str:
    """A name in a template of plotly's, which would read tags and ``%{places}`` in it."""
    return escape(name).replace("{", "&#123;")


def _level(
    axis: "UpdatesAxis", level: float, colour: str, name: str, meta: dict[str, list[str]]
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": [axis.zero, axis.last],
        "y": [level, level],
        "mode": "lines",
        "line": {"color": colour, "width": 1, "dash": "dot"},
        "name": name,
        "meta": {**meta, "level": ["yes"]},
        "hovertemplate": f"{literal(name)}: %{{y:.1%}}<extra></extra>",
    }


def _curves(
    table: pl.DataFrame,
    axis: "UpdatesAxis",
    name: str,
    *,
    meta: dict[str, list[str]],
    color: str,
    symbol: str,
    dash: str = "solid",
    width: float = 2,
) -> list[dict[str, Any]]:
    """One line per seed, and with several seeds the mean of those that did not diverge, in a band from the
    least to the greatest.
    """
    seeds = sorted(table["seed"].unique().to_list())
    line = {"color": color, "width": width, "dash": dash}

    def drawn(part: pl.DataFrame, label: str, shown: list[str]) -> dict[str, Any]:
        steps = part["step"].to_list()
        return {
            "type": "scatter",
            "x": [axis.place(step) for step in steps],
            "y": part["value"].to_list(),
            "customdata": steps,
            "mode": "lines+markers",
            "line": line,
            "marker": {"symbol": symbol, "size": 5, "color": color},
            "name": label,
            "meta": {**meta, "seed": shown},
            "hovertemplate": f"{literal(label)}<br>update %{{customdata}}: %{{y:.1%}}<extra></extra>",
        }

    traces = []
    done = table.filter(pl.col("status") == "done")
    if len(seeds) > 1 and not done.is_empty():
        summed = (
            done.group_by("step")
            .agg(value=pl.col("value").mean(), least=pl.col("value").min(), greatest=pl.col("value").max())
            .sort("step")
        )
        traces += [_band(summed, axis, color, {**meta, "seed": ["all"]})]
        left = done["seed"].n_unique()
        of = f"{left} seeds" if left == len(seeds) else f"{left} of {len(seeds)} seeds (the others diverged)"
        traces += [drawn(summed, f"{name}, mean of {of}", ["all"])]
    for seed in seeds:
        part = table.filter(pl.col("seed") == seed).sort("step")
        shown = ["all", f"{seed}"] if len(seeds) == 1 else [f"{seed}"]
        traces.append(drawn(part, f"{name}, seed {seed}", shown))
        if (step := diverged_at(part["status"][0])) is not None:
            traces.append(
                _cross(part, axis, step, f"{name}, seed {seed}", {**meta, "seed": ["all", f"{seed}"]})
            )
    return traces


def _band(
    summed: pl.DataFrame, axis: "UpdatesAxis", colour: str, meta: dict[str, list[str]]
) -> dict[str, Any]:
    places = [axis.place(step) for step in summed["step"].to_list()]
    return {
        "type": "scatter",
        "x": places + places[::-1],
        "y": summed["greatest"].to_list() + summed["least"].to_list()[::-1],
        "fill": "toself",
        "fillcolor": colour,
        "opacity": 0.25,
        "line": {"width": 0},
        "mode": "lines",
        "hoverinfo": "skip",
        "meta": meta,
    }


def _cross(
    part: pl.DataFrame, axis: "UpdatesAxis", step: int, name: str, meta: dict[str, list[str]]
) -> dict[str, Any]:
    """A cross where a cell diverged; its weights stayed as they were from there on."""
    before = part.filter(pl.col("step") <= step)
    return {
        "type": "scatter",
        "x": [axis.place(step)],
        "y": [before["value"][-1]],
        "mode": "markers+text",
        "text": ["diverged"],
        "textposition": "top center",
        "marker": {"symbol": "x", "size": 10, "color": ROLES["diverged"]},
        "meta": meta,
        "hovertemplate": f"{literal(name)}<br>diverged at step {step}<extra></extra>",
    }
