"""What a command shows while it works and when it ends.

On a terminal there is a bar; elsewhere, as in a log file, a line for each stage with its time. Every
command ends with what to do next. ``--quiet`` leaves all of this out.
"""

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

from veneer.commands.manners import current
from veneer.commands.screen import Bar, BarColumn, Waiting, console, words

if TYPE_CHECKING:  # listing and help answer at once
    from veneer.finetune.cell import Fleet


class LiveProgress:
    """A bar on a terminal, one line for each stage elsewhere.

    Args:
        total: model updates to come.
    """

    def __init__(self, total: int) -> None:
        columns = ("{task.fields[done]}", "{task.fields[rate]}", "{task.fields[left]}")
        self._bar = Bar(
            words("{task.description}"),
            BarColumn(20),
            *map(words, columns),
            console=console,
            disable=not console.is_terminal or current().quiet,
        )
        self._total, self._all = self._bar.add_task("", total=total, done="", rate="", left=""), total
        self._began, self._done, self._found, self._stages = time.monotonic(), 0, 0, list[str]()

    def __enter__(self) -> "LiveProgress":
        self._bar.start()
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        self._bar.stop()
        if kind is None and self._done:
            stages(f"{self._done:,} model updates, {per_second(self._rate())} a second", self._began)

    def fleet(self, fleet: "Fleet", index: int, fleets: int) -> None:
        """Show which fleet trains."""
        stage = fleet.cells[0].stage
        self._bar.update(self._total, description=f"{stage.name}, fleet {index + 1:,} of {fleets:,}")
        if stage.name not in self._stages:
            self._stages.append(stage.name)
            done = f"{self._found + self._done:,} of {self._all:,} model updates done"
            stages(f"{stage.name}: from fleet {index + 1:,} of {fleets:,}; {done}{self._left()}", self._began)

    def updates(self, count: int) -> None:
        """Count model updates (updates times members)."""
        self._done += count
        self._show(count)

    def skipped(self, cells: int, updates: int) -> None:
        """Count what was done before, which is no speed."""
        self._found += updates
        self._show(updates)

    def _show(self, count: int) -> None:
        done = f"{self._found + self._done:,} of {self._all:,}"
        rate = f"{per_second(self._rate())}/s" if self._done else ""
        left = self._left().removeprefix(", about ")
        self._bar.update(self._total, advance=count, done=done, rate=rate, left=left)

    def _rate(self) -> float:
        return self._done / max(1e-9, time.monotonic() - self._began)

    def _left(self) -> str:
        left = self._all - self._found - self._done
        told = self._done >= self._all / 500  # the first updates pay for all that starts
        return f", about {duration(left / self._rate())} left" if told and left > 0 else ""

    def notice(self, text: str) -> None:
        """Say what a reader should know."""
        if not current().quiet:
            self._bar.console.print(text)


def per_second(rate: float) -> str:
    """A rate in words: of a large model it is below one."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


class Steps:
    """Says what is being done: in one line that changes on a terminal, in a line a stage elsewhere.

    What follows a colon in a text only counts on: a stage is what stands in front of it.
    """

    def __init__(self) -> None:
        self._began, self._stage = time.monotonic(), ""
        self._line = Waiting(not current().quiet)

    def __enter__(self) -> "Steps":
        self._line.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._line.__exit__(*exception)

    def __call__(self, text: str) -> None:
        stage = text.partition(":")[0]
        if self._line.shown:
            self._line.update(f"{text} ({duration(time.monotonic() - self._began)})")
        elif stage != self._stage:
            stages(text, self._began)
        self._stage = stage


def stages(text: str, began: float) -> None:
    """A line about a stage, with the time since ``began``, where there is no bar."""
    if not console.is_terminal and not current().quiet:
        console.print(f"{duration(time.monotonic() - began):>7}  {text}", soft_wrap=True)


def following(*commands: str, page: Path | None = None) -> None:
    """End with what to do next: commands to be copied, and a page to open.

    Args:
        commands: whole command lines.
        page: an HTML file.
    """
    if current().quiet:
        return
    for command in commands:
        console.print(f"Next: {command}", soft_wrap=True)
    if page is not None:
        console.print(f"Open: {page.resolve().as_uri()}", soft_wrap=True)


def quoted(path: Path) -> str:
    """A path as a shell reads it."""
    return shlex.quote(str(path))


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 12 min, 3.4 h, 2.1 days."""
    for size, unit in ((86400, "days"), (3600, "h")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{max(0.0, seconds):.0f} s"
