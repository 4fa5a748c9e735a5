"""Curves over layers as SVG that needs no script: lines, with bands around some of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from veneer.report.line_chart import Levels

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 300, 40, 12, 12, 38


@dataclass(frozen=True)
class Layered:
    """A line over layers.

    Attributes:
        values: of each layer; None where there is none.
        colour: as CSS has it.
        band: below and above the line, of each layer; empty for none.
        dash: SVG's pattern of the stroke; empty for a whole line.
        width: of the stroke.
    """

    values: Sequence[float | None]
    colour: str
    band: Sequence[tuple[float, float]] = ()
    dash: str = ""
    width: float = 2.5


def layer_chart(
    lines: Sequence[Layered], levels: Levels, label: str, shaded: tuple[int, int] = (0, 0)
) -> str:
    """An SVG with lines over layers counted from 1; empty if there is no value.

    Args:
        lines: drawn in this order, bands first.
        levels: the axis of values.
        label: what it shows, for who cannot see it.
        shaded: the first layer that is shaded and the first after it; nothing if they are equal.
    """
    count = max((len(line.values) for line in lines), default=0)
    if not any(value is not None for line in lines for value in line.values):
        return ""
    bands = "".join(_band(line, count, levels) for line in lines if line.band)
    drawn = "".join(_line(line, count, levels) for line in lines)
    inside = f"{_shade(shaded, count)}{_axes(count, levels)}{bands}{drawn}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}" '
        f'class="curve">{inside}</svg>'
    )


def levels_of(values: Sequence[float], low: float | None = None, high: float | None = None) -> Levels:
    """An axis for values: five steps or fewer, of 1, 2 or 5 times a power of ten."""
    least = min(values) if low is None else low
    most = max(values) if high is None else high
    room = (most - least) or 1.0
    powers = (size * 10.0**power for power in range(-4, 6) for size in (1, 2, 5))
    step = next(size for size in powers if room / size <= 5)
    first = round(least / step)
    marks = [round((first + i) * step, 6) for i in range(8)]
    kept = [mark for mark in marks if least - 0.02 * room <= mark <= most + 0.02 * room]
    return Levels(least - 0.04 * room, most + 0.04 * room, tuple((mark, f"{mark:g}") for mark in kept))


def _x(layer: int, count: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (layer - 0.5) / count


def _y(value: float, levels: Levels) -> float:
    share = (min(levels.high, max(levels.low, value)) - levels.low) / (levels.high - levels.low)
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - share)


def _band(line: Layered, count: int, levels: Levels) -> str:
    down = [f"{_x(i, count):.1f},{_y(low, levels):.1f}" for i, (low, _) in enumerate(line.band, 1)]
    up = [f"{_x(i, count):.1f},{_y(high, levels):.1f}" for i, (_, high) in enumerate(line.band, 1)]
    return f'<polygon points="{" ".join([*down, *reversed(up)])}" fill="{line.colour}" opacity=".16"/>'


def _line(line: Layered, count: int, levels: Levels) -> str:
    places = " ".join(
        f"{_x(i, count):.1f},{_y(value, levels):.1f}"
        for i, value in enumerate(line.values, 1)
        if value is not None
    )
    dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
    return (
        f'<polyline points="{places}" fill="none" stroke="{line.colour}" stroke-width="{line.width}"{dash}/>'
    )


def _shade(shaded: tuple[int, int], count: int) -> str:
    first, after = shaded
    if first >= after:
        return ""
    step = (WIDTH - LEFT - RIGHT) / count
    begin = LEFT + step * (first - 1)
    return (
        f'<rect x="{begin:.1f}" y="{TOP}" width="{step * (after - first):.1f}" '
        f'height="{HEIGHT - TOP - BOTTOM}" fill="currentColor" opacity=".07"/>'
    )


def _axes(count: int, levels: Levels) -> str:
    drawn = []
    for value, name in levels.marks:
        y = _y(value, levels)
        drawn.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
            f'opacity=".25"/><text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{name}</text>'
        )
    every = -(-count // 12)
    for layer in range(1, count + 1):
        if layer == 1 or layer % every == 0:
            drawn.append(
                f'<text x="{_x(layer, count):.1f}" y="{HEIGHT - 19}" text-anchor="middle">{layer}</text>'
            )
    drawn.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 3}" text-anchor="middle">after block</text>')
    return "".join(drawn)
