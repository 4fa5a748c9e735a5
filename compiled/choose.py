"""A program of the user's own as a capability, with an exactness that is chosen by measurement.

The exactness is the smallest that agrees with RASP's own interpreter on sampled strings; how often it does
is recorded. ``veneer.compiled.file`` finds programs in files and keeps what was compiled.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from veneer.compiled.capability import Calibration, CompiledCapability, Value
from veneer.compiled.exactness import EXACTNESS_LADDER
from veneer.tasks import random
from veneer.tasks.errors import InputError

if TYPE_CHECKING:
    from tracr.rasp import rasp

MOST_STRINGS, INTERPRETED_PAIRS = 256, 100_000


def compile_chosen(
    program: "rasp.SOp",
    vocabulary: Sequence[Value],
    max_length: int,
    *,
    causal: bool = False,
    bos: str = "BOS",
    pad: str = "#",
    mlp_exactness: int | None = None,
    answer_position: int | None = None,
    source: str = "a RASP program",
) -> CompiledCapability:
    """A program compiled with the smallest exactness that does what the program says.

    Args:
        program: the program.
        vocabulary: the tokens it is to accept, without BOS and PAD.
        max_length: longest input in tokens, without BOS.
        causal: compile for causal attention.
        bos: name of the token put in front of every input.
        pad: name of the padding token.
        mlp_exactness: compile with this exactness instead of choosing one.
        answer_position: where the answer is read, BOS counted; None for everywhere.
        source: what the program is called in refusals and in the capability.

    Raises:
        InputError: a program that Tracr cannot compile or RASP cannot run, or an unusable vocabulary.
    """
    from veneer.compiled import compiler

    check_request(vocabulary, max_length, answer_position)
    names = {"causal": causal, "bos": bos, "pad": pad, "answer_position": answer_position}

    def compiled_with(chosen: int) -> CompiledCapability:
        return compiler.compile_program(
            program, vocabulary, max_length, mlp_exactness=chosen, source=source, **names
        )

    candidates = EXACTNESS_LADDER if mlp_exactness is None else (mlp_exactness,)
    first = compiled_with(candidates[0])  # refuses what cannot be compiled before anything is run
    strings = _strings(vocabulary, max_length)
    expected = [_expected(program, string, causal, answer_position) for string in strings]
    if 2 * sum(answers is None for answers in expected) > len(strings):
        problem = "RASP's interpreter finds no answer for most strings"
        raise InputError("program", source, "a program that RASP can run on its vocabulary", problem)
    best = first, _agreement(first, strings, expected)
    for chosen in candidates[1:]:
        if best[1] == 1:
            break
        capability = compiled_with(chosen)
        best = max(best, (capability, _agreement(capability, strings, expected)), key=lambda pair: pair[1])
    return _calibrated(*best, sum(answers is not None for answers in expected))


def check_request(vocabulary: Sequence[Value], max_length: int, answer_position: int | None) -> None:
    """Refuse what can be refused before a program is looked at.

    Raises:
        InputError: a token twice, or an answer position outside the longest input.
    """
    if answer_position is not None and not 1 <= answer_position <= max_length:
        raise InputError("answer_position", answer_position, f"1 to max_length = {max_length}")
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


def _expected(program: Any, string: list[Value], causal: bool, position: int | None) -> list[Value] | None:
    """RASP's answers where they are read, others as None; None if there are none at all."""
    from veneer.compiled import compiler

    try:
        answers = compiler.interpret(program, string, causal)
    except compiler.REFUSALS:
        return None
    read = [a if position in (None, i) else None for i, a in enumerate(answers, start=1)]
    return None if all(answer is None for answer in read) else read


def _agreement(
    capability: CompiledCapability, strings: list[list[Value]], expected: list[list[Value] | None]
) -> float:
    """Share of the strings with answers on which all of them agree."""
    right = [
        _agrees(capability, capability.run(string)[1:], answers)
        for string, answers in zip(strings, expected, strict=True)
        if answers is not None
    ]
    return sum(right) / len(right)


def _agrees(capability: CompiledCapability, got: list[Value], expected: list[Value]) -> bool:
    known = [(g, e) for g, e in zip(got, expected, strict=True) if e is not None]
    return all(g == e or (capability.classes is None and _close(g, e)) for g, e in known)


def _close(got: Value, expected: Value) -> bool:
    """Whether two numbers are as near as Tracr's own tests ask of a numerical output."""
    if not isinstance(got, int | float) or not isinstance(expected, int | float):
        return False
    return abs(got - expected) <= 1e-3 + 5e-3 * abs(expected)


def _calibrated(capability: CompiledCapability, agreement: float, strings: int) -> CompiledCapability:
    calibration = Calibration(
        mlp_exactness=capability.mlp_exactness,
        noise_std=0.0,
        accuracy_before=agreement,
        accuracy_after=agreement,
        every_before=None,
        every_after=None,
        strings=strings,
        seeds=0,
    )
    return replace(capability, calibration=calibration)
