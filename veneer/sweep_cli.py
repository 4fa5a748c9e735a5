"""``veneer sweep``, ``veneer status``, and ``veneer verify`` of a run: options, and what is printed."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import polars as pl
import torch
from rich.console import Console
from rich.table import Table

from finetune.cell import Fleet, plan
from finetune.engines import InProcess, cores
from finetune.trainer import check_device
from tasks.errors import InputError
from veneer.cells import Prepared
from veneer.cli import RunOptions
from veneer.estimate import calibrate, check_memory
from veneer.experiments import PRESETS, Experiment
from veneer.report import write_report
from veneer.run import fleet_size
from veneer.status import status as look
from veneer.status import verify as problems_of
from veneer.store import Run
from veneer.summary import final_accuracies
from veneer.sweep import Sweep, field_of, prepare_sweep, read_file, split_words, sweep_of
from veneer.terminal import announce, device_of, duration, engine_of, show_run, train_run

ROWS = 40  # of the table at the end
USAGE = f"""\
usage: veneer sweep NAME --FIELD VALUES ... [options]
       veneer sweep --file sweep.toml [options]
names: {", ".join(PRESETS)}
Any field of the experiment takes one value or several (--batch 32,96); the grid is trained as one run.
veneer sweep NAME --help lists the fields and the options
"""
Parse = Callable[..., Any]
console = Console()


@dataclass(frozen=True)
class SweepOptions(RunOptions):
    """Where and how to run the grid."""

    file: Path | None = None
    """A TOML file: experiment = NAME, preset, and a table [axes] with values by field."""
    dry_run: bool = False
    """Say what would be trained, in which fleets, for how long and in how much memory; train nothing."""


def sweep(words: list[str], parse: Parse) -> None:
    """``veneer sweep``.

    Raises:
        InputError: a name, field, value or option that cannot be used; nothing has been written then.
    """
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="")
        if not words:
            sys.exit(2)
        return
    options, grid = _read(words, parse)
    device = device_of(options.device)
    for experiment in grid.experiments:
        check_device(device.type, experiment.precision, experiment.compile)
    size = fleet_size(device) if options.fleet is None else options.fleet
    if size < 1:
        raise InputError("fleet", size, "1 or more")
    if options.jobs < 1:
        raise InputError("jobs", options.jobs, "1 or more")
    assert options.out is not None
    Run.check(options.out, grid.base, grid.axes)
    engine = InProcess() if options.dry_run else engine_of(options, device)
    with console.status("getting the capabilities ready (a compiled one is kept for the next time)"):
        prepared, points = prepare_sweep(grid)
    fleets = plan(prepared.cells, size)
    check_memory(prepared, fleets, device)
    if options.dry_run:
        _show_plan(prepared, fleets, options, grid, device)
        return
    command = f"veneer sweep {shlex.join(words)}"
    run = Run.open(options.out, options.preset, grid.base, grid.axes, command)
    announce(prepared, grid.base, options, device)
    planned = run.plan(prepared.cells, size, points)
    train_run(run, prepared, planned, options, device, engine, grid.experiments)
    show_run(run) if not grid.axes else show_sweep(run)


def _read(words: list[str], parse: Parse) -> tuple[SweepOptions, Sweep]:
    """Options and grid, from the command line and from the file it names."""
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
    out = options.out or Path("runs") / f"{name}-{preset}-sweep"
    return replace(options, out=Path(out)), sweep_of(base, given)


def _flags(settings: dict[str, Any]) -> list[str]:
    """A file's options as words of a command line, which override them."""
    words = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        words += (
            [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
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


def _show_plan(
    prepared: Prepared, fleets: list[Fleet], options: SweepOptions, grid: Sweep, device: torch.device
) -> None:
    """What a sweep would do, from a few real updates of each kind of fleet."""
    assert options.out is not None
    jobs = 1 if options.engine == "in-process" else options.jobs
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, cores() // jobs))
    with console.status("training a few updates of each kind of fleet"):
        kinds = calibrate(prepared, fleets, device)
    torch.set_num_threads(threads)
    there = set(Run(options.out).finished())
    done = sum(cell.id in there for cell in prepared.cells)
    points = len(grid.experiments)
    console.print(
        f"{len(prepared.cells):,} cells at {points:,} point{'s' if points != 1 else ''} of the grid, in "
        f"{len(fleets):,} fleets; {done:,} cells are finished in {options.out}",
        highlight=False,
    )
    table = Table(title="Fleets, from a few updates of each kind")
    for name in ("stage × models", "fleets", "ms per update", "ms per evaluation", "memory, MB", "time"):
        table.add_column(name, justify="right")
    for kind in kinds:
        speeds = (f"{1e3 * kind.update:.1f}", f"{1e3 * kind.evaluation:.1f}", f"{kind.memory / 1e6:,.0f}")
        table.add_row(kind.name, f"{kind.fleets:,}", *speeds, duration(kind.seconds))
    console.print(table)
    share = 1 - done / max(1, len(prepared.cells))
    left = sum(kind.seconds for kind in kinds) * share / jobs
    memory = max(kind.memory for kind in kinds) * jobs
    console.print(
        f"about {duration(left)} for what is left, {jobs} at a time, in {memory / 1e6:,.0f} MB",
        highlight=False,
    )


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


def show_sweep(run: Run) -> None:
    """Write the report, and print the table of a sweep, or its first rows."""
    report = write_report(run)
    found = sweep_table(run)
    table = Table(title="Right answers on natural text after the last update, in percent")
    for name in found.columns:
        table.add_column({"pt": "O_PT", "ft": "O_FT"}.get(name, name), justify="right")
    for row in found.head(ROWS).iter_rows(named=True):
        shown = {k: f"{100 * v:.1f}" if k in ("pt", "ft") else v for k, v in row.items()}
        table.add_row(*(f"{v:g}" if isinstance(v, float) else "–" if v is None else str(v)
                        for v in shown.values()))  # fmt: skip
    console.print(table)
    more = f"; {len(found) - ROWS:,} more rows" if len(found) > ROWS else ""
    console.print(f"all metrics, with a column for each axis: {run.path}/metrics.parquet{more}")
    console.print(f"report: [bold]{report}[/]")


def status(words: list[str], parse: Parse) -> None:
    """``veneer status RUN``: what is done, in training, given up and left."""
    run = Run.read(_folder(words, "status"))
    found = look(run)
    planned, done = found.updates
    share = f" ({done / planned:.0%} of the updates)" if planned else ""
    console.print(f"{found.done:,} of {found.cells:,} cells are finished{share}", highlight=False)
    if found.diverged:
        lost = f"; {found.without_start:,} that would start from them are not trained"
        console.print(f"{found.diverged:,} diverged{lost if found.without_start else ''}", highlight=False)
    moments: tuple[tuple[Literal["running", "interrupted"], str], ...] = (
        ("running", "in training"),
        ("interrupted", "begun, but in nobody's hands"),
    )
    for kind, text in moments:
        for fleet, at in getattr(found, kind).items():
            rate = f", {at.rate:,.0f} model updates/s" if kind == "running" and at.rate else ""
            where = f", process {at.process} on {at.host}" if kind == "running" else ""
            shown = f"{at.step:,} of {at.updates:,} updates{rate}{where}"
            console.print(f"{text}: fleet {fleet}, {at.members} cells, {shown}", highlight=False)
    for fleet, why in found.failed.items():
        console.print(f"given up: fleet {fleet}: {why}", highlight=False)
    if found.seconds_left is not None:
        console.print(f"about {duration(found.seconds_left)} left at this rate", highlight=False)
    elif done < planned:
        console.print(f"nobody is at work on it; the same command goes on{_command(run)}", highlight=False)


def verify(words: list[str], parse: Parse) -> None:
    """``veneer verify RUN``: exits with 1 if a planned cell is missing or damaged."""
    run = Run.read(_folder(words, "verify"))
    problems = problems_of(run)
    for problem in problems:
        print(f"{run.path}: {problem}")
    if problems:
        print(f"the same command makes what is missing or damaged again, and nothing else{_command(run)}")
        sys.exit(1)
    print(f"{run.path}: all {len(run.finished()):,} finished cells are whole, and none is missing")


def _command(run: Run) -> str:
    command = run.experiment.get("command")
    return f": {command}" if command else ""


def _folder(words: list[str], command: str) -> Path:
    if len(words) != 1 or words[0].startswith("-"):
        print(f"usage: veneer {command} RUN    (RUN is a folder made by veneer run or sweep)")
        sys.exit(0 if words[:1] in (["-h"], ["--help"]) else 2)
    return Path(words[0])
