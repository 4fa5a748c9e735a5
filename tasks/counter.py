"""Counter: how often does the operand letter occur in the string? (Jain et al. 2024, §4, App. C.1)

Letters are uniform and independent. A sample of a given kind is built, not searched for: the pair
(count of O_PT, count of O_FT) is drawn from its multinomial distribution restricted to the kind,
the other places are filled with the other letters, and the string is shuffled. That is the
distribution of uniform text conditional on the kind, exactly.
"""

import string
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from veneer.tasks import random
from veneer.tasks.constants import constant
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import Examples, Mixtures, PairTable

LONGEST = 300


@dataclass(frozen=True)
class Counter:
    """Strings over ``letters``; the answer is a count.

    Attributes:
        letters: the alphabet; the paper uses the first nine letters.
        length: longest string, in letters.
        min_length: shortest string; shorter strings than ``length`` are padded behind. Lengths are
            uniform between the two. None: every string has ``length`` letters.
        operand_pt: O_PT, the letter that the written capability counts.
        operand_ft: O_FT, the letter to be counted after fine-tuning.
        q: the spurious correlation is count(O_FT) - count(O_PT) = q.

    Raises:
        InputError: an operand that is no letter, equal operands, or a q that no string can show.
    """

    letters: str = string.ascii_lowercase[:9]
    length: int = 45
    min_length: int | None = None
    operand_pt: str = "a"
    operand_ft: str = "b"
    q: int = 1

    def __post_init__(self) -> None:
        if len(set(self.letters)) != len(self.letters) or len(self.letters) < 3:
            raise InputError("letters", self.letters, "at least three different letters")
        if not 2 <= self.length <= LONGEST:
            why = "the answer is read at the second, and the table of counts grows with the square"
            raise InputError("length", self.length, f"2 to {LONGEST} letters ({why})")
        if self.min_length is not None and not 2 <= self.min_length <= self.length:
            raise InputError("min_length", self.min_length, f"2 to length = {self.length}")
        for name in ("operand_pt", "operand_ft"):
            if getattr(self, name) not in self.letters or len(getattr(self, name)) != 1:
                raise InputError(name, getattr(self, name), f"one of {', '.join(self.letters)}")
        if self.operand_pt == self.operand_ft:
            raise InputError(
                "operand_ft", self.operand_ft, f"a letter other than operand_pt = {self.operand_pt!r}"
            )
        if self.q == 0 or not self._table.has("correlated"):
            possible = f"-{self.length} to {self.length} without 0"
            raise InputError("q", self.q, possible, f"no string of {self.length} letters has this difference")

    @property
    def name(self) -> str:
        """Identifies the distribution of texts; operands and q do not enter the random stream."""
        return f"counter/{self.letters}/{self.length}/{self.min_length}"

    @property
    def names_operand(self) -> bool:
        """Whether the input says which operand is asked for."""
        return False

    @property
    def vocabulary(self) -> tuple[str | None, ...]:
        """Token by index; None stands for padding."""
        return (*self.letters, None)

    @property
    def answers(self) -> tuple[int, ...]:
        """Answer by index: counts from 0 to the length."""
        return tuple(range(self.length + 1))

    @cached_property
    def _rows(self) -> Int[Tensor, "pair 3"]:
        """Every (string length, count of O_PT, count of O_FT)."""
        shortest = self.length if self.min_length is None else self.min_length
        sizes = range(shortest, self.length + 1)
        return torch.cat(
            [torch.tensor([(n, i, j) for i in range(n + 1) for j in range(n + 1 - i)]) for n in sizes]
        )

    def _rows_on(self, device: torch.device) -> Int[Tensor, "pair 3"]:
        """The same on a device, where they are kept."""
        kept = vars(self).setdefault("_rows_by_device", {})
        if device not in kept:
            kept[device] = self._rows.to(device)
        return kept[device]

    @cached_property
    def _table(self) -> PairTable:
        size, pt, ft = self._rows.double().unbind(-1)
        rest = size - pt - ft
        p = torch.tensor(1 / len(self.letters), dtype=torch.float64)
        log_weight = (
            torch.lgamma(size + 1)
            - torch.lgamma(pt + 1)
            - torch.lgamma(ft + 1)
            - torch.lgamma(rest + 1)
            + (pt + ft) * p.log()
            + rest * (1 - 2 * p).log()
        )
        return PairTable(self._rows[:, 1:], log_weight.exp(), self.q)

    def draw(self, keys: Int[Tensor, "member"], mixtures: Mixtures, batch: int) -> Examples:
        """A batch for every member, a pure function of its key and mixture."""
        device = keys.device
        kind, _, label = mixtures.choose(random.fold(keys, 0), batch)
        row = self._table.to(device).draw(random.fold(keys, 1), kind)
        size, pt, ft = self._rows_on(device)[row].unsqueeze(-1).unbind(-2)
        own = (self.operand_pt, self.operand_ft)
        others = constant(tuple(i for i, x in enumerate(self.letters) if x not in own), device)
        fill = others[random.integers(random.fold(keys, 2), len(others), batch, self.length)]
        place = torch.arange(self.length, device=device).expand(*row.shape, -1)
        letter_pt, letter_ft = self.letters.index(self.operand_pt), self.letters.index(self.operand_ft)
        text = torch.where(place < pt, letter_pt, torch.where(place < pt + ft, letter_ft, fill))
        order = random.bits(random.fold(keys, 3), batch, self.length)
        order = torch.where(place < size, order, torch.iinfo(torch.int64).max)  # padding stays behind
        text = torch.where(place < size, text, len(self.letters))
        text = torch.take_along_dim(text, order.argsort(-1), -1)
        results = torch.cat([pt, ft], -1)
        labels = torch.take_along_dim(results, label.unsqueeze(-1), -1).squeeze(-1)
        return Examples(text, results, labels, kind)

    def marks(self, tokens: Int[Tensor, "*sample position"]) -> Bool[Tensor, "*sample position 2"]:
        """Positions that hold the letter O_PT, and those that hold O_FT."""
        letters = tuple(self.letters.index(letter) for letter in (self.operand_pt, self.operand_ft))
        return tokens.unsqueeze(-1) == constant(letters, tokens.device)
