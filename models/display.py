"""How values look in a notebook: small HTML tables, everything in them escaped, nothing loaded.

Classes give their table as ``_repr_html_``, by which Jupyter shows what stands last in a cell. The rooms
above use it too; a terminal, and a notebook without HTML, show the ordinary ``repr``.
"""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

_TABLE = "border-collapse:collapse;margin:.3em 0"
_CELL = "text-align:left;padding:.1em .8em .1em 0;vertical-align:top"


def table(title: str, rows: Iterable[Sequence[Any]], heads: Sequence[str] = (), note: str = "") -> str:
    """An HTML table; without heads, the first column names what stands beside it.

    Args:
        title: its caption, in bold.
        rows: cells, shown as ``str`` has them.
        heads: names of the columns.
        note: a sentence below.
    """
    head = f"<tr>{''.join(_cell('th', name, ' scope=col') for name in heads)}</tr>" if heads else ""
    lines = []
    for first, *rest in rows:
        named = _cell("td", first) if heads else _cell("th", first, " scope=row")
        lines.append(f"<tr>{named}{''.join(_cell('td', value) for value in rest)}</tr>")
    below = f"<p>{escape(note)}</p>" if note else ""
    caption = f'<caption style="{_CELL};font-weight:bold">{escape(title)}</caption>'
    return f'<table style="{_TABLE}">{caption}{head}{"".join(lines)}</table>{below}'


def _cell(tag: str, value: Any, more: str = "") -> str:
    return f'<{tag}{more} style="{_CELL}">{escape(str(value))}</{tag}>'
