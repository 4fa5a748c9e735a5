"""Figures of a run: functions from tables to plotly figures, for the report and for notebooks.

Curves follow the figures of Jain et al. 2024 (accuracy against updates, Fig. 5, 9, 43; attention
maps, Fig. 10, 48). A trace's ``meta`` says which C_Tr, reFT rate and seeds it belongs to, so that
the report can show some of a figure's traces without drawing it again.
"""

import re
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go
import polars as pl

# Okabe & Ito's palette, which people with colour vision deficiencies can tell apart.
OPERAND_COLOURS = {"pt": "#0072B2", "ft": "#D55E00"}
STAGE_COLOURS = ("#999999", "#E69F00", "#009E73")  # before, after fine-tuning, after reFT
LIGHT, DARK = "#F2EFFA", "#3F007D"  # ends of the attention scale
C_TR_SCALE = ("#E69F00", "#D55E00", "#CC79A7", "#8C6BB1", "#56B4E9", "#0072B2", "#009E73")
NAMES = {"pt": "O_PT", "ft": "O_FT"}
TEXTS = {
    "correlated": "correlated texts (C_Te = 1)",
    "uncorrelated": "uncorrelated texts (C_Te = 0)",
    "natural": "natural texts",
}
DASHES = ("solid", "dash", "dashdot", "longdash")


def rate_name(rate: float) -> str:
    """A learning rate as the report writes it."""
    return f"{rate:g}"


def diverged_at(status: str) -> int | None:
    """The update in a cell's status "diverged at step N", None for a cell that did not diverge."""
    found = re.fullmatch(r"diverged at step (\d+)", status)
    return int(found[1]) if found else None


def behaviour(
    curves: pl.DataFrame, rate: float, texts: str, majority: dict[str, float], operand_names: dict[str, str]
) -> go.Figure:
    """Accuracy on O_PT and O_FT during fine-tuning at one rate, tested on one kind of text.

    Args:
        curves: ``Run.metrics`` of fine-tuning cells, all C_Tr and seeds that are to be drawn.
        rate: the learning rate to draw.
        texts: the kind of text to draw.
        majority: accuracy of always giving the commonest answer, for "pt" and "ft".
        operand_names: what O_PT and O_FT are, for the hover text.
    """
    own = curves.filter(
        (pl.col("learning_rate") == rate) & (pl.col("texts") == texts) & (pl.col("measure") == "accuracy")
    )
    figure, axis = _panel(f"fine-tuned at {rate_name(rate)}", own)
    for operand, level in majority.items():
        if not own.is_empty():
            figure.add_trace(
                _level(axis, level, OPERAND_COLOURS[operand], f"majority class, {NAMES[operand]}")
            )
    for (c_tr, operand), table in own.group_by("c_tr", "operand", maintain_order=True):
        style = {"color": OPERAND_COLOURS[str(operand)], "symbol": "circle" if operand == "pt" else "square"}
        name = f"{NAMES[str(operand)]} {operand_names[str(operand)]}"
        for trace in _curves(table, axis, name, meta={"c_tr": [rate_name(float(str(c_tr)))]}, **style):
            figure.add_trace(trace)
    return figure


def revival(curves: pl.DataFrame, fine_tuning_rate: float, majority: float) -> go.Figure:
    """O_PT accuracy on natural text during the reFTs of what was fine-tuned at one rate.

    Args:
        curves: what ``summary.revival_curves`` returns.
        fine_tuning_rate: the rate to draw.
        majority: accuracy of always giving the commonest O_PT answer.
    """
    own = curves.filter(pl.col("fine_tuning_rate") == fine_tuning_rate)
    figure, axis = _panel(f"after fine-tuning at {rate_name(fine_tuning_rate)}", own)
    if not own.is_empty():
        figure.add_trace(_level(axis, majority, "#888888", "majority class"))
    shares = sorted(curves["c_tr"].unique().to_list())
    rates = sorted(curves["learning_rate"].unique().to_list(), reverse=True)
    for (c_tr, rate), table in own.group_by("c_tr", "learning_rate", maintain_order=True):
        style = {
            "color": c_tr_colour(shares, float(str(c_tr))),
            "dash": DASHES[rates.index(rate) % len(DASHES)],
            "symbol": ("circle", "square", "diamond", "cross")[rates.index(rate) % 4],
        }
        meta = {"c_tr": [f"{c_tr:g}"], "reft": [f"{rate:g}"]}
        name = f"C_Tr = {c_tr:g}, reFT {rate:g}"
        for trace in _curves(table, axis, name, meta=meta, **style):
            figure.add_trace(trace)
    return figure


def c_tr_colour(shares: Sequence[float], c_tr: float) -> str:
    """The colour of a C_Tr among those of a run: orange for the least, green for the greatest."""
    place = list(shares).index(c_tr) / max(1, len(shares) - 1)
    return C_TR_SCALE[round(place * (len(C_TR_SCALE) - 1))]


def attention_map(
    share: np.ndarray, tokens: Sequence[str], answer: int, roles: Sequence[str], title: str = ""
) -> go.Figure:
    """Where each position of one text looks, for one head.

    Args:
        share: [query, key], the share of the query's attention that falls on the key.
        tokens: the text's tokens.
        answer: position at which the answer is read; its row is framed.
        roles: "pt", "ft" or "" of each token; the first two are coloured on the axes.
        title: written above.
    """
    places = list(range(len(tokens)))
    labels = token_labels(tokens, roles)
    rows = [f"▸ {label}" if place == answer else label for place, label in enumerate(labels)]
    heat = go.Heatmap(
        z=share,
        x=places,
        y=places,
        customdata=[[[escape(tokens[q]), escape(tokens[k])] for k in places] for q in places],
        colorscale=[[0, LIGHT], [1, DARK]],
        zmin=0,
        zmax=1,
        xgap=1,
        ygap=1,
        showscale=False,
        hovertemplate=("%{customdata[0]} at %{y} looks at %{customdata[1]} at %{x}: %{z:.1%}<extra></extra>"),
    )
    figure = go.Figure(heat)
    figure.update_layout(
        title={"text": title, "x": 0, "xanchor": "left", "font": {"size": 13}},
        height=max(380, 70 + 11 * len(tokens)),
        margin={"l": 46, "r": 6, "t": 34, "b": 44},
        template="none",
        dragmode=False,
        xaxis={**_token_axis(places, labels), "title": {"text": "looked at", "standoff": 4}},
        yaxis={**_token_axis(places, rows), "autorange": "reversed"},
        shapes=[
            {
                "type": "rect",
                "x0": -0.5,
                "x1": len(tokens) - 0.5,
                "y0": answer - 0.5,
                "y1": answer + 0.5,
                "line": {"color": "#E69F00", "width": 2},
            }
        ],
    )
    return figure


def attention_by_token(
    shares: dict[str, np.ndarray | list[float]], tokens: Sequence[str], roles: Sequence[str]
) -> go.Figure:
    """Share of the answer position's attention on each token, as bars, one series per moment.

    Args:
        shares: by moment ("before", "after fine-tuning", ...) one share per token of the vocabulary.
        tokens: the vocabulary.
        roles: "pt", "ft" or "" of each token.
    """
    figure = go.Figure()
    places = list(range(len(tokens)))
    for (moment, share), colour in zip(shares.items(), STAGE_COLOURS, strict=False):
        figure.add_trace(
            go.Bar(
                x=places,
                y=share,
                name=moment,
                marker={"color": colour},
                customdata=[escape(token) for token in tokens],
                hovertemplate="%{customdata}: %{y:.1%}",
            )
        )
    figure.update_layout(
        barmode="group",
        height=260,
        margin={"l": 46, "r": 6, "t": 30, "b": 40},
        template="none",
        dragmode=False,
        xaxis=_token_axis(places, token_labels(tokens, roles)),
        yaxis={"range": [0, 1.02], "tickformat": ".0%", "fixedrange": True, "gridcolor": "#DDDDDD"},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        shapes=[_column(place, OPERAND_COLOURS[role]) for place, role in enumerate(roles) if role],
    )
    return figure


def token_labels(tokens: Sequence[str], roles: Sequence[str]) -> list[str]:
    """Tick labels: the operands' tokens bold and in their colours."""
    return [
        f'<b><span style="color:{OPERAND_COLOURS[role]}">{escape(token)}</span></b>'
        if role
        else escape(token)
        for token, role in zip(tokens, roles, strict=True)
    ]


def _column(place: int, colour: str) -> dict[str, object]:
    span = {"x0": place - 0.5, "x1": place + 0.5, "yref": "paper", "y0": 0, "y1": 1}
    return {
        "type": "rect",
        **span,
        "fillcolor": colour,
        "opacity": 0.13,
        "line": {"width": 0},
        "layer": "below",
    }


def _token_axis(places: list[int], labels: list[str]) -> dict[str, object]:
    ticks = {"tickvals": places, "ticktext": labels, "tickangle": 0, "ticks": ""}
    size = 11 if len(labels) < 30 else 8
    return {**ticks, "tickfont": {"size": size}, "showgrid": False, "zeroline": False, "fixedrange": True}


class _UpdatesAxis:
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
            "gridcolor": "#DDDDDD",
            "zeroline": False,
            "fixedrange": True,
        }


def _panel(title: str, table: pl.DataFrame) -> tuple[go.Figure, _UpdatesAxis]:
    axis = _UpdatesAxis(table["step"].unique().to_list())
    figure = go.Figure()
    figure.update_layout(
        title={"text": title, "x": 0, "xanchor": "left", "font": {"size": 13}},
        height=230,
        margin={"l": 42, "r": 10, "t": 32, "b": 42},
        template="none",
        dragmode=False,
        showlegend=False,
        hovermode="closest",
        xaxis=axis.layout(),
        yaxis={
            "range": [-0.04, 1.04],
            "tickvals": [0, 0.25, 0.5, 0.75, 1],
            "tickformat": ".0%",
            "gridcolor": "#DDDDDD",
            "zeroline": False,
            "fixedrange": True,
        },
    )
    return figure, axis


def _level(axis: _UpdatesAxis, level: float, colour: str, name: str) -> go.Scatter:
    return go.Scatter(
        x=[axis.zero, axis.last],
        y=[level, level],
        mode="lines",
        line={"color": colour, "width": 1, "dash": "dot"},
        name=name,
        hovertemplate=f"{name}: %{{y:.1%}}<extra></extra>",
    )


def _curves(
    table: pl.DataFrame,
    axis: _UpdatesAxis,
    name: str,
    *,
    meta: dict[str, list[str]],
    color: str,
    symbol: str,
    dash: str = "solid",
) -> list[go.Scatter]:
    """One line per seed, and with several seeds their mean in a band from the least to the greatest."""
    seeds = sorted(table["seed"].unique().to_list())
    line = {"color": color, "width": 2, "dash": dash}

    def drawn(part: pl.DataFrame, label: str, shown: list[str]) -> go.Scatter:
        steps = part["step"].to_list()
        return go.Scatter(
            x=[axis.place(step) for step in steps],
            y=part["value"].to_list(),
            customdata=steps,
            mode="lines+markers",
            line=line,
            marker={"symbol": symbol, "size": 5, "color": color},
            name=label,
            meta={**meta, "seed": shown},
            hovertemplate=f"{label}<br>update %{{customdata}}: %{{y:.1%}}<extra></extra>",
        )

    traces = []
    if len(seeds) > 1:
        summed = (
            table.group_by("step")
            .agg(value=pl.col("value").mean(), least=pl.col("value").min(), greatest=pl.col("value").max())
            .sort("step")
        )
        traces += [_band(summed, axis, color, {**meta, "seed": ["all"]})]
        traces += [drawn(summed, f"{name}, mean of {len(seeds)} seeds", ["all"])]
    for seed in seeds:
        part = table.filter(pl.col("seed") == seed).sort("step")
        shown = ["all", f"{seed}"] if len(seeds) == 1 else [f"{seed}"]
        traces.append(drawn(part, f"{name}, seed {seed}", shown))
        if (step := diverged_at(part["status"][0])) is not None:
            traces.append(
                _cross(part, axis, step, f"{name}, seed {seed}", {**meta, "seed": ["all", f"{seed}"]})
            )
    return traces


def _band(summed: pl.DataFrame, axis: _UpdatesAxis, colour: str, meta: dict[str, list[str]]) -> go.Scatter:
    places = [axis.place(step) for step in summed["step"].to_list()]
    return go.Scatter(
        x=places + places[::-1],
        y=summed["greatest"].to_list() + summed["least"].to_list()[::-1],
        fill="toself",
        fillcolor=colour,
        opacity=0.25,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        meta=meta,
    )


def _cross(
    part: pl.DataFrame, axis: _UpdatesAxis, step: int, name: str, meta: dict[str, list[str]]
) -> go.Scatter:
    """A cross where a cell diverged; its weights stayed as they were from there on."""
    before = part.filter(pl.col("step") <= step)
    return go.Scatter(
        x=[axis.place(step)],
        y=[before["value"][-1]],
        mode="markers+text",
        text=["diverged"],
        textposition="top center",
        marker={"symbol": "x", "size": 10, "color": "#CC79A7"},
        meta=meta,
        hovertemplate=f"{name}<br>diverged at step {step}<extra></extra>",
    )
