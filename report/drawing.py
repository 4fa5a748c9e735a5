"""Small pictures as SVG that need no script: cells darker with their value, points coloured by class, bars.

What a page that loads nothing draws besides curves (``line_chart.py``). Colours come from the page's style
sheet or from ``colours.py``; what a colour stands for is said beside the picture.
"""

from collections.abc import Sequence
from html import escape

from veneer.report.colours import ATTACKS

SIDE = 320
"""Width and height of a scatter, in units of the picture."""
CELL = 6
"""Side of a cell of a map."""
ROOM = 62
"""Beside a map, for names of tokens."""


def cells(values: Sequence[tuple[int, int, float]], names: Sequence[str], label: str) -> str:
    """A square map: row and column of each cell, and its value from 0 to 1.

    Args:
        values: (row, column, value); what is not there is 0.
        names: of rows, and of columns alike.
        label: what it shows, for who cannot see it.
    """
    size = CELL * len(names)
    drawn = [
        f'<rect x="{ROOM + CELL * column}" y="{CELL * row}" width="{CELL}" height="{CELL}" '
        f'fill-opacity="{min(1.0, value):.2f}"/>'
        for row, column, value in values
    ]
    shown = [
        f'<text x="{ROOM - 3}" y="{CELL * row + CELL - 1}" text-anchor="end">{escape(name)}</text>'
        f'<text transform="translate({ROOM + CELL * row + 1},{size + 3}) rotate(90)">{escape(name)}</text>'
        for row, name in enumerate(names)
    ]
    box = f"0 0 {ROOM + size + 2} {size + ROOM}"
    return (
        f'<svg viewBox="{box}" role="img" aria-label="{escape(label)}" class="cells">'
        f'<rect x="{ROOM}" y="0" width="{size}" height="{size}" class="ground"/>'
        f'<g class="dark">{"".join(drawn)}</g>{"".join(shown)}</svg>'
    )


def scatter(points: Sequence[tuple[float, float, int]], label: str) -> str:
    """Points on a plane, coloured by class; empty without points.

    Args:
        points: x, y and the class of each.
        label: what it shows.
    """
    if not points:
        return ""
    xs, ys = [x for x, _, _ in points], [y for _, y, _ in points]
    wide, high = (max(own) - min(own) or 1.0 for own in (xs, ys))
    room = SIDE - 12
    drawn = [
        f'<circle cx="{6 + room * (x - min(xs)) / wide:.1f}" cy="{6 + room * (max(ys) - y) / high:.1f}" '
        f'r="2.6" fill="{ATTACKS[kind % len(ATTACKS)]}"/>'
        for x, y, kind in points
    ]
    return (
        f'<svg viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{escape(label)}" class="points">'
        f"{''.join(drawn)}</svg>"
    )


def bars(values: Sequence[tuple[str, float, float, float]], label: str) -> str:
    """A bar for each name, from one half to 1: its value, its spread, and the level of chance as a line.

    Args:
        values: name, value, deviation, and what shuffled labels give.
        label: what it shows.
    """
    if not values:
        return ""
    step, top, bottom = 58, 150, 24
    drawn = []
    for place, (name, value, deviation, chance) in enumerate(values):
        x = 26 + step * place
        height, level = top * max(0.0, value), top * max(0.0, chance)
        low, high = (top * min(1.0, max(0.0, value + sign * deviation)) for sign in (-1, 1))
        drawn.append(
            f'<rect x="{x}" y="{top - height:.1f}" width="34" height="{height:.1f}" class="bar"/>'
            f'<path d="M{x + 17} {top - low:.1f}V{top - high:.1f}" class="spread"/>'
            f'<path d="M{x - 4} {top - level:.1f}h42" class="chance"/>'
            f'<text x="{x + 17}" y="{top + 11}" text-anchor="middle">{escape(name.partition(" ")[0])}</text>'
            f'<text x="{x + 17}" y="{top + 21}" text-anchor="middle">{escape(name.partition(" ")[2])}</text>'
        )
    marks = "".join(
        f'<text x="20" y="{top - top * share + 3:.0f}" text-anchor="end">{100 * share:.0f}</text>'
        for share in (0.0, 0.5, 1.0)
    )
    return (
        f'<svg viewBox="0 0 {26 + step * len(values)} {top + bottom}" role="img" '
        f'aria-label="{escape(label)}" class="bars">{marks}{"".join(drawn)}</svg>'
    )
