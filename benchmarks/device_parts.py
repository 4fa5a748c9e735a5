"""The parts of ``make device-check``, each a function that tells its numbers as it finds them.

A part that fails in one of its steps says so in place of the number and goes on with the next; its loops
look at the clock. ``benchmarks.device`` runs each in a process of its own.
"""

import gc
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.contenders import Fleet, PlainLoop, Size, Workers, fleet_job, flops_per_step
from benchmarks.machine import matmul_peak, processor_name, synchronize
from veneer.experiments.run import fleet_job as cells_job
from veneer.finetune.fleet import FleetJob
from veneer.finetune.initialize import initialize
from veneer.finetune.optimizer import FleetOptimizer
from veneer.finetune.processor import settle
from veneer.finetune.recipe import Recipe
from veneer.models.transformer import Transformer, TransformerConfig
from veneer.pcfg.families import Pretraining, SampleLayout
from veneer.pcfg.pretraining import PretrainingJob, gpt
from veneer.tasks import random
from veneer.tasks.mixture import Mixtures

KNEE = 0.9  # share of the best throughput from which a larger fleet no longer pays
_dry = False
_end = 0.0
_tell: Callable[[dict[str, Any]], None] = print
_device = torch.device("cpu")


def begin(dry: bool, seconds: float, tell: Callable[[dict[str, Any]], None]) -> None:
    """What every part starts with.

    Args:
        dry: in small, on the CPU.
        seconds: when loops end by themselves.
        tell: takes results.
    """
    global _dry, _end, _tell, _device
    _dry, _end, _tell = dry, time.monotonic() + seconds, tell
    _device = torch.device("cpu" if dry else "cuda")
    if dry:
        settle(1)
    else:
        torch.backends.cuda.matmul.allow_tf32 = False


def _left() -> float:
    return _end - time.monotonic()


def _attempt(name: str, work: Callable[[], Any]) -> Any:
    """Tell what a step gives, or how it failed; gives None then."""
    try:
        found = work()
    except Exception as error:  # whatever it is, the other numbers should still be found
        where = traceback.format_exc().strip().splitlines()[-3:]
        found = None
        _tell({name: {"error": f"{type(error).__name__}: {str(error)[:300]}", "where": where}})
    else:
        if found is not None:
            _tell({name: found})
    gc.collect()
    if not _dry:
        torch.cuda.empty_cache()
    return found


def _per_update(advance: Callable[[int], object], most: float) -> float:
    """Seconds per update, after a warm-up, from about ``most`` seconds of them."""
    advance(2)
    synchronize(_device)
    began, made, block = time.perf_counter(), 0, 2
    while True:
        advance(block)
        synchronize(_device)
        made += block
        spent = time.perf_counter() - began
        if spent > most or _left() < most:
            return spent / made
        block = min(64, 2 * block)


def _size(updates: int = 10_000) -> Size:
    return Size("dry", 6, updates, 2, 16) if _dry else Size("quick", 16, updates, 8)


def machine() -> None:
    """The card, and what its products reach."""
    _tell({"torch": torch.__version__, "processor": processor_name()})
    if not _dry:
        about = torch.cuda.get_device_properties(_device)
        _tell(
            {
                "device": about.name,
                "memory, GB": round(about.total_memory / 1e9, 1),
                "multiprocessors": about.multi_processor_count,
                "capability": list(torch.cuda.get_device_capability(_device)),
                "cuda": torch.version.cuda,
            }
        )
    size = 128 if _dry else 2048
    _attempt("float32, TFLOP/s", lambda: matmul_peak(_device, torch.float32, size) / 1e12)
    _attempt("bfloat16, TFLOP/s", lambda: matmul_peak(_device, torch.bfloat16, size) / 1e12)
    if not _dry:
        torch.backends.cuda.matmul.allow_tf32 = True
        _attempt("TF32, TFLOP/s", lambda: matmul_peak(_device, torch.float32, size) / 1e12)


def gpu_tests() -> None:
    """The tests that need a GPU; in a dry run they are only counted."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    command += ["--collect-only"] if _dry else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=max(5, _left()))
    _tell({"exit": done.returncode, "said": done.stdout.strip().splitlines()[-8:]})


def _sizes() -> tuple[int, ...]:
    return (1, 2, 4) if _dry else (1, 4, 16, 64, 256, 1024, 4096)


def _split(fleet: Fleet, repeats: int) -> dict[str, float]:
    """Milliseconds of each stage of a fleet's update, with the queue waited for between them."""
    job, spent = fleet.job, {"draw": 0.0, "forward": 0.0, "backward": 0.0, "update": 0.0}
    batches = job.batches(0)
    for turn in range(repeats + 1):
        marks = [_now()]
        batch = next(batches)
        marks.append(_now())
        loss = job.loss(batch, turn)
        marks.append(_now())
        gradient = fleet.optimizer._gradient(loss)
        marks.append(_now())
        fleet.alive = fleet.optimizer.step(loss, turn, fleet.alive, gradient)
        marks.append(_now())
        if turn:
            for i, name in enumerate(spent):
                spent[name] += 1e3 * (marks[i + 1] - marks[i]) / repeats
    return spent


def _now() -> float:
    synchronize(_device)
    return time.perf_counter()


def fleets() -> None:
    """Fleets of ours by size: time of a step and of its stages, models per second, memory; the knee."""
    rates: dict[int, float] = {}

    def one(members: int) -> dict[str, Any]:
        if not _dry:
            torch.cuda.reset_peak_memory_stats()
        fleet = Fleet(fleet_job(_size(), members, _device))
        per_step = _per_update(fleet.advance, 0.2 if _dry else 4.0)
        rates[members] = members / per_step
        found: dict[str, Any] = {"ms per step": 1e3 * per_step, "model updates/s": rates[members]}
        found["ms"] = _split(fleet, 2 if _dry else 5)
        if not _dry:
            found["memory, GB"] = torch.cuda.max_memory_allocated() / 1e9
        return found

    for members in _sizes():
        if _left() < 3:
            break
        _attempt(f"fleet of {members}", lambda m=members: one(m))
    if rates:
        enough = [m for m, rate in rates.items() if rate >= KNEE * max(rates.values())]
        _tell({"knee": min(enough), "best model updates/s": max(rates.values())})


def plain() -> None:
    """The plain loop in this process, at both sizes."""
    sizes = [_size()] if _dry else [_size(), Size("paper", 45, 10_000, 8)]
    for size in sizes:

        def one(size: Size = size) -> dict[str, float]:
            per_update = _per_update(PlainLoop(fleet_job(size, 1, _device)).advance, 0.5 if _dry else 5.0)
            return {"ms per update": 1e3 * per_update, "model updates/s": 1 / per_update}

        _attempt(f"{size.name} size", one)


def vmapped() -> None:
    """Fleets as ``torch.func`` makes them: vmap over a plain functional model, fused by nothing of ours."""
    for members in _sizes():
        if _left() < 5:
            break
        _attempt(f"fleet of {members}", lambda m=members: _vmap(m))


def _vmap(members: int) -> dict[str, float]:
    job = fleet_job(_size(), members, _device)
    single = Transformer(job.model.config, 1).to(_device)
    named = dict(job.model.named_parameters())
    values = {n: p.detach().unsqueeze(1).clone() for n, p in named.items() if p.requires_grad}
    fixed = {n: p.detach()[:1] for n, p in named.items() if not p.requires_grad}
    momenta = {n: torch.zeros_like(value) for n, value in values.items()}
    rates = torch.tensor(job.rates, device=_device, dtype=torch.float32)
    answer = job.encoding.answer

    def loss(own: dict[str, Any], tokens: Any, labels: Any) -> Any:
        given = (tokens.unsqueeze(0),)
        logits = torch.func.functional_call(single, {**own, **fixed}, given, {"answer": answer}).logits
        return F.cross_entropy(logits[0], labels)

    gradients = torch.func.vmap(torch.func.grad(loss))
    batches = job.batches(0)

    def advance(updates: int) -> None:
        for batch in islice(batches, updates):
            found = gradients(values, batch.tokens, batch.labels)
            norm = torch.stack([g.flatten(1).square().sum(1) for g in found.values()]).sum(0).sqrt()
            factor = (1.0 / (norm + 1e-6)).clamp_max(1.0)
            for name, gradient in found.items():
                shape = (-1, *[1] * (gradient.ndim - 1))
                momenta[name].mul_(0.9).add_(gradient * factor.view(shape))
                values[name].sub_(momenta[name] * rates.view(shape))

    per_step = _per_update(advance, 0.2 if _dry else 3.0)
    return {"ms per step": 1e3 * per_step, "model updates/s": members / per_step}


def processes() -> None:
    """Plain loops in 1, 2, 4, ... processes on one device, until more of them no longer help."""
    if not _dry:
        _plain_processes_on_gpu()
        return

    def both() -> dict[str, float]:
        workers = Workers(_size(), 1, 2)
        try:
            per_update = _per_update(lambda n: workers.advance("plain", n), 0.5)
        finally:
            workers.close()
        return {"model updates/s": 2 / per_update}

    _attempt("2 processes", both)


_LOOP = """
import sys, time, torch
from benchmarks.contenders import PlainLoop, Size, fleet_job
seconds = float(sys.argv[1])
if __name__ == "__main__":
    loop = PlainLoop(fleet_job(Size("quick", 16, 10_000, 8), 1, torch.device("cuda")))
    loop.advance(5)
    torch.cuda.synchronize()
    print("ready", flush=True)
    sys.stdin.readline()
    began, made = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        loop.advance(10)
        made += 10
    torch.cuda.synchronize()
    print(made / (time.perf_counter() - began), flush=True)
"""


def _plain_processes_on_gpu() -> None:
    best = 0.0
    for count in (1, 2, 4, 8, 16):
        if _left() < 15:
            break

        def one(count: int = count) -> dict[str, float]:
            command = [sys.executable, "-c", _LOOP, "3"]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            started: list[Any] = [subprocess.Popen(command, **pipes) for _ in range(count)]
            try:
                for process in started:
                    if process.stdout.readline().strip() != "ready":
                        raise RuntimeError("a process did not start")
                for process in started:
                    process.stdin.write("\n")
                    process.stdin.flush()
                return {"model updates/s": sum(float(process.stdout.readline()) for process in started)}
            finally:
                for process in started:
                    process.kill()
                    process.wait()

        found = _attempt(f"{count} processes", one)
        if found is None or found["model updates/s"] < 1.05 * best:
            break
        best = found["model updates/s"]
    _tell({"best model updates/s": best})


def graph() -> None:
    """The whole step captured once and replayed, against the same steps one kernel at a time."""
    for members in (2,) if _dry else (4, 64, 256):
        if _left() < 5:
            break
        _attempt(f"fleet of {members}", lambda m=members: _captured(m))


class _WholeStep:
    """A step whose inputs are tensors that stay in place: the draws' keys and the members' rates."""

    def __init__(self, members: int) -> None:
        job = fleet_job(_size(), members, _device)
        # The schedule enters through the rates, which change in place; a captured number would not.
        job.recipe = replace(job.recipe, warmup=0, floor=1.0)
        job.prepare()
        self.job, self.alive = job, torch.ones(members, dtype=torch.bool, device=_device)
        self.optimizer = FleetOptimizer(job.model, job.recipe, job.rates, set())
        self.mixtures = Mixtures([member.mixture for member in job.members], _device)
        name, stream = job.task.name, f"train/{job.stream}"
        self.roots = [random.stream_key(name, member.seed, stream) for member in job.members]
        self.keys = torch.zeros(members, dtype=torch.int64, device=_device)

    def set(self, step: int) -> None:
        """Put a step's keys in place."""
        self.keys.copy_(torch.tensor([random.step_key(root, step) for root in self.roots]))

    def run(self) -> None:
        """Draw, forward, backward, clip, update, and freeze what is no longer finite."""
        drawn = self.job.task.draw(self.keys, self.mixtures, self.job.recipe.batch)
        loss = self.job.loss(self.job.encoding.encode(drawn), 0)
        self.alive.copy_(self.optimizer.step(loss, 0, self.alive))


def _captured(members: int) -> dict[str, Any]:
    eager, replayed = _WholeStep(members), _WholeStep(members)

    def step(eager: _WholeStep, updates: int, start: list[int]) -> None:
        for _ in range(updates):
            eager.set(start[0])
            eager.run()
            start[0] += 1

    found: dict[str, Any] = {}
    first = [0]
    found["one kernel at a time, ms per step"] = 1e3 * _per_update(lambda n: step(eager, n, first), 1.0)
    if _dry:
        return {**found, "graph": "needs CUDA; the step itself ran"}
    start = replayed.optimizer.state()
    kept = {name: value.clone() for name, value in start.items()}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # warm up, as captures ask for
        for i in range(3):
            replayed.set(i)
            replayed.run()
    torch.cuda.current_stream().wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    replayed.set(0)
    with torch.cuda.graph(captured):
        replayed.run()
    replayed.optimizer.restore(kept)
    replayed.alive.fill_(True)
    number = [0]

    def replay(updates: int) -> None:
        for _ in range(updates):
            replayed.set(number[0])
            captured.replay()
            number[0] += 1

    replay(20)
    again, at = _WholeStep(members), [0]
    step(again, 20, at)
    found["same bits after 20 steps"] = bool(torch.equal(again.optimizer.value, replayed.optimizer.value))
    apart = (again.optimizer.value - replayed.optimizer.value).abs().max()
    found["largest difference"] = float(apart)
    found["graph, ms per step"] = 1e3 * _per_update(replay, 1.0)
    found["ratio"] = found["one kernel at a time, ms per step"] / found["graph, ms per step"]
    return found


def _gpt_job(members: int, precision: str, compiled: bool, batch: int) -> PretrainingJob:
    layout = SampleLayout.quick() if _dry else SampleLayout()
    config: TransformerConfig = gpt(layout, 16, 1, 2) if _dry else gpt(layout, 192, 6, 6)
    seeds = list(range(members))
    recipe = Recipe("adamw", 1e-3, 10_000, batch=batch, precision=precision)  # pyright: ignore[reportArgumentType]
    model = initialize(config, seeds).to(_device)
    return PretrainingJob(model, [Pretraining(layout)] * members, seeds, recipe, (), compile=compiled)


def _gpt_rate(members: int, precision: str = "float32", tf32: bool = False, compiled: bool = False) -> Any:
    """Milliseconds per update of each of a fleet's GPTs, drawing included, and the memory it takes."""
    batch = 4 if _dry else 96
    job = _gpt_job(members, precision, compiled, batch)
    if not _dry:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.cuda.reset_peak_memory_stats()
    optimizer = FleetOptimizer(job.model, job.recipe, job.rates, set())
    alive = torch.ones(members, dtype=torch.bool, device=_device)
    half = torch.autocast(_device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
    batches, number = job.batches(0), 0

    def advance(updates: int) -> None:
        nonlocal alive, number
        for drawn in islice(batches, updates):
            with half:
                loss = job.loss(drawn, number)
            alive = optimizer.step(loss, number, alive)
            number += 1

    per_step = _per_update(advance, 0.3 if _dry else 4.0)
    work = flops_per_step(job.model.config, batch, job.layout.length - 1)
    found = {
        "ms per model update": 1e3 * per_step / members,
        "model updates/s": members / per_step,
        "TFLOP/s of the plain count": work * members / per_step / 1e12,
        "loss is finite": bool(alive.all()),
    }
    if not _dry:
        found["memory, GB"] = torch.cuda.max_memory_allocated() / 1e9
    return found


def precision() -> None:
    """One GPT of the paper's size in each arithmetic."""
    _attempt("float32", lambda: _gpt_rate(1))
    _attempt("bfloat16", lambda: _gpt_rate(1, "bfloat16"))
    if not _dry:
        _attempt("TF32", lambda: _gpt_rate(1, tf32=True))
        _attempt("bfloat16, compiled", lambda: _gpt_rate(1, "bfloat16", compiled=True))


def pretraining() -> None:
    """Fleets of GPTs that pretrain at the paper's size, by arithmetic."""
    for members in (1, 2) if _dry else (1, 3, 9):
        for arithmetic in ("float32", "bfloat16"):
            if _left() > 5:
                _attempt(f"fleet of {members}, {arithmetic}", lambda m=members, p=arithmetic: _gpt_rate(m, p))


def grid() -> None:
    """The grid of Table 3, one fleet of all its models, for as long as there is time."""
    from veneer.experiments.cells import prepare
    from veneer.experiments.named import PRESETS
    from veneer.finetune.cell import Fleet as Cells

    own = PRESETS["counter"]["paper"]
    grid = replace(own, c_tr=(0.0, 0.2, 0.5, 0.6, 0.8, 0.9, 1.0), reft_rates=(), controls=False, seeds=5)
    if _dry:
        grid = replace(grid, length=6, batch=16, c_tr=(0.0, 1.0), seeds=1)  # pyright: ignore[reportCallIssue]
    prepared = prepare(grid)
    cells = [cell for cell in prepared.cells if cell.depth == 0]
    updates = cells[0].stage.recipe.iterations
    _tell({"models": len(cells), "updates of each": updates})
    for size in sorted({len(cells), max(1, len(cells) // 2)}, reverse=True):
        if _left() < 8:
            break

        def one(size: int = size) -> dict[str, float]:
            job: FleetJob = cells_job(prepared, None, Cells(tuple(cells[:size])), _device)
            per_step = _per_update(Fleet(job).advance, min(20.0, 0.4 * _left()))
            whole = per_step * updates * len(cells) / size
            return {
                "ms per step": 1e3 * per_step,
                "model updates/s": size / per_step,
                "s for the grid": whole,
            }

        _attempt(f"fleets of {size}", one)
