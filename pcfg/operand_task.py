"""Fine-tuning data of a learned capability: one family, two operands, and a correlation between them.

Samples get the correlation by editing operand tokens into the text (Jain et al. 2024, App. B.2): the
answers for O_PT and O_FT are chosen first (``veneer.pcfg.answers``), and then as few tokens as that takes are
changed, at random places among those the two answers depend on. Both kinds of sample are edited in the
same way; all other tokens stay as the grammar made them.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from veneer.pcfg.answers import AnswerGrid, Natural, natural_shares, wide
from veneer.pcfg.families import BEFORE_TEXT, Family, SampleLayout, Text
from veneer.tasks import random
from veneer.tasks.constants import constant
from veneer.tasks.encoding import Encoding
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import KINDS, Examples, Mixtures, PairTable

EDITED: tuple[Family, ...] = ("C", "I")
_GROUP = 56  # bits of a random number below a token's group, when tokens are ordered by both
_LETTER = 24  # the lowest of them choose a letter; the order is settled by those above


@dataclass(frozen=True)
class OperandTask:
    """Count or index an operand: C (the paper's Counter) or I (its Indexer).

    Correlated samples have answers i and i + q for the two operands, uncorrelated ones i and j with
    j - i neither q nor 0. On the natural grid i is the text's own answer and j one that is natural for
    O_FT, so that O_PT is asked what pretraining asked; its labels are spread alike for both kinds. On
    the wide grid both are spread uniformly over all that fit, both operands' labels alike for both kinds.

    Attributes:
        layout: shape and words of the samples.
        family: "C" or "I".
        operand_pt: O_PT, a terminal.
        operand_ft: O_FT, another terminal.
        q: the spurious correlation is r(O_FT) - r(O_PT) = q.
        task_token: name of the token that asks; None takes the family's first.
        answer_grid: "natural" or "wide".

    Raises:
        InputError: another family or grid, an operand that is no terminal, equal operands, a grammar with
            fewer than three terminals, a task token that does not ask for the family, or a q
            that no text can show.
    """

    layout: SampleLayout = field(default_factory=SampleLayout)
    family: Family = "C"
    operand_pt: str = "a"
    operand_ft: str = "b"
    q: int = 1
    task_token: str | None = None
    answer_grid: AnswerGrid = "natural"

    def __post_init__(self) -> None:
        if self.answer_grid not in get_args(AnswerGrid):
            raise InputError("answer_grid", self.answer_grid, " or ".join(get_args(AnswerGrid)))
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
        if not self._exists(self.q):
            possible = [q for q in range(-self._span, self._span + 1) if self._exists(q)]
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

    def _exists(self, q: int) -> bool:
        """Whether there are texts of both kinds for a correlation."""
        if self.answer_grid == "wide":
            return wide(self._possible, self._span, q) is not None
        return self._natural(q).exists

    def _natural(self, q: int) -> Natural:
        pt, ft = (
            natural_shares(self.layout, self.family, operand, self._span)
            for operand in (self.operand_pt, self.operand_ft)
        )
        return Natural.of(pt, ft, self._possible, q)

    @cached_property
    def _answers(self) -> Natural | PairTable:
        """What the wanted answers are drawn from."""
        table = wide(self._possible, self._span, self.q) if self.answer_grid == "wide" else None
        return table or self._natural(self.q)

    def wanted(
        self, keys: Int[Tensor, "member"], kind: Int[Tensor, "member batch"], text: Text
    ) -> Int[Tensor, "member batch 2"]:
        """The answers for O_PT and O_FT that texts are to be edited to.

        Args:
            keys: of the random numbers.
            kind: indices into KINDS; what natural samples get here is not used.
            text: the texts as the grammar made them.
        """
        if isinstance(self._answers, Natural):
            operand = torch.full_like(kind, self._operands[0])
            return self._answers.draw(keys, kind, self.layout.answer(self.family, text, operand))
        table = self._answers.to(keys.device)
        return table.pairs[table.draw(keys, kind)]

    def texts(
        self, keys: Int[Tensor, "member"], kind: Int[Tensor, "member batch"]
    ) -> tuple[Int[Tensor, "member batch position"], Int[Tensor, "member batch position"]]:
        """The grammar's windows and the same ones edited to the kinds asked for (indices into KINDS)."""
        text = self.layout.sampler.windows(random.fold(keys, 0), kind.shape[-1], self.layout.window)
        wanted = self.wanted(random.fold(keys, 1), kind, text)
        edit = self._edit_counts if self.family == "C" else self._edit_distances
        before, last = text[..., : -self._span], text[..., -self._span :]
        edited = torch.cat([before, edit(last, wanted, random.fold(keys, 2))], -1)
        return text, torch.where((kind == KINDS.index("natural")).unsqueeze(-1), text, edited)

    def draw(self, keys: Int[Tensor, "member"], mixtures: Mixtures, batch: int) -> Examples:
        """A batch for every member, a pure function of its key and mixture; the tokens end with ART."""
        choice = mixtures.choose(random.fold(keys, 0), batch)
        _, text = self.texts(random.fold(keys, 1), choice.kind)
        letters = constant(self._operands, keys.device)
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
        letters = constant(self._operands, text.device).expand(wanted.shape)
        terminals = len(self.layout.grammar.terminals)
        return redistribute(text, torch.ones_like(text), letters, wanted.unsqueeze(-2), terminals, keys)

    def _edit_distances(
        self, text: Text, wanted: Int[Tensor, "member batch 2"], keys: Int[Tensor, "member"]
    ) -> Text:
        """Put the k-th occurrence of both operands, counted from the end, at the distances wanted.

        Nearer than the nearer of the two places there must be k - 1 of its operand, and nearer than
        the farther k - 1 of the other; how these are split over the two stretches stays as near as
        possible to the text.
        """
        terminals, k = len(self.layout.grammar.terminals), self.layout.occurrence
        letters = constant(self._operands, text.device)
        near, far = wanted.amin(-1), wanted.amax(-1)
        letters = torch.where((wanted[..., :1] < wanted[..., 1:]), letters, letters.flip(-1))  # nearer first
        written = letters.to(text.dtype)
        distance = torch.arange(self._span, 0, -1, device=text.device)
        first = distance < near.unsqueeze(-1)
        second = (distance > near.unsqueeze(-1)) & (distance < far.unsqueeze(-1))
        of_nearer, of_farther = text == written[..., :1], text == written[..., 1:]
        room = far - near - 1
        least, most = (k - 1 - room).clamp_min(0), (near - k).clamp_max(k - 1)
        split = torch.maximum(torch.minimum((of_farther & first).sum(-1), most), least)
        others = torch.minimum((of_nearer & second).sum(-1), room - (k - 1 - split))
        counts = [torch.full_like(split, k - 1), split, others, k - 1 - split]
        by_stretch = torch.stack(counts, -1).unflatten(-1, (2, 2))
        stretch = first.to(torch.int8) + 2 * second.to(torch.int8)
        text = redistribute(text, stretch, letters, by_stretch, terminals, keys)
        for column, place in enumerate((near, far)):
            text = torch.where(distance == place.unsqueeze(-1), written[..., column : column + 1], text)
        return text


def redistribute(
    text: Text,
    stretch: Int[Tensor, "member batch position"],
    letters: Int[Tensor, "member batch 2"],
    wanted: Int[Tensor, "member batch stretch 2"],
    terminals: int,
    keys: Int[Tensor, "member"],
) -> Text:
    """Change as few tokens as give each stretch of a text so many of two letters.

    Of a letter (or of the remaining ones, taken together) that is too frequent, tokens at random places
    are replaced by what is lacking, in random order; where others are lacking, each is uniform among
    the terminals other than the two.

    Args:
        text: terminals.
        stretch: the stretch each token is in, counted from 1; 0 for tokens to leave alone.
        letters: the two letters.
        wanted: how many of them each stretch is to have.
        terminals: how many there are.
        keys: of the random numbers.
    """
    written = letters.to(text.dtype)
    kind = 2 - 2 * (text == written[..., :1]).to(torch.int8) - (text == written[..., 1:]).to(torch.int8)
    group = (3 * stretch + kind).long()  # of the tokens that can stand for each other
    drawn = random.bits(keys, *text.shape[1:]) & ((1 << _GROUP) - 1)
    drawn, order = (drawn | (group << _GROUP)).sort(-1)  # by group, in random order within it
    edges = torch.arange(3 * wanted.shape[-2] + 4, device=text.device) << _GROUP
    edges = torch.searchsorted(drawn, edges.expand(*drawn.shape[:-1], -1).contiguous())
    have = edges.diff().unflatten(-1, (-1, 3))
    rest = have[..., 1:, :].sum(-1, keepdim=True) - wanted.sum(-1, keepdim=True)
    want = torch.cat([have[..., :1, :], torch.cat([wanted, rest], -1)], -2)
    group = drawn >> _GROUP
    rank = torch.arange(text.shape[-1], device=text.device)
    surplus = rank >= torch.take_along_dim(edges[..., :-1] + want.flatten(-2), group, -1)
    # Either one group has a surplus, and its tokens are in random order, or all get the same: so what
    # is lacking is handed out in this order.
    replaced = (have - want).clamp_min(0).sum(-1)
    lacking = torch.cat([replaced.cumsum(-1).unsqueeze(-1) - replaced.unsqueeze(-1), want - have], -1)
    first, second = lacking.clamp_min(0).cumsum(-1)[..., 1:3].repeat_interleave(3, -2).unbind(-1)
    queue = surplus.cumsum(-1)
    is_first = queue <= torch.take_along_dim(first, group, -1)
    is_second = queue <= torch.take_along_dim(second, group, -1)
    other = ((drawn & ((1 << _LETTER) - 1)) * (terminals - 2)) >> _LETTER
    other = other + (other >= letters.amin(-1, keepdim=True))
    other = other + (other >= letters.amax(-1, keepdim=True))
    letter = torch.where(is_first, letters[..., :1], torch.where(is_second, letters[..., 1:], other))
    letter = torch.where(surplus, letter.to(text.dtype), torch.take_along_dim(text, order, -1))
    return torch.empty_like(text).scatter_(-1, order, letter)
