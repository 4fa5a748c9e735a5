"""Python files of the user's own: how a program's or a method's file is run, known again, and refused.

A file may import the modules that lie beside it. They are found before what is installed, but never in
place of Python's own modules or of those that Veneer needs. What a file gives depends on all of them, so
``digest`` covers the file and every module beside it that an import in one of them names. (Modules found
by another way, such as ``importlib`` with a name worked out while it runs, are not seen.)

Whatever the user's code raises while it is ``running`` becomes one ``InputError`` that names file and line,
with the frames of the user's own files and no others.
"""

import ast
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import CodeType, FrameType, ModuleType

from veneer.tasks.errors import InputError

SECONDS = 60.0  # of the processor's time, for a file or one call of a function in it
NEEDED = frozenset(
    {"beartype", "chex", "datasets", "filelock", "haiku", "jax", "jaxlib", "jaxtyping", "jinja2"}
    | {"matplotlib", "nltk", "numpy", "peft", "plotly", "polars", "pyarrow", "pytest", "ray", "rich"}
    | {"safetensors", "scipy", "sklearn", "tokenizers", "torch", "tracr", "transformers"}
    | {"transformer_lens", "tyro", "veneer"}
)
"""Modules that are never looked for beside a file."""


class TooLong(BaseException):
    """Code of the user's has not ended in time; no ``Exception``, so that no handler of its own stops it."""


def load(path: Path, field: str, target: str, valid: str) -> ModuleType:
    """A file as a module, run once for each place and content of it and of what it imports from beside it.

    Args:
        path: the file.
        field: what to call it in a refusal.
        target: what the user wrote.
        valid: what would have been accepted.

    Raises:
        InputError: no file that can be read, or one that fails while it runs.
    """
    place = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:8]  # frames are told by their file
    name = f"user_{path.stem}_{digest(path, field, target, valid)}_{place}"
    if name in sys.modules:
        return sys.modules[name]
    _forget()
    loader = _FromSource(name, str(path))
    described = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert described is not None
    module = importlib.util.module_from_spec(described)
    sys.modules[name] = module  # dataclasses look their module up while they are made
    try:
        with running(path, field, target, valid):
            loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def digest(path: Path, field: str = "file", target: str = "", valid: str = "a Python file") -> str:
    """16 hexadecimal digits that stand for a file and all modules beside it that it imports.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        found = sources(path)
        contents = {name: file.read_bytes() for name, file in sorted(found.items())}
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(field, target or str(path), valid, f"{path.name} cannot be read: {why}") from error
    if len(contents) == 1:
        return hashlib.sha256(next(iter(contents.values()))).hexdigest()[:16]
    whole = hashlib.sha256()
    for name, content in contents.items():
        whole.update(f"{name}\0{len(content)}\0".encode(errors="surrogateescape") + content)
    return whole.hexdigest()[:16]


def sources(path: Path) -> dict[str, Path]:
    """The file and the modules that it imports from beside it, directly or not, by their place there."""
    folder = path.resolve().parent
    waiting, found = [path.resolve()], dict[str, Path]()
    while waiting:
        file = waiting.pop()
        name = file.relative_to(folder).as_posix()
        if name not in found:
            found[name] = file
            waiting += _imported(file, folder)
    return found


def _imported(file: Path, folder: Path) -> Iterator[Path]:
    """Files beside that the imports of a file name, wherever in it they stand."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # found again when it is run
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files_of(alias.name.split("."), folder)
        elif isinstance(node, ast.ImportFrom):
            parts = node.module.split(".") if node.module else []
            base = folder
            if node.level:
                base = file.parents[node.level - 1] if node.level <= len(file.parents) else folder
                if not base.is_relative_to(folder):
                    continue
                yield from _files_of(parts, base, False)
            for alias in node.names:
                yield from _files_of([*parts, alias.name], base, not node.level)


def _files_of(parts: list[str], base: Path, absolute: bool = True) -> Iterator[Path]:
    """The files that an import of ``a.b.c`` runs, as far as there are any."""
    if absolute and (not parts or _is_reserved(parts[0])):
        return
    for i in range(len(parts)):
        place = base.joinpath(*parts[: i + 1])
        for file in (place.with_name(f"{place.name}.py"), place / "__init__.py"):
            if file.is_file():
                yield file.resolve() if file.resolve().is_relative_to(base) else file


def _is_reserved(name: str) -> bool:
    return name in sys.stdlib_module_names or name in NEEDED


class _FromSource(importlib.machinery.SourceFileLoader):
    """Compiles what the file holds now: Python's own cache cannot tell two versions of one second apart."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


class _Beside(importlib.abc.MetaPathFinder):
    """Finds modules beside the file that is running."""

    folder: Path | None = None
    served: set[str]

    def __init__(self) -> None:
        self.served = set()

    def find_spec(
        self, fullname: str, path: object, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A module of the running file's folder, unless its name is reserved."""
        name = fullname.partition(".")[0]
        if self.folder is None or _is_reserved(name) or (path is not None and name not in self.served):
            return None
        places = [str(self.folder)] if path is None else list(path)  # pyright: ignore[reportArgumentType, reportCallIssue]
        found = importlib.machinery.PathFinder.find_spec(fullname, places)
        if found is None:
            return None
        if found.loader is None:  # a folder without __init__.py, which any folder of data is too
            if path is None and importlib.machinery.PathFinder.find_spec(fullname) is not None:
                return None
        elif found.origin is not None and found.origin.endswith(".py"):
            found.loader = _FromSource(fullname, found.origin)
        self.served.add(name)
        return found


_finder = _Beside()


def _forget() -> None:
    """Let modules found beside a file be found anew: another file may have others of the same names."""
    for name in list(sys.modules):
        if name.partition(".")[0] in _finder.served:
            del sys.modules[name]
    _finder.served.clear()
    importlib.invalidate_caches()


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """While the user's code runs: modules of its folder can be imported, and nothing is cached there."""
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    before, writes = _finder.folder, sys.dont_write_bytecode
    if before is None and _last and _last[0] != folder:
        _forget()
    _last[:] = [folder]
    _finder.folder, sys.dont_write_bytecode = folder, True
    try:
        yield
    finally:
        _finder.folder, sys.dont_write_bytecode = before, writes


_last: list[Path] = []


@contextmanager
def running(
    path: Path, field: str, target: str, valid: str, seconds: float | None = SECONDS
) -> Iterator[None]:
    """Code of the user's file is at work: what goes wrong in it is refused in one line.

    Args:
        path: the user's file.
        field: what to call it in a refusal.
        target: what the user wrote.
        valid: what would have been accepted.
        seconds: how long it may take; None for no limit.

    Raises:
        InputError: the user's code raised something, ended the program, or did not end in time. What is
            raised without a frame of the user's is passed on as it is.
    """
    folder = path.resolve().parent
    try:
        with _beside(folder), _ended_within(seconds):
            yield
    except InputError:
        raise
    except (Exception, SystemExit, TooLong) as error:
        frames = frames_of(error, folder)
        called = len(list(traceback.walk_tb(error.__traceback__))) <= 2  # the call itself was wrong
        if not frames and not called and not isinstance(error, SyntaxError | TooLong):
            raise
        raise InputError(field, target, valid, _told(error, frames, path), _listed(frames)) from error


def frames_of(error: BaseException, folder: Path) -> list[traceback.FrameSummary]:
    """The frames of an error that are in files of a folder of the user's, and in no library there."""
    places = [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not _is_reserved(str(frame.f_globals.get("__name__", "")).partition(".")[0])
        and Path(frame.f_code.co_filename).resolve().is_relative_to(folder)
        and "site-packages" not in frame.f_code.co_filename
    ]
    return list(traceback.StackSummary.extract(iter(places)))


def _told(error: BaseException, frames: list[traceback.FrameSummary], path: Path) -> str:
    """What went wrong, where, in one line."""
    name, line, where = path.name, None, ""
    if isinstance(error, SyntaxError) and error.filename:
        name, line = Path(error.filename).name, error.lineno
    elif frames:
        name, line, where = Path(frames[-1].filename).name, frames[-1].lineno, frames[-1].name
    place = f"{name}{f' line {line}' if line else ''}{f' in {where}' if where.isidentifier() else ''}"
    if isinstance(error, TooLong):
        return f"{place}: it did not end within {error} seconds"
    if isinstance(error, SystemExit):
        return f"{place}: it ends the program (SystemExit)"
    words = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
    return f"{place}: {type(error).__name__}{f': {words}' if words else ''}"


def _listed(frames: list[traceback.FrameSummary]) -> str:
    return "".join(traceback.format_list(frames)).rstrip("\n")


@contextmanager
def _ended_within(seconds: float | None) -> Iterator[None]:
    """Raise ``TooLong`` where what follows takes longer; only the main thread can be interrupted so.

    What counts is the processor's time, so that nothing is ended for running on a busy machine.
    """
    main = threading.current_thread() is threading.main_thread()
    left = signal.getitimer(signal.ITIMER_VIRTUAL)[0] if main and hasattr(signal, "setitimer") else -1.0
    if seconds is None or left < 0 or 0 < left <= seconds:  # somebody else's alarm comes first
        yield
        return
    began = time.process_time()
    handler = signal.signal(signal.SIGVTALRM, partial(_too_long, seconds))
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_VIRTUAL, max(1e-3, left - (time.process_time() - began)))


def _too_long(seconds: float, number: int, frame: FrameType | None) -> None:
    raise TooLong(f"{seconds:g}")
