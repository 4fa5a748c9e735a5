"""The fleet trainer: E models of one shape in the same kernels, each with its own data and rate.

What is trained on and what is measured comes from a job; the trainer knows neither tasks nor
losses. The loss is the sum of the members' losses, so their gradients are independent. A member
whose loss or gradient is no longer finite is frozen where it was and marked with the step; the
others are not touched by it. Everything is a function of the step, so a run that goes on from a
checkpoint gives what an uninterrupted one gives, bit for bit on the same device kind.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from veneer.finetune.captured import CapturedUpdates, Course
from veneer.finetune.checkpoint import load_state, save_state
from veneer.finetune.optimizer import FleetOptimizer
from veneer.finetune.processor import fitted, has_bfloat16, threads_for
from veneer.finetune.recipe import Recipe
from veneer.finetune.turns import Part, Turns
from veneer.models.transformer import Output, Transformer
from veneer.tasks.errors import InputError

Scores = tuple[Float[Tensor, "member set column"], Float[Tensor, "member set column"]]
"""Accuracy and loss of every member on every evaluation set."""


@runtime_checkable
class Job(Protocol):
    """One fleet's training.

    Attributes:
        model: the members as they start; the trainer takes it over.
        recipe: shared by all, but for the learning rate.
        steps: after how many updates to evaluate, ascending.
        shape: number of evaluation sets and of columns per set.
        checkpoint: file to keep the state in while training; None keeps none.
        checkpoint_seconds: least time between two of them.
        progress: called with the number of updates done.
        compile: whether the forward pass that is trained through is compiled (on CUDA only). It
            rounds otherwise, and is no part of a cell's identity.
    """

    model: Transformer
    recipe: Recipe
    checkpoint: Path | None
    checkpoint_seconds: float
    progress: Callable[[int], None]
    compile: bool

    @property
    def rates(self) -> list[float]: ...  # each member's learning rate

    @property
    def steps(self) -> tuple[int, ...]: ...

    @property
    def shape(self) -> tuple[int, int]: ...

    def prepare(self) -> None: ...  # called once before all else: says which parameters are trained

    def batches(self, start: int) -> Iterator[Any]: ...  # training data from a step on

    def loss(self, batch: Any, step: int) -> Float[Tensor, "member"]: ...

    def parts(self, batch: Any, step: int) -> list[list[Part]]: ...  # by member, what its loss is the sum of

    def worked_out(
        self, batch: Any
    ) -> tuple[Tensor, Tensor] | None: ...  # loss and gradient without autograd

    def captured(
        self, optimizer: FleetOptimizer, course: Course, step: int
    ) -> CapturedUpdates | None: ...  # updates from a step on as one graph, where a GPU gains by it

    def evaluate(self, cores: int = 1) -> Scores: ...  # on so many cores, if they help

    def reached(self, step: int, accuracy: Tensor) -> None: ...  # called with the scores of each evaluation

    def finish(self) -> Transformer: ...  # the trained models as ordinary ones


@dataclass(frozen=True)
class Trained:
    """What training a fleet gives.

    Attributes:
        model: the fleet after the last step (a diverged member: before the step that broke it).
        steps: when it was evaluated.
        accuracy: by evaluation, member, evaluation set and column (for fine-tuning kind of text and
            operand).
        loss: cross-entropy on the same.
        train_loss: mean training loss since the evaluation before (NaN at step 0).
        diverged_at: update at which a member stopped being finite, -1 where it never did.
    """

    model: Transformer
    steps: tuple[int, ...]
    accuracy: Float[Tensor, "evaluation member set column"]
    loss: Float[Tensor, "evaluation member set column"]
    train_loss: Float[Tensor, "evaluation member"]
    diverged_at: Int[Tensor, "member"]


def train(job: Job) -> Trained:
    """Train a fleet to the end of its recipe, from its checkpoint where one is found.

    On a CPU subnormals are flushed meanwhile, and a small model has one thread (``finetune.processor``).

    Raises:
        InputError: an arithmetic that the device is not offered (``check_device``), or a damaged checkpoint.
    """
    check_device(job.model.token_embedding.device.type, job.recipe.precision, job.compile)
    cores = torch.get_num_threads()
    with fitted(threads_for(job.model.parameter_count)):
        trainer = _Trainer(job, cores)
        if job.checkpoint is not None and job.checkpoint.exists():
            trainer.restore(load_state(job.checkpoint))
        trainer.run()
        return trainer.result()


def check_device(kind: str, precision: str, compiled: bool) -> None:
    """Whether a device type is offered an arithmetic.

    Raises:
        InputError: bfloat16 on a CPU that does not have it in hardware, or compilation on a CPU.
    """
    if kind == "cuda":
        return
    if precision != "float32" and not has_bfloat16():
        valid = "float32, or a CUDA device or CPU that multiplies in bfloat16"
        raise InputError("precision", precision, valid, f"this {kind} does not")
    if compiled:
        raise InputError("compile", True, "false, or a CUDA device", f"this is a {kind}")


def training_forward(model: Transformer, compiled: bool) -> Callable[..., Output]:
    """The forward pass to train through: the model itself, or compiled by ``torch.compile``."""
    return torch.compile(model, dynamic=False) if compiled else model


class _Trainer:
    def __init__(self, job: Job, cores: int) -> None:
        self.job, self.cores = job, cores
        job.prepare()
        device = job.model.token_embedding.device
        # What a method adds to a matrix is named below it, and decays with it.
        decayed = {n for n, _ in job.model.named_parameters() if ".weight" in n and "norm" not in n}
        self.optimizer = FleetOptimizer(job.model, job.recipe, job.rates, decayed | {"unembedding"})
        members, points = job.model.members, len(job.steps)
        self.step = 0
        self.alive = torch.ones(members, dtype=torch.bool, device=device)
        self.diverged_at = torch.full((members,), -1, device=device)
        self.loss_sum = torch.zeros(members, dtype=torch.float64, device=device)
        self.accuracy = torch.full((points, members, *job.shape), torch.nan, dtype=torch.float64)
        self.loss = torch.full_like(self.accuracy, torch.nan)
        self.train_loss = torch.full((points, members), torch.nan, dtype=torch.float64)

    def run(self) -> None:
        if self.step == 0 and 0 in self.job.steps:
            self._evaluate()
        saved = time.monotonic()
        for update in self._updates():
            update()
            self.step += 1
            if self.step in self.job.steps:
                self._evaluate()
            self.job.progress(self.step)
            if self.job.checkpoint is not None and time.monotonic() - saved > self.job.checkpoint_seconds:
                save_state(self.job.checkpoint, self.state())
                saved = time.monotonic()

    def _updates(self) -> Iterator[Callable[[], None]]:
        """What makes each update that is left."""
        course = Course(self.alive, self.diverged_at, self.loss_sum)
        left = self.job.recipe.iterations - self.step
        if left and (captured := self.job.captured(self.optimizer, course, self.step)) is not None:
            yield from repeat(captured.update, left)
        else:
            yield from (partial(self._update, batch) for batch in self.job.batches(self.step))

    def _update(self, batch: Any) -> None:
        loss, gradient = self._loss(batch)
        before = self.alive
        # Of a gradient found in slices, the norm is summed in the same order on any number of cores too.
        with nullcontext() if gradient is None or torch.get_num_threads() == 1 else fitted(1):
            self.alive = self.optimizer.step(loss, self.step, before, gradient)
        self.diverged_at = torch.where(before & ~self.alive, self.step, self.diverged_at)
        self.loss_sum += loss.detach()

    def _loss(self, batch: Any) -> tuple[Float[Tensor, "member"], Float[Tensor, "member parameter"] | None]:
        """The loss, and its gradient where that is found on the way."""
        if (found := self.job.worked_out(batch)) is not None:
            return found
        device = self.job.model.token_embedding.device.type
        if device == "cpu" and (parts := self.job.parts(batch, self.step)):
            return self._turns.gradient(parts)
        if self.job.recipe.precision == "float32":
            return self.job.loss(batch, self.step), None
        with torch.autocast(device, torch.bfloat16):
            return self.job.loss(batch, self.step), None

    @cached_property
    def _turns(self) -> Turns:
        return Turns(self.job.model, self.cores, self.job.recipe.precision)

    def _evaluate(self) -> None:
        point = self.job.steps.index(self.step)
        right, loss = self.job.evaluate(self.cores)
        self.accuracy[point], self.loss[point] = right.cpu(), loss.cpu()
        if point:
            self.train_loss[point] = self.loss_sum.cpu() / (self.step - self.job.steps[point - 1])
        self.loss_sum.zero_()
        self.job.reached(self.step, self.accuracy[point])

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
        model, diverged_at = self.job.finish(), self.diverged_at.cpu()
        return Trained(model, self.job.steps, self.accuracy, self.loss, self.train_loss, diverged_at)


@lru_cache
def evaluation_steps(iterations: int, per_decade: int = 6) -> tuple[int, ...]:
    """0, log-spaced steps from 10 on, and the last."""
    steps, value = {0, iterations}, 10.0
    while value < iterations:
        steps.add(round(value))
        value *= 10 ** (1 / per_decade)
    return tuple(sorted(steps))
