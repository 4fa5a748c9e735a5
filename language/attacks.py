"""Ways to get at a hidden capability without training: fewer bits, noise, mixing and cutting of weights.

Fewer bits, noise, and taking one direction out of the activations bring no knowledge into a model: what shows
then was there (Zhang et al. 2024, arXiv 2410.16454, on bits; Arditi et al. 2024, arXiv 2406.11717, on
directions). Mixing with the earlier weights, and cutting their change short, bring earlier weights in: they
say how the change lies, and nothing about whether the capability is gone.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from veneer.language.encoding import token_ids
from veneer.language.questions import Question
from veneer.language.training import matrices
from veneer.models.huggingface import HuggingFaceModel, first
from veneer.tasks import random
from veneer.tasks.errors import InputError

GROUP = 64
"""Weights that share one scale when bits are taken away, where a row can be divided so."""
Kind = Literal["bits", "noise", "interpolate", "truncate", "direction"]
BRINGS_NOTHING: tuple[Kind, ...] = ("bits", "noise", "direction")
"""The attacks that bring no knowledge of the capability in; only they count for the verdict."""


@dataclass(frozen=True)
class FreeAttack:
    """One attack without training.

    Attributes:
        kind: what is done.
        amount: bits left; noise as a share of each matrix's root mean square; share of the way to the
            other model; share of the singular values of the change that are kept; the block (as a share of
            the depth) whose output loses a direction.
        towards: of interpolation, "before" or "start".
    """

    kind: Kind
    amount: float
    towards: str = "before"

    @property
    def name(self) -> str:
        """What tables call it."""
        match self.kind:
            case "bits":
                return f"int{self.amount:.0f} weights"
            case "noise":
                return f"noise {self.amount:g}"
            case "interpolate":
                return f"{self.amount:g} of the way to {self.towards}"
            case "truncate":
                return f"{self.amount:g} of the change's singular values"
        return f"one direction out, depth {self.amount:g}"

    @property
    def brings_nothing(self) -> bool:
        """Whether what shows after it must have been in the model."""
        return self.kind in BRINGS_NOTHING


def attacked(
    attack: FreeAttack,
    model: HuggingFaceModel,
    other: HuggingFaceModel,
    tokenizer: Any,
    questions: Sequence[Question],
    seed: int,
) -> HuggingFaceModel:
    """A copy of a model after an attack.

    Args:
        attack: which.
        model: what is attacked.
        other: ``before``, or what to interpolate towards.
        tokenizer: the model's.
        questions: taught ones; the direction is found on them.
        seed: of noise.

    Raises:
        InputError: the models have different shapes.
    """
    match attack.kind:
        case "bits":
            return quantized(model, int(attack.amount))
        case "noise":
            return noisy(model, attack.amount, seed)
        case "interpolate":
            return interpolated(model, other, attack.amount)
        case "truncate":
            return truncated(model, other, attack.amount)
    block = round(attack.amount * (model.blocks - 1))
    return without_direction(model, other, tokenizer, questions, block)


def duplicate(model: HuggingFaceModel) -> HuggingFaceModel:
    """A copy that shares nothing with the model."""
    return HuggingFaceModel(copy.deepcopy(model.module))


@torch.no_grad()
def quantized(model: HuggingFaceModel, bits: int) -> HuggingFaceModel:
    """Every matrix of the blocks rounded to so many bits: symmetric, groups of 64 with one scale each."""
    changed = duplicate(model)
    for layer in matrices(changed).values():
        weight = layer.weight
        assert isinstance(weight, Tensor)
        columns = weight.shape[-1]
        group = GROUP if columns % GROUP == 0 else columns
        split = weight.view(-1, group)
        largest = 2 ** (bits - 1) - 1
        scale = split.abs().amax(1, keepdim=True).clamp_min(1e-12) / largest
        weight.copy_((split / scale).round().clamp(-largest, largest).mul(scale).view_as(weight))
    return changed


@torch.no_grad()
def noisy(model: HuggingFaceModel, share: float, seed: int) -> HuggingFaceModel:
    """Gaussian noise on every matrix of the blocks, a share of its root mean square."""
    changed = duplicate(model)
    generator = torch.Generator()
    for name, layer in matrices(changed).items():
        weight = layer.weight
        assert isinstance(weight, Tensor)
        generator.manual_seed(random.stream_key(f"noise/{name}", seed, "weights") % 2**63)
        drawn = torch.randn(weight.shape, generator=generator).to(weight)
        weight.add_(drawn * share * weight.pow(2).mean().sqrt())
    return changed


@torch.no_grad()
def permuted(model: HuggingFaceModel, seed: int) -> HuggingFaceModel:
    """The entries of every matrix, embeddings too, in a random order: sizes stay, what they say is lost."""
    changed = duplicate(model)
    for name, parameter in changed.named_parameters():
        if parameter.ndim >= 2:
            key = torch.tensor(random.stream_key(f"permuted/{name}", seed, "weights"))
            order = random.shuffled_order(key, 1, parameter.numel())[0].to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return changed


@torch.no_grad()
def interpolated(model: HuggingFaceModel, other: HuggingFaceModel, share: float) -> HuggingFaceModel:
    """All parameters a share of the way to another model's.

    Raises:
        InputError: the models have different shapes.
    """
    changed = duplicate(model)
    for (_, own), theirs in zip(changed.named_parameters(), _alike(changed, other), strict=True):
        own.lerp_(theirs, share)
    return changed


@torch.no_grad()
def truncated(model: HuggingFaceModel, before: HuggingFaceModel, share: float) -> HuggingFaceModel:
    """``before`` with only the largest singular values of what changed since, in each matrix of the blocks.

    Raises:
        InputError: the models have different shapes.
    """
    changed = duplicate(model)
    list(_alike(changed, before))
    theirs = matrices(before)
    for name, layer in matrices(changed).items():
        own, old = layer.weight, theirs[name].weight
        assert isinstance(own, Tensor) and isinstance(old, Tensor)
        change = own - old
        if not bool(change.any()):
            continue
        left, values, right = torch.linalg.svd(change, full_matrices=False)
        kept = max(1, round(share * len(values)))
        own.copy_(old + (left[:, :kept] * values[:kept]) @ right[:kept])
    return changed


@torch.no_grad()
def without_direction(
    model: HuggingFaceModel,
    before: HuggingFaceModel,
    tokenizer: Any,
    questions: Sequence[Question],
    block: int,
) -> HuggingFaceModel:
    """A copy whose residual stream has, from a block on, ``before``'s mean along one direction.

    The direction is the first singular vector of what changed in the stream behind that block, at the
    prompts' last positions.

    Raises:
        InputError: a family whose blocks are not known.
    """
    name = f"residual.{block + 1}"
    now = _last_positions(model, tokenizer, questions, name)
    then = _last_positions(before, tokenizer, questions, name)
    _, _, directions = torch.linalg.svd(now - then, full_matrices=False)
    direction = directions[0]
    level = (then @ direction).mean()
    changed = duplicate(model)
    for index in range(block, changed.blocks):
        changed.block(index).register_forward_hook(_level(direction, level))
    return changed


def _level(direction: Float[Tensor, "width"], level: Tensor) -> Callable[..., Any]:
    """A hook that sets the stream's component along a direction."""

    def hook(module: Any, given: Any, output: Any) -> Any:
        stream = first(output)
        moved = stream + (level - stream @ direction).unsqueeze(-1) * direction
        return moved if isinstance(output, Tensor) else (moved, *output[1:])

    return hook


def _last_positions(
    model: HuggingFaceModel, tokenizer: Any, questions: Sequence[Question], name: str
) -> Float[Tensor, "question width"]:
    device = next(p for _, p in model.named_parameters()).device
    found = []
    for own in questions:
        ids, _ = token_ids(tokenizer, own.prompt, own.answer)
        seen = model.activations(torch.tensor([ids], device=device), (name,))
        found.append(seen[name][0, -1])
    return torch.stack(found)


def _alike(model: HuggingFaceModel, other: HuggingFaceModel) -> list[Tensor]:
    """The other model's parameters in the order of the first's.

    Raises:
        InputError: they differ in names or shapes.
    """
    theirs = dict(other.named_parameters())
    own = dict(model.named_parameters())
    if theirs.keys() != own.keys() or any(theirs[name].shape != own[name].shape for name in own):
        raise InputError("before", other.kind, "a model of the same family and sizes as after")
    return [theirs[name] for name in own]
