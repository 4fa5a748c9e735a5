"""What this machine can do, and fair ways to time two things beside each other."""

import statistics
import time
from collections.abc import Callable

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


def alternating(
    first: Callable[[], object], second: Callable[[], object], device: torch.device
) -> tuple[float, float]:
    """Median times of two pieces of work run in turns, so that a slow minute hits both."""
    first()
    second()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(7):
        for work, kept in zip((first, second), times, strict=True):
            synchronize(device)
            began = time.perf_counter()
            work()
            synchronize(device)
            kept.append(time.perf_counter() - began)
    return statistics.median(times[0]), statistics.median(times[1])


def matmul_peak(device: torch.device, dtype: torch.dtype = torch.float32, size: int = 2048) -> float:
    """Measured FLOP/s of a large square product."""
    size = size * 4 if device.type == "cuda" else size
    a, b = torch.randn(2, size, size, device=device, dtype=dtype).unbind()
    return 2 * size**3 / seconds(lambda: a @ b, device)
