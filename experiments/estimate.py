"""What a plan will cost, before it is run: a bound on memory, a few updates of each kind of fleet, and
from both the engine that fits it.
"""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from veneer.experiments.cells import Prepared
from veneer.experiments.run import fleet_job
from veneer.finetune.cell import Fleet
from veneer.finetune.engines import Engine, InProcess, Processes
from veneer.finetune.fleet import EVALUATED, SMALL_FLEET, Evaluation
from veneer.finetune.processor import cores, is_small
from veneer.finetune.trainer import train
from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError

PROCESSES_PAY = 8.0  # seconds of a core that are worth the start of workers
SMALL_RATE = 1.5e10  # floating-point operations that a core makes in a second of small products
OVERHEAD = 5e-3  # seconds of a core for an update of a fleet, however small its models
GPU_FLEET = 256  # of written models; reaches nine tenths of what an H100 does with 4,096
CPU_FLEET = 64
SPARE = 4  # times what a fleet needs for certain, which a GPU should have
FLEET_NUMBERS = 500_000  # in one activation of a fleet: 4 models of the quick Counter's size
WORKER_BYTES = 500 << 20  # of a worker process before it trains anything
MEASURED = 6  # kinds of fleets at most; others are read off between them
COUNTED = (0, 1, 0)  # what an update's time, an evaluation's and memory go with, of ``_work``
UPDATES = 4  # made to see how long one takes; the first is not counted


@dataclass(frozen=True)
class Kind:
    """Fleets that cost alike.

    Attributes:
        name: the stage and the number of models.
        fleets: how many.
        update: seconds per update.
        evaluation: seconds per evaluation.
        memory: bytes at most while it trained, all of the process (on a GPU: of PyTorch).
        seconds: for all of them, one after another.
    """

    name: str
    fleets: int
    update: float
    evaluation: float
    memory: int
    seconds: float


def least_bytes(prepared: Prepared, fleet: Fleet) -> int:
    """Bytes that a fleet needs for certain: weights, gradients, optimizer, activations, texts."""
    cell = fleet.cells[0]
    model = prepared.sources[cell.origin.capability].model
    config, recipe, task = model.config, cell.stage.recipe, cell.task
    per_weight = 4 if recipe.optimizer == "sgd" else 5  # where it started, and the optimizer's moments
    inner = config.heads * config.key_size
    per_row = 2 * config.width + 3 * inner + config.heads * config.positions + config.mlp_width
    rows = recipe.batch * config.positions
    # The last block is worked out at the answer alone; it is left out of this bound.
    activations = rows * per_row * max(1, config.blocks - 1)
    texts = cell.evaluation.samples * config.positions * len(EVALUATED) * (1 + task.names_operand) * 8
    return 4 * len(fleet.cells) * (per_weight * model.parameter_count + activations) + texts


def memory_of(device: torch.device) -> int:
    """Bytes of memory that a device has, as far as this process may use it."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    own = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdecimal():
        return min(own, int(text))
    return own


def check_memory(prepared: Prepared, fleets: list[Fleet], device: torch.device) -> None:
    """Refuse a plan in which one fleet alone cannot fit.

    Raises:
        InputError: there is one.
    """
    kinds = {_kind(fleet): fleet for fleet in fleets}
    most, fleet = max(
        ((least_bytes(prepared, fleet), fleet) for fleet in kinds.values()), key=lambda item: item[0]
    )
    have = memory_of(device)
    if most > have:
        cell, size = fleet.cells[0], len(fleet.cells)
        problem = (
            f"{size} models with {cell.stage.recipe.batch:,} samples per update and "
            f"{cell.evaluation.samples:,} evaluation samples need at least {most / 1e9:,.0f} GB; "
            f"this {device.type} has {have / 1e9:,.0f}"
        )
        raise InputError("fleet", size, "smaller fleets, batch or evaluation_samples", problem)


def fleet_size(prepared: Prepared, device: torch.device) -> int:
    """Most models that train together where nobody says how many.

    On a GPU as many as fill it and find room. On a CPU as many as its cache holds the activations of,
    but no more than leave each core a fleet of its own, where a small model's numbers are the same in any.
    """
    if device.type == "cuda":
        singles = {_kind(Fleet((cell,))): Fleet((cell,)) for cell in prepared.cells}
        one = max(least_bytes(prepared, single) for single in singles.values())
        return max(1, min(GPU_FLEET, memory_of(device) // (SPARE * one)))
    models = {key: source.model.config for key, source in prepared.sources.items()}
    kinds = {(cell.origin.capability, cell.stage.recipe.batch) for cell in prepared.cells}
    largest = max(batch * models[key].positions * models[key].width for key, batch in kinds)
    fits = min(CPU_FLEET, max(SMALL_FLEET, FLEET_NUMBERS // largest))
    begun = sum(cell.depth == 0 for cell in prepared.cells)
    return max(1, min(fits, -(-begun // cores())))


def engine_for(
    prepared: Prepared, fleets: list[Fleet], finished: set[str], device: torch.device, jobs: int | None
) -> Engine:
    """Processes with a core each for what is left of a plan of small models on a CPU, if that pays.

    Large models fill the cores by themselves, and a GPU is shared badly: both train in this process.

    Args:
        prepared: the capabilities.
        fleets: the plan.
        finished: ids of the cells that are done.
        device: where to train.
        jobs: most processes; None takes as many as there are cores.
    """
    if device.type != "cpu":
        return InProcess()
    left = [fleet for fleet in fleets if not finished.issuperset(cell.id for cell in fleet.cells)]
    models = [prepared.sources[fleet.cells[0].origin.capability].model for fleet in left]
    most = max((least_bytes(prepared, fleet) for fleet in left), default=0)
    jobs = min(jobs or cores(), len(left), memory_of(device) // (WORKER_BYTES + 2 * most))
    if jobs < 2 or not all(is_small(model.parameter_count) for model in models):
        return InProcess()
    seconds = sum(_seconds(fleet, model) for fleet, model in zip(left, models, strict=True))
    return Processes(jobs) if seconds > PROCESSES_PAY else InProcess()


def _seconds(fleet: Fleet, model: Transformer) -> float:
    """About how long a core trains a fleet of small models."""
    recipe = fleet.cells[0].stage.recipe
    products = 6.0 * model.parameter_count * model.config.positions * recipe.batch * fleet.steps
    return products / SMALL_RATE + OVERHEAD * recipe.iterations


def calibrate(prepared: Prepared, fleets: list[Fleet], device: torch.device) -> list[Kind]:
    """Train one fleet of each kind for a few updates, and multiply.

    Of many kinds, ``MEASURED`` are trained, from the cheapest to the dearest by their arithmetic; what the
    others take lies between these.
    """
    groups: dict[Any, list[Fleet]] = {}
    for fleet in fleets:
        groups.setdefault(_kind(fleet), []).append(fleet)
    work = {kind: _work(prepared, members[0]) for kind, members in groups.items()}
    ordered = sorted(groups, key=lambda kind: work[kind])
    places = np.linspace(0, len(ordered) - 1, min(MEASURED, len(ordered))).round().astype(int)
    tried = {ordered[place]: _measure(prepared, groups[ordered[place]][0], device) for place in places}
    between = [
        _increasing([(work[kind][i], own[column]) for kind, own in tried.items()])
        for column, i in enumerate(COUNTED)
    ]
    found = []
    for kind, members in groups.items():
        read = [np.interp(work[kind][i], *line) for i, line in zip(COUNTED, between, strict=True)]
        update, evaluation, memory = tried.get(kind, map(float, read))
        seconds = sum(
            update * fleet.cells[0].stage.recipe.iterations
            + evaluation * len(fleet.cells[0].evaluation.steps)
            for fleet in members
        )
        name = f"{members[0].cells[0].stage.name} × {len(members[0].cells)}"
        found.append(Kind(name, len(members), update, evaluation, int(memory), seconds))
    return found


def _increasing(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Places in order, each once, and the mean of what was measured there."""
    found: dict[float, list[float]] = {}
    for place, value in sorted(points):
        found.setdefault(place, []).append(value)
    return list(found), [sum(own) / len(own) for own in found.values()]


def _work(prepared: Prepared, fleet: Fleet) -> tuple[float, float]:
    """Operations of an update and of an evaluation, but for a factor."""
    cell, size = fleet.cells[0], len(fleet.cells)
    model = prepared.sources[cell.origin.capability].model
    each = float(size * model.parameter_count * model.config.positions)
    return each * cell.stage.recipe.batch, each * cell.evaluation.samples


def _kind(fleet: Fleet) -> tuple[Any, ...]:
    """What a fleet's cost per update depends on."""
    cell = fleet.cells[0]
    recipe, method = cell.stage.recipe, repr(cell.stage.method.describe())
    own = (cell.stage.name, recipe.optimizer, recipe.batch, recipe.precision, cell.evaluation.samples)
    return (cell.task_id, cell.origin.capability, method, *own, len(fleet.cells))


def _measure(prepared: Prepared, fleet: Fleet, device: torch.device) -> tuple[float, float, int]:
    """Seconds per update and per evaluation, and bytes."""
    times: list[float] = []
    reset_peak(device)
    job = fleet_job(Prepared(prepared.sources, list(fleet.cells)), None, fleet, device)
    job.recipe = replace(job.recipe, iterations=UPDATES, warmup=0)
    job.evaluation = Evaluation(job.evaluation.samples, ())
    job.progress = lambda step: times.append(_now(device))
    train(job)
    job.evaluate()  # makes the texts
    began = _now(device)
    job.evaluate()
    return (times[-1] - times[0]) / (UPDATES - 1), _now(device) - began, peak_bytes(device)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def reset_peak(device: torch.device) -> None:
    """Begin to measure ``peak_bytes`` anew, where the system can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif (file := Path("/proc/self/clear_refs")).exists():
        file.write_text("5")


def peak_bytes(device: torch.device) -> int:
    """Most bytes held: by the process, or on a GPU by PyTorch's tensors."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if not status.exists():
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
