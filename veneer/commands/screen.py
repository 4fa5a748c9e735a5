"""The screen: a text on it looks as it was written, whoever wrote it.

rich reads markup in a text (``[red]``), makes pictures of ``:x:``, and colours numbers. Folders, tokens,
methods and labels are the user's, so all of that is off here, and no other module imports rich. Styles of our
own are parts of a line: ``styled("A is ", ("counter", "bold"))``. Control characters, which a run of somebody
else's may hold, become question marks.
"""

from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.status import Status
from rich.table import Table
from rich.text import Text

from veneer.commands.manners import current, harmless

__all__ = [
    "Bar",
    "BarColumn",
    "MofNCompleteColumn",
    "Screen",
    "Table",
    "Text",
    "TimeRemainingColumn",
    "Waiting",
    "at_most",
    "console",
    "styled",
    "words",
]


class Screen(Console):
    """A console on which brackets are brackets.

    Args:
        quiet: print nothing.
        width: columns; None asks the terminal.
    """

    def __init__(self, *, quiet: bool = False, width: int | None = None) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, quiet=quiet, width=width)

    def render_str(self, text: str, **how: Any) -> Text:
        """A text as rich lays it out, with nothing in it but letters."""
        return super().render_str(harmless(text), **{**how, "markup": False, "emoji": False})


console = Screen(quiet=current().json == "print")
"""What the commands print on."""


def at_most(width: int) -> Screen:
    """A screen so wide, or as the terminal where that is narrower."""
    return Screen(width=min(console.width, width) if console.is_terminal else width)


def styled(*parts: str | tuple[str, str]) -> Text:
    """A line of plain texts and of texts with a style of ours.

    Args:
        parts: texts, or pairs of a text and its style, such as ``("wrapped", "bold")``.
    """
    line = Text()
    for part in parts:
        text, style = (part, "") if isinstance(part, str) else part
        line.append(harmless(text), style)
    return line


def words(form: str) -> TextColumn:
    """A column of a bar with a text, such as ``{task.description}``."""
    return TextColumn(form, markup=False)


class Waiting:
    """A line with a spinner that changes while something is done; nothing where there is no terminal.

    Args:
        shown: whether to show it at all.
    """

    def __init__(self, shown: bool = True) -> None:
        self.shown = shown and console.is_terminal
        self._status = Status(Text(), console=console, spinner="line")

    def __enter__(self) -> Self:
        if self.shown:
            self._status.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.shown:
            self._status.stop()

    def update(self, text: str) -> None:
        """Say what is being done now."""
        self._status.update(styled(text))
