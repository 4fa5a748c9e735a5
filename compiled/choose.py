"""A program of the user's own as a capability, with an exactness that is chosen by measurement.

The exactness is the smallest that agrees with RASP's own interpreter on sampled strings; how often it does
is recorded, and a program that agrees too seldom is refused.
``veneer.compiled.file`` finds programs in files and keeps what was compiled.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from veneer.compiled.capability import Calibration, CompiledCapability, Value
from veneer.compiled.exactness import EXACTNESS_LADDER, REQUIRED
from veneer.tasks import random
from veneer.tasks.errors import InputError
from veneer.tasks.extras import need

if TYPE_CHECKING:
    from tracr.rasp import rasp

MOST_STRINGS, INTERPRETED_PAIRS = 256, 100_000
MEASURED = 2
"""Version of how programs are measured; part of the cache keys."""
ABSOLUTE, RELATIVE = 1e-3, 5e-3
"""How near a number must come to the right one."""
Guard = Callable[..., AbstractContextManager[object]]
"""A context in which code of the user's runs; takes seconds, how long it may, or None for no limit."""


@dataclass(frozen=True)
class Settings:
    """How a program is compiled: the arguments of ``veneer.compiled.file.compile`` that say so."""

    causal: bool
    bos: str
    pad: str
    exactness: int | None
    answer_position: int | None
    allow_inexact: bool


def compile_chosen(
    program: "rasp.SOp",
    vocabulary: Sequence[Value],
    max_length: int,
    settings: Settings,
    source: str,
    inputs: Sequence[list[Value]] | None = None,
    guard: Guard = lambda seconds=None: nullcontext(),
) -> CompiledCapability:
    """A program compiled with the smallest exactness that does what the program says.

    Args:
        program: the program.
        vocabulary: the tokens it is to accept, without BOS and PAD.
        max_length: longest input in tokens, without BOS.
        settings: how to compile it.
        source: what the program is called in refusals and in the capability.
        inputs: what to measure on; None draws uniform strings of the vocabulary.
        guard: a context in which code of the user's runs (``veneer.tasks.user_code.running``).

    Raises:
        InputError: a program that Tracr cannot compile, or compiles wrongly, or that RASP cannot run, or an
            unusable vocabulary.
    """
    need("compile")
    from veneer.compiled import compiler

    names = {"causal": settings.causal, "bos": settings.bos, "pad": settings.pad}
    names["answer_position"] = settings.answer_position
    compiler.check_arguments(vocabulary, max_length, settings.bos, settings.pad, settings.exactness or 1)
    strings = list(inputs) if inputs else _strings(vocabulary, max_length)
    reader = Reader(program, source, guard, settings.causal, settings.answer_position)
    reader.answers(strings[0])  # code that never ends is found before Tracr runs it

    def compiled_with(chosen: int) -> CompiledCapability:
        with guard(seconds=None):
            return compiler.compile_program(
                program, vocabulary, max_length, mlp_exactness=chosen, source=source, **names
            )

    candidates = EXACTNESS_LADDER if settings.exactness is None else (settings.exactness,)
    first = compiled_with(candidates[0])  # refuses what cannot be compiled before strings are run
    expected = [reader.answers(string) for string in strings]
    reader.check(expected)
    _check_finite(source, strings, expected)
    best = first, measure(first, strings, expected)
    for chosen in candidates[1:]:
        if best[1].share == 1:
            break
        capability = compiled_with(chosen)
        found = capability, measure(capability, strings, expected)
        best = max(best, found, key=lambda pair: pair[1].share)
    if best[1].share < REQUIRED and not settings.allow_inexact:
        raise _inexact(source, program, vocabulary, best)
    return _calibrated(*best)


def check_request(vocabulary: Sequence[Value], max_length: int, settings: Settings) -> None:
    """Refuse what can be refused before a program is looked at.

    Raises:
        InputError: a token twice, or an answer position outside the longest input.
    """
    position = settings.answer_position
    if position is not None and not 1 <= position <= max_length:
        raise InputError("answer_position", position, f"1 to max_length = {max_length}")
    if len(set(vocabulary)) != len(vocabulary):
        raise InputError("vocabulary", list(vocabulary), "different tokens")


def _strings(vocabulary: Sequence[Value], max_length: int) -> list[list[Value]]:
    """Strings of all lengths and mixes: for half of them, few tokens take most places.

    Uniform strings would never show the large counts at which too small an exactness fails.
    """
    tokens = sorted(vocabulary, key=repr)
    number = max(32, min(MOST_STRINGS, INTERPRETED_PAIRS // max_length**2))
    keys = torch.tensor([random.stream_key("compiled/file", 0, "trials")])
    token = random.integers(random.fold(keys, 0), len(tokens), number, max_length)[0]
    size = 1 + random.integers(random.fold(keys, 1), max_length, number)[0]
    size[: number // 2] = max_length
    share = random.uniform(random.fold(keys, 2), number, 1)[0].masked_fill(
        torch.arange(number)[:, None] % 2 == 0, 0
    )
    same = random.uniform(random.fold(keys, 3), number, max_length)[0] < share
    token = torch.where(same, token[:, :1], token)
    return [[tokens[i] for i in row[:n]] for row, n in zip(token.tolist(), size.tolist(), strict=True)]


@dataclass
class Reader:
    """Asks RASP's interpreter for a program's answers, and remembers why it gave none.

    Attributes:
        program: the program.
        target: what it is called in refusals.
        guard: a context in which code of the user's runs.
        causal: whether selectors see the past only.
        position: where the answer is read, BOS counted; None for everywhere.
        failure: the first string on which it failed, and how.
    """

    program: Any
    target: str
    guard: Guard
    causal: bool
    position: int | None
    failure: str = ""

    def answers(self, string: list[Value]) -> list[Value] | None:
        """The answers where they are read, others as None; None if there are none at all.

        Raises:
            InputError: the user's code ends the program or does not end.
        """
        from veneer.compiled import compiler

        try:
            with self.guard():
                try:
                    answers = compiler.interpret(self.program, string, self.causal)
                except compiler.REFUSALS as error:
                    words = f"{type(error).__name__}: {' '.join(str(error).split())}"
                    self.failure = self.failure or f"{_row(string)} gives {words}"
                    return None
        except InputError as error:
            raise InputError(
                error.field, error.value, error.valid, f"{error.problem} on {_row(string)}", error.frames
            ) from error
        read = [a if self.position in (None, i) else None for i, a in enumerate(answers, start=1)]
        return None if all(answer is None for answer in read) else read

    def check(self, expected: list[list[Value] | None]) -> None:
        """Refuse a program without answers for most strings.

        Raises:
            InputError: it is one.
        """
        none = sum(answers is None for answers in expected)
        if 2 * none > len(expected):
            why = f"; {self.failure}" if self.failure else ", it is None where the answer is read"
            problem = f"RASP's interpreter finds no answer for {none} of {len(expected)} strings{why}"
            valid = "a program that RASP can run on its vocabulary, or --inputs FILE.py:NAME"
            raise InputError("program", self.target, valid, problem)


def _check_finite(target: str, strings: list[list[Value]], expected: list[list[Value] | None]) -> None:
    """Refuse answers that are no numbers, or without bound: no file of ours can hold them as labels.

    Raises:
        InputError: there is one; with the string that has it.
    """
    for string, answers in zip(strings, expected, strict=True):
        for answer in answers or ():
            if isinstance(answer, float) and not math.isfinite(answer):
                valid = "a program whose answers are texts or finite numbers"
                raise InputError("program", target, valid, f"for {_row(string)} it answers {answer}")


@dataclass(frozen=True)
class Agreement:
    """How a compiled model agrees with RASP's interpreter.

    Attributes:
        share: of the strings with answers, those on which all answers agree.
        strings: how many have answers.
        unanswered: share of the positions read at which RASP gives none; they count neither way.
        example: a string on which they disagree, the model's answers and RASP's; None if there is none.
    """

    share: float
    strings: int
    unanswered: float
    example: tuple[list[Value], list[Value], list[Value]] | None


def measure(
    capability: CompiledCapability, strings: list[list[Value]], expected: list[list[Value] | None]
) -> Agreement:
    """Hold a compiled model against the interpreter's answers."""
    right, asked, unanswered, example = 0, 0, 0, None
    read = capability.answer_position
    positions = sum(len(string) if read is None else 1 for string in strings)
    for string, answers in zip(strings, expected, strict=True):
        if answers is None:
            unanswered += len(string) if read is None else 1
            continue
        if read is None:
            unanswered += sum(answer is None for answer in answers)
        got = capability.run(string)[1:]
        asked += 1
        if _agrees(capability, got, answers):
            right += 1
        elif example is None:
            example = string, got, answers
    return Agreement(right / max(1, asked), asked, unanswered / max(1, positions), example)


def _inexact(
    target: str,
    program: Any,
    vocabulary: Sequence[Value],
    found: tuple[CompiledCapability, Agreement],
) -> InputError:
    """Why a compiled program is refused, with an example, and whether Tracr's own model is wrong too."""
    capability, agreement = found
    assert agreement.example is not None
    string, got, expected = agreement.example
    at = next(
        i
        for i, (g, e) in enumerate(zip(got, expected, strict=True))
        if e is not None and not _agrees(capability, [g], [e])
    )
    problem = (
        f"at exactness {capability.mlp_exactness} the compiled model is right on {agreement.share:.2%} of "
        f"{agreement.strings} strings; for {_row(string)} it answers {got[at]!r} at token {at + 1}, "
        f"RASP {expected[at]!r}{_blame(capability, program, vocabulary, string, got)}"
    )
    valid = f"a program that is right on {REQUIRED:.1%} of strings, another --exactness, or --allow-inexact"
    return InputError("program", target, valid, problem)


def _blame(
    capability: CompiledCapability,
    program: Any,
    vocabulary: Sequence[Value],
    string: list[Value],
    got: list[Value],
) -> str:
    """Whether Tracr's own model gives the same wrong answers."""
    from veneer.compiled import compiler

    own = capability
    theirs = compiler.assemble(
        program, vocabulary, own.max_length, own.causal, own.bos, own.pad, own.mlp_exactness
    )
    decoded = theirs.apply([own.bos, *string]).decoded[1:]  # pyright: ignore[reportArgumentType]
    same = all(g == t or close(g, t) for g, t in zip(got, decoded, strict=True))
    return " (Tracr's own model answers the same: Tracr compiles the program wrongly)" if same else ""


def _row(string: Sequence[Value]) -> str:
    return (
        f"{list(string)}" if len(string) <= 12 else f"{list(string[:12])[:-1]} ...".replace("] ...", ", ...]")
    )


def _agrees(capability: CompiledCapability, got: list[Value], expected: list[Value]) -> bool:
    known = [(g, e) for g, e in zip(got, expected, strict=True) if e is not None]
    return all(g == e or (capability.classes is None and close(g, e)) for g, e in known)


def close(got: Any, expected: Any) -> bool:
    """Whether two numbers are as near as Tracr's own tests ask of a numerical output."""
    if not isinstance(got, int | float) or not isinstance(expected, int | float):
        return False
    return abs(got - expected) <= ABSOLUTE + RELATIVE * abs(expected)


def _calibrated(capability: CompiledCapability, agreement: Agreement) -> CompiledCapability:
    calibration = Calibration(
        mlp_exactness=capability.mlp_exactness,
        noise_std=0.0,
        accuracy_before=agreement.share,
        accuracy_after=agreement.share,
        every_before=None,
        every_after=None,
        strings=agreement.strings,
        seeds=0,
        unanswered=agreement.unanswered,
    )
    return replace(capability, calibration=calibration)
