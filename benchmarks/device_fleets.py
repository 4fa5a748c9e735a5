"""The parts of ``make device-check`` on fleets of written models, against what one writes without Veneer."""

import subprocess
import sys
import time
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.contenders import Fleet, PlainLoop, Size, Workers, fleet_job
from benchmarks.device_common import Part
from benchmarks.machine import synchronize
from veneer.models.transformer import Transformer

KNEE = 0.9  # share of the best throughput from which a larger fleet no longer pays


def _split(part: Part, fleet: Fleet, repeats: int) -> dict[str, float]:
    """Milliseconds of each stage of an update that is not captured, with the queue waited for between."""
    job, spent = fleet.job, {"draw": 0.0, "loss and gradient": 0.0, "update": 0.0}
    batches = job.batches(0)
    for turn in range(repeats + 1):
        marks = [_now(part.device)]
        batch = next(batches)
        marks.append(_now(part.device))
        found = job.worked_out(batch)
        assert found is not None
        marks.append(_now(part.device))
        fleet.alive = fleet.optimizer.step(found[0], turn, fleet.alive, found[1])
        marks.append(_now(part.device))
        if turn:
            for i, name in enumerate(spent):
                spent[name] += 1e3 * (marks[i + 1] - marks[i]) / repeats
    return spent


def _now(device: torch.device) -> float:
    synchronize(device)
    return time.perf_counter()


def fleets(part: Part) -> None:
    """Fleets of ours by size: time of a step and of its stages, models per second, memory; the knee."""
    rates: dict[int, float] = {}

    def one(members: int) -> dict[str, Any]:
        if not part.dry:
            torch.cuda.reset_peak_memory_stats()
        fleet = Fleet(fleet_job(part.size, members, part.device))
        per_step = part.per_update(fleet.advance, 0.2 if part.dry else 4.0)
        rates[members] = members / per_step
        found: dict[str, Any] = {"ms per step": 1e3 * per_step, "model updates/s": rates[members]}
        found["ms"] = _split(part, fleet, 2 if part.dry else 5)
        if not part.dry:
            found["memory, GB"] = torch.cuda.max_memory_allocated() / 1e9
        return found

    for members in part.sizes:
        if part.left < 3:
            break
        part.attempt(f"fleet of {members}", lambda m=members: one(m))
    if rates:
        enough = [m for m, rate in rates.items() if rate >= KNEE * max(rates.values())]
        part.tell({"knee": min(enough), "best model updates/s": max(rates.values())})


def plain(part: Part) -> None:
    """The plain loop in this process, at both sizes."""
    sizes = [part.size] if part.dry else [part.size, Size("paper", 45, 10_000, 8)]
    for size in sizes:

        def one(size: Size = size) -> dict[str, float]:
            per_update = part.per_update(
                PlainLoop(fleet_job(size, 1, part.device)).advance, 0.5 if part.dry else 5.0
            )
            return {"ms per update": 1e3 * per_update, "model updates/s": 1 / per_update}

        part.attempt(f"{size.name} size", one)


def vmapped(part: Part) -> None:
    """Fleets as ``torch.func`` makes them: vmap over a plain functional model, fused by nothing of ours."""
    for members in part.sizes:
        if part.left < 5:
            break
        part.attempt(f"fleet of {members}", lambda m=members: _vmap(part, m))


def _vmap(part: Part, members: int) -> dict[str, float]:
    job = fleet_job(part.size, members, part.device)
    single = Transformer(job.model.config, 1).to(part.device)
    named = dict(job.model.named_parameters())
    values = {n: p.detach().unsqueeze(1).clone() for n, p in named.items() if p.requires_grad}
    fixed = {n: p.detach()[:1] for n, p in named.items() if not p.requires_grad}
    momenta = {n: torch.zeros_like(value) for n, value in values.items()}
    rates = torch.tensor(job.rates, device=part.device, dtype=torch.float32)
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

    per_step = part.per_update(advance, 0.2 if part.dry else 3.0)
    return {"ms per step": 1e3 * per_step, "model updates/s": members / per_step}


def processes(part: Part) -> None:
    """Plain loops in 1, 2, 4, ... processes on one device, until more of them no longer help."""
    if not part.dry:
        _plain_processes_on_gpu(part)
        return

    def both() -> dict[str, float]:
        workers = Workers(part.size, 1, 2)
        try:
            per_update = part.per_update(lambda n: workers.advance("plain", n), 0.5)
        finally:
            workers.close()
        return {"model updates/s": 2 / per_update}

    part.attempt("2 processes", both)


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


def _plain_processes_on_gpu(part: Part) -> None:
    best = 0.0
    for count in (1, 2, 4, 8, 16):
        if part.left < 15:
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

        found = part.attempt(f"{count} processes", one)
        if found is None or found["model updates/s"] < 1.05 * best:
            break
        best = found["model updates/s"]
    part.tell({"best model updates/s": best})


def graph(part: Part) -> None:
    """Updates as a CUDA graph, which is what fleets of written models train by, against kernel by kernel."""
    for members in (2,) if part.dry else (4, 64, 256):
        part.attempt(f"fleet of {members}", lambda m=members: _captured(part, m))


def _captured(part: Part, members: int) -> dict[str, Any]:
    one_by_one = Fleet(fleet_job(part.size, members, part.device), captured=False)
    found: dict[str, Any] = {}
    found["one kernel at a time, ms per step"] = 1e3 * part.per_update(one_by_one.advance, 1.0)
    if part.dry:
        return {**found, "graph": "needs CUDA"}
    graph, again = (Fleet(fleet_job(part.size, members, part.device), captured=c) for c in (True, False))
    for fleet in (graph, again):
        fleet.advance(20)
    found["same bits after 20 steps"] = bool(torch.equal(again.optimizer.value, graph.optimizer.value))
    found["graph, ms per step"] = 1e3 * part.per_update(graph.advance, 1.0)
    found["ratio"] = found["one kernel at a time, ms per step"] / found["graph, ms per step"]
    return found
