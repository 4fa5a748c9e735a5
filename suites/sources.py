"""Where a dataset's texts come from: one source per pair of operands, and which texts a split may hold.

A source draws texts of a kind (``veneer.tasks.mixture``), says how they become token ids, and counts, where
that can be done in closed form, how many different texts of a kind there are.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer

from veneer.suites.bulk import CounterBulk, Texts
from veneer.tasks import random
from veneer.tasks.counter import Counter
from veneer.tasks.encoding import Task, Value
from veneer.tasks.max_identifier import MaxIdentifier
from veneer.tasks.mixture import KINDS, Choice, Mixtures, pretraining

NATURAL, UNCORRELATED, CORRELATED = range(len(KINDS))


@dataclass(frozen=True)
class Condition:
    """Which texts a split may hold, where some are held out for another split.

    Attributes:
        by: what is held out; None: nothing.
        values: the lengths or labels held out.
        inside: whether this split holds those, or all others.
        asked: whose answer is the label: 0 for O_PT, 1 for O_FT.
    """

    by: Literal["length", "label"] | None = None
    values: frozenset[Value] = frozenset()
    inside: bool = False
    asked: int = 1

    def keeps(self, texts: Texts, answers: Sequence[Value]) -> Bool[np.ndarray, "text"]:
        """Which texts a split with this condition may hold."""
        if self.by is None:
            return np.ones(len(texts.sizes), dtype=bool)
        if self.by == "length":
            return np.isin(texts.sizes, np.array(sorted(self.values, key=repr))) == self.inside
        words = {*map(str, self.values)}  # as the files have them: 2 and "2" are one label
        held = np.array([i for i, answer in enumerate(answers) if str(answer) in words], dtype=np.int64)
        return np.isin(texts.results[:, self.asked], held) == self.inside


@dataclass(frozen=True)
class Frame:
    """How a text becomes what a model reads.

    Attributes:
        letters: the text's tokens by index.
        vocabulary: names of all token ids.
        ids: token id of each letter, and behind them that of padding.
        before: token ids in front of the text, if O_PT is asked and if O_FT is.
        behind: token ids behind it.
        answer: position among all these at which the answer is read; "last": that of the text's last
            token; "everywhere": every position of the text has an answer.
    """

    letters: tuple[Value, ...]
    vocabulary: tuple[str, ...]
    ids: tuple[int, ...]
    before: tuple[tuple[int, ...], tuple[int, ...]]
    behind: tuple[int, ...]
    answer: int | Literal["last", "everywhere"]


@runtime_checkable
class Source(Protocol):
    """Texts with the answers for one pair of operands.

    Attributes:
        operands: names of O_PT and O_FT.
        q: the spurious correlation's constant; None without a second operand.
        frame: how texts become token ids.
        answers: answer by index.
        numbered: whether ``answers`` is known beforehand and in order, so that differences are those of
            the indices; otherwise it grows while texts are drawn, and differences are those of numbers.
        builds: whether ``draw`` makes the kinds asked for; otherwise it draws natural text.
        batch: most texts to draw at once.
        patience: texts that may be drawn in vain before a further one counts as not to be had.
    """

    @property
    def operands(self) -> tuple[str, str]: ...
    @property
    def q(self) -> int | None: ...
    @property
    def frame(self) -> Frame: ...
    @property
    def answers(self) -> Sequence[Value]: ...
    @property
    def numbered(self) -> bool: ...
    @property
    def builds(self) -> bool: ...
    @property
    def batch(self) -> int: ...
    @property
    def patience(self) -> int: ...

    def draw(self, key: int, kind: Integer[np.ndarray, "text"]) -> Texts:
        """Texts of the kinds asked for (natural ones unless ``builds``), a pure function of the key."""
        ...

    def differences(self, results: Integer[np.ndarray, "text 2"]) -> Float[np.ndarray, "text"]:
        """r(x, O_FT) - r(x, O_PT); not a number where there is none."""
        ...

    def capacity(self, kind: int) -> int | None:
        """How many different texts of a kind there are under the condition; None: not known.

        Raises:
            InputError: a q that no text of the kind can show.
        """
        ...


Make = Callable[[dict[str, Any], Condition], Sequence[Source]]
"""From a task's description and a condition to its sources, one per pair of operands."""


class FixedKinds(Mixtures):
    """Mixtures whose choice is not drawn but given, so that a task builds exactly these samples."""

    def __init__(self, kind: Integer[np.ndarray, "text"]) -> None:
        super().__init__([pretraining()])
        self._kind = torch.from_numpy(np.asarray(kind, dtype=np.int64)).unsqueeze(0)

    def choose(self, keys: torch.Tensor, batch: int) -> Choice:
        """The kinds given; the capability asked for is assigned elsewhere."""
        return Choice(self._kind, torch.ones_like(self._kind), torch.ones_like(self._kind))


def letters_frame(letters: str, answer: int = 2) -> Frame:
    """Texts of letters as the compiled capabilities read them: BOS in front, '#' behind short ones."""
    vocabulary = ("BOS", *letters, "#")
    return Frame(tuple(letters), vocabulary, tuple(range(1, len(vocabulary))), ((0,), (0,)), (), answer)


@dataclass(frozen=True)
class CounterSource:
    """Texts of a Counter; conditions enter its table, so nothing is searched for."""

    task: Counter
    condition: Condition = field(default_factory=Condition)
    numbered: bool = True
    builds: bool = True
    batch: int = 1 << 16
    patience: int = 1 << 24

    @property
    def operands(self) -> tuple[str, str]:
        return self.task.operand_pt, self.task.operand_ft

    @property
    def q(self) -> int:
        return self.task.q

    @property
    def answers(self) -> tuple[int, ...]:
        return self.task.answers

    @property
    def frame(self) -> Frame:
        return letters_frame(self.task.letters)

    @cached_property
    def _bulk(self) -> CounterBulk:
        if self.condition.by is None:
            return CounterBulk(self.task)
        rows = self.task._rows.numpy()
        return CounterBulk(
            self.task, self.condition.keeps(Texts(rows, rows[:, 0], rows[:, 1:]), self.answers)
        )

    def draw(self, key: int, kind: Integer[np.ndarray, "text"]) -> Texts:
        return self._bulk.draw(key, kind)

    def differences(self, results: Integer[np.ndarray, "text 2"]) -> Float[np.ndarray, "text"]:
        return index_differences(results)

    def capacity(self, kind: int) -> int:
        """The sum of multinomial coefficients times the ways to fill the other places."""
        others = len(self.task.letters) - 2
        return sum(
            math.comb(size, pt) * math.comb(size - pt, ft) * others ** (size - pt - ft)
            for size, pt, ft in self._bulk.rows.tolist()
            if is_kind(kind, ft - pt, self.q)
        )


@dataclass(frozen=True)
class MaxIdentifierSource:
    """Texts of a Max-identifier."""

    task: MaxIdentifier
    condition: Condition = field(default_factory=Condition)
    numbered: bool = True
    builds: bool = True
    batch: int = 1 << 13
    patience: int = 1 << 23

    @property
    def operands(self) -> tuple[str, str]:
        return str(self.task.rank_pt), str(self.task.rank_ft)

    @property
    def q(self) -> int:
        return self.task.q

    @property
    def answers(self) -> tuple[str, ...]:
        return self.task.answers

    @property
    def frame(self) -> Frame:
        return letters_frame(self.task.letters)

    def draw(self, key: int, kind: Integer[np.ndarray, "text"]) -> Texts:
        return drawn(self.task, key, kind)

    def differences(self, results: Integer[np.ndarray, "text 2"]) -> Float[np.ndarray, "text"]:
        return index_differences(results)

    def capacity(self, kind: int) -> int:
        """Letter sets that show a pair of answers, times the orders of their letters."""
        low, high = sorted((self.task.rank_pt, self.task.rank_ft))
        count, length = len(self.task.letters), self.task.length
        pairs = np.array([(i, j) for i in range(count) for j in range(i + 1, count)])
        results = pairs if self.task.rank_pt < self.task.rank_ft else pairs[:, ::-1]
        kept = self.condition.keeps(Texts(pairs, np.full(len(pairs), length), results), self.answers)
        sets = sum(
            math.comb(i, low - 1)
            * math.comb(j - i - 1, high - low - 1)
            * math.comb(count - 1 - j, length - high)
            for (i, j), (pt, ft), keep in zip(pairs.tolist(), results.tolist(), kept, strict=True)
            if keep and is_kind(kind, ft - pt, self.q)
        )
        return sets * math.factorial(length)


def drawn(task: Task, key: int, kind: Integer[np.ndarray, "text"]) -> Texts:
    """A task's own draw, with the kinds given."""
    examples = task.draw(torch.tensor([random.step_key(key, 0)]), FixedKinds(kind), len(kind))
    letters = examples.tokens[0].to(torch.int16 if len(task.vocabulary) > 255 else torch.uint8).numpy()
    return Texts(letters, np.full(len(kind), letters.shape[1]), examples.results[0].numpy())


def index_differences(results: Integer[np.ndarray, "text 2"]) -> Float[np.ndarray, "text"]:
    """Differences of answers that are numbered in their own order."""
    return (results[:, 1].astype(np.int64) - results[:, 0]).astype(np.float64)


def is_kind(kind: int, difference: int, q: int) -> bool:
    """Whether a text with this difference of answers is of the kind."""
    if kind == NATURAL:
        return True
    return difference == q if kind == CORRELATED else difference not in (q, 0)


def kinds_of(differences: Float[np.ndarray, "text"], q: int | None) -> Integer[np.ndarray, "text"]:
    """CORRELATED, UNCORRELATED, or -1 for texts that are neither."""
    other = np.where((differences == 0) | np.isnan(differences), -1, UNCORRELATED)
    return np.where(differences == (np.nan if q is None else q), CORRELATED, other)


def make(task: dict[str, Any], condition: Condition) -> Sequence[Source]:
    """Sources of the two written tasks, from their description.

    Raises:
        InputError: an operand, rank, length or q that does not exist.
    """
    fields = {name: task[name] for name in ("letters", "length", "q")}
    if task["task"] == "counter":
        shortest = task["min_length"]
        return [
            CounterSource(Counter(**fields, min_length=shortest, operand_pt=pt, operand_ft=ft), condition)
            for pt, ft in task["pairs"]
        ]
    return [
        MaxIdentifierSource(MaxIdentifier(**fields, rank_pt=int(pt), rank_ft=int(ft)), condition)
        for pt, ft in task["pairs"]
    ]
