"""Texts for datasets beyond the written tasks: every family of a grammar, and RASP programs of the user's.

Counting (C) and indexing (I) are edited to the correlation as ``pcfg.operand_task`` does; only the last
tokens of a window can be edited, so only they are looked at. The other families, and programs, have
natural text, from which correlated samples are picked.
"""

import math
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from veneer.compiled.tokens import in_texts
from veneer.pcfg.families import Family, SampleLayout
from veneer.pcfg.operand_task import OperandTask
from veneer.suites.bulk import Texts, uniform
from veneer.suites.sources import CORRELATED, NATURAL, Condition, Frame, index_differences
from veneer.tasks import random
from veneer.tasks.encoding import Value
from veneer.tasks.errors import InputError

EDITED = ("C", "I")
_CHUNK = 2048
_INTERPRETED = 256


@dataclass(frozen=True)
class PcfgSource:
    """Windows of a grammar's strings, asked about by one family.

    Raises:
        InputError: an operand that is no terminal, or a q that no text can show.
    """

    layout: SampleLayout
    family: Family
    operands: tuple[str, str]
    q: int | None
    numbered: bool = True
    batch: int = 1 << 13
    patience: int = 1 << 18

    def __post_init__(self) -> None:
        if self.family == "T":
            return
        for name in self.operands:
            self.layout.operand(name)
        if self.operands[0] == self.operands[1]:
            raise InputError("operand_ft", self.operands[1], f"a terminal other than {self.operands[0]!r}")
        if self.builds:
            _ = self._tail

    @property
    def builds(self) -> bool:
        return self.family in EDITED

    @property
    def answers(self) -> tuple[Value, ...]:
        """Counts, distances from the end (0: does not occur so often), or terminals."""
        if self.family == "T":
            return self.layout.grammar.terminals
        most = self.layout.count_last if self.family in ("C", "CC") else self.layout.window
        return tuple(range(most + 1))

    @property
    def frame(self) -> Frame:
        """As in ``SampleLayout``, up to ART, at which the answer is read."""
        layout, letters = self.layout, self.layout.grammar.terminals
        ids = layout.id
        token = next(i for i, each in enumerate(layout.task_tokens) if each.family == self.family)
        before, behind = [], ()
        for name in self.operands:
            operand = torch.tensor(0 if self.family == "T" else layout.operand(name))
            text = torch.zeros(layout.window, dtype=torch.int8)
            prompt = layout.prompt(torch.tensor(token), operand, text).tolist()
            before.append((ids["SOS"], *prompt[:4]))
            behind = tuple(prompt[4 + layout.window :])
        tokens = tuple(ids[letter] for letter in letters)
        return Frame(
            letters,
            layout.vocabulary,
            (*tokens, ids["PAD"]),
            (before[0], before[1]),
            behind,
            layout.answer_position,
        )

    @cached_property
    def _tail(self) -> OperandTask:
        """The same question about nothing but the tokens that may be edited."""
        layout, span = self.layout, self.layout.count_last
        q = 1 if self.q is None else self.q
        whole = OperandTask(layout, _edited(self.family), *self.operands, q, answer_grid="wide")
        return replace(whole, layout=replace(layout, window=span, token_back=min(span, layout.token_back)))

    def draw(self, key: int, kind: Integer[np.ndarray, "text"]) -> Texts:
        parts = []
        for number, start in enumerate(range(0, len(kind), _CHUNK)):
            chunk = torch.from_numpy(kind[start : start + _CHUNK].astype(np.int64))
            parts.append(self._chunk(torch.tensor([random.step_key(key, number)]), chunk))
        letters, results = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Texts(letters, np.full(len(kind), self.layout.window), results)

    def _chunk(self, keys: Int[Tensor, "1"], kind: Int[Tensor, "text"]) -> tuple[np.ndarray, np.ndarray]:
        layout = self.layout
        text = layout.sampler.windows(random.fold(keys, 0), len(kind), layout.window)
        if self.builds and bool((kind != NATURAL).any()):
            tail = text[..., -layout.count_last :]
            wanted = self._tail.wanted(random.fold(keys, 1), kind.unsqueeze(0), tail)
            edit = self._tail._edit_counts if self.family == "C" else self._tail._edit_distances
            edited = edit(tail, wanted, random.fold(keys, 2))
            text[..., -layout.count_last :] = torch.where((kind == NATURAL).unsqueeze(-1), tail, edited)
        operands = [0, 0] if self.family == "T" else [layout.operand(name) for name in self.operands]
        answers = [layout.answer(self.family, text, torch.full(text.shape[:2], x)) for x in operands]
        results = torch.stack(answers, -1)[0]
        return text[0].to(torch.uint8).numpy(), results.numpy().astype(np.int32)

    def differences(self, results: Integer[np.ndarray, "text 2"]) -> Float[np.ndarray, "text"]:
        return index_differences(results)

    def capacity(self, kind: int) -> int | None:
        """No more than there are sequences of terminals; how many the grammar makes is not known.

        Raises:
            InputError: a q that no sequence of terminals shows as the kind asks for.
        """
        if not self.builds and self.q is not None and kind != NATURAL:
            possible = self._differences()
            others = possible - {self.q}
            if not others or (kind == CORRELATED and self.q not in possible):
                raise InputError("q", self.q, *self._refusal(possible))
        most = len(self.layout.grammar.terminals) ** self.layout.window
        return most if most < 1 << 62 else None

    def _differences(self) -> set[int]:
        """Differences other than 0 that pairs (CC, IC) of two letters can have in some text.

        CC: n pairs take n + 1 tokens in a row. IC: where both distances exist, the two pairs share no
        token, so their distances are two or more apart; then the farther operand's other pairs stand
        between them, and those for which there is no room stand behind the nearer's in a row. Where one
        operand has no distance (0), the other's is the number of pairs asked for or more.
        """
        layout, k = self.layout, self.layout.occurrence
        if self.family == "CC":
            sizes = set(range(1, layout.count_last))
        else:
            sizes = set(range(k, layout.window))
            for size in range(2, layout.window):
                behind = k - (size - 1)
                if k + (behind + 1 if behind > 0 else 0) + size < layout.window:
                    sizes.add(size)
        return sizes | {-size for size in sizes}

    def _refusal(self, possible: set[int]) -> tuple[str, str]:
        """Which q are possible, and why this one is not; the grammar makes most of them rarely or never."""
        found = index_differences(self.draw(0, np.full(self.batch, NATURAL)).results).astype(int)
        common = [f"{q:+d}" for q, _ in Tally(found[found != 0].tolist()).most_common(3)]
        spans = _spans(sorted(size for size in possible if size > 0))
        valid = f"{spans}, or the same with a minus" if spans else "a longer text"
        valid += f"; the commonest in texts of this grammar: {', '.join(common)}" if common else ""
        return valid, "two operands' pairs cannot have answers with this difference in one text"


def _spans(numbers: list[int]) -> str:
    """Ascending numbers in words: 2 to 7, 9."""
    begins = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    return ", ".join(f"{a} to {b}" if b > a else str(a) for a, b in zip(begins, ends, strict=True))


def _edited(family: Family) -> Literal["C", "I"]:
    return "C" if family == "C" else "I"


@dataclass
class RaspSource:
    """Uniform token sequences with the answers of RASP's interpreter.

    Attributes:
        programs: the programs for O_PT and O_FT (the same one twice if there is no second).
        operands: their names.
        tokens: the vocabulary.
        sizes: shortest and longest text; lengths are uniform between them.
        answer: position at which the answer is read, BOS counted.
        causal: whether selectors see the past only.
        q: the correlation's constant; None without a second program.
        names: of BOS and PAD.
    """

    programs: tuple[Any, Any]
    operands: tuple[str, str]
    tokens: tuple[Value, ...]
    sizes: tuple[int, int]
    answer: int | Literal["last", "everywhere"]
    causal: bool
    q: int | None
    names: tuple[str, str]
    condition: Condition = field(default_factory=Condition)
    numbered: bool = False
    builds: bool = False
    batch: int = _INTERPRETED
    patience: int = 1 << 15

    def __post_init__(self) -> None:
        self._known: dict[tuple[type, Value], int] = {}
        self._answers: list[Value] = []
        self._failures: dict[str, int] = {}

    @property
    def failure(self) -> str:
        """Why texts had no answer, in words; empty where all had one."""
        if not self._failures:
            return ""
        why, times = max(self._failures.items(), key=lambda item: item[1])
        return f" ({times:,} texts had no answer: {why})"

    @property
    def answers(self) -> Sequence[Value]:
        return self._answers

    @property
    def frame(self) -> Frame:
        words = in_texts(self.tokens)
        vocabulary = (self.names[0], *words, self.names[1])
        return Frame(words, vocabulary, tuple(range(1, len(vocabulary))), ((0,), (0,)), (), self.answer)

    def draw(self, key: int, kind: Integer[np.ndarray, "text"]) -> Texts:
        count, (shortest, longest) = len(kind), self.sizes
        sizes = shortest + (uniform(random.step_key(key, 0), count) * (longest + 1 - shortest)).astype(
            np.int64
        )
        drawn = uniform(random.step_key(key, 1), count * longest).reshape(count, longest)
        letters = (drawn * len(self.tokens)).astype(np.uint8 if len(self.tokens) < 256 else np.uint16)
        letters[np.arange(longest) >= sizes[:, None]] = len(self.tokens)
        results = np.array([self._results(row[:n].tolist()) for row, n in zip(letters, sizes, strict=True)])
        return Texts(letters, sizes, results.reshape(count, 2))

    def _results(self, row: list[int]) -> tuple[int, int]:
        values = [self.tokens[i] for i in row]
        first = self._asked(0, values)
        if self.programs[1] is self.programs[0]:
            return first, first
        return first, self._asked(1, values)

    def _asked(self, which: int, values: list[Value]) -> int:
        def failed(why: str) -> None:
            named = f"{self.operands[which]}: {why}"
            self._failures[named] = self._failures.get(named, 0) + 1

        return self._index(answer_of(self.programs[which], values, self.answer, self.causal, failed))

    def _index(self, answer: Value) -> int:
        """Index of an answer, a new one if it was not given before; -1 for none."""
        if answer is None:
            return -1
        key = (type(answer), answer)
        if key not in self._known:
            self._known[key] = len(self._answers)
            self._answers.append(answer)
        return self._known[key]

    def differences(self, results: Integer[np.ndarray, "text 2"]) -> Float[np.ndarray, "text"]:
        numeric = [float(a) if isinstance(a, int | float) else np.nan for a in self._answers]
        values = np.array([*numeric, np.nan])[results]
        return values[:, 1] - values[:, 0]

    def capacity(self, kind: int) -> int | None:
        """All token sequences; how many of them are of a kind or have a label is not known."""
        if self.condition.by == "label":
            return None
        lengths = range(self.sizes[0], self.sizes[1] + 1)
        held = self.condition.values
        kept = [n for n in lengths if self.condition.by is None or (n in held) == self.condition.inside]
        return sum(len(self.tokens) ** n for n in kept)


def answer_of(
    program: Any,
    values: list[Value],
    where: int | Literal["last", "everywhere"],
    causal: bool,
    failed: Callable[[str], None] = lambda why: None,
) -> Value:
    """What RASP's interpreter answers where the answer is read; None where it answers nothing.

    ``failed`` is told why there is none.
    """
    from veneer.compiled import compiler

    try:
        answers = compiler.interpret(program, values, causal)
    except compiler.REFUSALS as error:
        failed(f"the interpreter fails with {type(error).__name__}: {' '.join(str(error).split())}")
        return None
    if where == "everywhere":
        given = None if all(answer is None for answer in answers) else " ".join(map(str, answers))
    else:
        given = answers[-1 if where == "last" else where - 1]
    if given is None or (isinstance(given, float) and not math.isfinite(given)):
        failed(f"it is {given} where the answer is read")
        return None
    return given
