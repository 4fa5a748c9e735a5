"""``veneer sweep``: a grid of experiments as one run, and what it would cost."""

import shlex
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import polars as pl

from veneer.commands.manners import runs_folder, tell
from veneer.commands.options import SweepOptions, parse
from veneer.commands.progress import Steps, duration, following, quoted
from veneer.commands.run import with_programs
from veneer.commands.screen import Table, console
from veneer.commands.slurm import write_job
from veneer.commands.training import announce, check_options, engine_of, show_run, train_run
from veneer.experiments.begin import Ready, ask
from veneer.experiments.estimate import MEASURED, calibrate, engine_for
from veneer.experiments.named import PRESETS, Experiment
from veneer.experiments.store import Run
from veneer.experiments.summary import final_accuracies
from veneer.experiments.sweep import Sweep, field_of, read_file, split_words, sweep_of
from veneer.finetune.engines import InProcess
from veneer.finetune.processor import cores, fitted
from veneer.report.page import write_report
from veneer.tasks.errors import InputError

ROWS = 40  # of the table at the end
HEADS = {
    "fine_tuning_rate": "fine-tuned at",
    "c_tr": "C_Tr",
    "learning_rate": "rate",
    "pt": "O_PT",
    "ft": "O_FT",
}
"""Its heads where a column's own name is too wide for 80 columns."""
USAGE = f"""\
usage: veneer sweep NAME --FIELD VALUES ... [options]
       veneer sweep --file sweep.toml [options]
names: {", ".join(PRESETS)}
Any field of the experiment takes one value or several (--batch 32,96); the grid is trained as one run.
veneer sweep NAME --help lists the fields and the options
"""


def command(words: list[str]) -> None:
    """``veneer sweep``.

    Raises:
        InputError: a name, field, value or option that cannot be used; nothing has been written then.
    """
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="")
        if not words:
            sys.exit(2)
        return
    options, grid = _read(words)
    check_options(options)
    assert options.out is not None
    asked = ask(grid, options.out, options.device, options.fleet, options.reuse)
    if options.slurm is not None:
        if options.dry_run:
            raise InputError("slurm", options.slurm, "no --dry-run beside it, which writes nothing")
        file = write_job(words, options.out, options.slurm)
        console.print(f"wrote {file}", soft_wrap=True)
        following(f"sbatch {quoted(file)}", f"veneer status {quoted(options.out)}")
        return
    engine = InProcess() if options.dry_run else engine_of(options, asked.device)
    with Steps() as say:
        ready = asked.ready(say)
    if options.dry_run:
        _show_plan(ready, options)
        return
    begun = ready.begin(options.preset, f"veneer sweep {shlex.join(words)}")
    run = begun.run
    announce(begun.prepared, grid.base, options, begun.device, grid.axes, begun.reused)
    train_run(run, begun.prepared, begun.fleets, options, begun.device, engine, grid.experiments)
    page = show_sweep(run) if grid.axes else show_run(run, "sweep")
    following(f"veneer analyse {quoted(run.path)}", page=page)


def _read(words: list[str]) -> tuple[SweepOptions, Sweep]:
    """Options and grid, from the command line and from the file it names."""
    words = with_programs(words)
    path = next((w.partition("=")[2] or n for w, n in zip(words, [*words[1:], ""], strict=True)
                 if w.partition("=")[0] == "--file"), None)  # fmt: skip
    named, settings, written = read_file(Path(path)) if path else (None, {}, {})
    name, rest = (words[0], words[1:]) if not words[0].startswith("-") else (named, words)
    if name not in PRESETS or (named and name != named):
        raise InputError("experiment", name, named or ", ".join(PRESETS))
    preset: Any = _value(rest, "--preset") or settings.get("preset", "quick")
    if preset not in PRESETS[name]:
        raise InputError("preset", preset, ", ".join(PRESETS[name]))
    base = PRESETS[name][preset]
    rest = ["--help" if word == "-h" else word for word in rest]
    if "--help" in rest:
        _help(base)
    known = {part.name for part in fields(SweepOptions)}
    if strange := set(settings) - known:
        raise InputError("file", path, f"experiment, [axes] and {', '.join(sorted(known))}", f"has {strange}")
    axes, flags = split_words(base, rest, known)
    given = {field_of(base, word): values for word, values in written.items()} | axes
    options = parse(SweepOptions, [*_flags(settings), *flags], f"veneer sweep {name}", SweepOptions(preset))
    out = options.out or runs_folder() / f"{name}-{preset}-sweep"
    return replace(options, out=Path(out)), sweep_of(base, given)


def _flags(settings: dict[str, Any]) -> list[str]:
    """A file's options as words of a command line, which override them."""
    words = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        words += (
            [f"--{'' if value else 'no-'}{flag}"]
            if isinstance(value, bool)
            else [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
        )
    return words


def _value(words: list[str], flag: str) -> str | None:
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == flag:
            return value if equals else (words[i + 1] if i + 1 < len(words) else "")
    return None


def _help(base: Experiment) -> None:
    print(f"fields of {base.name}, each with one value or several (--batch 32,96):")
    for part in fields(base):
        print(f"  --{part.name.replace('_', '-'):22} now {getattr(base, part.name)}")
    print()


def _show_plan(ready: Ready, options: SweepOptions) -> None:
    """What a sweep would do, from a few real updates of each kind of fleet."""
    prepared, fleets, device, grid = ready.prepared, ready.fleets, ready.asked.device, ready.asked.sweep
    there = ready.finished()
    left = [fleet for fleet in fleets if not all(cell.id in there for cell in fleet.cells)]
    jobs = options.jobs or cores()
    if options.engine == "auto":
        jobs = engine_for(prepared, fleets, there, device, options.jobs).slots
    elif options.engine == "in-process":
        jobs = 1
    done = sum(cell.id in there for cell in prepared.cells)
    points = len(grid.experiments)
    where = " or ".join(dict.fromkeys(map(str, (options.out, *options.reuse))))
    console.print(
        f"{len(prepared.cells):,} cells at {points:,} point{'s' if points != 1 else ''} of the grid, in "
        f"{len(fleets):,} fleets; {done:,} cells are finished in {where}"
    )
    if not left:
        return
    with Steps() as say, fitted(max(1, cores() // jobs)):
        say("training a few updates of each kind of fleet")
        kinds = calibrate(prepared, left, device)
    few = "each kind" if len(kinds) <= MEASURED else f"{MEASURED} of {len(kinds):,} kinds"
    table = Table(title=f"Fleets, from a few updates of {few}")
    for name in ("stage × models", "fleets", "ms per update", "ms per evaluation", "memory, MB", "time"):
        table.add_column(name, justify="right")
    for kind in kinds[:ROWS]:
        speeds = (f"{1e3 * kind.update:.1f}", f"{1e3 * kind.evaluation:.1f}", f"{kind.memory / 1e6:,.0f}")
        table.add_row(kind.name, f"{kind.fleets:,}", *speeds, duration(kind.seconds))
    console.print(table)
    if len(kinds) > ROWS:
        console.print(f"{len(kinds) - ROWS:,} more kinds of fleets, counted below")
    seconds = sum(kind.seconds for kind in kinds) / jobs
    memory = max(kind.memory for kind in kinds) * jobs
    console.print(f"about {duration(seconds)} for what is left, {jobs} at a time, in {memory / 1e6:,.0f} MB")


def sweep_table(run: Run) -> pl.DataFrame:
    """Final accuracy on natural text at each point of the grid, means over seeds.

    Returns:
        A column for each axis, then stage, fine_tuning_rate, c_tr, learning_rate, pt, ft, seeds.
    """
    keys = [*run.experiment.get("axes", {}), "capability", "stage", "fine_tuning_rate", "c_tr"]
    keys.append("learning_rate")
    final = final_accuracies(run).filter((pl.col("texts") == "natural") & (pl.col("start") == "capability"))
    at = final.group_by(*keys, maintain_order=True).agg(
        *(pl.col("value").filter(pl.col("operand") == o).mean().alias(o) for o in ("pt", "ft")),
        seeds=pl.col("seed").n_unique(),
    )
    return at.sort(keys)


def show_sweep(run: Run) -> Path:
    """Write the report, and print the table of a sweep, or its first rows; returns the report."""
    report = write_report(run)
    found = sweep_table(run)
    if tell("sweep", {"run": str(run.path), "cells": len(run.finished()), "natural": found.to_dicts()}):
        return report
    table = Table(title="Right answers on natural text after the last update, in percent")
    shown = found if found["capability"].n_unique() > 1 else found.drop("capability")
    for name in shown.columns:
        table.add_column(HEADS.get(name, name), justify="right", overflow="fold")
    for row in shown.head(ROWS).iter_rows(named=True):
        table.add_row(*(_cell(name, value) for name, value in row.items()))
    console.print(table)
    more = f"; {len(found) - ROWS:,} more rows" if len(found) > ROWS else ""
    console.print(f"all metrics, with a column for each axis: {run.path}/metrics.parquet{more}")
    return report


def _cell(name: str, value: Any) -> str:
    """A value of the table of a sweep, accuracies in percent."""
    if value is None:
        return "–"
    if name in ("pt", "ft"):
        return f"{100 * value:.1f}"
    return f"{value:g}" if isinstance(value, float) else str(value)
