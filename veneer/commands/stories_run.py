"""``veneer run stories``: delete a feature from a model that writes stories, revive it, say what came out."""

import time
from dataclasses import replace
from typing import Any

from veneer.commands.manners import runs_folder, tell
from veneer.commands.options import TextRunOptions, ask, preset_of
from veneer.commands.progress import duration, following, quoted
from veneer.commands.screen import Table, console, styled
from veneer.commands.text_work import done, say

STEPS_SHOWN = (0, 1, 4, 8, 32)
"""Updates of reFT in the table; and the last."""


def run_stories(words: list[str]) -> None:
    """``veneer run stories``: delete, revive, and say what came out.

    Raises:
        InputError: an option or a model that cannot be used; nothing has been written then.
    """
    from veneer.experiments.stories.settings import STORIES

    preset = preset_of(words)
    about = "Delete a feature from a model that writes stories, and see how fast it comes back."
    options, settings = ask(TextRunOptions(preset), STORIES[preset], words, "veneer run stories", about)
    evaluate(settings, replace(options, out=options.out or runs_folder() / f"stories-{preset}"))


def evaluate(settings: Any, options: TextRunOptions) -> None:
    """Check everything, do what is not done, and show what came out."""
    from veneer.experiments.stories.prepare import prepare
    from veneer.experiments.stories.result import conclude
    from veneer.experiments.stories.work import work
    from veneer.report.stories_page import write_stories_page

    began = time.monotonic()
    prepared = done(settings, options, prepare, work)
    outcomes = conclude(prepared.run)
    page = write_stories_page(prepared.run, outcomes)
    plain = {"run": str(prepared.run.path), "outcomes": [own.plain() for own in outcomes]}
    if not tell("run", plain):
        show(prepared.run, outcomes)
        say(duration(time.monotonic() - began), "dim")
        following(f"veneer report {quoted(prepared.run.path)}", page=page)


def show(run: Any, outcomes: list[Any]) -> None:
    """The table of shares, then each verdict with its reasons."""
    from veneer.experiments.stories.result import rows

    found = rows(run, outcomes)
    last = run.settings.reft_updates
    steps = [step for step in STEPS_SHOWN if step < last] + [last]
    feature = run.settings.feature
    title = (
        f"stories with a {feature}, in percent, after updates of reFT (Wilson's 95 % interval at the ends)"
    )
    table = Table(title=title, title_justify="left")
    for name in ("deletion", *map(str, steps), "others", "loss before, after"):
        table.add_column(name, justify="left" if name == "deletion" else "right", overflow="fold")
    for row in found:
        cells = []
        for step in steps:
            cells.append(_share(row, step, step in (0, last)))
        losses = ", ".join("–" if own is None else f"{own:.2f}" for own in row.loss)
        others = "–" if row.others is None else f"{100 * row.others:.0f}"
        table.add_row(row.name, *cells, others, losses)
    console.print(table)
    for own in outcomes:
        strength = "" if own.strength == "none" else f" ({own.strength})"
        leaning = f", leaning {own.leaning}" if own.leaning else ""
        console.print(styled((own.kind, "bold"), f"{strength}{leaning}: {own.name}"))
        for reason in own.reasons:
            console.print(f"• {reason}")
        for need in own.needed:
            console.print(f"  it would take {need}")


def _share(row: Any, step: int, wide: bool) -> str:
    if step not in row.shares:
        return "–"
    low, high = row.intervals[step]
    return f"{100 * row.shares[step]:.0f}" + (f" ({100 * low:.0f} to {100 * high:.0f})" if wide else "")
