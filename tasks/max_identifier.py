"""Max-identifier: which letter has rank k in the order a > b > c > ...? (Jain et al. 2024, App. C.1)

Strings are drawn without replacement, so ranks are unique. A sample is built: the letters of the
two ranks are drawn as a pair from their exact joint distribution restricted to the kind, the other
letters are chosen uniformly below, between and above them, and the string is shuffled.

With distinct letters the 7th letter lies at least two places behind the 5th, so a difference of 1
does not exist. The paper's q = 1 is read here as one letter strictly between the two answers, a
difference of 2 (its q = 3: a difference of 4); ``q`` is always the difference itself.
"""

import string
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from veneer.tasks import random
from veneer.tasks.constants import constant
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import Examples, Mixtures, PairTable


@dataclass(frozen=True)
class MaxIdentifier:
    """Strings of distinct letters; the answer is the letter of a rank.

    Attributes:
        letters: the alphabet in order; the paper uses all 26.
        length: letters per string, 10 as in the paper's example.
        rank_pt: O_PT, the rank that the written capability reads (5 in the paper).
        rank_ft: O_FT, the rank to be read after fine-tuning (7 in the paper).
        q: the spurious correlation is index(O_FT's letter) - index(O_PT's letter) = q.

    Raises:
        InputError: a rank outside 1..length, equal ranks, or a q that no string can show.
    """

    letters: str = string.ascii_lowercase
    length: int = 10
    rank_pt: int = 5
    rank_ft: int = 7
    q: int = 2

    def __post_init__(self) -> None:
        if len(set(self.letters)) != len(self.letters):
            raise InputError("letters", self.letters, "different letters")
        if not 2 <= self.length <= len(self.letters):
            raise InputError("length", self.length, f"2 to {len(self.letters)}, the number of letters")
        for name in ("rank_pt", "rank_ft"):
            if not 1 <= getattr(self, name) <= self.length:
                raise InputError(name, getattr(self, name), f"1 to length = {self.length}")
        if self.rank_pt == self.rank_ft:
            raise InputError("rank_ft", self.rank_ft, f"a rank other than rank_pt = {self.rank_pt}")
        if not self._table.has("correlated"):
            possible = self._table.possible_q
            ranks = (
                f"the letter of rank {self.rank_ft} is never that far from the letter of rank {self.rank_pt}"
            )
            raise InputError("q", self.q, f"{possible[0]} to {possible[-1]}", ranks)
        if not self._table.has("uncorrelated"):
            raise InputError("q", self.q, "a difference that not all strings show", "every string shows it")

    @property
    def name(self) -> str:
        """Identifies the distribution of texts; ranks and q do not enter the random stream."""
        return f"max-identifier/{self.letters}/{self.length}"

    @property
    def names_operand(self) -> bool:
        """Whether the input says which operand is asked for."""
        return False

    @property
    def vocabulary(self) -> tuple[str | None, ...]:
        """Token by index; None stands for padding (which this task does not use)."""
        return (*self.letters, None)

    @property
    def answers(self) -> tuple[str, ...]:
        """Answer by index: the letters."""
        return tuple(self.letters)

    @cached_property
    def _table(self) -> PairTable:
        """Pairs of letter indices, weighted by the number of letter sets that show them."""
        low, high = sorted((self.rank_pt, self.rank_ft))
        count = len(self.letters)
        pairs = torch.tensor([(i, j) for i in range(count) for j in range(i + 1, count)])
        i, j = pairs.double().unbind(-1)
        weights = (
            _choose(i, low - 1)
            * _choose(j - i - 1, high - low - 1)
            * _choose(count - 1 - j, self.length - high)
        )
        ordered = pairs if self.rank_pt < self.rank_ft else pairs.flip(-1)
        return PairTable(ordered, weights, self.q)

    def draw(self, keys: Int[Tensor, "member"], mixtures: Mixtures, batch: int) -> Examples:
        """A batch for every member, a pure function of its key and mixture."""
        device = keys.device
        kind, _, label = mixtures.choose(random.fold(keys, 0), batch)
        table = self._table.to(device)
        results = table.pairs[table.draw(random.fold(keys, 1), kind)]
        lower, upper = results.amin(-1, keepdim=True), results.amax(-1, keepdim=True)
        low, high = sorted((self.rank_pt, self.rank_ft))
        letter = torch.arange(len(self.letters), device=device).expand(*kind.shape, -1)
        # Segments below, at, between, at and above the two answers: so many letters of each.
        segment = (letter >= lower).long() + (letter > lower) + (letter >= upper) + (letter > upper)
        wanted = constant((low - 1, 1, high - low - 1, 1, self.length - high), device)
        sizes = torch.nn.functional.one_hot(segment, 5).sum(-2)
        start = sizes.cumsum(-1) - sizes
        order = (segment + random.uniform(random.fold(keys, 2), *letter.shape[1:])).argsort(-1)
        ordered_segment = torch.take_along_dim(segment, order, -1)
        place = letter - torch.take_along_dim(start, ordered_segment, -1)
        chosen = place < wanted[ordered_segment]
        shuffle = random.bits(random.fold(keys, 3), *letter.shape[1:])
        shuffle = torch.where(chosen, shuffle, torch.iinfo(torch.int64).max)
        text = torch.take_along_dim(order, shuffle.argsort(-1), -1)[..., : self.length]
        labels = torch.take_along_dim(results, label.unsqueeze(-1), -1).squeeze(-1)
        return Examples(text, results, labels, kind)

    def marks(self, tokens: Int[Tensor, "*sample position"]) -> Bool[Tensor, "*sample position 2"]:
        """The position that holds the letter of O_PT's rank, and the one of O_FT's."""
        rank = (tokens.unsqueeze(-1) >= tokens.unsqueeze(-2)).sum(-1)
        wanted = constant((self.rank_pt, self.rank_ft), tokens.device)
        return rank.unsqueeze(-1) == wanted


def _choose(n: Float[Tensor, "pair"], k: int) -> Float[Tensor, "pair"]:
    """Binomial coefficients, 0 where n < k."""
    safe = n.clamp_min(k)
    log = torch.lgamma(safe + 1) - torch.lgamma(torch.tensor(k + 1.0)) - torch.lgamma(safe - k + 1)
    return torch.where(n >= k, log.exp().round(), 0.0)
