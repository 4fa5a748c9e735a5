"""Recipes: optimizer, learning rate, schedule and clipping of one stage of training.

Rates follow Jain et al. 2024: linear warmup, then a cosine to 1/100 of the maximum (App. C.1, C.2).
The paper does not mention clipping; minGPT, which it builds on, clips the global gradient norm at
1.0, and without it compiled models diverge or learn nothing, so 1.0 is the default here.
"""

import math
from dataclasses import dataclass
from typing import Literal

from veneer.tasks.errors import InputError


def check_rate(name: str, rate: float) -> None:
    """Refuse what is no learning rate.

    Args:
        name: how whoever gave it calls it.
        rate: the rate.

    Raises:
        InputError: no finite number above 0.
    """
    if not (math.isfinite(rate) and rate > 0):
        raise InputError(name, rate, "a finite number above 0")


@dataclass(frozen=True)
class Recipe:
    """How one stage trains.

    Attributes:
        optimizer: "sgd" (with momentum) or "adamw" (decoupled weight decay).
        learning_rate: the maximum of the schedule.
        iterations: optimizer steps.
        warmup: steps of linear warmup, from learning_rate / warmup to learning_rate.
        batch: samples per step.
        floor: the schedule's last value, as a fraction of its maximum.
        clip: largest norm of a member's whole gradient; None leaves gradients alone.
        momentum: SGD's.
        betas: AdamW's.
        epsilon: AdamW's.
        weight_decay: AdamW's, on matrices that act on the residual stream (as in minGPT, not on
            embeddings, biases or norms).
        precision: of the forward and backward pass. With "bfloat16" (on CUDA, and on CPUs that have it
            in hardware) matrix products are made in it, by ``torch.autocast``; weights, their updates
            and evaluations stay float32.
        compile: whether the forward pass is compiled (on CUDA only), which rounds otherwise.

    Raises:
        InputError: a field outside its range.
    """

    optimizer: Literal["sgd", "adamw"]
    learning_rate: float
    iterations: int
    warmup: int = 0
    batch: int = 96
    floor: float = 0.01
    clip: float | None = 1.0
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    weight_decay: float = 0.1
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.optimizer not in ("sgd", "adamw"):
            raise InputError("optimizer", self.optimizer, "sgd or adamw")
        check_rate("learning_rate", self.learning_rate)
        if self.iterations < 1:
            raise InputError("iterations", self.iterations, "1 or more")
        if not 0 <= self.warmup <= self.iterations:
            raise InputError("warmup", self.warmup, f"0 to iterations = {self.iterations}")
        if self.batch < 1:
            raise InputError("batch", self.batch, "1 or more")
        if not 0 <= self.floor <= 1:
            raise InputError("floor", self.floor, "a fraction in [0, 1]")
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise InputError("clip", self.clip, "a finite number above 0, or none")
        if not 0 <= self.momentum < 1:
            raise InputError("momentum", self.momentum, "a number in [0, 1)")
        if self.precision not in ("float32", "bfloat16"):
            raise InputError("precision", self.precision, "float32 or bfloat16")

    def rate_factor(self, step: int) -> float:
        """The schedule's value at a step, as a fraction of the learning rate."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.iterations - self.warmup)
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
