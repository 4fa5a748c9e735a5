"""Fine-tuning of compiled models: a fleet against a plain loop that trains one cell after another."""

from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.machine import alternating, matmul_peak
from benchmarks.plain import PlainTransformer
from veneer.experiments.cells import Prepared, prepare
from veneer.experiments.named import CounterExperiment
from veneer.finetune.fleet import Evaluation, FleetJob, Member
from veneer.finetune.optimizer import FleetOptimizer
from veneer.finetune.recipe import Recipe
from veneer.finetune.trainer import keep_freed_memory
from veneer.models.transformer import TransformerConfig
from veneer.tasks.mixture import fine_tuning

STEPS = {"cpu": 8, "cuda": 50}


def flops_per_step(config: TransformerConfig, batch: int, length: int) -> float:
    """Multiply-adds times two of the plain forward and backward pass of one member's step."""
    inner = config.heads * config.key_size
    per_row = 4 * config.width * inner + 2 * config.width * config.mlp_width + 2 * length * inner
    return 3 * 2 * batch * length * (config.blocks * per_row + config.width * config.classes)


def rows(device: torch.device) -> list[dict[str, Any]]:
    """Time per model update at quick and paper size, fleet against plain loop."""
    peak = matmul_peak(device)
    members = (28, 140) if device.type == "cuda" else (4, 8)
    found = []
    for size, length, fleet in [
        ("quick", 16, members[1]),
        ("quick", 16, members[0]),
        ("paper", 45, members[0]),
    ]:
        prepared = prepare(CounterExperiment(length=length))
        plain, ours = alternating(
            lambda p=prepared: _plain_loop(p, device),
            lambda p=prepared, n=fleet: _fleet(p, n, device),
            device,
        )
        steps = STEPS[device.type]
        per_update = {"plain": plain / steps, "fleet": ours / steps / fleet}
        work = flops_per_step(_job(prepared, 1, device).model.config, 96, length + 1)
        found.append(
            {
                "benchmark": f"fine-tune, {size} size, fleet of {fleet}",
                "plain loop, ms per update": 1e3 * per_update["plain"],
                "fleet, ms per update": 1e3 * per_update["fleet"],
                "ratio": per_update["plain"] / per_update["fleet"],
                "plain loop, share of peak": work / per_update["plain"] / peak,
                "fleet, share of peak if nothing were left out": work / per_update["fleet"] / peak,
                "matmul peak, GFLOP/s": peak / 1e9,
            }
        )
    return found


def _job(prepared: Prepared, members: int, device: torch.device) -> FleetJob:
    recipe = Recipe("sgd", 1e-2, 10_000, warmup=2000)
    cell = prepared.cells[0]
    model = prepared.start(cell.origin).select([0] * members).to(device)
    fleet = [Member(fine_tuning(0.5), 10.0 ** -(1 + i % 4), i) for i in range(members)]
    return FleetJob(model, fleet, recipe, cell.task, prepared.encoding(cell), "bench", Evaluation(1, ()))


def _fleet(prepared: Prepared, members: int, device: torch.device) -> None:
    keep_freed_memory()
    job = _job(prepared, members, device)
    optimizer = FleetOptimizer(job.model, job.recipe, [m.learning_rate for m in job.members], set())
    alive = torch.ones(members, dtype=torch.bool, device=device)
    for step, batch in enumerate(islice(job.batches(0), STEPS[device.type])):
        alive = optimizer.step(job.loss(batch), step, alive)


def _plain_loop(prepared: Prepared, device: torch.device) -> None:
    job = _job(prepared, 1, device)
    model = PlainTransformer(job.model.to("cpu")).to(device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-2, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, job.recipe.rate_factor)
    for batch in islice(job.batches(0), STEPS[device.type]):
        logits = model(batch.tokens[0])[:, job.encoding.answer]
        loss = F.cross_entropy(logits, batch.labels[0])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        loss.item()
