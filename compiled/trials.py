"""Strings on which compiled programs are checked, with right answers from their definition.

``task`` strings are what the tasks draw: uniform text. ``every`` strings show each possible answer
equally often, which uniform text does not: of 45 letters out of nine, 20 are almost never alike.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from compiled.capability import CompiledCapability
from compiled.exactness import Trials
from tasks import random

TASK_STRINGS = 4096
PER_ANSWER = 24
SHORTER = 4  # one string in so many is shorter than the longest, and padded


def counter_task(capability: CompiledCapability, operand: str, letters: str, position: int) -> Trials:
    """Uniform strings, three in four of them of full length, the others of 2 letters or more."""
    keys = _keys("counter task")
    length = capability.max_length
    sizes = _sizes(keys, torch.full((TASK_STRINGS,), 2), length)
    letter = random.integers(random.fold(keys, 1), len(letters), TASK_STRINGS, length)[0]
    return _counter_trials(capability, operand, letters, position, letter, sizes)


def counter_every(capability: CompiledCapability, operand: str, letters: str, position: int) -> Trials:
    """Strings with each count from 0 to the length, the operand at random places."""
    keys = _keys("counter every")
    length, target = capability.max_length, letters.index(operand)
    counts = torch.arange(length + 1).repeat_interleave(PER_ANSWER)
    sizes = _sizes(keys, counts.clamp_min(2), length)
    others = torch.tensor([i for i in range(len(letters)) if i != target] or [target])
    fill = others[random.integers(random.fold(keys, 1), len(others), len(counts), length)[0]]
    letter = torch.where(torch.arange(length) < counts[:, None], target, fill)
    order = random.bits(random.fold(keys, 2), len(counts), length)[0]
    order = order.masked_fill(torch.arange(length) >= sizes[:, None], torch.iinfo(torch.int64).max)
    letter = torch.take_along_dim(letter, order.argsort(dim=-1, stable=True), -1)
    return _counter_trials(capability, operand, letters, position, letter, sizes)


def max_task(capability: CompiledCapability, rank: int, letters: str, position: int) -> Trials:
    """Uniform strings of full length without repeated letters."""
    keys = _keys("max task")
    letter = random.shuffled_order(keys, TASK_STRINGS, len(letters))[0, :, : capability.max_length]
    return _max_trials(capability, rank, letters, position, letter)


def max_every(capability: CompiledCapability, rank: int, letters: str, position: int) -> Trials:
    """Strings with each possible answer: as many letters below it as its rank wants, the rest above."""
    keys = _keys("max every")
    length, below = capability.max_length, rank - 1
    possible = torch.arange(below, len(letters) - (length - rank))
    answer = possible.repeat_interleave(PER_ANSWER)[:, None]
    order = random.shuffled_order(keys, len(answer), len(letters))[0]
    side = (order > answer).long() - (order < answer).long()
    place = torch.where(side < 0, (side < 0).cumsum(-1), (side > 0).cumsum(-1))
    wanted = torch.where(side < 0, below, torch.where(side > 0, length - rank, len(letters)))
    letter = order[place <= wanted].view(len(answer), length)
    return _max_trials(capability, rank, letters, position, letter)


def _counter_trials(
    capability: CompiledCapability,
    operand: str,
    letters: str,
    position: int,
    letter: Int[Tensor, "string length"],
    sizes: Int[Tensor, "string"],
) -> Trials:
    inside = torch.arange(letter.shape[1]) < sizes[:, None]
    counts = ((letter == letters.index(operand)) & inside).sum(-1)
    return Trials(_tokens(capability, letters, letter, inside), _classes(capability, counts), position)


def _max_trials(
    capability: CompiledCapability,
    rank: int,
    letters: str,
    position: int,
    letter: Int[Tensor, "string length"],
) -> Trials:
    ordered = sorted(letters)
    place = torch.tensor([ordered.index(x) for x in letters])
    ranked = place[letter].sort(-1).values[:, rank - 1]
    assert capability.classes is not None
    answers = torch.tensor([capability.classes.index(x) for x in ordered])[ranked]
    inside = torch.ones_like(letter, dtype=torch.bool)
    return Trials(_tokens(capability, letters, letter, inside), answers, position)


def _classes(capability: CompiledCapability, counts: Int[Tensor, "string"]) -> Int[Tensor, "string"]:
    assert capability.classes is not None
    return torch.tensor([capability.classes.index(n) for n in range(capability.max_length + 1)])[counts]


def _tokens(
    capability: CompiledCapability,
    letters: str,
    letter: Int[Tensor, "string length"],
    inside: Tensor,
) -> Int[Tensor, "string position"]:
    """Token ids, BOS in front, PAD where not ``inside``."""
    ids = torch.tensor([capability.vocabulary.index(x) for x in letters])[letter]
    ids = torch.where(inside, ids, capability.vocabulary.index(capability.pad))
    bos = torch.full((len(ids), 1), capability.vocabulary.index(capability.bos))
    return torch.cat([bos, ids], -1)


def _keys(name: str) -> Int[Tensor, "1"]:
    return torch.tensor([random.stream_key(f"compiled/{name}", 0, "trials")])


def _sizes(keys: Int[Tensor, "1"], least: Int[Tensor, "string"], length: int) -> Int[Tensor, "string"]:
    """String sizes: the full length, or (one in SHORTER) uniform from the least allowed."""
    u = random.uniform(random.fold(keys, 9), 2, len(least))[0]
    shorter = least + (u[0] * (length + 1 - least)).long()
    return torch.where(u[1] < 1 / SHORTER, shorter, length)
