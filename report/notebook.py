"""What attention maps look like in a notebook.

Runs, models, cells and verdicts show themselves (``_repr_html_``); ``show`` draws attention as a heat map.
Nothing is loaded, no script runs, and all text is escaped, so the HTML is
as safe as the values. Importing this module imports no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import product
from typing import TYPE_CHECKING

from veneer.report.colours import ROLES
from veneer.tasks.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

LEVELS = 20  # shades of a heat map
MOST_POSITIONS, MOST_MAPS = 256, 64
LEADING = ("member", "block", "head")
SIDE = 14  # pixels of a position, where there are few
_INK = tuple(bytes.fromhex(ROLES["most"][1:]))  # of attention 1; 0 is white


@dataclass(frozen=True)
class AttentionMaps:
    """Attention as heat maps: one row for each query, one column for each key, darker is more.

    Attributes:
        maps: of each map its title and its values, by query and key.
        tokens: what stands at the keys, or nothing.
        queries: what stands at the queries, or nothing.
    """

    maps: tuple[tuple[str, tuple[tuple[float, ...], ...]], ...]
    tokens: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()

    def __repr__(self) -> str:
        rows, columns = len(self.maps[0][1]), len(self.maps[0][1][0])
        return f"AttentionMaps({len(self.maps)} maps of {rows} queries and {columns} keys)"

    def _repr_html_(self) -> str:
        drawn = "".join(self._figure(title, values) for title, values in self.maps)
        return f'<div style="display:flex;flex-wrap:wrap;gap:1em">{drawn}</div>'

    def _figure(self, title: str, values: tuple[tuple[float, ...], ...]) -> str:
        caption = escape(title)
        label = escape(f"Attention{', ' if title else ''}{title}: {_told(values, self.tokens)}", quote=True)
        return (
            f'<figure style="margin:0"><figcaption>{caption}</figcaption>{self._svg(values, label)}</figure>'
        )

    def _svg(self, values: tuple[tuple[float, ...], ...], label: str) -> str:
        rows, columns = len(values), len(values[0])
        left, top = (0.75 * max(map(len, names), default=0) for names in (self.queries, self.tokens))
        side = max(2, min(SIDE, 600 // max(rows, columns)))
        width, height = columns + left, rows + top
        words = [
            f'<text x="-.2" y="{y + 0.8}" text-anchor="end">{escape(word)}</text>'
            for y, word in enumerate(self.queries)
        ]
        words += [
            f'<text transform="translate({x + 0.8} -.2) rotate(-90)">{escape(word)}</text>'
            for x, word in enumerate(self.tokens)
        ]
        line = f'stroke="{ROLES["guess"]}" stroke-width=".05"'
        frame = f'<rect width="{columns}" height="{rows}" fill="white" {line}/>'
        return (
            f'<svg role="img" aria-label="{label}" width="{width * side:.0f}" height="{height * side:.0f}" '
            f'viewBox="{-left:g} {-top:g} {width:g} {height:g}" font-size=".8" fill="currentColor" '
            f'font-family="monospace" shape-rendering="crispEdges">'
            f"{frame}{_shades(values)}{''.join(words)}</svg>"
        )


def show(
    attention: "Float[Tensor, '*lead query key']",
    tokens: Sequence[object] = (),
    queries: Sequence[object] = (),
) -> AttentionMaps:
    """Attention to look at: the last value of a notebook's cell is drawn.

    Args:
        attention: patterns with up to four leading axes, as ``veneer.analysis.attention`` gives them (member,
            block, text, head) or a run stores them (block, head); a title names those longer than one.
        tokens: names of the keys; of square maps, of the queries too.
        queries: names of the queries, where they are others.

    Raises:
        InputError: not a map, too many maps or positions, or names that do not fit.
    """
    shape = tuple(attention.shape)
    if len(shape) < 2 or 0 in shape:
        raise InputError("attention", shape, "[..., query, key], none of them empty")
    lead, (rows, columns) = shape[:-2], shape[-2:]
    if max(rows, columns) > MOST_POSITIONS or math.prod(lead) > MOST_MAPS or len(lead) > 4:
        valid = f"at most {MOST_MAPS} maps of {MOST_POSITIONS} positions: choose some"
        raise InputError("attention", shape, valid)
    if not queries and rows == columns:
        queries = tokens
    for field, names, size in (("tokens", tokens, columns), ("queries", queries, rows)):
        if len(names) not in (0, size):
            raise InputError(field, len(names), f"{size} names, as the map has positions")
    values = attention.detach().cpu().double().reshape(-1, rows, columns).tolist()
    titles = [_title(place, lead) for place in product(*map(range, lead))]
    maps = tuple((title, tuple(map(tuple, own))) for title, own in zip(titles, values, strict=True))
    return AttentionMaps(maps, tuple(map(str, tokens)), tuple(map(str, queries)))


def _title(place: tuple[int, ...], lead: tuple[int, ...]) -> str:
    """The place among the leading axes that are longer than one."""
    names = LEADING[-len(lead) :] if len(lead) < 4 else ("member", "block", "text", "head")
    names = names if lead else ()
    words = [f"{name} {i}" for name, i, size in zip(names, place, lead, strict=True) if size > 1]
    return ", ".join(words)


def _shades(values: tuple[tuple[float, ...], ...]) -> str:
    """One path for each shade; what is no number is grey."""
    squares: dict[int, list[str]] = {}
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            level = round(min(1.0, max(0.0, value)) * LEVELS) if math.isfinite(value) else -1
            if level:
                squares.setdefault(level, []).append(f"M{x} {y}h1v1h-1z")
    return "".join(f'<path fill="{_colour(level)}" d="{"".join(own)}"/>' for level, own in squares.items())


def _colour(level: int) -> str:
    if level < 0:
        return ROLES["grid"]
    share = level / LEVELS
    return "#" + "".join(f"{round(255 + share * (ink - 255)):02x}" for ink in _INK)


def _told(values: tuple[tuple[float, ...], ...], tokens: Sequence[str]) -> str:
    """The map in words, for who cannot see it."""
    found = [(v, y, x) for y, row in enumerate(values) for x, v in enumerate(row) if math.isfinite(v)]
    if not found:
        return "no finite values"
    value, y, x = max(found)
    word = f" ({tokens[x]})" if tokens else ""
    return f"{len(values)} queries, {len(values[0])} keys; most is {value:.2f}, from {y} on {x}{word}"
