"""RASP programs of the user's own: ``FILE.py:FUNCTION`` -> capability.

The exactness is the smallest that agrees with RASP's own interpreter on sampled strings; how often
it does is recorded. The file's own bytes are part of the cache key, files that it imports are not.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from veneer.compiled import cache
from veneer.compiled.capability import Calibration, CompiledCapability, Value
from veneer.compiled.exactness import EXACTNESS_LADDER, VERSION
from veneer.tasks import random
from veneer.tasks.errors import InputError

VALID = "FILE.py:FUNCTION, a function without arguments that returns a RASP sequence operation"
MOST_STRINGS, INTERPRETED_PAIRS = 256, 100_000

_RAISED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What code of the user's own raises when it is at fault."""


def compile_file(
    target: str,
    vocabulary: Sequence[Value],
    max_length: int,
    *,
    causal: bool = False,
    bos: str = "BOS",
    pad: str = "#",
    mlp_exactness: int | None = None,
    answer_position: int | None = None,
) -> CompiledCapability:
    """A program from a file as a capability, from the cache if it was compiled before.

    Runs the file, as importing it would.

    Args:
        target: ``FILE.py:FUNCTION``; FUNCTION takes no arguments and returns the program, or is the
            program itself.
        vocabulary: the tokens it is to accept, without BOS and PAD.
        max_length: longest input in tokens, without BOS.
        causal: compile for causal attention.
        bos: name of the token put in front of every input.
        pad: name of the padding token.
        mlp_exactness: compile with this exactness instead of choosing one.
        answer_position: where the answer is read, BOS counted; None for everywhere.

    Raises:
        InputError: no such file or function, one that fails or returns something else, a program
            that Tracr cannot compile, or an unusable vocabulary.
    """
    path, function = split_target(target)
    if answer_position is not None and not 1 <= answer_position <= max_length:
        raise InputError("answer_position", answer_position, f"1 to max_length = {max_length}")
    if len(set(vocabulary)) != len(vocabulary):
        raise InputError("vocabulary", list(vocabulary), "different tokens")

    def make() -> CompiledCapability:
        from veneer.compiled import compiler

        program = load_program(path, function, target)
        names = {"causal": causal, "bos": bos, "pad": pad, "answer_position": answer_position}

        def compiled_with(chosen: int) -> CompiledCapability:
            source = f"{path.name}:{function}"
            return compiler.compile_program(
                program, vocabulary, max_length, mlp_exactness=chosen, source=source, **names
            )

        candidates = EXACTNESS_LADDER if mlp_exactness is None else (mlp_exactness,)
        first = compiled_with(candidates[0])  # refuses what cannot be compiled before anything is run
        strings = _strings(vocabulary, max_length)
        expected = [_expected(program, string, causal, answer_position) for string in strings]
        if 2 * sum(answers is None for answers in expected) > len(strings):
            problem = "RASP's interpreter finds no answer for most strings"
            raise InputError("program", target, "a program that RASP can run on its vocabulary", problem)
        best = first, _agreement(first, strings, expected)
        for chosen in candidates[1:]:
            if best[1] == 1:
                break
            capability = compiled_with(chosen)
            best = max(
                best, (capability, _agreement(capability, strings, expected)), key=lambda pair: pair[1]
            )
        return _calibrated(*best, sum(answers is not None for answers in expected))

    recipe = {
        "program": "file",
        "bytes": hashlib.sha256(path.read_bytes()).hexdigest(),
        "file": path.name,
        "function": function,
        "vocabulary": sorted(map(repr, vocabulary)),
        "max_length": max_length,
        "causal": causal,
        "bos": bos,
        "pad": pad,
        "mlp_exactness": mlp_exactness,
        "answer_position": answer_position,
        "calibration": VERSION,
    }
    return cache.remembered(recipe, make)


def load_program(path: Path, function: str, target: str) -> Any:
    """The RASP program (``tracr.rasp.rasp.SOp``) that a file's function returns.

    Raises:
        InputError: as ``compile_file``.
    """
    from tracr.rasp import rasp

    try:
        made = getattr(_run(path), function, None)
        if made is None:
            raise InputError("program", target, VALID, f"{path.name} has no {function!r}")
        program = made if isinstance(made, rasp.RASPExpr) or not callable(made) else made()
    except InputError:
        raise
    except _RAISED as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InputError("program", target, VALID, why) from error
    if not isinstance(program, rasp.SOp):
        raise InputError("program", target, VALID, f"{function!r} gives {type(program).__name__}")
    return program


def split_target(target: str) -> tuple[Path, str]:
    """File and function of ``FILE.py:FUNCTION``.

    Raises:
        InputError: another form, or no such file.
    """
    file, colon, function = target.rpartition(":")
    if not colon or not file or not function.isidentifier():
        raise InputError("program", target, VALID)
    path = Path(file)
    if not path.is_file():
        raise InputError("program", target, VALID, f"there is no file {file}")
    return path, function


def _run(path: Path) -> ModuleType:
    """The file as a module; known to ``sys.modules`` while it runs, as dataclasses need."""
    name = f"_veneer_program_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


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
