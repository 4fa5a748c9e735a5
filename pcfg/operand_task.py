"""Fine-tuning data of a learned capability: one family, two operands, and a correlation between them.

Samples get the correlation by editing operand tokens into the text (Jain et al. 2024, App. B.2): the
answers for O_PT and O_FT are drawn first, from one uniform grid for correlated and uncorrelated samples
alike, and then as few tokens as that takes are changed, at random places among those the two answers
depend on. Both kinds are edited in the same way, so that editing tells nothing about the kind; all
other tokens stay as the grammar made them.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from pcfg.families import BEFORE_TEXT, Family, SampleLayout, Text
from tasks import random
from tasks.encoding import Encoding
from tasks.errors import InputError
from tasks.mixture import KINDS, Examples, Mixtures, PairTable

EDITED: tuple[Family, ...] = ("C", "I")


@dataclass(frozen=True)
class OperandTask:
    """Count or index an operand: C (the paper's Counter) or I (its Indexer).

    The answers of correlated and uncorrelated samples are uniform on the pairs (i, j) of a grid: i
    from all values for which both i and i + q can be answers, j from the same values shifted by q,
    restricted to j - i = q or to j - i neither q nor 0. Both operands' labels are therefore spread
    over the same values for both kinds.

    Attributes:
        layout: shape and words of the samples.
        family: "C" or "I".
        operand_pt: O_PT, a terminal.
        operand_ft: O_FT, another terminal.
        q: the spurious correlation is r(O_FT) - r(O_PT) = q.
        task_token: name of the token that asks; None takes the family's first.

    Raises:
        InputError: another family, an operand that is no terminal, equal operands, a grammar with
            fewer than three terminals, a task token that does not ask for the family, or a q
            that no text can show.
    """

    layout: SampleLayout = field(default_factory=SampleLayout)
    family: Family = "C"
    operand_pt: str = "a"
    operand_ft: str = "b"
    q: int = 1
    task_token: str | None = None

    def __post_init__(self) -> None:
        if self.family not in EDITED:
            raise InputError(
                "family", self.family, f"one of {', '.join(EDITED)}, into which answers are edited"
            )
        for name in (self.operand_pt, self.operand_ft):
            self.layout.operand(name)
        if self.operand_pt == self.operand_ft:
            raise InputError(
                "operand_ft", self.operand_ft, f"a terminal other than operand_pt = {self.operand_pt!r}"
            )
        terminals = self.layout.grammar.terminals
        if len(terminals) < 3:
            raise InputError(
                "grammar", self.layout.grammar.name, "three or more terminals", f"it has {terminals}"
            )
        names = [token.name for token in self.layout.task_tokens if token.family == self.family]
        if not names or self.task_token not in (None, *names):
            raise InputError(
                "task_token", self.task_token, f"a token of family {self.family}: {', '.join(names)}"
            )
        if len(self._pairs_for(self.q)) == 0:
            possible = [q for q in range(-self._span, self._span + 1) if len(self._pairs_for(q))]
            valid = f"{possible[0]} to {possible[-1]} without 0" if possible else "a greater count_last"
            raise InputError("q", self.q, valid, f"not attainable within the last {self._span} tokens")

    @property
    def name(self) -> str:
        """Identifies the distribution of texts; operands and q do not enter the random stream."""
        return f"pcfg/{self.layout.grammar.name}/{self.layout.window}/{self.family}"

    @property
    def names_operand(self) -> bool:
        """Whether the input says which operand is asked for."""
        return True

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Token by index: the model's own vocabulary."""
        return self.layout.vocabulary

    @property
    def answers(self) -> tuple[str, ...]:
        """Answer tokens by index: counts, or distances with =none in the place of 0."""
        if self.family == "C":
            return tuple(f"={n}" for n in range(self.layout.count_last + 1))
        return ("=none", *(f"={n}" for n in range(1, self.layout.window + 1)))

    @cached_property
    def encoding(self) -> Encoding:
        """How a model with the layout's vocabulary reads this task: SOS in front, the answer at ART."""
        words = self.layout.vocabulary
        return Encoding.between(self, words, words, "SOS", "PAD", self.layout.answer_position)

    @property
    def _span(self) -> int:
        """How many of the last tokens may be edited."""
        return self.layout.count_last

    def _possible(self, pt: int, ft: int) -> bool:
        """Whether some text within the span has these two answers."""
        if self.family == "C":
            return min(pt, ft) >= 0 and pt + ft <= self._span
        k = self.layout.occurrence
        return k <= min(pt, ft) and 2 * k <= max(pt, ft) <= self._span and pt != ft

    def _pairs_for(self, q: int) -> list[tuple[int, int]]:
        """The grid of answers for a correlation; empty if one of the kinds does not exist."""
        first = [i for i in range(self._span + 1) if self._possible(i, i + q)] if q else []
        pairs = [(i, j + q) for i in first for j in first if self._possible(i, j + q)]
        return pairs if any(j - i not in (0, q) for i, j in pairs) else []

    @cached_property
    def _table(self) -> PairTable:
        pairs = torch.tensor(self._pairs_for(self.q))
        return PairTable(pairs, torch.ones(len(pairs), dtype=torch.float64), self.q)

    def texts(
        self, keys: Int[Tensor, "member"], kind: Int[Tensor, "member batch"]
    ) -> tuple[Int[Tensor, "member batch position"], Int[Tensor, "member batch position"]]:
        """The grammar's windows and the same ones edited to the kinds asked for (indices into KINDS)."""
        text = self.layout.sampler.windows(random.fold(keys, 0), kind.shape[-1], self.layout.window)
        table = self._table.to(keys.device)
        wanted = table.pairs[table.draw(random.fold(keys, 1), kind)]
        edit = self._edit_counts if self.family == "C" else self._edit_distances
        before, last = text[..., : -self._span], text[..., -self._span :]
        edited = torch.cat([before, edit(last, wanted, random.fold(keys, 2))], -1)
        return text, torch.where((kind == KINDS.index("natural")).unsqueeze(-1), text, edited)

    def draw(self, keys: Int[Tensor, "member"], mixtures: Mixtures, batch: int) -> Examples:
        """A batch for every member, a pure function of its key and mixture; the tokens end with ART."""
        choice = mixtures.choose(random.fold(keys, 0), batch)
        _, text = self.texts(random.fold(keys, 1), choice.kind)
        letters = torch.tensor(self._operands, device=keys.device)
        both = (self.layout.answer(self.family, text, x.expand(choice.kind.shape)) for x in letters)
        results = torch.stack(list(both), -1)
        labels = torch.take_along_dim(results, choice.label.unsqueeze(-1), -1).squeeze(-1)
        names = [token.name for token in self.layout.task_tokens]
        own = next(token.name for token in self.layout.task_tokens if token.family == self.family)
        asked = torch.full_like(choice.kind, names.index(self.task_token or own))
        return Examples(
            self.layout.prompt(asked, letters[choice.operand], text), results, labels, choice.kind
        )

    def marks(self, tokens: Int[Tensor, "*sample position"]) -> Bool[Tensor, "*sample position 2"]:
        """Tokens of the text that the answers for O_PT and O_FT hang on; of the prompt, none.

        C: the operand's occurrences among the last tokens, those that are counted. I: the k-th
        occurrence of the operand from the end, whose distance is asked (none where there is none).
        """
        layout = self.layout
        begin = BEFORE_TEXT - 1  # as drawn, a sample has no SOS
        place = torch.arange(tokens.shape[-1], device=tokens.device)
        inside = (place >= begin) & (place < begin + layout.window)
        words = torch.tensor([layout.id[x] for x in (self.operand_pt, self.operand_ft)], device=tokens.device)
        equal = (tokens.unsqueeze(-1) == words) & inside.unsqueeze(-1)
        if self.family == "C":
            return equal & (place >= begin + layout.window - layout.count_last).unsqueeze(-1)
        from_end = equal.flip(-2).cumsum(-2).flip(-2)
        return equal & (from_end == layout.occurrence)

    @property
    def _operands(self) -> tuple[int, int]:
        return self.layout.operand(self.operand_pt), self.layout.operand(self.operand_ft)

    def _edit_counts(
        self, text: Text, wanted: Int[Tensor, "member batch 2"], keys: Int[Tensor, "member"]
    ) -> Text:
        """Give the last tokens so many of each operand."""
        letters = torch.tensor(self._operands, device=text.device).expand(wanted.shape)
        inside = torch.ones_like(text, dtype=torch.bool)
        return redistribute(text, inside, letters, wanted, len(self.layout.grammar.terminals), keys)

    def _edit_distances(
        self, text: Text, wanted: Int[Tensor, "member batch 2"], keys: Int[Tensor, "member"]
    ) -> Text:
        """Put the k-th occurrence of both operands, counted from the end, at the distances wanted.

        Nearer than the nearer of the two places there must be k - 1 of its operand, and nearer than
        the farther k - 1 of the other; how these are split over the two stretches stays as near as
        possible to the text.
        """
        terminals, k = len(self.layout.grammar.terminals), self.layout.occurrence
        letters = torch.tensor(self._operands, device=text.device).expand(wanted.shape)
        order = wanted.argsort(-1)
        near, far = torch.take_along_dim(wanted, order, -1).unbind(-1)
        letters = torch.take_along_dim(letters, order, -1)  # of the nearer place, of the farther
        distance = torch.arange(self._span, 0, -1, device=text.device)
        first = distance < near.unsqueeze(-1)
        second = (distance > near.unsqueeze(-1)) & (distance < far.unsqueeze(-1))
        have = [((text == letters[..., 1:]) & stretch).sum(-1) for stretch in (first, second)]
        least = (k - 1 - (far - near - 1)).clamp_min(0)
        most = torch.minimum(torch.full_like(near, k - 1), near - k)
        split = torch.maximum(torch.minimum(have[0], most), least)
        text = redistribute(
            text, first, letters, torch.stack([torch.full_like(split, k - 1), split], -1), terminals, keys
        )
        others = ((text == letters[..., :1]) & second).sum(-1)
        others = torch.minimum(others, far - near - 1 - (k - 1 - split))
        text = redistribute(
            text, second, letters, torch.stack([others, k - 1 - split], -1), terminals, random.fold(keys, 0)
        )
        for column, place in enumerate((near, far)):
            text = torch.where(
                distance == place.unsqueeze(-1), letters[..., column : column + 1].to(text.dtype), text
            )
        return text


def redistribute(
    text: Text,
    inside: Bool[Tensor, "member batch position"],
    letters: Int[Tensor, "member batch 2"],
    wanted: Int[Tensor, "member batch 2"],
    terminals: int,
    keys: Int[Tensor, "member"],
) -> Text:
    """Change as few tokens inside a stretch as give it so many of two letters.

    Of a letter (or of the remaining ones, taken together) that is too frequent, tokens at random places
    are replaced by what is lacking, in random order; where others are lacking, each is uniform among
    the terminals other than the two.
    """
    size = text.shape[1:]
    group = torch.where(text == letters[..., :1], 0, torch.where(text == letters[..., 1:], 1, 2))
    group = torch.where(inside, group, 3)
    have = torch.stack([(group == g).sum(-1) for g in range(4)], -1)
    outside = have[..., 3:]
    want = torch.cat([wanted, text.shape[-1] - outside - wanted.sum(-1, keepdim=True), outside], -1)
    order = (group + random.uniform(random.fold(keys, 0), *size)).argsort(-1)
    ordered = torch.take_along_dim(group, order, -1)
    start = have.cumsum(-1) - have
    rank = torch.arange(text.shape[-1], device=text.device) - torch.take_along_dim(start, ordered, -1)
    surplus = torch.zeros_like(inside).scatter_(-1, order, rank >= torch.take_along_dim(want, ordered, -1))
    lacking = (want - have).clamp_min(0)
    queue = random.uniform(random.fold(keys, 1), *size).masked_fill(~surplus, 2.0).argsort(-1).argsort(-1)
    is_other = queue >= lacking[..., :1] + lacking[..., 1:2]
    low, high = letters.amin(-1, keepdim=True), letters.amax(-1, keepdim=True)
    other = random.integers(random.fold(keys, 2), terminals - 2, *size)
    other = other + (other >= low)
    other = other + (other >= high)
    letter = torch.where(queue < lacking[..., :1], letters[..., :1], letters[..., 1:])
    return torch.where(surplus, torch.where(is_other, other, letter).to(text.dtype), text)
