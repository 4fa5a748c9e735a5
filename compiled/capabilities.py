"""The paper's two written capabilities, ready for use: compiled, calibrated and cached.

``counter`` and ``max_identifier`` choose exactness and noise by measurement (``veneer.compiled.exactness``)
and keep what they measured as the capability's ``calibration``. A cached capability loads without
JAX and Tracr.
"""

import string
from collections.abc import Callable
from typing import get_args

from veneer.compiled import cache, trials
from veneer.compiled.capability import CompiledCapability
from veneer.compiled.exactness import VERSION, Coverage, TrialSets, calibrate
from veneer.tasks.errors import InputError

ANSWER_POSITION = 2  # BOS, index 0, index 1
_BOS, _PAD = "BOS", "#"


def counter(
    operand: str = "a",
    letters: str = string.ascii_lowercase[:9],
    length: int = 45,
    *,
    read_everywhere: bool = False,
    coverage: Coverage = "likely",
    mlp_exactness: int | None = None,
    literal: bool = False,
) -> CompiledCapability:
    """The Counter (Alg. 1): how often the operand occurs, read at index 1, model position 2.

    Args:
        operand: the letter counted.
        letters: the alphabet.
        length: longest string, in letters.
        read_everywhere: count at every index; ``answer_position`` is then None.
        coverage: whether counts that task strings practically never show must be right too (see
            ``exactness.calibrate``); of long strings that leaves room for very little noise.
        mlp_exactness: compile with this exactness instead of choosing one.
        literal: the paper's own values (exactness 100, noise 1e-3) instead of chosen ones; what
            they cost in accuracy is in the calibration.

    Raises:
        InputError: an operand that is no letter, repeated letters, fewer than 2 letters of length.
    """
    _check_letters(letters)
    if len(operand) != 1 or operand not in letters:
        raise InputError("operand", operand, f"one of {', '.join(letters)}")
    if length < 2:
        raise InputError("length", length, "2 or more letters (the answer is read at the second)")

    def sets(capability: CompiledCapability) -> TrialSets:
        return trials.counter_sets(capability, operand, letters, ANSWER_POSITION)

    def compiled_with(chosen: int) -> CompiledCapability:
        from veneer.compiled import compiler, programs

        program = programs.counter_everywhere(operand) if read_everywhere else programs.counter(operand)
        return compiler.compile_program(
            program,
            letters,
            length,
            bos=_BOS,
            pad=_PAD,
            mlp_exactness=chosen,
            answer_position=None if read_everywhere else ANSWER_POSITION,
            source=f"Counter of {operand!r}{', read everywhere' if read_everywhere else ''} (Alg. 1)",
        )

    spec = {"program": "counter", "operand": operand, "read_everywhere": read_everywhere}
    return _remembered(spec, letters, length, coverage, mlp_exactness, literal, compiled_with, sets)


def max_identifier(
    rank: int = 5,
    letters: str = string.ascii_lowercase,
    length: int = 10,
    *,
    coverage: Coverage = "likely",
    mlp_exactness: int | None = None,
    literal: bool = False,
) -> CompiledCapability:
    """The Max-identifier (Alg. 2): the letter of a rank in alphabetical order, read at position 2.

    Args:
        rank: 1 for the alphabetically first letter.
        letters: the alphabet.
        length: longest string, in letters; strings have no letter twice.
        coverage: as for ``counter``; here all possible answers count as likely.
        mlp_exactness: compile with this exactness instead of choosing one.
        literal: the paper's own values (exactness 100, noise 1e-3) instead of chosen ones.

    Raises:
        InputError: a rank outside 1..length, repeated letters, or a length above their number.
    """
    _check_letters(letters)
    if not 2 <= length <= len(letters):
        raise InputError("length", length, f"2 to {len(letters)}, the number of letters")
    if not 1 <= rank <= length:
        raise InputError("rank", rank, f"1 to length = {length}")

    def sets(capability: CompiledCapability) -> TrialSets:
        return trials.max_sets(capability, rank, letters, ANSWER_POSITION)

    def compiled_with(chosen: int) -> CompiledCapability:
        from veneer.compiled import compiler, programs

        return compiler.compile_program(
            programs.max_identifier(rank),
            letters,
            length,
            bos=_BOS,
            pad=_PAD,
            mlp_exactness=chosen,
            answer_position=ANSWER_POSITION,
            source=f"Max-identifier of rank {rank} (Alg. 2)",
        )

    spec = {"program": "max_identifier", "rank": rank}
    return _remembered(spec, letters, length, coverage, mlp_exactness, literal, compiled_with, sets)


def _remembered(
    spec: dict[str, str | int],
    letters: str,
    length: int,
    coverage: Coverage,
    mlp_exactness: int | None,
    literal: bool,
    compiled_with: Callable[[int], CompiledCapability],
    sets: Callable[[CompiledCapability], TrialSets],
) -> CompiledCapability:
    """From the cache, or compiled and calibrated."""
    if coverage not in get_args(Coverage):
        raise InputError("coverage", coverage, " or ".join(get_args(Coverage)))
    if mlp_exactness is not None and mlp_exactness < 1:
        raise InputError("mlp_exactness", mlp_exactness, "1 or more")
    if mlp_exactness is not None and literal:
        raise InputError("mlp_exactness", mlp_exactness, "no value together with literal, which sets it")

    recipe = {
        **spec,
        "vocabulary": letters,
        "max_length": length,
        "causal": False,
        "bos": _BOS,
        "pad": _PAD,
        "coverage": coverage,
        "mlp_exactness": mlp_exactness,
        "literal": literal,
        "calibration": VERSION,
    }
    arguments = (compiled_with, sets, coverage, mlp_exactness, literal)
    return cache.remembered(recipe, lambda: calibrate(*arguments))


def _check_letters(letters: str) -> None:
    if len(set(letters)) != len(letters) or len(letters) < 2:
        raise InputError("letters", letters, "two or more different letters")
    if _PAD in letters:
        raise InputError("letters", letters, f"letters without {_PAD!r}, which pads short strings")
