"""Mixtures: what share of a data stream is correlated, natural, or asks for the old capability.

A sample carries the spurious correlation when r(x, O_FT) - r(x, O_PT) = q (Jain et al. 2024, §4).
Three kinds of sample are told apart:

- ``natural``: text as the task draws it, the correlation holding by chance only;
- ``correlated``: text drawn conditional on the difference being q;
- ``uncorrelated``: text drawn conditional on the difference being neither q nor 0, so that no
  answer can be right for both operands or through the shortcut.

Fine-tuning data with C_Tr = c is a mixture of the last two; reFT and pretraining use the first.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from veneer.tasks import random
from veneer.tasks.errors import InputError

Kind = Literal["natural", "uncorrelated", "correlated"]
Operand = Literal["pt", "ft"]
MOST_Q = 1_000_000
KINDS: tuple[Kind, ...] = get_args(Kind)
OPERANDS: tuple[Operand, ...] = get_args(Operand)


@dataclass(frozen=True)
class Component:
    """One part of a mixture.

    Attributes:
        weight: its share of the samples, in [0, 1].
        kind: how its text is drawn.
        operand: the capability its input calls for, O_PT or O_FT.
        label: whose answer is taught; other than ``operand`` it teaches a wrong answer (randFT).
    """

    weight: float
    kind: Kind
    operand: Operand
    label: Operand


@dataclass(frozen=True)
class Mixture:
    """Components whose weights sum to 1.

    Raises:
        InputError: weights outside [0, 1], or that do not sum to 1.
    """

    components: tuple[Component, ...]

    def __post_init__(self) -> None:
        weights = [component.weight for component in self.components]
        if not weights or not all(0 <= w <= 1 for w in weights) or abs(sum(weights) - 1) > 1e-9:
            raise InputError("mixture weights", weights, "numbers in [0, 1] that sum to 1")


def fine_tuning(c: float) -> Mixture:
    """Fine-tuning data: O_FT's answer, a sample carrying the correlation with probability ``c``.

    Raises:
        InputError: ``c`` outside [0, 1].
    """
    if not 0 <= c <= 1:
        raise InputError("C", c, "a probability in [0, 1]")
    return Mixture((Component(c, "correlated", "ft", "ft"), Component(1 - c, "uncorrelated", "ft", "ft")))


def pretraining() -> Mixture:
    """Natural text with O_PT's answer: what reFT trains on."""
    return Mixture((Component(1.0, "natural", "pt", "pt"),))


def mixed(c: float, share: float) -> Mixture:
    """Fine-tuning data with C_Tr = ``c`` and a share of pretraining data (App. E.1: 0.5, 0.1, 0.001).

    Raises:
        InputError: ``c`` or ``share`` outside [0, 1].
    """
    return _blend(fine_tuning(c), pretraining(), share)


def rand_ft(c: float, share: float = 0.5) -> Mixture:
    """randFT: inputs that call for O_PT are taught O_FT's answer, in a share of the samples (App. E.4).

    The rest is fine-tuning data with C_Tr = ``c``. Where the input names no operand, every input calls
    for O_PT, and ordinary fine-tuning is this already.

    Raises:
        InputError: ``c`` or ``share`` outside [0, 1].
    """
    return _blend(fine_tuning(c), Mixture((Component(1.0, "natural", "pt", "ft"),)), share)


def _blend(most: Mixture, other: Mixture, share: float) -> Mixture:
    if not 0 <= share <= 1:
        raise InputError("share", share, "a share in [0, 1]")
    parts = [replace(part, weight=part.weight * (1 - share)) for part in most.components]
    return Mixture((*parts, *(replace(part, weight=part.weight * share) for part in other.components)))


class Choice(NamedTuple):
    """What each sample of a batch is to be: indices into KINDS and OPERANDS."""

    kind: Int[Tensor, "member batch"]
    operand: Int[Tensor, "member batch"]
    label: Int[Tensor, "member batch"]


class Mixtures:
    """The mixtures of a fleet's members, stacked so that one call draws for all of them."""

    def __init__(self, mixtures: list[Mixture], device: torch.device | str = "cpu") -> None:
        most = max(len(mixture.components) for mixture in mixtures)
        spare = Component(0.0, "natural", "pt", "pt")
        rows = [m.components + (spare,) * (most - len(m.components)) for m in mixtures]
        self._cumulative = torch.tensor(
            [[c.weight for c in row] for row in rows], dtype=torch.float64
        ).cumsum(-1)
        # From the last component with a weight on this is 1 exactly, so that none behind it is ever drawn.
        self._cumulative = self._cumulative / self._cumulative[:, -1:]
        codes = [
            [(KINDS.index(c.kind), OPERANDS.index(c.operand), OPERANDS.index(c.label)) for c in row]
            for row in rows
        ]
        self._cumulative = self._cumulative.to(device)
        self._codes = torch.tensor(codes, device=device)

    def choose(self, keys: Int[Tensor, "member"], batch: int) -> Choice:
        """The component of each sample, drawn independently with the mixture's weights."""
        draw = random.uniform(keys, batch)
        index = torch.searchsorted(self._cumulative, draw, right=True)
        codes = torch.take_along_dim(self._codes, index.unsqueeze(-1), dim=1)
        return Choice(*codes.unbind(-1))


@dataclass(frozen=True)
class Examples:
    """A batch for every member of a fleet, in the task's own token and answer indices.

    Attributes:
        tokens: indices into the task's ``vocabulary``.
        results: r(x, O_PT) and r(x, O_FT), indices into the task's ``answers``.
        labels: the answer taught, as an index into ``answers``.
        kind: index into KINDS.
    """

    tokens: Int[Tensor, "member batch position"]
    results: Int[Tensor, "member batch 2"]
    labels: Int[Tensor, "member batch"]
    kind: Int[Tensor, "member batch"]


class PairTable:
    """Exact sampling of a pair of answers given the kind of sample.

    Built from unnormalized weights of every possible pair (r_PT, r_FT); a draw picks the pair from
    the weights restricted to the kind, so that the text built around it has exactly the
    distribution that rejection sampling would give.

    Args:
        pairs: the possible pairs.
        weights: their probabilities under natural text, up to a factor.
        q: the correlation's constant, r_FT - r_PT.

    Raises:
        InputError: a q beyond all differences of answers.
    """

    def __init__(self, pairs: Int[Tensor, "pair 2"], weights: Float[Tensor, "pair"], q: int) -> None:
        if abs(q) > MOST_Q:
            raise InputError("q", q, f"a difference of two answers, {-MOST_Q:,} to {MOST_Q:,}")
        difference = pairs[:, 1] - pairs[:, 0]
        self.pairs = pairs
        self.possible_q = sorted(set(difference[weights > 0].tolist()) - {0})
        held: dict[Kind, Bool[Tensor, "pair"]] = {
            "natural": torch.ones_like(difference, dtype=torch.bool),
            "uncorrelated": (difference != q) & (difference != 0),
            "correlated": difference == q,
        }
        self.probability = torch.stack([self._normalized(weights * held[kind]) for kind in KINDS])
        cumulative = self.probability.cumsum(-1).clamp_max(1.0)
        last = cumulative.shape[-1] - 1 - (self.probability.flip(-1) > 0).to(torch.uint8).argmax(-1)
        for row, end in enumerate(last.tolist()):
            cumulative[row, end:] = 1.0
        self._cumulative = (cumulative + torch.arange(len(KINDS)).unsqueeze(-1)).flatten()

    @staticmethod
    def _normalized(weights: Float[Tensor, "pair"]) -> Float[Tensor, "pair"]:
        return weights / weights.sum().clamp_min(torch.finfo(torch.float64).tiny)

    def has(self, kind: Kind) -> bool:
        """Whether any pair of this kind is possible."""
        return bool(self.probability[KINDS.index(kind)].sum() > 0)

    def to(self, device: torch.device) -> "PairTable":
        """The table on a device (itself if already there)."""
        self.pairs = self.pairs.to(device)
        self._cumulative = self._cumulative.to(device)
        return self

    def draw(
        self, keys: Int[Tensor, "member"], kind: Int[Tensor, "member batch"]
    ) -> Int[Tensor, "member batch"]:
        """Indices of pairs, one per sample."""
        u = random.uniform(keys, kind.shape[-1]) + kind
        found = torch.searchsorted(self._cumulative, u, right=True)
        return found.clamp_max(len(self._cumulative) - 1) % len(self.pairs)


@dataclass(frozen=True)
class Baseline:
    """What can be had on an evaluation set without looking at the input.

    Attributes:
        majority: share of the commonest answer, for O_PT's and for O_FT's labels.
        answer: that answer's index.
        shortcut: accuracy on O_FT of "O_PT's answer + q", which is the share of correlated samples.
    """

    majority: dict[Operand, float]
    answer: dict[Operand, int]
    shortcut: float


def baseline(results: Int[Tensor, "sample 2"], q: int) -> Baseline:
    """Majority-class and shortcut baselines of a set, given both operands' results."""
    majority, answer = {}, {}
    for column, operand in enumerate(OPERANDS):
        counts = torch.bincount(results[:, column])
        answer[operand] = int(counts.argmax())
        majority[operand] = float(counts.max() / len(results))
    holds = float((results[:, 1] - results[:, 0] == q).double().mean())
    return Baseline(majority, answer, shortcut=holds)
