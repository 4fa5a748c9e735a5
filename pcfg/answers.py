"""Which pairs of answers fine-tuning data of a learned capability has: natural ones, or a wide grid.

A model that was pretrained on plain text knows the answers that plain text gives. In the paper's grammar
these are few: among the last 40 tokens an operand occurs 10 to 16 times. Jain et al. 2024 add tokens of
O_FT to plain text (App. B.2), so that O_PT keeps its natural answer; ``Natural`` does so. ``wide`` spreads
both answers over all that fit, most of which no text of pretraining ever has.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from veneer.pcfg.families import Family, SampleLayout, pick
from veneer.tasks import random
from veneer.tasks.mixture import KINDS, PairTable

AnswerGrid = Literal["natural", "wide"]
COUNTED_TEXTS = 16_384
RAREST = 1e-3
"""Least share of plain texts with an answer that counts as natural. 16 of the texts counted have it."""


@lru_cache
def natural_shares(layout: SampleLayout, family: Family, operand: str, most: int) -> Float[Tensor, "answer"]:
    """How often plain text has each answer, of those up to ``most`` that are not too rare.

    Args:
        layout: makes the texts.
        family: what is asked.
        operand: of which terminal.
        most: the greatest answer to keep.

    Returns:
        Shares of 0 to ``most`` in 16,384 texts that are the same in every run, 0 for those below 1e-3.
    """
    name = f"pcfg/{layout.grammar.name}/{layout.window}/{family}"
    key = random.step_key(random.stream_key(name, 0, "natural answers"), 0)
    text = layout.sampler.windows(torch.tensor([key]), COUNTED_TEXTS, layout.window)[0]
    answer = layout.answer(family, text, torch.full(text.shape[:1], layout.operand(operand)))
    shares = torch.bincount(answer, minlength=most + 1)[: most + 1].double() / COUNTED_TEXTS
    return torch.where(shares >= RAREST, shares, 0.0)


@dataclass(frozen=True)
class Natural:
    """Answers of plain text: O_PT's is the text's own, O_FT's follows it or is another natural one.

    Where a text's own answer for O_PT is too rare, or leaves no room for O_FT's, it is drawn again from
    the natural ones.

    Attributes:
        first: share of each answer for O_PT, 0 where it cannot be had with the correlation and without.
        second: by O_PT's answer, the share of each answer for O_FT of an uncorrelated sample.
        q: the correlation.
    """

    first: Float[Tensor, "answer"]
    second: Float[Tensor, "answer answer"]
    q: int

    @staticmethod
    def of(
        pt: Float[Tensor, "answer"],
        ft: Float[Tensor, "answer"],
        possible: Callable[[int, int], bool],
        q: int,
    ) -> "Natural":
        """From the natural answers of both operands.

        Args:
            pt: share of each answer for O_PT in plain text.
            ft: the same for O_FT.
            possible: whether some text has these two answers.
            q: the correlation.
        """
        size = len(pt)
        room = torch.tensor([[possible(i, j) for j in range(size)] for i in range(size)])
        difference = torch.arange(size) - torch.arange(size).unsqueeze(-1)
        second = ft * (room & (difference != q) & (difference != 0))
        follows = (room & (difference == q)).any(-1) if q else torch.zeros(size, dtype=torch.bool)
        first = pt * (follows & (second.sum(-1) > 0))
        return Natural(_normalized(first), _normalized(second), q)

    @property
    def exists(self) -> bool:
        """Whether there are texts of both kinds."""
        return bool(self.first.sum() > 0)

    def draw(
        self,
        keys: Int[Tensor, "member"],
        kind: Int[Tensor, "member batch"],
        own: Int[Tensor, "member batch"],
    ) -> Int[Tensor, "member batch 2"]:
        """The answers wanted for O_PT and O_FT.

        Args:
            keys: of the random numbers.
            kind: indices into ``KINDS``; what natural samples get here is not used.
            own: the texts' own answers for O_PT.
        """
        size, batch = len(self.first), kind.shape[-1]
        at_hand = torch.cat([self.first > 0, torch.zeros(1, dtype=torch.bool)]).to(own.device)
        kept: Bool[Tensor, "member batch"] = at_hand[own.clamp_max(size)]
        again = pick(self.first.to(own.device), random.uniform(random.fold(keys, 0), batch))
        pt = torch.where(kept, own, again)
        other = pick(self.second.to(own.device)[pt], random.uniform(random.fold(keys, 1), batch))
        return torch.stack([pt, torch.where(kind == KINDS.index("correlated"), pt + self.q, other)], -1)


def wide(possible: Callable[[int, int], bool], span: int, q: int) -> PairTable | None:
    """Pairs (i, j), uniformly: i of all values for which i + q can be an answer too, j of these plus q.

    Both operands' labels are spread over the same values with the correlation and without it.

    Args:
        possible: whether some text has these two answers.
        span: the greatest answer.
        q: the correlation.

    Returns:
        None if the correlation, or its absence, does not exist.
    """
    first = [i for i in range(span + 1) if possible(i, i + q)] if q else []
    pairs = [(i, j + q) for i in first for j in first if possible(i, j + q)]
    if not any(j - i not in (0, q) for i, j in pairs):
        return None
    return PairTable(torch.tensor(pairs), torch.ones(len(pairs), dtype=torch.float64), q)


def _normalized(weights: Float[Tensor, "*row answer"]) -> Float[Tensor, "*row answer"]:
    return weights / weights.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
