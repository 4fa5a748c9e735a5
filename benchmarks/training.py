"""Fine-tuning of compiled models in the middle and at the end: fleets against a plain loop.

On a CPU ours is what ``veneer run`` does by itself: a process for each core, each with one thread and
its fleets. It is timed in turns with the plain loop as it comes (all cores in each product) and with as
many processes of plain loops as there are cores. All have subnormals flushed.
"""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.contenders import Fleet, PlainLoop, Size, Workers, fleet_job, flops_per_step
from benchmarks.machine import Spread, alternating, matmul_peak
from veneer.finetune.processor import cores, fitted

SIZES = (Size("quick", 16, 600, 10), Size("paper", 45, 100, 4))
MEMBERS = 4
ROUNDS = 5


def rows(device: torch.device) -> list[dict[str, Any]]:
    """Time per model update at quick and paper size, in the middle and at the end of a training."""
    with fitted(cores()):
        peak = matmul_peak(device)
        return [row for size in SIZES for row in (_on_cpu(size, peak) if device.type == "cpu" else [])]


def _on_cpu(size: Size, peak: float) -> list[dict[str, Any]]:
    cpu = torch.device("cpu")
    plain, workers = PlainLoop(fleet_job(size, 1, cpu)), Workers(size, MEMBERS, cores())
    contenders: dict[str, Callable[[int], None]] = {
        "plain": plain.advance,
        "plain, a process for each core": lambda updates: workers.advance("plain", updates),
        "fleets, a process for each core": lambda updates: workers.advance("fleet", updates),
    }
    made = (1, workers.count, workers.count * MEMBERS)  # models that each contender trains at once
    work = flops_per_step(Fleet(fleet_job(size, 1, cpu)).job.model.config, size.batch, size.length + 1)
    found, timed = [], (ROUNDS + 1) * size.block
    try:
        at = 0
        for place, begin in (("middle", size.updates // 2), ("end", size.updates - timed)):
            for advance in contenders.values():
                advance(begin - at)
            works = [lambda a=advance: a(size.block) for advance in contenders.values()]
            spreads = alternating(works, cpu, ROUNDS)
            at = begin + timed
            per_update = [_scaled(s, 1 / size.block / n) for s, n in zip(spreads, made, strict=True)]
            found.append(_row(size, place, dict(zip(contenders, per_update, strict=True)), work, peak))
    finally:
        workers.close()
    return found


def _scaled(spread: Spread, factor: float) -> Spread:
    return Spread(spread.median * factor, spread.least * factor, spread.most * factor)


def _row(size: Size, place: str, times: dict[str, Spread], work: float, peak: float) -> dict[str, Any]:
    plain, processes, ours = (spread.median for spread in times.values())
    return {
        "benchmark": f"fine-tune Counter, {size.name} size, {place} of training",
        **{f"{name}, ms per update": spread.text(1e3) for name, spread in times.items()},
        "ratio": plain / ours,
        "ratio to plain processes": processes / ours,
        "plain, share of peak": work / plain / peak,
        "fleets, share of peak if nothing were left out": work / ours / peak,
        "matmul peak, GFLOP/s": peak / 1e9,
    }
