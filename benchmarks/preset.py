"""What ``make demo`` costs in all, and where its seconds go.

The commands run as a user gives them, in a folder of their own. Then the same training runs once more in
this process on one thread with a clock around each kind of work, so that the second table is of a core's
time, of a part of the updates, and no stage hides.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from veneer.experiments import run as running
from veneer.experiments.cells import prepare
from veneer.experiments.estimate import fleet_size
from veneer.experiments.named import PRESETS, Experiment
from veneer.experiments.run import Silent, execute
from veneer.experiments.store import Run
from veneer.finetune.fleet import FleetJob
from veneer.finetune.optimizer import FleetOptimizer
from veneer.finetune.processor import fitted
from veneer.tasks.counter import Counter
from veneer.tasks.encoding import Encoding

NAME, SHARE = "counter", 10  # the preset, and the part of its updates that is looked into
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux's prctl
CLOCKED: tuple[tuple[str, Any, str], ...] = (
    ("drawing texts", Counter, "draw"),
    ("encoding texts", Encoding, "encode"),
    ("forward and backward", FleetJob, "worked_out"),
    ("update", FleetOptimizer, "step"),
    ("evaluation", FleetJob, "evaluate"),
    ("attention maps, weights and tables", running, "_store"),
    ("the capability as it starts", running, "_write_capabilities"),
)


def rows() -> list[dict[str, Any]]:
    """Wall and processor time of the commands, and a table of where a core's second goes."""
    return [_commands(), _seconds(PRESETS[NAME]["quick"])]


def _adopt_orphans() -> None:
    """Let processes that a command leaves to end by themselves be ours, so that their time is counted."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)


def _wait_for_orphans(seconds: float = 3.0) -> None:
    end = time.monotonic() + seconds  # a benchmark before this one may have left a process that stays
    with suppress(ChildProcessError):
        while time.monotonic() < end:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.05)


def _commands() -> dict[str, Any]:
    _adopt_orphans()
    found: dict[str, Any] = {"benchmark": "make demo and veneer analyse, as commands"}
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryDirectory() as folder:
        environment["VENEER_CACHE"] = f"{folder}/cache"
        run = f"{folder}/run"
        for words in (("run", NAME, "--out", run), ("analyse", run), ("status", run), ("report", run)):
            before, began = os.times(), time.perf_counter()
            command = [sys.executable, "-m", "veneer", *words]
            subprocess.run(command, check=True, capture_output=True, env=environment)
            wall = time.perf_counter() - began
            _wait_for_orphans()
            after = os.times()
            used = after.children_user + after.children_system
            used -= before.children_user + before.children_system
            found[f"veneer {words[0]}, s (and s of all cores)"] = f"{wall:.1f} ({used:.1f})"
    return found


def _seconds(experiment: Experiment) -> dict[str, Any]:
    """Shares of a core's time by kind of work; what no clock saw is the rest."""
    few = replace(
        experiment,
        iterations=experiment.iterations // SHARE,
        reft_iterations=experiment.reft_iterations // SHARE,
    )
    prepared, spent = prepare(few), defaultdict[str, float](float)
    cpu = torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as clocks, fitted(1):
        for name, owner, attribute in CLOCKED:
            clocked = _clocked(getattr(owner, attribute), name, spent)
            clocks.enter_context(patch.object(owner, attribute, clocked))
        run = Run.open(Path(folder) / "run", "quick", few)
        fleets = run.plan(prepared.cells, fleet_size(prepared, cpu))
        began = time.perf_counter()
        execute(prepared, run, cpu, fleets, Silent())
        whole = time.perf_counter() - began
    spent["the rest"] = whole - sum(spent.values())
    shares = {f"{name}, %": 100 * seconds / whole for name, seconds in _greatest(spent)}
    updates = sum(fleet.steps for fleet in fleets)
    return {
        "benchmark": f"where a core's second of veneer run {NAME} goes (1/{SHARE} of its updates)",
        **shares,
        "all, ms per model update": 1e3 * whole / updates,
    }


def _greatest(spent: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(spent.items(), key=lambda item: -item[1])


_running: list[tuple[str, float]] = []


def _clocked(work: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    """The work, with a clock around it that stops while a clocked part of it runs."""

    def timed(*given: Any, **named: Any) -> Any:
        now = time.perf_counter()
        if _running:
            outer, since = _running[-1]
            spent[outer] += now - since
        _running.append((name, now))
        try:
            return work(*given, **named)
        finally:
            now = time.perf_counter()
            own, since = _running.pop()
            spent[own] += now - since
            if _running:
                _running[-1] = (_running[-1][0], now)

    return timed
