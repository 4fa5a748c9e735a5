"""Curves over updates as SVG that needs no script: logarithmic updates, a few labelled levels.

What a page that loads nothing draws; each line is told by its colour and its name beside the chart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import log1p

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 260, 44, 12, 12, 36


@dataclass(frozen=True)
class Line:
    """A line through points.

    Attributes:
        points: updates and value of each.
        colour: as CSS has it.
        width: of the stroke.
        opacity: of the stroke.
        dash: whether it is broken, besides its colour.
    """

    points: Sequence[tuple[float, float]]
    colour: str
    width: float = 2.5
    opacity: float = 1.0
    dash: bool = False


@dataclass(frozen=True)
class Band:
    """What lies between two lines: an interval at each point.

    Attributes:
        points: updates, lower and upper limit of each.
        colour: as CSS has it.
    """

    points: Sequence[tuple[float, float, float]]
    colour: str


@dataclass(frozen=True)
class Levels:
    """The axis of values.

    Attributes:
        low: the lowest value that is drawn; what lies below is drawn there.
        high: the highest.
        marks: levels with a line of their own, and what stands beside each.
        dashed: one of them whose line is broken.
    """

    low: float
    high: float
    marks: tuple[tuple[float, str], ...]
    dashed: float | None = None


PERCENT = Levels(-0.1, 1.1, ((0.0, "0"), (0.5, "50"), (1.0, "100")), 0.5)
"""Shares, in percent."""


def chart(lines: Sequence[Line], levels: Levels, label: str, bands: Sequence[Band] = ()) -> str:
    """An SVG with lines over updates; empty if there is no point.

    Args:
        lines: drawn in this order.
        levels: the axis of values.
        label: what it shows, for who cannot see it.
        bands: intervals, drawn below the lines.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        return ""
    last = max(1, round(max(step for step, _ in points)))
    below = (_band(band, last, levels) for band in bands)
    inside = "".join((_axes(last, levels), *below, *(_line(line, last, levels) for line in lines)))
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}" '
        f'class="curve">{inside}</svg>'
    )


def _place(step: float, value: float, last: int, levels: Levels) -> tuple[float, float]:
    x = LEFT + (WIDTH - LEFT - RIGHT) * log1p(step) / log1p(last)
    share = (min(levels.high, max(levels.low, value)) - levels.low) / (levels.high - levels.low)
    return x, TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _line(line: Line, last: int, levels: Levels) -> str:
    places = " ".join(
        f"{x:.1f},{y:.1f}" for x, y in (_place(step, value, last, levels) for step, value in line.points)
    )
    dash = ' stroke-dasharray="6 4"' if line.dash else ""
    return (
        f'<polyline points="{places}" fill="none" stroke="{line.colour}" stroke-width="{line.width}" '
        f'opacity="{line.opacity}"{dash}/>'
    )


def _band(band: Band, last: int, levels: Levels) -> str:
    lower = [(step, low) for step, low, _ in band.points]
    upper = [(step, high) for step, _, high in reversed(band.points)]
    places = " ".join(
        f"{x:.1f},{y:.1f}" for x, y in (_place(*point, last, levels) for point in (*lower, *upper))
    )
    return f'<polygon points="{places}" fill="{band.colour}" opacity="0.12"/>'


def _axes(last: int, levels: Levels) -> str:
    drawn = []
    for value, name in levels.marks:
        _, y = _place(0, value, last, levels)
        dash = ' stroke-dasharray="4 4"' if value == levels.dashed else ""
        drawn.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
            f'opacity=".3"{dash}/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{name}</text>'
        )
    ticks = [0, 1, *(2**i for i in range(1, 20) if 2**i < last * 0.8), last]
    for step in dict.fromkeys(ticks):
        x, _ = _place(step, 0, last, levels)
        drawn.append(f'<text x="{x:.1f}" y="{HEIGHT - 18}" text-anchor="middle">{step}</text>')
    drawn.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 2}" text-anchor="middle">updates</text>')
    return "".join(drawn)
