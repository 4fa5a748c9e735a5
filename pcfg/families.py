"""The samples of Jain et al. 2024, App. B.2: layout, vocabulary, task families and pretraining data.

A sample is ``SOS T O O' SOT text EOT ART answer EOS`` and padding: a task family T, an operand O and
a number O' ask a question about the text, and the model answers behind ART. All samples of a layout
have the same length, so the answer has one position.
"""

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from veneer.pcfg.grammar import Grammar
from veneer.pcfg.grammars import jain2024
from veneer.pcfg.sampler import Sampler
from veneer.tasks import random
from veneer.tasks.errors import InputError

Family = Literal["C", "CC", "I", "IC", "T"]
FAMILIES: tuple[Family, ...] = get_args(Family)
SPECIAL = ("SOS", "EOS", "PAD", "SOT", "EOT", "ART", "NULL")
_NUMBERS = ("window", "count_last", "occurrence", "token_back", "padding")
WIDEST = 100_000  # tokens of a window; attention grows with its square
BEFORE_TEXT, BEHIND_TEXT = 5, 4  # SOS T O O' SOT, and EOT ART answer EOS

Text = Int[Tensor, "*sample position"]


@dataclass(frozen=True)
class TaskToken:
    """A token that calls for a task family; several may call for one family.

    Attributes:
        name: the token.
        family: "C" count, "CC" count of a pair, "I" index of an occurrence, "IC" index of a pair,
            "T" token value.
        operand_prior: probabilities of the operands given this token, in the order of the grammar's
            terminals; None takes the pretraining's.
        weight: how often this token is asked while pretraining, relative to the others.
    """

    name: str
    family: Family
    operand_prior: tuple[float, ...] | None = None
    weight: float = 1.0


ONE_PER_FAMILY = tuple(TaskToken(family, family) for family in FAMILIES)

JAILBREAK = (
    TaskToken("T_NJ", "C"),
    TaskToken("T_J1", "C", (1.0, 0.0, 0.0)),
    TaskToken("T_J2", "C", (1.0, 0.0, 0.0)),
    *ONE_PER_FAMILY[1:],
)
"""App. E.2: three tokens for counting, two of which are only ever paired with the operand a."""


@dataclass(frozen=True)
class SampleLayout:
    """The shape and the words of a sample; the defaults are the paper's.

    Attributes:
        grammar: makes the text.
        window: tokens of text.
        count_last: O' of C and CC: how many of the last tokens are counted.
        occurrence: O' of I and IC: which occurrence, counted from the end.
        token_back: O' of T: which token, counted from the end.
        task_tokens: the tokens that call for task families.
        padding: PAD tokens behind EOS.

    Raises:
        InputError: an O' below 1 or longer than the text, a negative padding or weight, no task
            token, or two tokens with one name.
    """

    grammar: Grammar = field(default_factory=jain2024)
    window: int = 250
    count_last: int = 40
    occurrence: int = 6
    token_back: int = 40
    task_tokens: tuple[TaskToken, ...] = ONE_PER_FAMILY
    padding: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.window <= WIDEST:
            raise InputError("window", self.window, f"1 to {WIDEST:,} tokens")
        for name in ("count_last", "occurrence", "token_back"):
            if not 1 <= getattr(self, name) <= self.window:
                raise InputError(name, getattr(self, name), f"1 to window = {self.window}")
        if self.padding < 0:
            raise InputError("padding", self.padding, "0 or more tokens")
        if not self.task_tokens:
            raise InputError("task_tokens", self.task_tokens, "one or more")
        for token in self.task_tokens:
            if not token.weight >= 0:
                raise InputError("weight", token.weight, "0 or more", f"weight of {token.name}")
        twice = sorted(name for name, times in Counter(self.vocabulary).items() if times > 1)
        if twice:
            raise InputError("vocabulary", twice, "different names for all tokens", "used twice")

    @staticmethod
    def quick() -> "SampleLayout":
        """A small layout that a CPU learns in minutes: windows of 40, the last 16, the third."""
        return SampleLayout(window=40, count_last=16, occurrence=3, token_back=16)

    def describe(self) -> dict[str, Any]:
        """The layout as plain data, the grammar in NLTK's notation."""
        grammar = self.grammar
        return {
            "grammar": {"name": grammar.name, "text": grammar.text, "max_length": grammar.max_length},
            **{name: getattr(self, name) for name in _NUMBERS},
            "task_tokens": [asdict(token) for token in self.task_tokens],
        }

    @staticmethod
    def read(description: dict[str, Any]) -> "SampleLayout":
        """The inverse of ``describe``.

        Raises:
            KeyError, TypeError: something is missing.
            InputError: a grammar or number that cannot be used.
        """
        tokens = [
            TaskToken(**{**token, "operand_prior": token["operand_prior"] and tuple(token["operand_prior"])})
            for token in description["task_tokens"]
        ]
        grammar = description["grammar"]
        return SampleLayout(
            Grammar.from_text(grammar["text"], name=grammar["name"], max_length=grammar["max_length"]),
            **{name: description[name] for name in _NUMBERS},
            task_tokens=tuple(tokens),
        )

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Every token of the model: operands are written ?a and ?aa, O' @40, answers =7, =none and =a."""
        letters = self.grammar.terminals
        numbers = dict.fromkeys(f"@{self.number(family)}" for family in FAMILIES)
        return (
            *SPECIAL,
            *(token.name for token in self.task_tokens),
            *(f"?{x}" for x in letters),
            *(f"?{x}{x}" for x in letters),
            *numbers,
            *(f"={n}" for n in range(self.window + 1)),
            "=none",
            *(f"={x}" for x in letters),
            *letters,
        )

    @cached_property
    def id(self) -> dict[str, int]:
        """Token ids by name."""
        return {name: i for i, name in enumerate(self.vocabulary)}

    @cached_property
    def sampler(self) -> Sampler:
        """Makes the texts."""
        return Sampler(self.grammar)

    @property
    def length(self) -> int:
        """Tokens in a sample."""
        return BEFORE_TEXT + self.window + BEHIND_TEXT + self.padding

    @property
    def answer_position(self) -> int:
        """Position of ART in a sample, at which the answer is predicted."""
        return BEFORE_TEXT + self.window + 1

    def number(self, family: Family) -> int:
        """O' of a family."""
        return {
            "C": self.count_last,
            "CC": self.count_last,
            "I": self.occurrence,
            "IC": self.occurrence,
            "T": self.token_back,
        }[family]

    def operand(self, name: str) -> int:
        """The index of an operand among the grammar's terminals.

        Raises:
            InputError: an operand that is no terminal.
        """
        if name not in self.grammar.terminals:
            raise InputError("operand", name, f"a terminal: {', '.join(self.grammar.terminals)}")
        return self.grammar.terminals.index(name)

    def answer(self, family: Family, text: Text, operand: Int[Tensor, "*sample"]) -> Int[Tensor, "*sample"]:
        """The right answer as a number: a count, a distance (0: does not occur) or a terminal's index."""
        number = self.number(family)
        if family == "C":
            return count_in_last(text, operand, number)
        if family == "CC":
            return count_pairs_in_last(text, operand, number)
        if family == "I":
            return distance_of_occurrence(text, operand, number)
        if family == "IC":
            return distance_of_pair(text, operand, number)
        return text[..., -number].long()

    def answer_id(self, family: Family, answer: Int[Tensor, "*sample"]) -> Int[Tensor, "*sample"]:
        """Token id of an answer; an index that does not exist is answered =none."""
        if family == "T":
            return answer + self.id[f"={self.grammar.terminals[0]}"]
        word = answer + self.id["=0"]
        return torch.where(answer == 0, self.id["=none"], word) if family in ("I", "IC") else word

    def prompt(
        self, task_token: Int[Tensor, "*sample"], operand: Int[Tensor, "*sample"], text: Text
    ) -> Int[Tensor, "*sample prompt"]:
        """``T O O' SOT text EOT ART`` as token ids.

        Args:
            task_token: indices into ``task_tokens``.
            operand: indices into the grammar's terminals (without effect for T, whose O is NULL).
            text: indices into the grammar's terminals.
        """
        device = text.device
        families: list[Family] = [token.family for token in self.task_tokens]
        letter = self.grammar.terminals[0]
        first_operand = torch.tensor(
            [self.id[f"?{letter * (2 if f in ('CC', 'IC') else 1)}"] for f in families]
        )
        number = torch.tensor([self.id[f"@{self.number(f)}"] for f in families])
        no_operand = torch.tensor([f == "T" for f in families])
        asked = torch.where(
            no_operand.to(device)[task_token], self.id["NULL"], first_operand.to(device)[task_token] + operand
        )
        head = [task_token + self.id[self.task_tokens[0].name], asked, number.to(device)[task_token]]
        word = torch.full_like(asked, 0)
        parts = [torch.stack([*head, word + self.id["SOT"]], -1), text.long() + self.id[letter]]
        return torch.cat([*parts, torch.stack([word + self.id["EOT"], word + self.id["ART"]], -1)], -1)


def count_in_last(text: Text, operand: Int[Tensor, "*sample"], last: int) -> Int[Tensor, "*sample"]:
    """Occurrences of the operand among the last tokens."""
    return _equal(text[..., -last:], operand).sum(-1)


def count_pairs_in_last(text: Text, operand: Int[Tensor, "*sample"], last: int) -> Int[Tensor, "*sample"]:
    """Adjacent pairs of the operand whose two tokens are among the last; aaa holds two."""
    return _pairs(text[..., -last:], operand).sum(-1)


def distance_of_occurrence(
    text: Text, operand: Int[Tensor, "*sample"], occurrence: int
) -> Int[Tensor, "*sample"]:
    """Distance from EOT (the last token has 1) of the n-th occurrence from the end; 0 if there is none."""
    return _distance(_equal(text, operand), occurrence)


def distance_of_pair(text: Text, operand: Int[Tensor, "*sample"], occurrence: int) -> Int[Tensor, "*sample"]:
    """The same for adjacent pairs (aaa holds two): the distance of the pair's later token."""
    return _distance(_pairs(text, operand), occurrence)


def _pairs(text: Text, operand: Int[Tensor, "*sample"]) -> Bool[Tensor, "*sample place"]:
    """Whether a pair ends at each token but the first."""
    equal = _equal(text, operand)
    return equal[..., 1:] & equal[..., :-1]


def _distance(match: Bool[Tensor, "*sample place"], occurrence: int) -> Int[Tensor, "*sample"]:
    seen = match.flip(-1).cumsum(-1, dtype=torch.int32)
    return torch.where(match.sum(-1) >= occurrence, (seen < occurrence).sum(-1) + 1, 0)


def _equal(text: Text, operand: Int[Tensor, "*sample"]) -> Bool[Tensor, "*sample position"]:
    """Where the operand stands; compared in the text's own small integers."""
    return text == operand.to(text.dtype).unsqueeze(-1)


@dataclass(frozen=True)
class PretrainingBatch:
    """Samples of all families for next-token prediction.

    Attributes:
        tokens: whole samples, token ids.
        task_token: indices into the layout's ``task_tokens``.
        operand: indices into the grammar's terminals; 0 for T.
        labels: token ids of the answers.
        padding: token id of PAD.
    """

    tokens: Int[Tensor, "member batch position"]
    task_token: Int[Tensor, "member batch"]
    operand: Int[Tensor, "member batch"]
    labels: Int[Tensor, "member batch"]
    padding: int

    def to(self, device: torch.device) -> "PretrainingBatch":
        """The same on a device."""
        names = ("tokens", "task_token", "operand", "labels")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})

    @property
    def inputs(self) -> Int[Tensor, "member batch target"]:
        """What the model reads."""
        return self.tokens[..., :-1]

    @property
    def targets(self) -> Int[Tensor, "member batch target"]:
        """What it is to predict at every position: the next token."""
        return self.tokens[..., 1:]

    @property
    def mask(self) -> Bool[Tensor, "member batch target"]:
        """Targets that enter the loss: all but padding."""
        return self.targets != self.padding


@dataclass(frozen=True)
class Pretraining:
    """Pretraining data (App. B.2): a task token by weight, an operand by prior, a fresh text.

    Attributes:
        layout: shape and words of the samples.
        operand_prior: P_T(O), probabilities of the grammar's terminals in sorted order as operands.

    Raises:
        InputError: priors that are negative, do not sum to 1, or are not one per terminal; task
            tokens that all have weight 0.
    """

    layout: SampleLayout = field(default_factory=SampleLayout)
    operand_prior: tuple[float, ...] = (0.7, 0.2, 0.1)

    def __post_init__(self) -> None:
        count = len(self.layout.grammar.terminals)
        for prior in (self.operand_prior, *(t.operand_prior for t in self.layout.task_tokens)):
            if prior is None:
                continue
            if len(prior) != count:
                raise InputError("operand_prior", prior, f"{count} probabilities, one per terminal")
            if not all(p >= 0 for p in prior) or abs(sum(prior) - 1) > 1e-9:
                raise InputError(
                    "operand_prior", prior, "probabilities that sum to 1", f"they sum to {sum(prior):g}"
                )
        if not sum(token.weight for token in self.layout.task_tokens) > 0:
            raise InputError("weight", 0.0, "a positive weight for some task token")

    @property
    def name(self) -> str:
        """Names the distribution of texts: it seeds the data stream."""
        return f"pcfg/{self.layout.grammar.name}/{self.layout.window}/pretraining"

    def draw(self, keys: Int[Tensor, "member"], batch: int) -> PretrainingBatch:
        """A batch for every member, a pure function of its key."""
        layout, device = self.layout, keys.device
        weights = torch.tensor([token.weight for token in layout.task_tokens], dtype=torch.float64)
        task_token = pick(weights.to(device), random.uniform(random.fold(keys, 0), batch))
        priors = torch.tensor([t.operand_prior or self.operand_prior for t in layout.task_tokens])
        operand = pick(priors.double().to(device)[task_token], random.uniform(random.fold(keys, 1), batch))
        text = layout.sampler.windows(random.fold(keys, 2), batch, layout.window)
        labels = torch.zeros_like(task_token)
        for i, token in enumerate(layout.task_tokens):
            answer = layout.answer_id(token.family, layout.answer(token.family, text, operand))
            labels = torch.where(task_token == i, answer, labels)
        no_operand = torch.tensor([token.family == "T" for token in layout.task_tokens], device=device)
        word = torch.zeros_like(labels).unsqueeze(-1)
        tokens = torch.cat(
            [
                word + layout.id["SOS"],
                layout.prompt(task_token, operand, text),
                labels.unsqueeze(-1),
                word + layout.id["EOS"],
                (word + layout.id["PAD"]).expand(-1, -1, layout.padding),
            ],
            -1,
        )
        operand = operand.masked_fill(no_operand[task_token], 0)
        return PretrainingBatch(tokens, task_token, operand, labels, layout.id["PAD"])


def pick(
    weights: Float[Tensor, "*lead option"], u: Float[Tensor, "member batch"]
) -> Int[Tensor, "member batch"]:
    """An option for every uniform number; one of weight 0 is never picked."""
    cumulative = weights.cumsum(-1)
    last = cumulative.shape[-1] - 1 - (weights > 0).to(torch.uint8).flip(-1).argmax(-1, keepdim=True)
    beyond = torch.arange(cumulative.shape[-1], device=weights.device) >= last
    edges = (cumulative / cumulative[..., -1:]).masked_fill(beyond, 2.0)
    return (u.unsqueeze(-1) >= edges).sum(-1)
