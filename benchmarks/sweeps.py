"""Sweeps: fleets against a plain loop over cells and against one process per cell; planner and store."""

import json
import multiprocessing
import os
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.plain import PlainTransformer
from veneer.experiments.cells import Prepared, prepare
from veneer.experiments.estimate import fleet_size, peak_bytes, reset_peak
from veneer.experiments.named import CounterExperiment
from veneer.experiments.origins import origin
from veneer.experiments.run import Silent, execute, fleet_job
from veneer.experiments.status import diverged_cells
from veneer.experiments.store import Run
from veneer.experiments.sweep import prepare_sweep, sweep_of
from veneer.finetune.cell import Cell, Fleet, Stage, plan
from veneer.finetune.fleet import Evaluation
from veneer.finetune.processor import cores, fitted
from veneer.finetune.recipe import Recipe
from veneer.finetune.trainer import train
from veneer.tasks.mixture import fine_tuning

UPDATES = 8
MANY = 100_000
FLEET = 4  # of the plans that are timed
CPU = torch.device("cpu")
TINY = CounterExperiment(length=6, learning_rates=(1e-2,), c_tr=(0.5,), reft_rates=(), controls=False)


def rows() -> list[dict[str, Any]]:
    """All of this module's measurements."""
    prepared = prepare(TINY)
    with fitted(1):
        measured = [_against_loops(prepared), *_by_number(prepared), _whole(prepared)]
    return [*measured, _planner(prepared), _listing()]


def _cells(prepared: Prepared, count: int, updates: int = UPDATES) -> list[Cell]:
    """Tiny cells that differ by seed."""
    (source,) = prepared.sources.values()
    task = prepared.cells[0].task
    stage = Stage("fine-tune", fine_tuning(0.5), Recipe("sgd", 1e-2, updates, batch=32))
    measured = Evaluation(20, (0, updates))
    return [Cell(origin(source, seed), task, stage, measured, seed) for seed in range(count)]


def _fleets(prepared: Prepared, cells: list[Cell]) -> None:
    for fleet in plan(cells, fleet_size(Prepared(prepared.sources, cells), CPU)):
        train(fleet_job(prepared, None, fleet, CPU))


def _plain(prepared: Prepared, cell: Cell) -> None:
    """One cell as a researcher's own loop trains it, without measuring anything."""
    job = fleet_job(prepared, None, Fleet((cell,)), CPU)
    model = PlainTransformer(job.model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-2, momentum=0.9)
    for batch in islice(job.batches(0), UPDATES):
        loss = F.cross_entropy(model(batch.tokens[0])[:, job.encoding.answer], batch.labels[0])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()


_prepared: Prepared


def _begin(prepared: Prepared) -> None:
    global _prepared
    _prepared = prepared
    torch.set_num_threads(1)


def _in_process(cell: Cell) -> None:
    _plain(_prepared, cell)


def _wait(_: int) -> None:
    time.sleep(0.2)


def _against_loops(prepared: Prepared, count: int = 32) -> dict[str, Any]:
    """Seconds per cell; the pool's processes are started before the clock is."""
    cells = _cells(prepared, count)
    _fleets(prepared, cells[:4])
    fleets = _seconds(lambda: _fleets(prepared, cells))
    loop = _seconds(lambda: [_plain(prepared, cell) for cell in cells])
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores(), context, _begin, (prepared,)) as pool:
        list(pool.map(_wait, range(4 * cores())))
        processes = _seconds(lambda: list(pool.map(_in_process, cells)))
    return {
        "benchmark": f"{count} tiny cells of {UPDATES} updates",
        "plain loop over cells, ms per cell": 1e3 * loop / count,
        f"{cores()} processes over cells, ms per cell": 1e3 * processes / count,
        "fleets in one process (evaluations included), ms per cell": 1e3 * fleets / count,
        "plain loop / fleets": loop / fleets,
        "processes / fleets": processes / fleets,
    }


def _by_number(prepared: Prepared) -> list[dict[str, Any]]:
    """Cost per cell against the number of cells."""
    found = []
    for count in (1, 4, 16, 64, 256):
        cells = _cells(prepared, count)
        reset_peak(CPU)
        spent = _seconds(lambda cells=cells: _fleets(prepared, cells))
        found.append(
            {
                "benchmark": f"number of cells: {count}",
                "ms per cell": 1e3 * spent / count,
                "peak memory, MB": peak_bytes(CPU) / 1e6,
            }
        )
    return found


def _whole(prepared: Prepared, count: int = 256, updates: int = 200) -> dict[str, Any]:
    """A sweep of tiny cells as a run, stored and all, against its updates at the rate of one large fleet."""
    cells = _cells(prepared, count, updates)
    own = Prepared(prepared.sources, cells)
    job = fleet_job(prepared, None, Fleet(tuple(cells[:64])), CPU)
    job.evaluation = Evaluation(1, ())
    ideal = _seconds(lambda: train(job)) * count / 64
    with tempfile.TemporaryDirectory() as folder:
        run = Run.open(Path(folder) / "run", "quick", TINY)
        fleets = run.plan(cells, fleet_size(own, CPU))
        spent = _seconds(lambda: execute(own, run, CPU, fleets, Silent()))
    return {
        "benchmark": f"sweep of {count} tiny cells of {updates} updates, one core",
        "updates at the rate of one large fleet, s": ideal,
        "the run in all, s": spent,
        "times the ideal": spent / ideal,
    }


def _planner(prepared: Prepared) -> dict[str, Any]:
    cells = _cells(prepared, MANY)
    planned = _seconds(lambda: plan(cells, FLEET), time.process_time)
    grid = sweep_of(TINY, {"seeds": [MANY]})
    made = _seconds(lambda: prepare_sweep(grid), time.process_time)
    whole = _seconds(lambda: plan(prepare_sweep(grid)[0].cells, FLEET), time.process_time)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder))
        written = _seconds(lambda: run.plan(cells, FLEET), time.process_time)
    return {
        "benchmark": f"planner, {MANY:,} cells, seconds of CPU",
        "identities and fleets": planned,
        "cells from an experiment, with identities": made,
        "cells from an experiment, identities and fleets": whole,
        "fleets again, and writing the plan": written,
    }


def _listing() -> dict[str, Any]:
    """A store of many finished cells, whose files are links to one."""
    folder = Path(tempfile.mkdtemp())
    try:
        text = json.dumps({"format": 2, "id": "", "status": "done"})
        for i in range(MANY):
            cell = folder / "cells" / f"{i:016x}"
            os.makedirs(cell)
            (cell / "cell.json").write_text(text)
        run = Run(folder)
        listed = _seconds(run.finished, time.process_time)
        diverged = _seconds(lambda: diverged_cells(run, set(run.finished())), time.process_time)
    finally:
        shutil.rmtree(folder)
    return {
        "benchmark": f"store, {MANY:,} finished cells, seconds of CPU",
        "listing": listed,
        "listing, and finding the diverged ones": diverged,
    }


def _seconds(work: Any, clock: Any = time.perf_counter) -> float:
    began = clock()
    work()
    return clock() - began
