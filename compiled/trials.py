"""Strings on which compiled programs are checked, with right answers from their definition.

``task`` strings are what the tasks draw: uniform text. ``every`` strings show each possible answer
equally often, which uniform text does not: of 45 letters out of nine, 20 are almost never alike.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from veneer.compiled.capability import CompiledCapability, Value
from veneer.compiled.exactness import LIKELY, Trials, TrialSets
from veneer.tasks import random

TASK_STRINGS = 4096
PER_ANSWER = 24
SHORTER = 4  # one string in so many is shorter than the longest, and padded


def counter_sets(capability: CompiledCapability, operand: str, letters: str, position: int) -> TrialSets:
    """For the Counter: strings of 2 letters or more, three in four of them of full length.

    ``every`` has each count from 0 to the length, the operand at random places.
    """
    length, target = capability.max_length, letters.index(operand)

    keys = _keys("counter task")
    sizes = _sizes(keys, torch.full((TASK_STRINGS,), 2), length)
    letter = random.integers(random.fold(keys, 1), len(letters), TASK_STRINGS, length)[0]
    task = _counter_trials(capability, operand, letters, position, letter, sizes)

    keys = _keys("counter every")
    counts = torch.arange(length + 1).repeat_interleave(PER_ANSWER)
    sizes = _sizes(keys, counts.clamp_min(2), length)
    others = torch.tensor([i for i in range(len(letters)) if i != target])
    fill = others[random.integers(random.fold(keys, 1), len(others), len(counts), length)[0]]
    letter = torch.where(torch.arange(length) < counts[:, None], target, fill)
    order = random.bits(random.fold(keys, 2), len(counts), length)[0]
    order = order.masked_fill(torch.arange(length) >= sizes[:, None], torch.iinfo(torch.int64).max)
    letter = torch.take_along_dim(letter, order.argsort(dim=-1, stable=True), -1)
    every = _counter_trials(capability, operand, letters, position, letter, sizes)

    likely = counts <= likely_count(len(letters), length)
    return TrialSets(task, Trials(every.tokens[likely], every.answers[likely], position), every)


def likely_count(letters: int, length: int) -> int:
    """The largest count that a uniform string of full length shows with probability ``LIKELY``."""
    p = 1 / letters
    chance = [math.comb(length, n) * p**n * (1 - p) ** (length - n) for n in range(length + 1)]
    return max(n for n in range(length + 1) if chance[n] >= LIKELY)


def max_sets(capability: CompiledCapability, rank: int, letters: str, position: int) -> TrialSets:
    """For the Max-identifier: strings of full length without repeated letters.

    ``every`` has each possible answer: as many letters before it as its rank wants, the rest behind
    it. Order is alphabetical, whatever the order of ``letters``.
    """
    length, before = capability.max_length, rank - 1
    alphabet = "".join(sorted(letters))

    chosen = random.shuffled_order(_keys("max task"), TASK_STRINGS, len(alphabet))[0, :, :length]
    task = _max_trials(capability, rank, alphabet, position, chosen)

    possible = torch.arange(before, len(alphabet) - (length - rank))
    answer = possible.repeat_interleave(PER_ANSWER)[:, None]
    order = random.shuffled_order(_keys("max every"), len(answer), len(alphabet))[0]
    side = (order > answer).long() - (order < answer).long()
    place = torch.where(side < 0, (side < 0).cumsum(-1), (side > 0).cumsum(-1))
    wanted = torch.where(side < 0, before, torch.where(side > 0, length - rank, len(alphabet)))
    every = _max_trials(
        capability, rank, alphabet, position, order[place <= wanted].view(len(answer), length)
    )
    return TrialSets(task, every, every)


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
    answers = _class_of(capability, range(capability.max_length + 1))[counts]
    return Trials(_tokens(capability, letters, letter, inside), answers, position)


def _max_trials(
    capability: CompiledCapability,
    rank: int,
    alphabet: str,
    position: int,
    letter: Int[Tensor, "string length"],
) -> Trials:
    ranked = letter.sort(-1).values[:, rank - 1]
    inside = torch.ones_like(letter, dtype=torch.bool)
    answers = _class_of(capability, tuple(alphabet))[ranked]
    return Trials(_tokens(capability, alphabet, letter, inside), answers, position)


def _class_of(capability: CompiledCapability, values: Sequence[Value]) -> Int[Tensor, "value"]:
    assert capability.classes is not None
    return torch.tensor([capability.classes.index(value) for value in values])


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
