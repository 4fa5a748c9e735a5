"""``veneer compare``: two runs side by side in a terminal, and as JSON."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl

from veneer.commands.manners import tell
from veneer.commands.options import CompareOptions, parse
from veneer.commands.screen import Screen, Table, Text, at_most, styled
from veneer.experiments.compare import Comparison, compare
from veneer.experiments.store import Run

WIDTH = 80
HEADS = [(c_te, operand) for c_te in ("correlated", "uncorrelated") for operand in ("pt", "ft")]
MOST = 60  # characters of a field's value


def command(words: list[str]) -> None:
    """The command.

    Args:
        words: the command line.

    Raises:
        InputError: a folder that is no run or is damaged, or a file that cannot be written.
    """
    import tyro

    @dataclass(frozen=True)
    class Words(CompareOptions):
        run_a: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_A")]
        run_b: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_B")]

    Words.__doc__ = CompareOptions.__doc__
    options = parse(Words, words, "veneer compare")
    found = compare(Run.read(options.run_a), Run.read(options.run_b))
    if tell("compare", found.plain()):
        return
    show(found, at_most(WIDTH))


def show(found: Comparison, console: Screen) -> None:
    """Print a comparison: what differs in the making, then the results."""
    first, second = found.runs
    done = f"{found.cells[0]} and {found.cells[1]} finished cells"
    console.print(
        styled(
            *("A is ", (first, "bold"), f" ({found.experiments[0]}), "),
            *("B is ", (second, "bold"), f" ({found.experiments[1]}); {done}"),
        )
    )
    if found.equal:
        settings = f"all {found.alike} settings, every accuracy, every time and every verdict"
        console.print(f"They are equal: {settings}.")
        return
    for note in found.notes:
        console.print(note, style="yellow")
    if found.changes:
        console.print(_changes(found))
    else:
        console.print(f"Made with the same settings: all {found.alike} fields agree.")
    for title, own in _parts(found, found.fine_tuning):
        console.print(_grid(f"Fine-tuning{title}", own))
    for title, own in _parts(found, found.revival):
        console.print(_revival(f"reFT: O_PT on natural texts{title}", own))
    _print_verdicts(found, console)


def _changes(found: Comparison) -> Table:
    table = Table(
        title="Made with",
        caption=f"{found.alike} more fields are the same.",
        caption_justify="left",
        title_justify="left",
    )
    for name in ("", "A", "B"):
        table.add_column(name, overflow="fold")
    section = ""
    for change in found.changes:
        if change.section != section and section:
            table.add_section()
        section = change.section
        table.add_row(change.name, _value(change.first), _value(change.second))
    return table


def _value(value: Any) -> str:
    text = "–" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MOST else f"{text[: MOST - 1]}…"


def _parts(found: Comparison, table: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """A table for each capability and point of a sweep's grid, with what tells it apart."""
    apart = ["capability", *found.axes]
    several = table["capability"].n_unique() > 1 or "compiled" not in table["capability"]
    parts = []
    for named, own in table.group_by(apart, maintain_order=True):
        words = [f"{name} {value}" for name, value in zip(found.axes, named[1:], strict=True)]
        words = [str(named[0]), *words] if several else words
        parts.append((f" ({', '.join(words)})" if words else "", own))
    return parts


def _grid(title: str, own: pl.DataFrame) -> Table:
    """One row for each setting; in a cell both means above their difference and its interval."""
    caption = "Accuracy in percent, A → B, and below B − A in points"
    caption += (
        ", with its 95 % interval over seeds." if _has_intervals(own) else " (too few seeds for intervals)."
    )
    caption += _remark(own)
    table = Table(title=title, caption=caption, caption_justify="left", title_justify="left")
    for name in ("rate", "C_Tr"):
        table.add_column(name, justify="right")
    for c_te, operand in HEADS:
        table.add_column(f"C_Te={int(c_te == 'correlated')} O_{operand.upper()}", justify="right")
    for (rate, c_tr), rows in own.group_by("fine_tuning_rate", "c_tr", maintain_order=True):
        cells = {(row["texts"], row["operand"]): row for row in rows.iter_rows(named=True)}
        shown = [_cell(cells[head]) if head in cells else "" for head in HEADS]
        table.add_row(f"{rate:g}", f"{c_tr:g}", *shown)
    return table


def _revival(title: str, own: pl.DataFrame) -> Table:
    caption = (
        "Percent after fine-tuning and after reFT; median updates to 90 % (– where fewer than half of the "
        "seeds get there), and below how many times as many B takes."
    )
    caption += _remark(own)
    table = Table(title=title, caption=caption, caption_justify="left", title_justify="left")
    for name in ("rate", "C_Tr", "reFT", "before, A → B", "after, A → B", "updates to 90 %, A → B"):
        table.add_column(name, justify="right")
    for row in own.iter_rows(named=True):
        before = f"{_percent(row['before_first'])} → {_percent(row['before_second'])}"
        rates = [f"{row[name]:g}" for name in ("fine_tuning_rate", "c_tr", "reft_rate")]
        table.add_row(*rates, before, _cell(row), _updates(row))
    return table


def _remark(own: pl.DataFrame) -> str:
    """What the mark of a mean says, if any has it."""
    marked = own.select(pl.sum_horizontal("diverged_first", "diverged_second").sum()).item()
    return " * Without the seeds that diverged." if marked else ""


def _has_intervals(own: pl.DataFrame) -> bool:
    return own["low"].is_not_null().any()


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _points(value: float) -> str:
    return f"{round(100 * value, 1) + 0.0:+.1f}"


def _cell(row: dict[str, Any]) -> Text:
    """Both means, then their difference: coloured where the interval leaves out zero."""
    mark = "*" if row["diverged_first"] or row["diverged_second"] else ""
    means = f"{_percent(row['first'])} → {_percent(row['second'])}{mark}"
    if row["difference"] is None:
        return styled(means)
    apart = row["low"] is not None and (row["low"] > 0 or row["high"] < 0)
    interval = "" if row["low"] is None else f" [{100 * row['low']:+.0f}, {100 * row['high']:+.0f}]"
    style = ("green" if row["difference"] > 0 else "red") if apart else "dim"
    return styled(f"{means}\n", (f"{_points(row['difference'])}{interval}", style))


def _updates(row: dict[str, Any]) -> Text:
    medians = [row["updates_first"], row["updates_second"]]
    shown = " → ".join("–" if value is None else f"{value:,.0f}" for value in medians)
    ends = [row["ratio_low"], row["ratio_high"]]
    if row["ratio"] is None and ends == [None, None]:
        return styled(shown)
    interval = (
        "" if ends == [None, None] else f" [{', '.join('–' if e is None else f'{e:.2g}' for e in ends)}]"
    )
    ratio = "" if row["ratio"] is None else f"× {row['ratio']:.2g}"
    return styled(f"{shown}\n", (ratio + interval, "dim"))


def _print_verdicts(found: Comparison, console: Screen) -> None:
    if found.verdicts.is_empty():
        return
    changed = found.verdicts.filter("changed")
    count = f"{len(changed)} of {len(found.verdicts)} verdicts" if len(changed) else "No verdict"
    console.print(f"{count} changed, by {found.judged_by}.")
    if changed.is_empty():
        return
    table = Table(title="Verdicts that changed", title_justify="left")
    names = {"capability": "model", "fine_tuning_rate": "rate", "c_tr": "C_Tr"}
    for name in found.setting:
        table.add_column(names.get(name, name), justify="left" if name == "capability" else "right")
    table.add_column("A")
    table.add_column("B")
    for row in changed.iter_rows(named=True):
        setting = [f"{v:g}" if isinstance(v, float) else str(v) for v in (row[n] for n in found.setting)]
        table.add_row(*setting, row["first"], styled((row["second"], "bold")))
    console.print(table)
