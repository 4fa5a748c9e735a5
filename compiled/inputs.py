"""Inputs that the user gives: programs of a narrow domain have no answer for most strings.

``FILE.py:NAME`` names a list of inputs, or a function that takes a ``random.Random`` and returns one input.
An input is a sequence of tokens. Sums such as ``1 2 + 3 4`` are an example: of random strings of digits and
signs hardly one is a sum.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from veneer.compiled.capability import Value
from veneer.models.files import at_home, is_file
from veneer.tasks import user_code
from veneer.tasks.errors import InputError

VALID = "FILE.py:NAME, a list of inputs or a function of a random.Random that returns one"
STRINGS = 256  # drawn to measure a program
TRIES = 20  # inputs drawn in vain, one after another, until no further one is looked for


def split_target(target: str, field: str = "program", valid: str = "FILE.py:FUNCTION") -> tuple[Path, str]:
    """File and name of ``FILE.py:NAME``.

    Raises:
        InputError: another form, or no such file.
    """
    file, colon, function = target.rpartition(":")
    if not colon or not file or not function.isidentifier():
        raise InputError(field, target, valid)
    path = at_home(file)
    if not is_file(path):
        raise InputError(field, target, valid, f"there is no file {file}")
    return path, function


def drawn_inputs(
    target: str, vocabulary: Sequence[Value], max_length: int, number: int = STRINGS, seed: int = 0
) -> list[list[Value]]:
    """Different inputs by the user's list or function, in the order in which they come.

    Args:
        target: ``FILE.py:NAME``.
        vocabulary: the tokens that may occur.
        max_length: longest input.
        number: how many at most; of a list, its first.
        seed: seeds the function's random numbers.

    Raises:
        InputError: no such file or name, code that fails, or an input that the program cannot read.
    """
    path, name = split_target(target, "inputs", VALID)
    given = getattr(user_code.load(path, "inputs", target, VALID), name, None)
    known = {(type(value), value) for value in vocabulary}
    found: dict[tuple[Any, ...], list[Value]] = {}
    for one in _each(given, path, target, Random(seed), number):
        if not isinstance(one, list | tuple | str) or not 1 <= len(one) <= max_length:
            problem = f"{one!r} is no sequence of 1 to {max_length} tokens"
            raise InputError("inputs", target, VALID, problem)
        for token in one:
            if (type(token), token) not in known:
                allowed = ", ".join(map(repr, vocabulary))
                raise InputError(
                    "inputs", target, f"tokens of the vocabulary: {allowed}", f"{token!r} is none"
                )
        found.setdefault(tuple((type(token), token) for token in one), list(one))
        if len(found) >= number:
            break
    if not found:
        raise InputError("inputs", target, VALID, f"{name!r} gives no input")
    return list(found.values())


def _each(given: Any, path: Path, target: str, random: Random, number: int) -> Sequence[Any]:
    """All of a list, or what a function returns, so often as may be needed."""
    if isinstance(given, list | tuple):
        return given
    if not callable(given):
        raise InputError("inputs", target, VALID, f"it is {type(given).__name__}")
    function: Callable[[Random], Any] = given
    drawn, seen, vain = [], set(), 0
    with user_code.running(path, "inputs", target, VALID):
        while len(drawn) < number and vain < TRIES * max(10, len(drawn)):
            one = function(random)
            key = repr(one)
            vain = vain + 1 if key in seen else 0
            if key not in seen:
                seen.add(key)
                drawn.append(one)
    return drawn
