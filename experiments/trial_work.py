"""The work on a folder of trials: one trial after another, in as many processes as are given.

Every process takes the next trial that is neither finished nor held by another one.
"""

import gc
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

from veneer.experiments.trial_folder import TrialFolder
from veneer.finetune.processor import cores, fitted, settle

Progress = Callable[[str, int], None]
"""Called with a trial in words and the updates it has made."""


def work_through(
    run: TrialFolder[Any, Any],
    perform: Callable[[Any], dict[str, Any] | None],
    progress: Progress = lambda told, step: None,
    deadline: float | None = None,
) -> int:
    """Do every trial that is not finished and not held by another process.

    Args:
        run: the folder.
        perform: does one trial; None if what it starts from is not there yet.
        progress: called with 0 updates when a trial is done.
        deadline: time (``time.monotonic``) after which no trial is begun.

    Returns:
        How many were done here.
    """
    count, again = 0, True
    while again:
        again = False
        for trial in run.pending():
            if deadline is not None and time.monotonic() > deadline:
                return count
            with run.claim(trial.id) as mine, fitted():
                if not mine or run.done(trial) or (found := perform(trial)) is None:
                    continue
                run.finish(trial, found)
            count, again = count + 1, True
            progress(trial.told, 0)
            gc.collect()
    return count


def work_beside(
    run: TrialFolder[Any, Any],
    work: Callable[..., int],
    device: torch.device,
    jobs: int,
    progress: Progress,
    deadline: float | None = None,
) -> None:
    """The same in several processes, each with its share of the cores.

    Args:
        run: the folder.
        work: what each process does: a module's function of the folder, the device, and ``deadline``.
        device: where to compute.
        jobs: processes.
        progress: called when a trial is done.
        deadline: as of ``work_through``.

    Raises:
        InputError: what a process refused.
    """
    context = multiprocessing.get_context("spawn")
    left = None if deadline is None else deadline - time.monotonic()
    threads = max(1, cores() // jobs)
    before = len(run.pending())
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        given = (work, type(run), run.path, str(device), threads, left)
        waiting = {pool.submit(_begin, *given) for _ in range(jobs)}
        while waiting:
            done, waiting = wait(waiting, timeout=5)
            for own in done:
                own.result()
            if len(run.pending()) != before:
                before = len(run.pending())
                progress(f"{jobs} processes", 0)


def _begin(
    work: Callable[..., int],
    kind: type[TrialFolder[Any, Any]],
    path: Path,
    device: str,
    threads: int,
    seconds: float | None,
) -> int:
    """The work of one process among several: what it needs crosses as plain values."""
    settle(threads)
    deadline = None if seconds is None else time.monotonic() + seconds
    return work(kind.read(path), torch.device(device), deadline=deadline)
