"""RASP programs of the user's own: a function, or ``FILE.py:FUNCTION`` -> capability.

What a file's function gives is kept in the cache. The file's own bytes are part of the cache key, files
that it imports are not.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from veneer.compiled import cache
from veneer.compiled.capability import CompiledCapability, Value
from veneer.compiled.choose import check_request, compile_chosen
from veneer.compiled.exactness import VERSION
from veneer.tasks.beside import imports_beside
from veneer.tasks.errors import InputError

if TYPE_CHECKING:
    from tracr.rasp import rasp

VALID = "FILE.py:FUNCTION, a function without arguments that returns a RASP sequence operation"

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
    check_request(vocabulary, max_length, answer_position)
    names = {"causal": causal, "bos": bos, "pad": pad, "answer_position": answer_position}

    def make() -> CompiledCapability:
        program, source = load_program(path, function, target), f"{path.name}:{function}"
        return compile_chosen(
            program, vocabulary, max_length, mlp_exactness=mlp_exactness, source=source, **names
        )

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


def load_program(path: Path, function: str, target: str) -> "rasp.SOp":
    """The RASP program (``tracr.rasp.rasp.SOp``) that a file's function returns.

    Raises:
        InputError: as ``compile_file``.
    """
    with imports_beside(path):
        try:
            made = getattr(_run(path), function, None)
        except _RAISED as error:
            raise _failed(target, error) from error
        if made is None:
            raise InputError("program", target, VALID, f"{path.name} has no {function!r}")
        return called(made, target)


def called(made: "rasp.SOp | Callable[[], rasp.SOp]", name: str) -> "rasp.SOp":
    """The program that a function without arguments returns; a program is returned as it is.

    Args:
        made: the function or the program.
        name: what it is called in refusals.

    Raises:
        InputError: a function that fails, or one that gives something else.
    """
    from tracr.rasp import rasp

    try:
        program = made if isinstance(made, rasp.RASPExpr) or not callable(made) else made()
    except InputError:
        raise
    except _RAISED as error:
        raise _failed(name, error) from error
    if not isinstance(program, rasp.SOp):
        raise InputError("program", name, VALID, f"it gives {type(program).__name__}")
    return program


def _failed(name: str, error: Exception) -> InputError:
    return InputError("program", name, VALID, f"{type(error).__name__}: {' '.join(str(error).split())}")


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
