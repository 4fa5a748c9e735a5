"""``veneer run cddm``: arms that decide by a context, side by side, and what their insides say."""

import time
from dataclasses import replace
from typing import Any

from veneer.analysis.revival import Estimate
from veneer.commands.manners import runs_folder, tell
from veneer.commands.options import TextRunOptions, ask, preset_of
from veneer.commands.progress import duration, following, quoted
from veneer.commands.screen import Table, at_most, styled
from veneer.commands.text_work import done
from veneer.experiments.cddm.result import Comparison, Row, rows

WIDTH = 80
COLOURS = {"yes": "green", "no": "red", "void": "yellow", "not decided": "yellow", "not measured": "dim"}


def run_decisions(words: list[str]) -> None:
    """``veneer run cddm``.

    Raises:
        InputError: an option or a base that cannot be used; nothing has been written then.
    """
    from veneer.experiments.cddm.settings import DECISIONS

    preset = preset_of(words)
    about = "Teach decisions that depend on a context to a pretrained model and to a fresh one."
    options, settings = ask(TextRunOptions(preset), DECISIONS[preset], words, "veneer run cddm", about)
    from veneer.experiments.cddm.prepare import prepare
    from veneer.experiments.cddm.result import conclude
    from veneer.experiments.cddm.work import work
    from veneer.report.cddm_page import write_decisions_page

    began = time.monotonic()
    options = replace(options, out=options.out or runs_folder() / f"cddm-{preset}")
    run = done(settings, options, prepare, work).run
    found = conclude(run)
    page = write_decisions_page(run, found)
    if not tell("run", {"run": str(run.path), "comparisons": [own.plain() for own in found]}):
        show(run, found)
        at_most(WIDTH).print(duration(time.monotonic() - began), style="dim")
        following(f"veneer claims {quoted(run.path)}", page=page)


def look_inside(run: Any) -> None:
    """Look into every arm that is trained and not looked into yet.

    Raises:
        InputError: the base is not there any more.
    """
    from veneer.experiments.begin import device_of
    from veneer.experiments.cddm.work import work

    if any(trial.stage == "look" for trial in run.pending()):
        work(run, device_of("auto"), stages=("look",))


def show(run: Any, comparisons: list[Comparison]) -> None:
    """The table of arms, then each question with its answer and its numbers."""
    screen, found = at_most(WIDTH), rows(run)
    title = f"{seeds_of(found)}; means, with 95 % intervals of the depth over seeds"
    table = Table(title=title, title_justify="left")
    for name in ("arm", "updates", "right %", "new wording", "depth of heads", "CKA late"):
        table.add_column(name, justify="left" if name == "arm" else "right", overflow="fold")
    for row in found:
        table.add_row(
            row.name,
            _number(row.updates, 0),
            _percent(row.accuracy),
            _percent(row.wording),
            _wide(row.depth),
            _number(row.likeness, 2),
        )
    screen.print(table)
    for own in comparisons:
        screen.print(styled((own.answer, f"bold {COLOURS[own.answer]}"), f": {own.question}"))
        screen.print(f"  {own.quantity}: {told(own)}")


def seeds_of(found: list[Row]) -> str:
    """How many seeds there are, in words."""
    seeds = max((row.seeds for row in found), default=0)
    return f"{seeds} seed{'' if seeds == 1 else 's'}"


def told(own: Comparison) -> str:
    """Both arms' numbers and their difference."""
    if own.tuned.value is None or own.scratch.value is None:
        return "not measured"
    ends = f"fine-tuned {own.tuned.value:.2f}, from scratch {own.scratch.value:.2f}"
    return f"{ends}; difference {_wide(own.difference)}"


def _percent(measured: Estimate) -> str:
    return "–" if measured.value is None else f"{100 * measured.value:.0f}"


def _number(measured: Estimate, digits: int) -> str:
    return "–" if measured.value is None else f"{measured.value:,.{digits}f}"


def _wide(measured: Estimate) -> str:
    if measured.value is None:
        return "–"
    value = f"{round(measured.value, 2) + 0.0:.2f}"
    if measured.low is None or measured.high is None:
        return value
    return f"{value} ({measured.low:.2f} to {measured.high:.2f})"
