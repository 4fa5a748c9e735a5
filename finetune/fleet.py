"""The fleet trainer: E models of one shape in the same kernels, each with its own data and rate.

The loss is the sum of the members' mean losses, so their gradients are independent. A member whose
loss or gradient is no longer finite is frozen where it was and marked with the step; the others
are not touched by it. Data, schedule and evaluation are functions of the step, so a run that goes
on from a checkpoint gives what an uninterrupted one gives, bit for bit on the same device kind.
"""

import ctypes
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from finetune.checkpoint import load_state, save_state
from finetune.optimizer import FleetOptimizer
from finetune.recipe import Recipe
from models.transformer import Transformer
from tasks import random
from tasks.encoding import Batch, Encoding, Task, accuracy
from tasks.mixture import OPERANDS, Component, Kind, Mixture, Mixtures

EVALUATED: tuple[Kind, ...] = ("correlated", "uncorrelated", "natural")
EVALUATION_SEED = 0  # evaluation sets are the same for all seeds, rates and stages


@dataclass(frozen=True)
class Member:
    """One model's part in a fleet.

    Attributes:
        mixture: its training data.
        learning_rate: its maximal rate.
        seed: seeds its data.
    """

    mixture: Mixture
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class Evaluation:
    """Sets of texts of one kind each, on which both operands are scored.

    Attributes:
        samples: texts per kind.
        steps: after how many updates to evaluate, ascending.
    """

    samples: int
    steps: tuple[int, ...]


@dataclass(frozen=True)
class Trained:
    """What training a fleet gives.

    Attributes:
        model: the fleet after the last step (a diverged member: before the step that broke it).
        steps: when it was evaluated.
        accuracy: by evaluation, member, kind (EVALUATED) and operand (OPERANDS).
        loss: cross-entropy on the same.
        train_loss: mean training loss since the evaluation before (NaN at step 0).
        diverged_at: update at which a member stopped being finite, -1 where it never did.
    """

    model: Transformer
    steps: tuple[int, ...]
    accuracy: Float[Tensor, "evaluation member kind operand"]
    loss: Float[Tensor, "evaluation member kind operand"]
    train_loss: Float[Tensor, "evaluation member"]
    diverged_at: Int[Tensor, "member"]


@dataclass
class FleetJob:
    """All that a fleet needs to train.

    Attributes:
        model: the members as they start; the trainer takes it over.
        members: one entry per member of ``model``.
        recipe: shared by all, but for the learning rate.
        task: what is asked.
        encoding: how the models read the task.
        stream: names the stage, so that stages do not share training data.
        evaluation: what is measured when.
        checkpoint: file to keep the state in while training; None keeps none.
        checkpoint_seconds: least time between two of them.
        progress: called with the number of updates done.
    """

    model: Transformer
    members: list[Member]
    recipe: Recipe
    task: Task
    encoding: Encoding
    stream: str
    evaluation: Evaluation
    checkpoint: Path | None = None
    checkpoint_seconds: float = 30.0
    progress: Callable[[int], None] = field(default=lambda step: None)


def evaluation_steps(iterations: int, per_decade: int = 6) -> tuple[int, ...]:
    """0, log-spaced steps from 10 on, and the last."""
    steps, value = {0, iterations}, 10.0
    while value < iterations:
        steps.add(round(value))
        value *= 10 ** (1 / per_decade)
    return tuple(sorted(steps))


def evaluation_batch(task: Task, encoding: Encoding, kind: Kind, samples: int, device: torch.device) -> Batch:
    """The evaluation set of one kind, as a batch of one member."""
    key = random.step_key(random.stream_key(task.name, EVALUATION_SEED, f"evaluate/{kind}"), 0)
    mixtures = Mixtures([Mixture((Component(1.0, kind, "pt", "pt"),))], device)
    return encoding.encode(task.draw(torch.tensor([key], device=device), mixtures, samples))


def train_batches(job: FleetJob, start: int, device: torch.device) -> Iterator[Batch]:
    """The fleet's training data from step ``start`` on: a pure function of (task, seed, stream, step)."""
    mixtures = Mixtures([member.mixture for member in job.members], device)
    roots = [random.stream_key(job.task.name, member.seed, f"train/{job.stream}") for member in job.members]
    for step in range(start, job.recipe.iterations):
        keys = torch.tensor([random.step_key(root, step) for root in roots], device=device)
        yield job.encoding.encode(job.task.draw(keys, mixtures, job.recipe.batch))


@torch.no_grad()
def evaluate(model: Transformer, batches: dict[Kind, Batch], answer: int) -> tuple[Tensor, Tensor]:
    """Accuracy and loss of every member: [member, kind, operand] each."""
    parts = []
    for batch in batches.values():
        chunks = [
            (
                accuracy(model(tokens.expand(model.members, -1, -1), answer=answer).logits, results),
                results.shape[1],
            )
            for tokens, results in _chunks(batch, model)
        ]
        total = sum(size for _, size in chunks)
        parts.append([sum(pair[i] * size for pair, size in chunks) / total for i in (0, 1)])
    right, loss = zip(*parts, strict=True)
    return torch.stack(right, 1), torch.stack(loss, 1)


def _chunks(batch: Batch, model: Transformer, rows: int = 65536) -> Iterator[tuple[Tensor, Tensor]]:
    """The set in pieces of about ``rows`` token rows over all members, to bound memory."""
    size = max(1, rows // (model.members * batch.tokens.shape[-1]))
    for start in range(0, batch.tokens.shape[1], size):
        part = slice(start, start + size)
        yield batch.tokens[:, part], batch.results[:, part].expand(model.members, -1, -1)


def answer_loss(model: Transformer, batch: Batch, answer: int) -> Float[Tensor, "member"]:
    """Cross-entropy at the answer position, averaged over each member's batch."""
    logits = model(batch.tokens, answer=answer).logits.float()
    loss = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), reduction="none")
    return loss.view(batch.labels.shape).mean(1)


def train(job: FleetJob) -> Trained:
    """Train a fleet to the end of its recipe, from its checkpoint where one is found."""
    keep_freed_memory()
    trainer = _Trainer(job)
    if job.checkpoint is not None and job.checkpoint.exists():
        trainer.restore(load_state(job.checkpoint))
    trainer.run()
    return trainer.result()


class _Trainer:
    def __init__(self, job: FleetJob) -> None:
        self.job, self.model = job, job.model
        self.device = job.model.token_embedding.device
        decayed = {n for n, _ in job.model.named_parameters() if n.endswith(".weight") and "norm" not in n}
        rates = [member.learning_rate for member in job.members]
        self.optimizer = FleetOptimizer(job.model, job.recipe, rates, decayed | {"unembedding"})
        members, points = len(job.members), len(job.evaluation.steps)
        self.step = 0
        self.alive = torch.ones(members, dtype=torch.bool, device=self.device)
        self.diverged_at = torch.full((members,), -1, device=self.device)
        self.loss_sum = torch.zeros(members, dtype=torch.float64, device=self.device)
        shape = (points, members, len(EVALUATED), len(OPERANDS))
        self.accuracy = torch.full(shape, torch.nan, dtype=torch.float64)
        self.loss = torch.full(shape, torch.nan, dtype=torch.float64)
        self.train_loss = torch.full((points, members), torch.nan, dtype=torch.float64)
        self.sets: dict[Kind, Batch] = {
            kind: evaluation_batch(job.task, job.encoding, kind, job.evaluation.samples, self.device)
            for kind in EVALUATED
        }

    def run(self) -> None:
        if self.step == 0:
            self._evaluate()
        saved = time.monotonic()
        for batch in train_batches(self.job, self.step, self.device):
            loss = answer_loss(self.model, batch, self.job.encoding.answer)
            before = self.alive
            self.alive = self.optimizer.step(loss, self.step, before)
            self.diverged_at = torch.where(before & ~self.alive, self.step, self.diverged_at)
            self.loss_sum += loss.detach()
            self.step += 1
            if self.step in self.job.evaluation.steps:
                self._evaluate()
            self.job.progress(self.step)
            if self.job.checkpoint is not None and time.monotonic() - saved > self.job.checkpoint_seconds:
                save_state(self.job.checkpoint, self.state())
                saved = time.monotonic()

    def _evaluate(self) -> None:
        steps = self.job.evaluation.steps
        if self.step not in steps:
            return
        point = steps.index(self.step)
        right, loss = evaluate(self.model, self.sets, self.job.encoding.answer)
        self.accuracy[point], self.loss[point] = right.cpu(), loss.cpu()
        if point:
            self.train_loss[point] = self.loss_sum.cpu() / (self.step - steps[point - 1])
        self.loss_sum.zero_()

    def state(self) -> dict[str, Tensor]:
        own = ("alive", "diverged_at", "loss_sum", "accuracy", "loss", "train_loss")
        state = {name: getattr(self, name) for name in own}
        return {**state, "step": torch.tensor(self.step), **self.optimizer.state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.step = int(state["step"])
        self.optimizer.restore(state)
        for name in ("alive", "diverged_at", "loss_sum", "accuracy", "loss", "train_loss"):
            getattr(self, name).copy_(state[name])

    def result(self) -> Trained:
        return Trained(
            self.model,
            self.job.evaluation.steps,
            self.accuracy,
            self.loss,
            self.train_loss,
            self.diverged_at.cpu(),
        )


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


def with_rate(recipe: Recipe, learning_rate: float) -> Recipe:
    """The same recipe at another rate."""
    return replace(recipe, learning_rate=learning_rate)
