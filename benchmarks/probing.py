"""Probes: a fleet of probes with the paper's schedule against one after another, and the exact solver."""

from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.machine import alternating, seconds
from veneer.analysis import logistic
from veneer.analysis.activations import residuals
from veneer.analysis.probing import TRAIN
from veneer.analysis.texts import draw
from veneer.compiled.capabilities import counter
from veneer.compiled.exactness import add_noise
from veneer.tasks import random
from veneer.tasks.counter import Counter
from veneer.tasks.encoding import Encoding
from veneer.tasks.mixture import pretraining

MEMBERS, TEXTS, UPDATES, BATCH = 8, 4096, 100, 96
CPU = torch.device("cpu")


def rows() -> list[dict[str, Any]]:
    """Probes for both answers and their controls on all residual streams of eight noisy Counters."""
    task, capability = Counter(length=16), counter(length=16)
    assert capability.classes is not None and capability.answer_position is not None
    encoding = Encoding.between(
        task,
        capability.vocabulary,
        capability.classes,
        capability.bos,
        capability.pad,
        capability.answer_position,
    )
    model = add_noise(capability.model.select([0] * MEMBERS), 1e-3, list(range(MEMBERS)))
    batch = draw(task, encoding, pretraining(), TEXTS, CPU, TRAIN)
    features = residuals(model, batch.tokens[0], encoding.answer).flatten(0, 1)
    features = (features - features.mean(1, keepdim=True)) / features.std(1, keepdim=True).clamp_min(1e-6)
    order = random.shuffled_order(torch.tensor(1), 1, TEXTS)[0]
    labels = torch.stack([y for real in batch.results[0].unbind(-1) for y in (real, real[order])])
    classes = int(labels.max()) + 1
    problems = len(features) * len(labels)
    works = [
        lambda: _one_by_one(features[:1], labels[:1], classes),
        lambda: _fleet(features, labels, classes),
    ]
    plain, fleet = (times.median for times in alternating(works, CPU))
    exact = seconds(
        lambda: [logistic.solve(part, labels, classes, 1e-3) for part in features.split(3)], CPU, repeats=1
    )
    return [
        {
            "benchmark": f"{problems} probes, {TEXTS} texts, width {features.shape[-1]}, {classes} classes",
            "one by one, us per update and probe": 1e6 * plain / UPDATES,
            "fleet, us per update and probe": 1e6 * fleet / UPDATES / problems,
            "ratio": plain / (fleet / problems),
            "fleet, s for the paper's 4000 updates": fleet * 4000 / UPDATES,
            "solved exactly, s": exact,
        }
    ]


def _fleet(features: torch.Tensor, labels: torch.Tensor, classes: int) -> None:
    logistic.train(
        features,
        labels,
        classes,
        1,
        iterations=UPDATES,
        batch=BATCH,
        learning_rate=1e-3,
        divided_after=(UPDATES // 2,),
    )


def _one_by_one(features: torch.Tensor, labels: torch.Tensor, classes: int) -> None:
    """One probe as it is written without Veneer; the others would each take as long."""
    x, y = features[0], labels[0]
    probe = torch.nn.Linear(x.shape[-1], classes)
    optimizer = torch.optim.AdamW(probe.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [UPDATES // 2])
    for _ in range(UPDATES):
        chosen = torch.randint(len(x), (BATCH,))
        optimizer.zero_grad()
        F.cross_entropy(probe(x[chosen]), y[chosen]).backward()
        optimizer.step()
        schedule.step()
