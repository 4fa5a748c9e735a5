"""``veneer analyse``: look inside a run's models, and show the verdicts."""

import time
from pathlib import Path

import polars as pl
from rich.table import Table

from veneer.commands.manners import tell
from veneer.commands.options import AnalyseOptions, folder_of, parse
from veneer.commands.progress import Steps, console, following, quoted
from veneer.commands.training import device_of
from veneer.experiments.analyse import ANALYSES, Selection, analyse
from veneer.experiments.evidence import known
from veneer.experiments.store import Run
from veneer.finetune.processor import cores
from veneer.report.page import write_report
from veneer.tasks.errors import InputError


def command(words: list[str]) -> None:
    """``veneer analyse``."""
    folder, rest = folder_of(words, AnalyseOptions, "veneer analyse RUN", "run")
    analyse_run(folder, parse(AnalyseOptions, rest, f"veneer analyse {folder}"))


def analyse_run(folder: Path, options: AnalyseOptions) -> None:
    """``veneer analyse``: make the tables, write the report again, and show the verdicts.

    Raises:
        InputError: no run, or one that lacks what an analysis needs.
    """
    if options.jobs is not None and options.jobs < 1:
        raise InputError("jobs", options.jobs, "1 or more")
    run, began = Run.read(folder), time.monotonic()
    names = options.only or tuple(ANALYSES)
    with Steps() as say:
        chosen = Selection(options.capabilities, options.rates, options.c_tr, options.seeds)
        paths = analyse(run, device_of(options.device), names, say, chosen, options.jobs or cores())
        say("report")
        report = write_report(run)
    file = run.path / "analysis" / "verdicts.parquet"
    verdicts = pl.read_parquet(file) if file in paths else None
    rows = [] if verdicts is None else verdicts.to_dicts()
    if tell("analyse", {"run": str(run.path), "tables": list(map(str, paths)), "verdicts": rows}):
        return
    if verdicts is not None:
        console.print(_verdicts(verdicts))
        _print_calibration(verdicts)
    console.print(
        f"[dim]{time.monotonic() - began:.0f} s; tables in {run.path / 'analysis'}[/]", soft_wrap=True
    )
    following(f"veneer figures {quoted(run.path)}", page=report)


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
    """The verdicts, a line for each setting; the page and ``--json`` have the reasons."""
    several = table["capability"].n_unique() > 1 or (table["start"] != "capability").any()
    shown = Table(title="Verdicts", caption="O_PT and O_FT after fine-tuning, in percent.", padding=(0, 1))
    if several:
        shown.add_column("model", overflow="fold")
    for name in ("rate", "C_Tr", "seeds", "O_PT", "O_FT"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("verdict", overflow="fold")
    for row in table.iter_rows(named=True):
        own = row["start"] == "capability"
        setting = (f"{row[name]:g}" if own else "" for name in ("fine_tuning_rate", "c_tr"))
        reached = ("–" if row[name] is None else f"{row[name]:.0%}"[:-1] for name in ("kept", "learned"))
        strength = "" if row["strength"] == "none" else f" ({row['strength']})"
        model = [row["capability"] if own else row["start"]] if several else []
        shown.add_row(*model, *setting, str(row["seeds"]), *reached, f"[bold]{row['kind']}[/]{strength}")
    return shown
