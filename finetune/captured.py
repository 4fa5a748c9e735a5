"""Updates of written models on a GPU as one CUDA graph: drawn, worked out, clipped, applied, frozen.

A small fleet's update is some two hundred kernels of a few microseconds each, and starting them one by one
from Python takes several times as long as they do. A graph records them once and starts them together; the
arithmetic, and with it every bit, stays the same. What changes from update to update, the random keys and the
schedule, is looked up by a counter that the graph itself moves on (PyTorch's notes on CUDA graphs ask for
inputs that stay in place and for nothing that waits for the device).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from veneer.finetune.optimizer import FleetOptimizer
from veneer.tasks import random

WARM = 3
"""Updates made before recording, in which libraries get what they need; they are undone."""

Work = Callable[[Int[Tensor, "member"]], tuple[Tensor, Tensor]]
"""Draws a batch by its keys; gives each member's loss, and its gradient."""


class Course(NamedTuple):
    """What an update changes besides weights and momenta, in place.

    Attributes:
        alive: members that are finite.
        diverged_at: update at which a member stopped being so, or -1.
        loss_sum: losses since the last evaluation.
    """

    alive: Bool[Tensor, "member"]
    diverged_at: Int[Tensor, "member"]
    loss_sum: Float[Tensor, "member"]


class CapturedUpdates:
    """A fleet's updates as replays of one recorded update.

    Args:
        work: what gives losses and gradients; nothing in it may wait for the device.
        roots: keys of the members' data streams.
        optimizer: SGD over the fleet's weights.
        course: changed in place.
        step: updates made before.
    """

    def __init__(
        self, work: Work, roots: list[int], optimizer: FleetOptimizer, course: Course, step: int
    ) -> None:
        device = course.alive.device
        self._work, self._optimizer, self._course = work, optimizer, course
        self._roots = torch.tensor(roots, device=device)
        recipe = optimizer.recipe
        factors = [recipe.rate_factor(i) for i in range(recipe.iterations)]
        self._factors = torch.tensor(factors, dtype=torch.float64, device=device)
        self._at = torch.full((1,), step, device=device)
        changed = [*optimizer.state().values(), *course, self._at]
        before = [tensor.clone() for tensor in changed]
        self.update = self._record()
        """Makes the next update; it is queued, and not waited for."""
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)

    def _record(self) -> Callable[[], None]:
        now, side, graph = torch.cuda.current_stream(), torch.cuda.Stream(), torch.cuda.CUDAGraph()
        side.wait_stream(now)
        first = self._at.clone()
        with torch.cuda.stream(side):
            for _ in range(WARM):
                self._make()
                self._at.copy_(first)  # the schedule ends somewhere
        now.wait_stream(side)
        with torch.cuda.graph(graph):
            self._make()
        return graph.replay

    def _make(self) -> None:
        alive, diverged_at, loss_sum = self._course
        loss, gradient = self._work(random.step_keys(self._roots, self._at))
        rate = self._optimizer.rates * self._factors.index_select(0, self._at)
        after = self._optimizer.update(loss, rate, alive, gradient)
        diverged_at.copy_(torch.where(alive & ~after, self._at, diverged_at))
        alive.copy_(after)
        loss_sum.add_(loss)
        self._at.add_(1)
