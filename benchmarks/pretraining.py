"""Pretraining of GPTs on a grammar: a fleet against a plain loop in minGPT's style, one model at a time.

Both read the same batches, drawn beforehand; what drawing costs is given as a share of our step. Short
blocks of the two alternate, and times are processor time on a CPU, so that other work on the machine
hits both alike.
"""

import statistics
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.machine import matmul_peak, synchronize
from benchmarks.plain import PlainGPT
from benchmarks.training import flops_per_step
from finetune.initialize import initialize
from finetune.optimizer import FleetOptimizer
from finetune.recipe import Recipe
from finetune.trainer import keep_freed_memory
from pcfg.families import Pretraining, PretrainingBatch, SampleLayout
from pcfg.pretraining import PretrainingJob, gpt

BATCH, ROUNDS = 96, 3
SIZES = {"quick": (SampleLayout.quick(), 96, 2, 4), "paper": (SampleLayout(), 192, 6, 6)}
CASES = (("quick", 1, 4), ("quick", 3, 4), ("quick", 4, 4), ("paper", 1, 1))  # size, members, steps


class PlainLoop:
    """One GPT, ``torch.optim.AdamW`` and ``clip_grad_norm_``."""

    def __init__(self, job: PretrainingJob) -> None:
        self.model = PlainGPT(job.model.member(0))
        decayed = [p for p in self.model.parameters() if p.ndim == 2]
        others = [p for p in self.model.parameters() if p.ndim != 2]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))

    def step(self, batch: PretrainingBatch) -> None:
        """One update on the first member's samples."""
        logits = self.model(batch.inputs[0])
        loss = F.cross_entropy(logits.flatten(0, 1), batch.targets[0].flatten(), ignore_index=batch.padding)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()


class Fleet:
    """Our trainer's step."""

    def __init__(self, job: PretrainingJob) -> None:
        named = [name for name, _ in job.model.named_parameters()]
        decayed = {name for name in named if name.endswith(".weight") and "norm" not in name}
        self.job, self.number = job, 0
        self.alive = torch.ones(job.model.members, dtype=torch.bool, device=job.model.token_embedding.device)
        self.optimizer = FleetOptimizer(job.model, job.recipe, job.rates, decayed | {"unembedding"})

    def step(self, batch: list[PretrainingBatch]) -> None:
        """One update of every member on its own samples."""
        self.alive = self.optimizer.step(self.job.loss(batch), self.number, self.alive)
        self.number += 1


def rows(device: torch.device) -> list[dict[str, Any]]:
    """Time per model update, shares of the matmul peak and of data preparation, by size and fleet."""
    keep_freed_memory()
    peak = _peak(device)
    return [_row(size, members, steps, peak, device) for size, members, steps in CASES]


def _row(size: str, members: int, steps: int, peak: float, device: torch.device) -> dict[str, Any]:
    layout, *shape = SIZES[size]
    config = gpt(layout, *shape)
    seeds = list(range(members))
    model = initialize(config, seeds).to(device)
    recipe = Recipe("adamw", 1e-3, 10_000, batch=BATCH)
    job = PretrainingJob(model, [Pretraining(layout)] * members, seeds, recipe, ())
    batches = list(islice(job.batches(0), steps))
    plain, fleet = PlainLoop(job), Fleet(job)

    def draw() -> None:
        for _ in islice(job.batches(steps), steps):
            pass

    def train_plain() -> None:
        for batch in batches:
            plain.step(batch[0])

    def train_fleet() -> None:
        for batch in batches:
            fleet.step(batch)

    per_step = [seconds / steps for seconds in alternating_work([train_plain, train_fleet, draw], device)]
    per_update, data = per_step[1] / members, per_step[2]
    work = flops_per_step(config, BATCH, layout.length - 1)
    return {
        "benchmark": f"pretrain, {size} size, fleet of {members}",
        "plain loop, ms per update": 1e3 * per_step[0],
        "fleet, ms per update": 1e3 * per_update,
        "ratio": per_step[0] / per_update,
        "plain loop, share of peak": work / per_step[0] / peak,
        "fleet, share of peak": work / per_update / peak,
        "data preparation, share of a step": data / (data + per_step[1]),
        "matmul peak, GFLOP/s": peak / 1e9,
    }


def alternating_work(works: list[Callable[[], object]], device: torch.device) -> list[float]:
    """Median seconds of pieces of work run in turns: of processor time on a CPU, of the clock on a GPU."""
    times: list[list[float]] = [[] for _ in works]
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    for turn in range(ROUNDS + 1):
        for work, kept in zip(works, times, strict=True):
            synchronize(device)
            began = clock()
            work()
            synchronize(device)
            if turn:  # the first warms up
                kept.append(clock() - began)
    return [statistics.median(kept) for kept in times]


def _peak(device: torch.device) -> float:
    if device.type != "cpu":
        return matmul_peak(device)
    a, b = torch.randn(2, 2048, 2048).unbind()
    return 2 * 2048**3 / alternating_work([lambda: torch.mm(a, b)], device)[0]
