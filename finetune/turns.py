"""Gradients on a CPU: members, and slices of their batches, take turns on single threads.

Large products that share the cores wait for each other at every operation; slices of a batch that each
run on one core do not, and they stay in its cache. What a slice computes depends on nothing but its
member and its samples, and slices are added in order, so a member's numbers are the same whatever the
fleet around it, and however many cores there are (for large models, up to one for each slice).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from jaxtyping import Float
from torch import Tensor

from veneer.finetune.processor import is_small, settle
from veneer.models.transformer import Transformer

Part = Callable[[Transformer], Float[Tensor, ""]]
"""What a slice of a member's samples adds to its loss, given that member as a fleet of one."""

SLICE_ROWS = 2400
"""Token rows per slice: few enough for a core's cache, enough to fill its products."""


def slices(samples: int, length: int) -> list[slice]:
    """Where to cut a batch of ``samples`` texts of ``length`` tokens."""
    size = max(1, SLICE_ROWS // length)
    return [slice(start, min(start + size, samples)) for start in range(0, samples, size)]


class Turns:
    """Computes the gradients of a fleet from its parts.

    Args:
        model: the fleet, whose parameters' storage is settled.
        cores: how many slices are worked out at once.
        precision: of the products; with "bfloat16" they are made in it.
    """

    def __init__(self, model: Transformer, cores: int, precision: str = "float32") -> None:
        self._half = precision == "bfloat16"
        self.models = model.views()
        self.parameters = [[p for p in own.parameters() if p.requires_grad] for own in self.models]
        self._cores, self._alone = cores, is_small(model.parameter_count)
        self._pool: ThreadPoolExecutor | None = None

    def gradient(
        self, parts: list[list[Part]]
    ) -> tuple[Float[Tensor, "member"], Float[Tensor, "member parameter"]]:
        """Each member's loss, and its gradient in the order of its trained parameters.

        Args:
            parts: by member, what its loss is the sum of.
        """
        turns = [(member, part) for member, own in enumerate(parts) for part in own]
        losses: list[Tensor] = []
        gradients: list[Tensor] = []
        for (member, _), (loss, gradient) in zip(turns, self._map(turns), strict=True):
            if member == len(losses):
                losses.append(loss)
                gradients.append(gradient)
            else:
                losses[member] = losses[member] + loss
                gradients[member] += gradient
        return torch.stack(losses), torch.stack(gradients)

    def _turn(self, turn: tuple[int, Part]) -> tuple[Tensor, Tensor]:
        member, part = turn
        with torch.autocast("cpu", torch.bfloat16, enabled=self._half):  # each thread has its own
            loss = part(self.models[member])
        found = torch.autograd.grad(loss, self.parameters[member], materialize_grads=True)
        return loss.detach(), torch.cat([gradient.flatten() for gradient in found])

    def _map(self, turns: list[tuple[int, Part]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Results in order; cores that would have no slice help the others, if the model is large."""
        workers = min(self._cores, len(turns))
        if workers == 1:
            return map(self._turn, turns)
        if self._pool is None:
            threads = 1 if self._alone else self._cores // workers
            self._pool = ThreadPoolExecutor(workers, initializer=settle, initargs=(threads,))
        return self._pool.map(self._turn, turns)
