"""Maps of one model's inside: where each position of a text looks, and which units answer where.

They follow Jain et al. 2024 (attention maps, Fig. 10, 48; activations, Fig. 59 ff.), as plotly figures.
"""

from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go

from veneer.report.colours import ROLES
from veneer.report.figures import OPERAND_COLOURS

STAGE_COLOURS = (ROLES["before"], ROLES["after"], ROLES["revived"])
CROWDED = 30  # tokens from which those of several letters stand on end
STRIP_HEIGHT, STRIP_FRAME = 24, 90  # pixels of one head's strip, and around all of them
LIGHT, DARK = ROLES["least"], ROLES["most"]  # ends of the scale


def attention_map(
    share: np.ndarray,
    tokens: Sequence[str],
    answer: int,
    roles: Sequence[str],
    title: str = "",
    queries: Sequence[int] | None = None,
) -> go.Figure:
    """Where each position of one text looks, for one head; of one row alone, ``attention_strips``.

    Args:
        share: [query, key], the share of the query's attention that falls on the key.
        tokens: the text's tokens.
        answer: position at which the answer is read; its row is framed.
        roles: "pt", "ft" or "" of each token; the first two are coloured on the axes.
        title: written above.
        queries: positions of the rows; None means all.
    """
    places = list(range(len(tokens)))
    queries = places if queries is None else list(queries)
    if len(queries) == 1:
        return attention_strips(share, tokens, roles, title)
    labels = token_labels(tokens, roles)
    numbered = [f"<sub>{place}</sub> {label}" for place, label in enumerate(labels)]
    rows = [f"▸ {numbered[place]}" if place == answer else numbered[place] for place in queries]
    under = [f"{label}<br><sub>{place}</sub>" for place, label in enumerate(labels)]
    below, upright = (under, []) if len(tokens) < CROWDED else _laid_out(tokens, labels)
    standoff = 14 if upright else 4
    heat = go.Heatmap(
        z=share,
        x=places,
        y=list(range(len(queries))),
        customdata=[[[escape(tokens[q]), escape(tokens[k])] for k in places] for q in queries],
        colorscale=[[0, LIGHT], [1, DARK]],
        zmin=0,
        zmax=1,
        xgap=1,
        ygap=1,
        showscale=False,
        hovertemplate="position %{y} (%{customdata[0]}) looks at %{x} (%{customdata[1]}): %{z:.1%}"
        "<extra></extra>",
    )
    figure = go.Figure(heat)
    figure.update_layout(
        title={"text": title, "x": 0, "xanchor": "left", "font": {"size": 13}},
        height=max(380, 70 + 11 * len(queries)),
        margin={"l": 60, "r": 6, "t": 34, "b": 56},
        template="none",
        dragmode=False,
        xaxis={**_token_axis(places, below), "title": {"text": "position looked at", "standoff": standoff}},
        yaxis={
            "title": {"text": "position that looks", "standoff": 4},
            **_token_axis(list(range(len(queries))), rows),
            "autorange": "reversed",
        },
        shapes=[_frame(queries.index(answer), len(tokens))] if answer in queries else [],
        annotations=upright,
    )
    return figure


def attention_strips(
    share: np.ndarray, tokens: Sequence[str], roles: Sequence[str], title: str = ""
) -> go.Figure:
    """Where the answer's position of one text looks, a row for each head.

    For long texts, of which only this row of a map is kept. The tokens stand below, those of several
    letters upright.

    Args:
        share: [head, key], the share of the head's attention that falls on the key.
        tokens: the text's tokens.
        roles: "pt", "ft" or "" of each token; the first two are coloured on the axis.
        title: written above.
    """
    places, heads = list(range(len(tokens))), list(range(len(share)))
    labels = token_labels(tokens, roles)
    heat = go.Heatmap(
        z=share,
        x=places,
        y=heads,
        customdata=[[escape(token) for token in tokens] for _ in heads],
        colorscale=[[0, LIGHT], [1, DARK]],
        zmin=0,
        zmax=1,
        ygap=2,
        showscale=False,
        hovertemplate="head %{y} looks at %{customdata} at %{x}: %{z:.1%}<extra></extra>",
    )
    figure = go.Figure(heat)
    below, upright = _laid_out(tokens, labels)
    figure.update_layout(
        title={"text": title, "x": 0, "xanchor": "left", "font": {"size": 13}},
        height=STRIP_FRAME + STRIP_HEIGHT * len(heads),
        margin={"l": 46, "r": 6, "t": 34, "b": 48},
        template="none",
        dragmode=False,
        xaxis={**_token_axis(places, below), "range": [-0.5, len(tokens) - 0.5]},
        yaxis={
            "tickvals": heads,
            "ticktext": [str(head) for head in heads],
            "title": {"text": "head", "standoff": 4},
            "autorange": "reversed",
            "showgrid": False,
            "zeroline": False,
            "fixedrange": True,
        },
        annotations=upright,
    )
    return figure


def _laid_out(tokens: Sequence[str], labels: Sequence[str]) -> tuple[list[str], list[dict[str, object]]]:
    """Tick labels of single letters, and the longer tokens as notes that stand on end below the axis."""
    look = {"y": 0, "xref": "x", "yref": "paper", "yanchor": "top", "xanchor": "center", "textangle": -90}
    pairs = list(zip(tokens, labels, strict=True))
    upright: list[dict[str, object]] = [
        {**look, "x": place, "text": label, "showarrow": False, "font": {"size": 8}}
        for place, (token, label) in enumerate(pairs)
        if len(token) > 1
    ]
    return [label if len(token) == 1 else "" for token, label in pairs], upright


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
        yaxis={"range": [0, 1.02], "tickformat": ".0%", "fixedrange": True, "gridcolor": ROLES["grid"]},
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
    size = 11 if len(labels) < CROWDED else 8
    return {**ticks, "tickfont": {"size": size}, "showgrid": False, "zeroline": False, "fixedrange": True}


def activation_map(
    activations: np.ndarray,
    labels: Sequence[str],
    channels: Sequence[int],
    answer: int,
    title: str = "",
    names: Sequence[str] = (),
) -> go.Figure:
    """Hidden activations of an MLP by position, averaged over texts.

    Args:
        activations: [position, channel].
        labels: of the positions, as ``token_labels`` writes them (or their numbers).
        channels: number of each channel in the model.
        names: of each channel, what it writes to (compiled models); none are needed.
        answer: position at which the answer is read; its row is framed.
        title: written above.
    """
    places = list(range(len(labels)))
    numbered = [f"<sub>{place}</sub> {label}" for place, label in enumerate(labels)]
    rows = [f"▸ {label}" if place == answer else label for place, label in enumerate(numbered)]
    units = [f"{name} ({unit})" if name else str(unit) for name, unit in
             zip(names or [""] * len(channels), channels, strict=True)]  # fmt: skip
    heat = go.Heatmap(
        z=activations,
        x=list(range(len(channels))),
        y=places,
        customdata=[units for _ in places],
        colorscale=[[0, LIGHT], [1, DARK]],
        showscale=False,
        hovertemplate="unit %{customdata} at %{y}: %{z:.3g}<extra></extra>",
    )
    figure = go.Figure(heat)
    figure.update_layout(
        title={"text": title, "x": 0, "xanchor": "left", "font": {"size": 13}},
        height=max(300, 70 + 9 * len(labels)) if len(labels) > 1 else 130,
        margin={"l": 60, "r": 6, "t": 34, "b": 84 if names else 44},
        template="none",
        dragmode=False,
        xaxis={
            "tickvals": list(range(len(channels))),
            "ticktext": list(names) or [str(unit) for unit in channels],
            "tickangle": -90,
            "tickfont": {"size": 8},
            "ticks": "",
            "showgrid": False,
            "zeroline": False,
            "fixedrange": True,
        },
        yaxis={**_token_axis(places, rows), "autorange": "reversed"},
        shapes=[_frame(answer, len(channels))],
    )
    return figure


def _frame(row: int, columns: int) -> dict[str, object]:
    edges = {"x0": -0.5, "x1": columns - 0.5, "y0": row - 0.5, "y1": row + 0.5}
    return {"type": "rect", **edges, "line": {"color": ROLES["after"], "width": 2}}
