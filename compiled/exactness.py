"""How exact to compile and how much noise to add: chosen by measuring, never taken for granted.

Tracr turns the width n of a selector into 1 / (n + 1), and an MLP of steps 1 / mlp_exactness wide
turns that back. Neighbouring steps are 1 / (n (n + 1)) apart, so counts up to n need an
exactness of about n (n + 1): Tracr's default of 100 is wrong from 10 on. Steeper steps
magnify noise, so the noise that the paper adds once to all weights (Jain et al. 2024, App. C.1:
"small enough to lose no accuracy") has to be chosen after the exactness.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compiled.capability import Calibration, CompiledCapability
from models.transformer import Transformer
from tasks import random
from tasks.errors import InputError

EXACTNESS_LADDER = (100, 200, 300, 500, 1000, 2000, 3000, 5000, 10000)
NOISE_LADDER = (1e-3, 5e-4, 3e-4, 1e-4, 5e-5, 3e-5, 1e-5, 5e-6, 3e-6, 1e-6)
NOISE_SEEDS = (0, 1, 2)
REQUIRED = 0.999
LITERAL_EXACTNESS, LITERAL_NOISE = 100, 1e-3

VERSION = 1
"""Version of the way of choosing; part of the cache keys."""

_CHUNK = 256


@dataclass(frozen=True)
class Trials:
    """Strings with the right answers.

    Attributes:
        tokens: token ids, BOS in front, padded.
        answers: class of the right answer.
        position: where the answer is read, BOS counted.
    """

    tokens: Int[Tensor, "string position"]
    answers: Int[Tensor, "string"]
    position: int


def add_noise(model: Transformer, std: float, seeds: Sequence[int]) -> Transformer:
    """A copy with N(0, std) added to every trained weight, those that are zero included.

    Args:
        model: a fleet with one member per seed.
        std: standard deviation, 0 or more.
        seeds: each member's noise is a pure function of its seed and the parameter's name.

    Raises:
        InputError: ``std`` is negative.
    """
    if not std >= 0:
        raise InputError("noise", std, "0 or more")
    if len(seeds) != model.members:
        raise ValueError(f"{model.members} members need as many seeds, got {len(seeds)}")
    noisy = model.select(list(range(model.members)))
    with torch.no_grad():
        for name, parameter in noisy.named_parameters():
            if parameter.requires_grad:
                roots = [random.stream_key(f"compiled weights/{name}", seed, "noise") for seed in seeds]
                keys = torch.tensor(roots, device=parameter.device)
                parameter += std * _normal(keys, *parameter.shape[1:]).to(parameter.dtype)
    return noisy


def accuracy(model: Transformer, trials: Trials, stop_below: float = 0.0) -> Float[Tensor, "member"]:
    """Share of strings that each member answers rightly.

    Args:
        model: any fleet that reads the trials' tokens.
        trials: what to ask.
        stop_below: once a member cannot reach this share any more, its result is -1 and the rest of
            the strings is skipped.
    """
    device = model.token_embedding.device
    wrong = torch.zeros(model.members, dtype=torch.int64, device=device)
    allowed = len(trials.answers) * (1 - stop_below) + 1e-6
    for tokens, answers in zip(trials.tokens.split(_CHUNK), trials.answers.split(_CHUNK), strict=True):
        batch = tokens.to(device).expand(model.members, -1, -1)
        with torch.no_grad():
            logits = model(batch, answer=trials.position).logits
        wrong += (logits.argmax(-1) != answers.to(device)).sum(-1)
        if bool((wrong > allowed).any()):
            return torch.full((model.members,), -1.0, dtype=torch.float64)
    return 1 - wrong.double().cpu() / len(trials.answers)


def choose_exactness(
    compiled_with: Callable[[int], CompiledCapability], sets: Sequence[Trials]
) -> CompiledCapability:
    """The capability of the smallest exactness on the ladder that is right on every string.

    Where none is, the one that is right on most strings of the first set.

    Raises:
        InputError: even that one is below 99.9 % on the first set.
    """
    best, best_accuracy = None, -1.0
    for exactness in EXACTNESS_LADDER:
        candidate = compiled_with(exactness)
        reached = [float(accuracy(candidate.model, trials)) for trials in sets]
        if all(share == 1 for share in reached):
            return candidate
        if reached[0] > best_accuracy:
            best, best_accuracy = candidate, reached[0]
    if best is None or best_accuracy < REQUIRED:
        problem = f"right on {best_accuracy:.2%} of strings at best"
        raise InputError("exactness", EXACTNESS_LADDER, "a size at which one of these is exact", problem)
    return best


def choose_noise(model: Transformer, task: Trials) -> float:
    """The largest noise on the ladder that loses no accuracy on the task, for any of three seeds.

    0 where even the smallest does.
    """
    before = float(accuracy(model, task))
    fleet = model.select([0] * len(NOISE_SEEDS))
    for std in NOISE_LADDER:
        after = accuracy(add_noise(fleet, std, NOISE_SEEDS), task, stop_below=before)
        if bool((after >= before).all()):
            return std
    return 0.0


def measure(model: Transformer, exactness: int, std: float, task: Trials, every: Trials) -> Calibration:
    """Accuracy with and without noise on both sets."""
    fleet = add_noise(model.select([0] * len(NOISE_SEEDS)), std, NOISE_SEEDS)
    return Calibration(
        mlp_exactness=exactness,
        noise_std=std,
        accuracy_before=float(accuracy(model, task)),
        accuracy_after=float(accuracy(fleet, task).mean()),
        every_before=float(accuracy(model, every)),
        every_after=float(accuracy(fleet, every).mean()),
        strings=len(task.answers),
        seeds=len(NOISE_SEEDS),
        literal=exactness == LITERAL_EXACTNESS and std == LITERAL_NOISE,
    )


def _normal(keys: Int[Tensor, "member"], *shape: int) -> Float[Tensor, "member ..."]:
    """Standard normal float64 numbers, by the inverse of the distribution function."""
    centred = random.uniform(keys, *shape) + 2.0**-54
    return torch.erfinv(2 * centred - 1) * 2**0.5
