"""What a command shows while it works: a bar on a terminal, a line for each fleet elsewhere."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from veneer.finetune.cell import Fleet

console = Console()


class LiveProgress:
    """A bar on a terminal, one line per fleet elsewhere.

    Args:
        total: model updates to come.
    """

    def __init__(self, total: int) -> None:
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._total = self._bar.add_task("updates", total=total, rate="")
        self._began, self._done = time.monotonic(), 0

    def __enter__(self) -> "LiveProgress":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def fleet(self, fleet: Fleet, index: int, fleets: int) -> None:
        """Show which fleet trains."""
        stage = fleet.cells[0].stage
        rates = ", ".join(
            f"{rate:g}" for rate in dict.fromkeys(c.stage.recipe.learning_rate for c in fleet.cells)
        )
        text = f"fleet {index + 1}/{fleets}: {stage.name} × {len(fleet.cells)}, rates {rates}"
        self._bar.update(self._total, description=text)
        if not console.is_terminal:
            console.print(text)

    def updates(self, count: int) -> None:
        """Count model updates (updates times members)."""
        self._done += count
        self._bar.update(self._total, advance=count, rate=self._pace(count))

    def _pace(self, count: int) -> str:
        """Updates a second and the time left; what was restored or found does not count as speed."""
        rate = self._done / max(1e-9, time.monotonic() - self._began)
        task = self._bar.tasks[0]
        left = ((task.total or 0) - task.completed - count) / rate if rate > 0 else 0
        return f"{rate:,.0f}/s, {duration(left)} left"

    def skipped(self, cells: int, updates: int) -> None:
        """Count what was done before."""
        self._bar.update(self._total, advance=updates)

    def notice(self, text: str) -> None:
        """Say what a reader should know."""
        self._bar.console.print(text, highlight=False)


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 12 min, 3.4 h, 2.1 days."""
    for size, unit in ((86400, "days"), (3600, "h")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{max(0.0, seconds):.0f} s"
