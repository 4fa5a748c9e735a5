"""What a run looks like in a terminal: live progress, then a table and the sentence it supports."""

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from finetune.cell import Fleet
from finetune.engines import Engine, InProcess, OnRay, Processes, cores
from finetune.trainer import check_device
from tasks.errors import InputError
from veneer.cells import Prepared, prepare
from veneer.cli import AnalyseOptions, CompileOptions, PretrainOptions, RunOptions
from veneer.experiments import Experiment, PcfgPretraining
from veneer.report import write_report
from veneer.run import execute, fleet_size
from veneer.store import Run
from veneer.summary import revival_sentences, summary_table
from veneer.tensorboard import EventFiles, require_tensorboard

console = Console()


def run_experiment(options: RunOptions, experiment: Experiment) -> None:
    """``veneer run``: train what is not finished, then show what came out.

    Raises:
        InputError: an option or field that cannot be used; nothing has been written then.
    """
    assert options.out is not None
    device = device_of(options.device)
    check_device(device.type, experiment.precision, experiment.compile)
    size = fleet_size(device) if options.fleet is None else options.fleet
    if size < 1:
        raise InputError("fleet", size, "1 or more")
    if not options.checkpoint_seconds >= 0:
        raise InputError("checkpoint_seconds", options.checkpoint_seconds, "0 or more")
    Run.check(options.out, experiment)
    engine = engine_of(options, device)
    began = time.monotonic()
    with console.status("getting the capability ready (a compiled one is kept for the next time)"):
        prepared = prepare(experiment)
    run = Run.open(options.out, options.preset, experiment)
    announce(prepared, experiment, options, device)
    train_run(run, prepared, run.plan(prepared.cells, size), options, device, engine, [experiment])
    show_run(run)
    console.print(f"[dim]{time.monotonic() - began:.0f} s[/]")


def show_run(run: Run) -> None:
    """Write the report, and print what came out."""
    report = write_report(run)
    _conclude(run)
    console.print(f"report: [bold]{report}[/]")


def train_run(
    run: Run,
    prepared: Prepared,
    fleets: list[Fleet],
    options: RunOptions,
    device: torch.device,
    engine: Engine,
    experiments: Iterable[Experiment],
) -> None:
    """Train what is not finished, with a bar; exits with 1 if fleets had to be given up.

    Raises:
        InputError: the folder cannot be written.
    """
    events = EventFiles(run) if options.tensorboard else None
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
            events.write if events else lambda fleet: None,
        )
    for fleet in given_up:
        console.print(f"given up: fleet {fleet.id} of {len(fleet.cells)} cells, whose worker died each time")
    if given_up:
        console.print(f"what starts from them was not trained; veneer status {run.path} shows the rest")
        sys.exit(1)


def engine_of(options: RunOptions, device: torch.device) -> Engine:
    """The engine meant by the options.

    Raises:
        InputError: jobs below 1, an address without Ray, Ray that is not installed or not there.
    """
    if options.jobs < 1:
        raise InputError("jobs", options.jobs, "1 or more")
    if options.address is not None and options.engine != "ray":
        raise InputError("address", options.address, "only with --engine ray")
    if options.tensorboard:
        require_tensorboard()
    match options.engine:
        case "processes":
            return Processes(options.jobs)
        case "ray":
            gpus = 1.0 if device.type == "cuda" else 0.0
            return OnRay(options.address, options.jobs, max(1, cores() // options.jobs), gpus)
    return InProcess()


def file_methods(experiments: Iterable[Experiment]) -> tuple[str, ...]:
    """The experiments' methods that are written in files, so that worker processes can load them."""
    specs = [e.method.rpartition(":") for e in experiments if ".py:" in e.method]
    return tuple(dict.fromkeys(f"{Path(path).resolve()}:{name}" for path, _, name in specs))


def device_of(name: str) -> torch.device:
    """The device meant by an option.

    Raises:
        InputError: cuda without a GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device", name, "cpu or auto", "this machine's PyTorch sees no GPU")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def announce(prepared: Prepared, experiment: Experiment, options: RunOptions, device: torch.device) -> None:
    """Say what is about to be trained, from which capabilities."""
    console.print(f"[bold]{experiment.name}[/] ({options.preset}) on {device.type}: {experiment.about}")
    for source in prepared.sources.values():
        console.print(_described(source.name, source.describe()), highlight=False)
    seeds = "1 seed only: no intervals" if experiment.seeds == 1 else f"{experiment.seeds} seeds"
    console.print(f"{len(prepared.cells)} cells, {seeds}; results in {options.out}")


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


def _conclude(run: Run) -> None:
    table = summary_table(run)
    shown = Table(title=table.title, caption=table.caption, caption_justify="left")
    for name in table.columns:
        shown.add_column(name, justify="right", overflow="fold")
    for row in table.rows:
        shown.add_row(*row)
    console.print(shown)
    for sentence in revival_sentences(run):
        console.print(f"• {sentence}")


def analyse_run(folder: Path, options: AnalyseOptions) -> None:
    """``veneer analyse``: make the tables, write the report again, and show the verdicts.

    Raises:
        InputError: no run, or one that lacks what an analysis needs.
    """
    from veneer.analyse import ANALYSES, Selection, analyse

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
    from veneer.evidence import known

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


def compile_program(program: str, options: CompileOptions) -> None:
    """``veneer compile``: compile, save, and say what came out.

    Raises:
        InputError: what cannot be compiled, or a folder that is there already.
    """
    from compiled.file import compile_file
    from compiled.summary import summary

    if options.out.exists():
        raise InputError("out", str(options.out), "a folder that does not exist yet")
    vocabulary = [int(token) if token.lstrip("-").isdigit() else token for token in options.vocabulary]
    capability = compile_file(
        program,
        vocabulary,
        options.max_length,
        causal=options.causal,
        bos=options.bos,
        pad=options.pad,
        mlp_exactness=options.exactness,
    )
    capability.save(options.out)
    console.print(summary(capability), highlight=False)
    console.print(f"wrote {options.out}/model.safetensors and model.json", highlight=False)


def pretrain(options: PretrainOptions, experiment: PcfgPretraining, command: str) -> None:
    """``veneer pretrain pcfg``: train what is not finished, then show what was learned.

    Raises:
        InputError: an option or field that cannot be used; nothing has been written then.
    """
    from veneer.pretrain import PretrainingRun

    assert options.out is not None
    device = device_of(options.device)
    check_device(device.type, experiment.precision, experiment.compile)
    run = PretrainingRun(experiment, options.out, command)
    members, began = len(run.names), time.monotonic()
    console.print(
        f"[bold]pretraining[/] ({options.preset}) on {device.type}: {members} models, "
        f"{experiment.iterations:,} updates each; results in {options.out}"
    )
    if not run.finished:
        with LiveProgress(members * experiment.iterations) as progress:
            last = 0

            def advance(step: int) -> None:
                nonlocal last
                progress.updates((step - last) * members)
                last = step

            run.execute(device, advance)
    final = run.final()
    table = Table(title="Right answers after pretraining, in percent")
    for name in final.columns:
        table.add_column(name, justify="left" if name == "question" else "right")
    for question, *values in final.iter_rows():
        table.add_row(question, *(f"{100 * value:.1f}" for value in values))
    console.print(table)
    console.print(f"[dim]{time.monotonic() - began:.0f} s[/]")
