"""``veneer analyse``: look inside a run's models, and show the verdicts."""

import time
from pathlib import Path

import polars as pl
from rich.table import Table

from veneer.commands.options import AnalyseOptions, folder_of, parse
from veneer.commands.progress import console
from veneer.commands.training import device_of
from veneer.experiments.analyse import ANALYSES, Selection, analyse
from veneer.experiments.evidence import known
from veneer.experiments.store import Run
from veneer.report.page import write_report


def command(words: list[str]) -> None:
    """``veneer analyse``."""
    folder, rest = folder_of(words, AnalyseOptions, "veneer analyse RUN", "run")
    analyse_run(folder, parse(AnalyseOptions, rest, f"veneer analyse {folder}"))


def analyse_run(folder: Path, options: AnalyseOptions) -> None:
    """``veneer analyse``: make the tables, write the report again, and show the verdicts.

    Raises:
        InputError: no run, or one that lacks what an analysis needs.
    """
    run, began = Run.read(folder), time.monotonic()
    names = options.only or tuple(ANALYSES)
    with console.status("looking inside") as status:
        chosen = Selection(options.capabilities, options.rates, options.c_tr, options.seeds)
        paths = analyse(run, device_of(options.device), names, lambda text: status.update(text), chosen)
    report = write_report(run)
    if (file := run.path / "analysis" / "verdicts.parquet") in paths:
        verdicts = pl.read_parquet(file)
        console.print(_verdicts(verdicts))
        _print_calibration(verdicts)
    console.print(f"tables: {', '.join(path.name for path in paths)} in {run.path / 'analysis'}")
    console.print(f"[dim]{time.monotonic() - began:.0f} s;[/] report: [bold]{report}[/]")


def _print_calibration(verdicts: pl.DataFrame) -> None:
    """How the rule does on the models whose truth is known by construction."""
    truths, found = known(verdicts)
    if not truths:
        return
    pairs = list(zip(truths, found, strict=True))
    right = sum(truth == kind for truth, kind in pairs)
    swapped = sum(set(pair) == {"wrapped", "rewritten"} for pair in pairs)
    console.print(
        f"constructed models: {right} of {len(truths)} verdicts right, {len(truths) - right - swapped} "
        f"undecided or other, {swapped} taken for the opposite"
    )


def _verdicts(table: pl.DataFrame) -> Table:
    """The verdicts with what decided, one row per setting."""
    shown = Table(title="Verdicts")
    for name, justify in (("model", "left"), ("rate", "right"), ("C_Tr", "right"), ("verdict", "left")):
        shown.add_column(name, justify=justify)  # pyright: ignore[reportArgumentType]
    shown.add_column("because", ratio=1)
    for row in table.iter_rows(named=True):
        own = row["start"] == "capability"
        rate, c_tr = (f"{row[name]:g}" if own else "" for name in ("fine_tuning_rate", "c_tr"))
        strength = "" if row["strength"] == "none" else f" ({row['strength']})"
        because = row["reasons"][0]
        if row["needed"]:
            because += f" It would take {'; '.join(row['needed'])}."
        model = row["capability"] if own else row["start"]
        shown.add_row(model, rate, c_tr, f"[bold]{row['kind']}[/]{strength}", because)
    return shown
