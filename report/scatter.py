"""Points on a plane as SVG that needs no script; kinds differ in colour and in shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

SIDE, EDGE, SIZE = 200, 8, 2.6
SHAPES = 4


@dataclass(frozen=True)
class Cloud:
    """Points of one kind.

    Attributes:
        points: both coordinates of each.
        colour: as CSS has it.
        shape: a number that chooses circle, square, triangle or diamond.
    """

    points: Sequence[tuple[float, float]]
    colour: str
    shape: int


def scatter(clouds: Sequence[Cloud], label: str) -> str:
    """An SVG with all points, filling its square; empty if there is none."""
    every = [point for cloud in clouds for point in cloud.points]
    if not every:
        return ""
    low = [min(point[i] for point in every) for i in (0, 1)]
    wide = max(max(point[i] for point in every) - low[i] for i in (0, 1)) or 1.0

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = ((point[i] - low[i]) / wide * (SIDE - 2 * EDGE) + EDGE for i in (0, 1))
        return x, SIDE - y

    drawn = "".join(
        f'<path d="{"".join(_mark(*place(point), cloud.shape) for point in cloud.points)}" '
        f'fill="{cloud.colour}" opacity=".75"/>'
        for cloud in clouds
    )
    named = f'role="img" aria-label="{escape(label)}" class="cloud"'
    return f'<svg viewBox="0 0 {SIDE} {SIDE}" {named}>{drawn}</svg>'


def _mark(x: float, y: float, shape: int) -> str:
    """One point as a path."""
    size = SIZE
    match shape % SHAPES:
        case 0:
            return (
                f"M{x - size:.1f},{y:.1f}a{size},{size} 0 1 0 {2 * size},0a{size},{size} 0 1 0 {-2 * size},0"
            )
        case 1:
            return f"M{x - size:.1f},{y - size:.1f}h{2 * size}v{2 * size}h{-2 * size}z"
        case 2:
            return f"M{x:.1f},{y - size:.1f}l{size},{2 * size}h{-2 * size}z"
        case _:
            long = 1.3 * size
            return f"M{x:.1f},{y - long:.1f}l{size},{long}l{-size},{long}l{-size},{-long}z"
