"""The parts of ``make device-check`` on the card itself, on GPTs, and on a whole grid of the paper's."""

import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from typing import Any

import torch

from benchmarks.contenders import Fleet, flops_per_step
from benchmarks.device_common import Part
from benchmarks.machine import matmul_peak, processor_name
from veneer.experiments.run import fleet_job as cells_job
from veneer.finetune.fleet import FleetJob
from veneer.finetune.initialize import initialize
from veneer.finetune.optimizer import FleetOptimizer
from veneer.finetune.recipe import Recipe
from veneer.models.config import TransformerConfig
from veneer.pcfg.families import Pretraining, SampleLayout
from veneer.pcfg.pretraining import PretrainingJob, gpt


def machine(part: Part) -> None:
    """The card, and what its products reach."""
    part.tell({"torch": torch.__version__, "processor": processor_name()})
    if not part.dry:
        about = torch.cuda.get_device_properties(part.device)
        part.tell(
            {
                "device": about.name,
                "memory, GB": round(about.total_memory / 1e9, 1),
                "multiprocessors": about.multi_processor_count,
                "capability": list(torch.cuda.get_device_capability(part.device)),
                "cuda": torch.version.cuda,
            }
        )
    size = 128 if part.dry else 2048
    part.attempt("float32, TFLOP/s", lambda: matmul_peak(part.device, torch.float32, size) / 1e12)
    part.attempt("bfloat16, TFLOP/s", lambda: matmul_peak(part.device, torch.bfloat16, size) / 1e12)
    if not part.dry:
        torch.backends.cuda.matmul.allow_tf32 = True
        part.attempt("TF32, TFLOP/s", lambda: matmul_peak(part.device, torch.float32, size) / 1e12)


def gpu_tests(part: Part) -> None:
    """The tests that need a GPU; in a dry run there are none."""
    if part.dry:
        part.tell({"tests": "need CUDA"})
        return
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=max(5, part.left))
    part.tell({"exit": done.returncode, "said": done.stdout.strip().splitlines()[-8:]})


def _gpt_job(part: Part, members: int, precision: str, compiled: bool, batch: int) -> PretrainingJob:
    layout = SampleLayout.quick() if part.dry else SampleLayout()
    config: TransformerConfig = gpt(layout, 16, 1, 2) if part.dry else gpt(layout, 192, 6, 6)
    seeds = list(range(members))
    recipe = Recipe("adamw", 1e-3, 10_000, batch=batch, precision=precision)  # pyright: ignore[reportArgumentType]
    model = initialize(config, seeds).to(part.device)
    return PretrainingJob(model, [Pretraining(layout)] * members, seeds, recipe, (), compile=compiled)


def _gpt_rate(
    part: Part, members: int, precision: str = "float32", tf32: bool = False, compiled: bool = False
) -> Any:
    """Milliseconds per update of each of a fleet's GPTs, drawing included, and the memory it takes."""
    batch = 4 if part.dry else 96
    job = _gpt_job(part, members, precision, compiled, batch)
    if not part.dry:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.cuda.reset_peak_memory_stats()
    optimizer = FleetOptimizer(job.model, job.recipe, job.rates, set())
    alive = torch.ones(members, dtype=torch.bool, device=part.device)
    half = torch.autocast(part.device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
    batches, number = job.batches(0), 0

    def advance(updates: int) -> None:
        nonlocal alive, number
        for drawn in islice(batches, updates):
            with half:
                loss = job.loss(drawn, number)
            alive = optimizer.step(loss, number, alive)
            number += 1

    per_step = part.per_update(advance, 0.3 if part.dry else 4.0)
    work = flops_per_step(job.model.config, batch, job.layout.length - 1)
    found = {
        "ms per model update": 1e3 * per_step / members,
        "model updates/s": members / per_step,
        "TFLOP/s of the plain count": work * members / per_step / 1e12,
        "loss is finite": bool(alive.all()),
    }
    if not part.dry:
        found["memory, GB"] = torch.cuda.max_memory_allocated() / 1e9
    return found


def precision(part: Part) -> None:
    """One GPT of the paper's size in each arithmetic."""
    part.attempt("float32", lambda: _gpt_rate(part, 1))
    part.attempt("bfloat16", lambda: _gpt_rate(part, 1, "bfloat16"))
    if not part.dry:
        part.attempt("TF32", lambda: _gpt_rate(part, 1, tf32=True))
        part.attempt("bfloat16, compiled", lambda: _gpt_rate(part, 1, "bfloat16", compiled=True))


def pretraining(part: Part) -> None:
    """Fleets of GPTs that pretrain at the paper's size, by arithmetic."""
    for members in (1, 2) if part.dry else (1, 3, 9):
        for arithmetic in ("float32", "bfloat16"):
            if part.left > 5:
                part.attempt(
                    f"fleet of {members}, {arithmetic}", lambda m=members, p=arithmetic: _gpt_rate(part, m, p)
                )


def grid(part: Part) -> None:
    """The grid of Table 3, one fleet of all its models, for as long as there is time."""
    from veneer.experiments.cells import prepare
    from veneer.experiments.named import PRESETS
    from veneer.finetune.cell import Fleet as Cells

    own = PRESETS["counter"]["paper"]
    grid = replace(own, c_tr=(0.0, 0.2, 0.5, 0.6, 0.8, 0.9, 1.0), reft_rates=(), controls=False, seeds=5)
    if part.dry:
        grid = replace(grid, length=6, batch=16, c_tr=(0.0, 1.0), seeds=1)  # pyright: ignore[reportCallIssue]
    prepared = prepare(grid)
    cells = [cell for cell in prepared.cells if cell.depth == 0]
    updates = cells[0].stage.recipe.iterations
    part.tell({"models": len(cells), "updates of each": updates})
    for size in sorted({len(cells), max(1, len(cells) // 2)}, reverse=True):
        if part.left < 8:
            break

        def one(size: int = size) -> dict[str, float]:
            job: FleetJob = cells_job(prepared, None, Cells(tuple(cells[:size])), part.device)
            per_step = part.per_update(Fleet(job).advance, min(20.0, 0.4 * part.left))
            whole = per_step * updates * len(cells) / size
            return {
                "ms per step": 1e3 * per_step,
                "model updates/s": size / per_step,
                "s for the grid": whole,
            }

        part.attempt(f"fleets of {size}", one)
