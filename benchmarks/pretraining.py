"""Pretraining of GPTs on a grammar: a fleet against a plain loop, one model at a time.

The plain loop stands here twice: with minGPT's own block (attention and GELU written out, no dropout), and
with fused attention and GELU, as one would write it for speed today.

All read the same batches, drawn beforehand; what drawing costs is given as a share of our step. Short
blocks of them alternate, so that a slow minute hits all alike. Where the processor multiplies in bfloat16,
our step is timed in it too.
"""

from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.contenders import flops_per_step
from benchmarks.machine import alternating, matmul_peak
from benchmarks.plain import GPTBlock, MinGPTBlock, PlainGPT
from veneer.finetune.initialize import initialize
from veneer.finetune.optimizer import FleetOptimizer
from veneer.finetune.processor import cores, fitted, has_bfloat16, keep_freed_memory
from veneer.finetune.recipe import Recipe
from veneer.finetune.turns import Turns
from veneer.pcfg.families import Pretraining, PretrainingBatch, SampleLayout
from veneer.pcfg.pretraining import PretrainingJob, gpt

BATCH, ROUNDS = 96, 5
SIZES = {"quick": (SampleLayout.quick(), 96, 2, 4), "paper": (SampleLayout(), 192, 6, 6)}
MIDDLE = {"quick": 40, "paper": 0}  # updates on the same batches before the clock starts
CASES = (("quick", 1, 4), ("quick", 3, 4), ("quick", 4, 4), ("paper", 1, 1))  # size, members, steps


class PlainLoop:
    """One GPT, ``torch.optim.AdamW`` and ``clip_grad_norm_``."""

    def __init__(self, job: PretrainingJob, block: type[GPTBlock]) -> None:
        self.model = PlainGPT(job.model.member(0), block)
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

    def __init__(self, job: PretrainingJob, precision: str = "float32") -> None:
        named = [name for name, _ in job.model.named_parameters()]
        decayed = {name for name in named if name.endswith(".weight") and "norm" not in name}
        self.job, self.number = job, 0
        self.alive = torch.ones(job.model.members, dtype=torch.bool, device=job.model.token_embedding.device)
        self.optimizer = FleetOptimizer(job.model, job.recipe, job.rates, decayed | {"unembedding"})
        on_cpu = self.alive.device.type == "cpu"
        self.turns = Turns(job.model, cores(), precision) if on_cpu else None

    def step(self, batch: list[PretrainingBatch]) -> None:
        """One update of every member on its own samples."""
        if self.turns is None:
            loss, gradient = self.job.loss(batch), None
        else:
            loss, gradient = self.turns.gradient(self.job.parts(batch))
        self.alive = self.optimizer.step(loss, self.number, self.alive, gradient)
        self.number += 1


def rows(device: torch.device) -> list[dict[str, Any]]:
    """Time per model update, shares of the matmul peak and of data preparation, by size and fleet."""
    keep_freed_memory()
    with fitted(cores()):
        peak = matmul_peak(device)
        return [_row(size, members, steps, peak, device) for size, members, steps in CASES]


def _row(size: str, members: int, steps: int, peak: float, device: torch.device) -> dict[str, Any]:
    layout, *shape = SIZES[size]
    config = gpt(layout, *shape)
    seeds = list(range(members))
    model = initialize(config, seeds).to(device)
    recipe = Recipe("adamw", 1e-3, 10_000, batch=BATCH)
    job = PretrainingJob(model, [Pretraining(layout)] * members, seeds, recipe, ())
    batches = list(islice(job.batches(0), steps))
    mingpt, fused, fleet = PlainLoop(job, MinGPTBlock), PlainLoop(job, GPTBlock), Fleet(job)
    halves = []
    if device.type == "cpu" and has_bfloat16():
        halves = [Fleet(replace(job, model=initialize(config, seeds)), "bfloat16")]

    def draw() -> None:
        for _ in islice(job.batches(steps), steps):
            pass

    def train_plain(loop: PlainLoop) -> None:
        for batch in batches:
            loop.step(batch[0])

    def train_fleet(ours: Fleet) -> None:
        for batch in batches:
            ours.step(batch)

    trained = [partial(train_plain, loop) for loop in (mingpt, fused)]
    trained += [partial(train_fleet, ours) for ours in (fleet, *halves)]
    for work in trained:
        for _ in range(MIDDLE[size] // steps):
            work()
    times = alternating([draw, *trained], device, ROUNDS)
    data, per_mingpt, per_fused, per_step, *per_half = (time.median / steps for time in times)
    per_update = per_step / members
    work = flops_per_step(config, BATCH, layout.length - 1)
    return {
        "benchmark": f"pretrain, {size} size, fleet of {members}",
        "minGPT's loop, ms per update": 1e3 * per_mingpt,
        "the same with fused attention and GELU": 1e3 * per_fused,
        "fleet, ms per update": 1e3 * per_update,
        "ratio": per_mingpt / per_update,
        "ratio to the fused loop": per_fused / per_update,
        "minGPT's loop, share of peak": work / per_mingpt / peak,
        "fused loop, share of peak": work / per_fused / peak,
        "fleet, share of peak": work / per_update / peak,
        "data preparation, share of a step": data / (data + per_step),
        "matmul peak, GFLOP/s": peak / 1e9,
        **_in_bfloat16(per_half, per_step, members, device),
    }


def _in_bfloat16(
    per_step: list[float], in_float32: float, members: int, device: torch.device
) -> dict[str, float]:
    """What the row says of our step in bfloat16, where that was timed."""
    if not per_step:
        return {}
    return {
        "fleet in bfloat16, ms per update": 1e3 * per_step[0] / members,
        "float32 to bfloat16, times as long": in_float32 / per_step[0],
        "matmul peak in bfloat16, GFLOP/s": matmul_peak(device, torch.bfloat16) / 1e9,
    }
