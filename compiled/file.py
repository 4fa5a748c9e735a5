"""RASP programs of the user's own: a function, or ``FILE.py:FUNCTION`` -> capability.

What a file's function gives is kept in the cache. The file's bytes, and those of the modules beside it that
it imports, are part of the cache key.
"""

import inspect
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from veneer.compiled import cache
from veneer.compiled.capability import CompiledCapability, Value
from veneer.compiled.choose import MEASURED, Settings, check_request, compile_chosen
from veneer.compiled.exactness import REQUIRED, VERSION
from veneer.compiled.inputs import VALID as INPUTS
from veneer.compiled.inputs import drawn_inputs, split_target
from veneer.tasks import user_code
from veneer.tasks.errors import InputError
from veneer.tasks.extras import need

if TYPE_CHECKING:
    from tracr.rasp import rasp

VALID = "FILE.py:FUNCTION, a function without arguments that returns a RASP sequence operation"


def compile(
    program: "str | rasp.SOp | Callable[[], rasp.SOp]",
    vocabulary: Collection[Value],
    max_length: int,
    *,
    causal: bool = False,
    bos: str = "BOS",
    pad: str = "#",
    exactness: int | None = None,
    answer_position: int | None = None,
    inputs: str | None = None,
    allow_inexact: bool = False,
) -> CompiledCapability:
    """Compile a RASP program to a Transformer; needs ``pip install "veneer[compile]"``.

        from tracr.rasp import rasp

        def length():
            return rasp.SelectorWidth(rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE))

        veneer.compile(length, "abc", max_length=5).answer("abca")   # [4, 4, 4, 4]

    Args:
        program: a function without arguments that returns the program, the program itself, or
            ``FILE.py:FUNCTION``. A file is run, as importing it would; what is compiled from it is kept in a
            cache.
        vocabulary: the tokens it is to accept, without BOS and PAD.
        max_length: longest input in tokens, without BOS.
        causal: compile for causal attention.
        bos: name of the token put in front of every input.
        pad: name of the padding token.
        exactness: Tracr's mlp_exactness; None chooses the smallest that is measured to be right.
        answer_position: where the answer is read, BOS counted; None for everywhere.
        inputs: what to measure on, as ``FILE.py:NAME`` (see ``veneer.compiled.inputs``); None draws uniform
            strings of the vocabulary, which a program of a narrow domain has no answers for.
        allow_inexact: take a program that is right on too few strings, instead of refusing it.

    Raises:
        InputError: no such file or function, one that fails or returns something else, a program
            that Tracr cannot compile or compiles wrongly, or an unusable vocabulary. What a function given
            here raises is passed on as it is.
    """
    vocabulary = list(vocabulary)
    settings = Settings(causal, bos, pad, exactness, answer_position, allow_inexact)
    check_request(vocabulary, max_length, settings)
    if isinstance(program, str):
        return _of_file(program, vocabulary, max_length, settings, inputs)
    name = getattr(program, "__name__", "a RASP program")
    given = drawn_inputs(inputs, vocabulary, max_length) if inputs else None
    return compile_chosen(called(program, name), vocabulary, max_length, settings, name, given)


def _of_file(
    target: str, vocabulary: list[Value], max_length: int, settings: Settings, inputs: str | None
) -> CompiledCapability:
    """A program from a file as a capability, from the cache if it was compiled before."""
    path, function = split_target(target)
    guard = partial(user_code.running, path, "program", target, VALID)

    def make() -> CompiledCapability:
        program, source = load_program(path, function, target), f"{path.name}:{function}"
        given = drawn_inputs(inputs, vocabulary, max_length) if inputs else None
        return compile_chosen(program, vocabulary, max_length, settings, source, given, guard)

    recipe = {
        "program": "file",
        "bytes": user_code.digest(path, "program", target, VALID),
        "file": path.name,
        "function": function,
        "vocabulary": sorted(map(repr, vocabulary)),
        "max_length": max_length,
        "causal": settings.causal,
        "bos": settings.bos,
        "pad": settings.pad,
        "mlp_exactness": settings.exactness,
        "answer_position": settings.answer_position,
        "calibration": [VERSION, MEASURED],
        "inputs": _identity(inputs) if inputs else None,
    }
    found = cache.remembered(recipe, make)
    known_inexact = found.calibration and found.calibration.accuracy_before < REQUIRED
    if known_inexact and not settings.allow_inexact:
        return make()  # which refuses it with an example
    return found


def _identity(inputs: str) -> list[str]:
    path, name = split_target(inputs, "inputs", INPUTS)
    return [name, user_code.digest(path, "inputs", inputs, INPUTS)]


def load_program(path: Path, function: str, target: str) -> "rasp.SOp":
    """The RASP program (``tracr.rasp.rasp.SOp``) that a file's function returns.

    Raises:
        InputError: as ``compile``.
    """
    made = getattr(user_code.load(path, "program", target, VALID), function, None)
    if made is None:
        raise InputError("program", target, VALID, f"{path.name} has no {function!r}")
    with user_code.running(path, "program", target, VALID):
        return called(made, target)


def called(made: "rasp.SOp | Callable[[], rasp.SOp]", name: str) -> "rasp.SOp":
    """The program that a function without arguments returns; a program is returned as it is.

    Args:
        made: the function or the program.
        name: what it is called in refusals.

    Raises:
        InputError: a function that needs arguments, or one that gives something else.
    """
    need("compile")
    from tracr.rasp import rasp

    if isinstance(made, rasp.RASPExpr) or not callable(made):
        program = made
    else:
        try:
            inspect.signature(made).bind()
        except (TypeError, ValueError) as error:
            raise InputError("program", name, VALID, f"it takes arguments: {error}") from error
        program = made()
    if isinstance(program, rasp.Selector):
        problem = "it gives a selector: aggregate it, or take its SelectorWidth"
        raise InputError("program", name, VALID, problem)
    if not isinstance(program, rasp.SOp):
        raise InputError("program", name, VALID, f"it gives {type(program).__name__}")
    return program
