"""Two programs over one vocabulary as a task: texts with the answers of both, drawn from a table.

Where the programs are the user's, no text can be built to order. So texts are sampled once, both programs
answer them, and the table of texts and answers is the task: drawing takes rows of the kind asked for. A run
keeps the table, so that whoever reads the run needs neither program.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from veneer.tasks import random
from veneer.tasks.encoding import Value
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import KINDS, Examples, Kind, Mixtures

HELD_OUT = 5  # one text in so many is for evaluation alone
ENOUGH = 100  # texts of a kind, from which on some are held out


@dataclass(frozen=True, eq=False)
class PairTask:
    """A table of texts and the answers of two programs.

    Attributes:
        programs: names of the programs for O_PT and O_FT.
        letters: the vocabulary.
        answers: answer by index; numbers in a row, or else in order.
        texts: indices into ``letters``, a row for each text; all have one length.
        results: indices into ``answers``: r(x, O_PT) and r(x, O_FT).
        agrees: which texts carry the correlation.
        q: the correlation's constant, a difference of indices; 0 where the user's function says what agrees.
        part: which texts are drawn: for training, or those held out for evaluation.

    Raises:
        InputError: no text, or two programs that always give one answer.
    """

    programs: tuple[str, str]
    letters: tuple[Value, ...]
    answers: tuple[Value, ...]
    texts: Int[Tensor, "text position"]
    results: Int[Tensor, "text 2"]
    agrees: Bool[Tensor, "text"]
    q: int
    part: Literal["training", "held out"] = "training"

    def __post_init__(self) -> None:
        if not len(self.texts):
            raise InputError("programs", self.programs, "two programs with answers on some texts")
        if bool((self.results[:, 0] == self.results[:, 1]).all()):
            problem = f"both give the same answer on all {len(self.texts):,} texts"
            raise InputError("programs", list(self.programs), "two programs that differ", problem)

    @property
    def name(self) -> str:
        """Names the distribution of texts."""
        return f"pair/{self._digest}"

    @property
    def vocabulary(self) -> Sequence[Value]:
        """Token by index; None is padding, which no text has."""
        return (*self.letters, None)

    @property
    def names_operand(self) -> bool:
        """Whether the input says which operand is asked for."""
        return False

    @property
    def evaluated(self) -> "PairTask":
        """The same task on texts that training never draws."""
        return replace(self, part="held out")

    @property
    def missing(self) -> list[Kind]:
        """The kinds of text of which there is none; natural texts stand in for them."""
        held: dict[Kind, Tensor] = {"correlated": self.agrees, "uncorrelated": self._differ}
        return [kind for kind, rows in held.items() if not bool(rows.any())]

    def describe(self) -> dict[str, Any]:
        """The task as plain data: what it is, and a hash of its table."""
        return {
            "programs": list(self.programs),
            "letters": [repr(letter) for letter in self.letters],
            "answers": [repr(answer) for answer in self.answers],
            "q": self.q,
            "length": self.texts.shape[1],
            "texts": len(self.texts),
            "correlated": int(self.agrees.sum()),
            "uncorrelated": int(self._differ.sum()),
            "sha256": self._digest,
        }

    @cached_property
    def _digest(self) -> str:
        digest = hashlib.sha256(repr((self.letters, self.answers, self.q)).encode())
        for part in (self.texts, self.results, self.agrees):
            digest.update(part.long().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def _differ(self) -> Bool[Tensor, "text"]:
        return ~self.agrees & (self.results[:, 0] != self.results[:, 1])

    @cached_property
    def _rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows by kind, one after another, with where each kind begins and how many it has."""
        everything = torch.ones(len(self.texts), dtype=torch.bool)
        by_kind = {"natural": everything, "correlated": self.agrees, "uncorrelated": self._differ}
        kept = []
        for kind in KINDS:
            rows = by_kind[kind].nonzero().flatten()
            rows = rows if len(rows) else everything.nonzero().flatten()
            if len(rows) >= ENOUGH:
                held = torch.arange(len(self.texts))[rows] % HELD_OUT == 0
                rows = rows[held if self.part == "held out" else ~held]
            kept.append(rows)
        sizes = torch.tensor([len(rows) for rows in kept])
        return torch.cat(kept), sizes.cumsum(0) - sizes, sizes

    def draw(self, keys: Int[Tensor, "member"], mixtures: Mixtures, batch: int) -> Examples:
        """A batch for every member, a pure function of its key and mixture."""
        device = keys.device
        kind, _, label = mixtures.choose(random.fold(keys, 0), batch)
        rows, starts, sizes = (part.to(device) for part in self._rows)
        place = (random.uniform(random.fold(keys, 1), batch) * sizes[kind]).long()
        row = rows[starts[kind] + torch.minimum(place, sizes[kind] - 1)]
        results = self.results.to(device).long()[row]
        labels = torch.take_along_dim(results, label.unsqueeze(-1), -1).squeeze(-1)
        return Examples(self.texts.to(device).long()[row], results, labels, kind)
