"""Two ways to fine-tune the same cells: a fleet of ours, and the loop that one writes without Veneer.

Both train for real, on the same data at the same rates, so that they can be timed anywhere in their
training; in its first steps no number is small yet, and times say little. ``Workers`` train one of each in
as many processes as there are cores.
"""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from threading import BrokenBarrierError
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.plain import PlainTransformer
from veneer.experiments.cells import prepare
from veneer.experiments.named import CounterExperiment
from veneer.finetune.captured import Course
from veneer.finetune.fleet import Evaluation, FleetJob, Member
from veneer.finetune.optimizer import FleetOptimizer
from veneer.finetune.processor import keep_freed_memory, settle
from veneer.finetune.recipe import Recipe
from veneer.models.config import TransformerConfig
from veneer.tasks.mixture import fine_tuning


@dataclass(frozen=True)
class Size:
    """A training to be timed.

    Attributes:
        name: in reports.
        length: letters per string.
        updates: of the whole training.
        block: updates that are timed at once.
        batch: samples per update.
    """

    name: str
    length: int
    updates: int
    block: int
    batch: int = 96


def flops_per_step(config: TransformerConfig, batch: int, length: int) -> float:
    """Multiply-adds times two of the plain forward and backward pass of one member's step."""
    inner = config.heads * config.key_size
    per_row = 4 * config.width * inner + 2 * config.width * config.mlp_width + 2 * length * inner
    return 3 * 2 * batch * length * (config.blocks * per_row + config.width * config.classes)


def fleet_job(size: Size, members: int, device: torch.device, first_seed: int = 0) -> FleetJob:
    """Noisy copies of the Counter, four rates in turn."""
    prepared = prepare(CounterExperiment(length=size.length))
    recipe = Recipe("sgd", 1e-2, size.updates, warmup=size.updates // 5, batch=size.batch)
    cell = prepared.cells[0]
    model = prepared.start(cell.origin).select([0] * members).to(device)
    fleet = [Member(fine_tuning(0.5), 10.0 ** -(1 + i % 4), first_seed + i) for i in range(members)]
    evaluation = Evaluation(1, ())
    return FleetJob(model, fleet, recipe, cell.task, prepared.encoding(cell), "bench", evaluation)


class Fleet:
    """A fleet, trained step by step as the trainer does.

    Args:
        job: the fleet's.
        captured: whether its updates are one CUDA graph, where they can be.
    """

    def __init__(self, job: FleetJob, captured: bool = True) -> None:
        keep_freed_memory()
        self.job, self.number = job, 0
        job.prepare()
        device = job.model.token_embedding.device
        self.optimizer = FleetOptimizer(job.model, job.recipe, job.rates, set())
        members = len(job.members)
        self.alive = torch.ones(members, dtype=torch.bool, device=device)
        never, nothing = (torch.full((members,), value, device=device) for value in (-1, 0.0))
        course = Course(self.alive, never, nothing.double())
        self._captured = job.captured(self.optimizer, course, 0) if captured else None
        self._batches = job.batches(0)

    def advance(self, updates: int) -> None:
        """Make so many updates of every member."""
        for _ in range(updates):
            self._advance() if self._captured is None else self._captured.update()
            self.number += 1

    def _advance(self) -> None:
        batch = next(self._batches)
        loss, gradient = self.job.worked_out(batch) or (self.job.loss(batch, self.number), None)
        self.alive = self.optimizer.step(loss, self.number, self.alive, gradient)


class PlainLoop:
    """One model, ``torch.optim.SGD``, a scheduler and ``clip_grad_norm_``."""

    def __init__(self, job: FleetJob) -> None:
        device = job.model.token_embedding.device
        self.answer = job.encoding.answer
        self.model = PlainTransformer(job.model.to("cpu")).to(device)
        job.model.to(device)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(self.trained, lr=job.rates[0], momentum=0.9)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, job.recipe.rate_factor)
        self._batches: Iterator[Any] = job.batches(0)

    def advance(self, updates: int) -> None:
        """Make so many updates."""
        for _ in range(updates):
            batch = next(self._batches)
            logits = self.model(batch.tokens[0])[:, self.answer]
            loss = F.cross_entropy(logits, batch.labels[0])
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
            self.optimizer.step()
            self.schedule.step()
            loss.item()


_own: dict[str, Fleet | PlainLoop] = {}
_barrier: Any = None


def _begin(size: Size, members: int, barrier: Any) -> None:
    """A worker's beginning: its own fleet and its own loop, on one thread."""
    global _barrier
    settle(1)
    cpu = torch.device("cpu")
    _barrier = barrier
    _own.update(fleet=Fleet(fleet_job(size, members, cpu)), plain=PlainLoop(fleet_job(size, 1, cpu)))


def _advance(name: str, updates: int) -> None:
    """Wait for the others, so that each worker has its part, and train."""
    try:
        _barrier.wait(600)
    except BrokenBarrierError as error:
        raise RuntimeError("a worker is missing") from error
    _own[name].advance(updates)


class Workers:
    """Processes of one thread each, which train a fleet and a plain loop each when they are told.

    Args:
        size: the training.
        members: of each fleet.
        count: how many processes.
    """

    def __init__(self, size: Size, members: int, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.count = count
        self._pool = ProcessPoolExecutor(count, context, _begin, (size, members, context.Barrier(count)))

    def advance(self, name: str, updates: int) -> None:
        """Have every process make so many updates of its ``fleet`` or ``plain`` loop."""
        for done in [self._pool.submit(_advance, name, updates) for _ in range(self.count)]:
            done.result()

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(wait=True, cancel_futures=True)
