"""What this machine can do, and fair ways to time things beside each other."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch


def synchronize(device: torch.device) -> None:
    """Wait for a GPU's queue."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Median wall time of ``work`` after one warm-up."""
    work()
    times = []
    for _ in range(repeats):
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


@dataclass(frozen=True)
class Spread:
    """Times of one piece of work.

    Attributes:
        median: seconds.
        least: the shortest.
        most: the longest.
    """

    median: float
    least: float
    most: float

    def text(self, scale: float) -> str:
        """Median and range, in units of 1 / scale seconds."""
        return f"{scale * self.median:.3g} ({scale * self.least:.3g} to {scale * self.most:.3g})"


def alternating(
    works: Sequence[Callable[[], object]], device: torch.device, rounds: int = 7, warm: int = 1
) -> list[Spread]:
    """Times of pieces of work that are run in turns, so that a slow minute hits all.

    Args:
        works: the pieces.
        device: whose queue is waited for.
        rounds: how often each is timed.
        warm: how often before.
    """
    times: list[list[float]] = [[] for _ in works]
    for turn in range(warm + rounds):
        for work, kept in zip(works, times, strict=True):
            synchronize(device)
            began = time.perf_counter()
            work()
            synchronize(device)
            if turn >= warm:
                kept.append(time.perf_counter() - began)
    return [Spread(statistics.median(kept), min(kept), max(kept)) for kept in times]


def matmul_peak(device: torch.device, dtype: torch.dtype = torch.float32, size: int = 2048) -> float:
    """Measured FLOP/s of a large square product."""
    size = size * 4 if device.type == "cuda" else size
    a, b = torch.randn(2, size, size, device=device, dtype=dtype).unbind()
    return 2 * size**3 / seconds(lambda: a @ b, device)


def processor_name() -> str:
    """What the processor calls itself, as far as the system tells, and PyTorch's widest vectors."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = named[0] if named else platform.processor() or platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"
