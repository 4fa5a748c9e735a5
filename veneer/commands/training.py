"""What ``veneer run`` and ``veneer sweep`` share: device, engine, training, and what is shown after it."""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from veneer.commands.manners import tell
from veneer.commands.options import RunOptions
from veneer.commands.progress import LiveProgress
from veneer.commands.screen import Table, console, styled
from veneer.commands.verdicts import show_verdicts
from veneer.experiments.cells import Prepared
from veneer.experiments.content import ReadRun
from veneer.experiments.curves import courses
from veneer.experiments.estimate import engine_for
from veneer.experiments.named import Experiment
from veneer.experiments.run import execute
from veneer.experiments.store import Run
from veneer.experiments.summary import summary_table
from veneer.experiments.tracking import Curves, require
from veneer.finetune.cell import Fleet
from veneer.finetune.engines import Engine, InProcess, OnRay, Processes
from veneer.finetune.methods import is_file_spec, source_file
from veneer.finetune.processor import can_flush_subnormals, cores
from veneer.tasks.errors import InputError


def check_options(options: RunOptions) -> None:
    """Refuse numbers that no training can be done with.

    Raises:
        InputError: jobs below 1 or more than processes make sense, or a time that is none.
    """
    most = 16 * cores()
    if options.jobs is not None and not 1 <= options.jobs <= most:
        raise InputError("jobs", options.jobs, f"1 to {most}, of which each has a process of its own")
    if not 0 <= options.checkpoint_seconds < float("inf"):
        raise InputError("checkpoint_seconds", options.checkpoint_seconds, "a finite number, 0 or more")


def engine_of(options: RunOptions, device: torch.device) -> Engine | None:
    """The engine meant by the options; None where the plan is to choose it (``estimate.engine_for``).

    Raises:
        InputError: jobs below 1, an address without Ray, Ray that is not installed or not there.
    """
    check_options(options)
    if options.address is not None and options.engine != "ray":
        raise InputError("address", options.address, "only with --engine ray")
    require(options.log_to)
    jobs = options.jobs or cores()
    match options.engine:
        case "processes":
            return Processes(jobs)
        case "ray":
            gpus = 1.0 if device.type == "cuda" else 0.0
            return OnRay(options.address, jobs, max(1, cores() // jobs), gpus)
        case "in-process":
            return InProcess()
    return None


OPERANDS = {"'a'": "operand_pt", "'b'": "operand_ft", "5th": "rank_pt", "7th": "rank_ft"}
"""Fields of an experiment, by their defaults as ``Experiment.about`` has them."""


def about(experiment: Experiment, axes: Mapping[str, Sequence[Any]]) -> str:
    """What an experiment does, with its own operands; of an axis with each."""

    def own(found: re.Match[str]) -> str:
        name = OPERANDS[found[0]]
        values = axes.get(name, [getattr(experiment, name)])
        return " or ".join(f"'{value}'" if isinstance(value, str) else _ordinal(value) for value in values)

    return re.sub("|".join(OPERANDS), own, experiment.about)


def _ordinal(number: int) -> str:
    last = "th" if number in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{last}"


def announce(
    prepared: Prepared,
    experiment: Experiment,
    options: RunOptions,
    device: torch.device,
    axes: Mapping[str, Sequence[Any]] | None = None,
    reused: int = 0,
) -> None:
    """Say what is about to be trained, from which capabilities."""
    rest = f" ({options.preset}) on {device.type}: {about(experiment, axes or {})}"
    console.print(styled((experiment.name, "bold"), rest))
    for name, alike in groupby(prepared.sources.values(), key=lambda source: source.name):
        first, *others = alike
        own = "; each seed starts from its own pretraining" if others else ""
        console.print(_described(name, first.describe()) + own)
    seeds = "1 seed only: no intervals" if experiment.seeds == 1 else f"{experiment.seeds} seeds"
    if experiment.first_seed:
        seeds = f"{seeds}; the first seed is {experiment.first_seed}"
    console.print(f"{len(prepared.cells)} cells, {seeds}; results in {options.out}")
    if options.reuse:
        console.print(f"{reused} of them are taken over from {', '.join(map(str, options.reuse))}")


def _described(name: str, about: dict[str, Any]) -> str:
    """A capability in one line."""
    if about["kind"] == "written":
        return (
            f"compiled: {about['parameters']:,} parameters, exactness {about['exactness']}, noise "
            f"{about['noise']:g}; O_PT accuracy {about['accuracy_before']:.2%} before and "
            f"{about['accuracy_after']:.2%} after noise"
        )
    prior = ", ".join(f"{p:g}" for p in about["operand_prior"])
    return (
        f"{name}: {about['parameters']:,} parameters, pretrained for {about['iterations']:,} updates with "
        f"operands at ({prior})"
    )


def train_run(
    run: Run,
    prepared: Prepared,
    fleets: list[Fleet],
    options: RunOptions,
    device: torch.device,
    engine: Engine | None,
    experiments: Iterable[Experiment],
) -> None:
    """Train what is not finished, with a bar; exits with 1 if fleets had to be given up.

    Raises:
        InputError: the folder cannot be written.
    """
    engine = engine or engine_for(prepared, fleets, set(run.finished()), device, options.jobs)
    if device.type == "cpu" and not can_flush_subnormals():
        console.print("this processor cannot flush subnormal numbers to zero: training may be slow")
    curves = Curves(run, options.log_to) if options.log_to else None
    with LiveProgress(sum(fleet.steps for fleet in fleets)) as progress:
        given_up = execute(
            prepared,
            run,
            device,
            fleets,
            progress,
            options.checkpoint_seconds,
            engine,
            file_methods(experiments),
            curves,
        )
    for fleet in given_up:
        console.print(f"given up: fleet {fleet.id} of {len(fleet.cells)} cells, whose worker died each time")
    if given_up:
        console.print(f"what starts from them was not trained; veneer status {run.path} shows the rest")
        sys.exit(1)


def file_methods(experiments: Iterable[Experiment]) -> tuple[str, ...]:
    """The experiments' methods that are written in files, so that worker processes can load them."""
    specs = [e.method for e in experiments if is_file_spec(e.method)]
    named = (f"{source_file(spec).resolve()}:{spec.rpartition(':')[2]}" for spec in specs)
    return tuple(dict.fromkeys(named))


def show_run(run: Run, command: str = "run") -> Path:
    """Write the report, and print what came out; returns the report."""
    from veneer.report.page import write_report  # loads plotly, which workers and refusals do without

    read = ReadRun(run.path)  # read and judged once, for the page and for the terminal
    report = write_report(read)
    found = [asdict(course) for course in courses(read)]
    if not tell(command, {"run": str(run.path), "cells": len(run.finished()), "curves": found}):
        _conclude(read)
    return report


def _conclude(run: ReadRun) -> None:
    table = summary_table(run)
    shown = Table(title=table.title, caption=table.caption, caption_justify="left")
    for name in table.columns:
        shown.add_column(name, justify="right", overflow="fold")
    for row in table.rows:
        shown.add_row(*row)
    console.print(shown)
    if run.experiment["fields"]["reft_rates"] and not run.experiment.get("axes"):
        show_verdicts(run.judged)
