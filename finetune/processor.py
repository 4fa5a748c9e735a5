"""How work is fitted to a processor: subnormals flushed to zero, and no more threads than pay.

Two things cost small models most of a CPU's time, and neither shows in a program's first steps.
Weights, gradients and momenta that die away pass through *subnormal* numbers, on which a CPU's
arithmetic is many times slower; they are flushed to zero here, which changes a number by less than
1.2e-38. And products too small to share are slower on several threads than on one; so a small model
has one thread, and other cores train other fleets. One thread also fixes the order of every sum: a
small model's numbers do not depend on the cores, the engine or the fleet.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from veneer.finetune.workers import worker_context
from veneer.tasks.errors import InputError

T = TypeVar("T")

SMALL = 1_000_000
"""Trained parameters of a model below which one thread is faster than several."""
QUOTA = Path("/sys/fs/cgroup/cpu.max")
PROCESSORS = Path("/proc/cpuinfo")
FLAGS = ("flags", "Features")  # as x86 and Arm name what a processor can do
BFLOAT16 = {"amx_bf16", "avx512_bf16", "bf16"}
_LEAST_NORMAL = 2.0**-126


def cores() -> int:
    """Cores that this process and its workers may use together.

    Those it is allowed to run on, within a container's quota; OMP_NUM_THREADS lowers it further.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if QUOTA.exists():
        quota, period = QUOTA.read_text().split()[:2]
        if quota.isdecimal():
            allowed = min(allowed, max(1, round(int(quota) / int(period))))
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(allowed, max(1, int(asked))) if asked.isdecimal() else allowed


def is_small(parameters: int) -> bool:
    """Whether a model with so many trained parameters has one thread."""
    return parameters < SMALL


def threads_for(parameters: int) -> int:
    """Threads for the products of a model with so many trained parameters: one, or all there are."""
    return 1 if is_small(parameters) else torch.get_num_threads()


def has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16 by itself (AMX, AVX512-BF16, Arm's BF16).

    Others are made to, and are then many times slower than in float32.
    """
    if not PROCESSORS.exists():
        return False
    flags = next((line for line in PROCESSORS.read_text().splitlines() if line.startswith(FLAGS)), "")
    return not BFLOAT16.isdisjoint(flags.partition(":")[2].split())


def flushes_subnormals() -> bool:
    """Whether this thread makes zero of numbers too small to be normal."""
    return bool(torch.tensor(_LEAST_NORMAL) * 0.5 == 0)


def can_flush_subnormals() -> bool:
    """Whether this platform can be told to."""
    before = flushes_subnormals()
    able = torch.set_flush_denormal(True)
    torch.set_flush_denormal(before)
    return able


def settle(threads: int) -> None:
    """Flush subnormals and use so many threads, for the rest of this thread or process.

    For what a thread or worker begins with: threads inherit the flag from the one that starts them.
    """
    keep_freed_memory()
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)


@lru_cache
def keep_freed_memory() -> None:
    """Let glibc keep freed blocks instead of returning them to the kernel at every step.

    Activations of a few MiB are otherwise mapped and faulted in anew at each step, which costs
    up to a third of the time of small models (see ``make bench``). Nothing happens elsewhere.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 32 << 20)
        libc.mallopt(m_trim_threshold, 512 << 20)


def in_threads(works: Sequence[Callable[[], T]], cores: int) -> list[T]:
    """What pieces of work give, in order; each is done on one thread, ``cores`` of them at a time."""
    if min(cores, len(works)) < 2:
        return [work() for work in works]
    with ThreadPoolExecutor(min(cores, len(works)), initializer=settle, initargs=(1,)) as pool:
        return [done.result() for done in [pool.submit(work) for work in works]]


@contextmanager
def in_processes(count: int) -> Iterator[Callable[..., Callable[[], Any]]]:
    """Have work done by worker processes of one thread each.

    Gives a function that takes a module's function and its arguments, has it done, and gives a function
    that waits for the result. With fewer than two processes, that one does the work itself.

    Raises:
        InputError: a worker was killed.
    """
    if count < 2:
        yield lambda work, *given: partial(work, *given)
        return
    pool = ProcessPoolExecutor(count, worker_context(), _begin)
    try:
        yield lambda work, *given: pool.submit(work, *given).result
    except BrokenProcessPool as error:
        problem = "a worker process was killed, perhaps for want of memory"
        raise InputError("jobs", count, "1, which needs the least memory", problem) from error
    except BaseException:  # what they do is not wanted any more
        for process in list((pool._processes or {}).values()):  # there is no public way to them
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """A worker's beginning."""
    settle(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the driver, which ends its workers


@contextmanager
def fitted(threads: int | None = None) -> Iterator[None]:
    """Within it subnormals are flushed, and products have so many threads; both are put back after.

    Args:
        threads: of one product; None leaves them as they are.
    """
    keep_freed_memory()
    before, flushed = torch.get_num_threads(), flushes_subnormals()
    torch.set_flush_denormal(True)
    if threads not in (None, before):
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
        torch.set_flush_denormal(flushed)
