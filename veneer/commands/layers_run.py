"""``veneer run layers``: tune a base on many tasks and on each alone, and compare layers."""

import time
from dataclasses import replace
from typing import Any

from veneer.commands.manners import runs_folder, tell
from veneer.commands.options import TextRunOptions, ask, preset_of
from veneer.commands.progress import duration, following, quoted
from veneer.commands.screen import Table, at_most, console, styled
from veneer.commands.text_work import done

WIDTH = 80
COLUMNS = {
    "base": "base",
    "multi-task": "multi",
    "ceiling": "ceiling",
    "floor": "floor",
    "other task": "other task",
}
"""Pairs in the table of layers, and what stands above them."""


def run_layers(words: list[str]) -> None:
    """``veneer run layers``.

    Raises:
        InputError: an option, a model or data that cannot be used; nothing has been written then.
    """
    from veneer.experiments.layers.settings import LAYERS

    preset = preset_of(words)
    about = "Tune a base on many tasks and on each alone, and compare the models layer by layer."
    options, settings = ask(TextRunOptions(preset), LAYERS[preset], words, "veneer run layers", about)
    from veneer.experiments.layers.prepare import prepare
    from veneer.experiments.layers.result import conclude
    from veneer.experiments.layers.work import work
    from veneer.report.layers_page import write_layers_page

    began = time.monotonic()
    options = replace(options, out=options.out or runs_folder() / f"layers-{preset}")
    run = done(settings, options, prepare, work).run
    result = conclude(run)
    page = write_layers_page(run, result)
    if not tell("run", {"run": str(run.path), **result.plain()}):
        show(result)
        console.print(duration(time.monotonic() - began), style="dim")
        following(f"veneer claims {quoted(run.path)}", page=page)


def show(result: Any) -> None:
    """First how well was learned, then the map of layers, then the answer."""
    screen = at_most(WIDTH)
    screen.print(_accuracies(result))
    for own in result.measured.learned:
        if own.why_not:
            screen.print(f"left out below: {own.task}: {own.why_not}")
    if result.rows:
        count = len(result.measured.kept())
        screen.print(_map(result.rows, f"{count} tasks, {len(result.measured.seeds)} seeds"))
    if result.unseen:
        screen.print(_map(result.unseen, "tasks that the multi-task model was not tuned on"))
    screen.print(styled((result.sentence, "bold")))


def _accuracies(result: Any) -> Table:
    title = "Right answers in percent, mean over seeds (* held out from the multi-task model)"
    table = Table(title=title, title_justify="left")
    for name in ("task", "cluster", "commonest", "base", "multi-task", "specialist"):
        table.add_column(name, justify="left" if name in ("task", "cluster") else "right")
    for own in result.measured.learned:
        shares = (own.guess, own.base, own.multi, own.specialist)
        cells = ("–" if share is None else f"{100 * share:.0f}" for share in shares)
        table.add_row(f"{own.task}{'*' if own.unseen else ''}", own.cluster, *cells)
    return table


def _map(rows: Any, about: str) -> Table:
    title = (
        f"Similarity by layer (unbiased CKA, median; {about}): base and multi-task model with the "
        "specialist, two seeds of it (ceiling), it and the multi-task model with other tasks' (floor, "
        "other task); spread over tasks of multi; dimensions of base and multi for 99 % of the variance"
    )
    table = Table(title=title, title_justify="left")
    table.add_column("layer", justify="right")
    named = {pair: name for pair, name in COLUMNS.items() if pair in rows[0].medians}
    for name in (*named.values(), "spread", "dimensions"):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [f"{row.medians[pair]:.2f}" for pair in named]
        wide = f"{row.dimensions[0]:.0f}, {row.dimensions[1]:.0f}"
        spread = row.spread.get("multi-task")
        table.add_row(str(row.layer), *cells, "–" if spread is None else f"{spread:.2f}", wide)
    return table
