"""Files: written so that a loss of power leaves the old one or the new one, read with one way to refuse.

What is written goes to a temporary name, is brought to the disk, and is then renamed; the folder is brought
to the disk after that, so that no name ever points to an empty file. What is read was perhaps damaged, or
is somebody else's: ``read_json`` and ``read_table`` say in one ``InputError`` what is not as expected.
"""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from veneer.tasks.errors import InputError

if TYPE_CHECKING:
    import polars as pl

_LATER: ContextVar[bool] = ContextVar("later", default=False)
MANY = 8
"""Folders from which on one call brings all of them to the disk."""
SEAL = "seal"
"""The key of a sealed JSON object under which the checksum of the rest is kept."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside a file: what is written there takes the file's place, whole or not at all.

    Raises:
        OSError: the file cannot be written; what was there before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:80]}.{token_hex(4)}.tmp")  # others may write it meanwhile
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def alone(out: Path) -> Iterator[bool]:
    """While one process makes a folder, others that want the same one wait; gives whether this one did.

    The lock's file is removed while the lock is still held, so nobody else can hold a lock of that name
    then. Whoever opened the file before and locks it after finds that it has no name any more, and begins
    again (filelock sees to that).

    Raises:
        InputError: the folder beside which the lock lies cannot be written.
    """
    file = out.with_name(f".{out.name[:80]}.lock")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock, waited = FileLock(file), False
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waited = True
            lock.acquire()
    except OSError as error:
        raise InputError("out", str(out), "a folder that can be written", str(error)) from error
    try:
        yield waited
    finally:
        file.unlink(missing_ok=True)
        lock.release()


@contextmanager
def held(file: Path) -> Iterator[bool]:
    """Hold the operating system's lock on a file; gives False where another process holds it.

    It ends with its process, however that ends.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8 whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with a checksum of itself, which ``read_json`` looks at and takes off again."""
    write_json(path, {**content, SEAL: _seal(content)})


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextmanager
def later() -> Iterator[None]:
    """Within it nothing is brought to the disk: what comes after does it, or notices what was lost."""
    token = _LATER.set(True)
    try:
        yield
    finally:
        _LATER.reset(token)


@contextmanager
def together(folders: int) -> Iterator[None]:
    """Within it nothing is brought to the disk; what was written is at its end, by one call to the system.

    Bringing a file to the disk takes milliseconds whatever its size, and a cell has five. The one call waits
    for what other programs have written, too, so it is made for many folders only.

    Args:
        folders: how many are written within; a few are brought to the disk one by one, as without this.
    """
    if folders < MANY or not hasattr(os, "sync"):  # Windows has none
        yield
        return
    try:
        with later():
            yield
    finally:
        os.sync()


def sync(path: Path) -> None:
    """Bring a file or a folder's list of names to the disk, where the system can."""
    if _LATER.get():
        return
    flags = os.O_RDONLY if path.is_dir() or os.name != "nt" else os.O_RDWR
    try:
        handle = os.open(path, flags)
    except PermissionError:  # of a folder that may be written but not listed
        return
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # some file systems know no fsync of folders
            raise
    finally:
        os.close(handle)


def put_in_place(temporary: Path, folder: Path) -> None:
    """Rename a folder whose files were all written, after bringing them to the disk."""
    for place, _, names in os.walk(temporary):
        for name in names:
            sync(Path(place, name))
        sync(Path(place))
    os.rename(temporary, folder)
    sync(folder.parent)


@contextmanager
def laid_out(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` that takes its place when all is written; nothing is left behind otherwise.

    Args:
        out: a new or empty folder.

    Raises:
        InputError: the folder is in use or cannot be written, or what is done within raises one.
    """
    check_unused(out)
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        if out.exists():
            out.rmdir()
        put_in_place(partial, out)
    except OSError as error:
        raise InputError("out", str(out), "a folder that can be written", str(error)) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def checksum(path: Path) -> str:
    """SHA-256 of a file; that of what is no file is empty."""
    if not is_file(path):
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_file(path: Path) -> bool:
    """Whether there is an ordinary file; reading another kind could wait for ever."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def exists(path: Path) -> bool:
    """Whether there is anything of this name; there is nothing of a name that the system refuses."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def check_place(out: Path) -> None:
    """Refuse a name of which no folder can be made, as far as can be told before anything is written.

    Raises:
        InputError: a link that leads nowhere, or something above it that is no folder or cannot be written.
    """
    if problem := _obstacle(out):
        raise InputError("out", str(out), "a folder that can be written", problem)


def check_unused(out: Path) -> None:
    """Refuse a folder that exists and is not empty, and one that cannot be made.

    Raises:
        InputError: it is one of these.
    """
    check_place(out)
    if exists(out) and (not out.is_dir() or any(out.iterdir())):
        raise InputError("out", str(out), "a new or empty folder", "it is not empty")


def _obstacle(out: Path) -> str:
    try:
        if out.is_symlink() and not out.exists():
            return "it is a link that leads nowhere"
        place = next(place for place in (out, *out.absolute().parents) if place.exists())
        if not place.is_dir():
            return f"{place} is no folder"
        return "" if os.access(place, os.W_OK | os.X_OK) else f"{place} cannot be written"
    except (OSError, ValueError) as error:  # a name that the system refuses
        return getattr(error, "strerror", None) or str(error)


def at_home(path: str | Path) -> Path:
    """A path with ``~`` as the shell means it; ``~name`` of a name that nobody has stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


# What is expected of a JSON value: a type (float takes whole numbers too, object takes anything), a union,
# a dict (an object with these keys and perhaps others), a list of one shape, or one of the following.
Shape = Any


@dataclass(frozen=True)
class Each:
    """An object with any keys whose values have one shape."""

    shape: Shape


@dataclass(frozen=True)
class Perhaps:
    """A key that may be missing, or a value that may be null."""

    shape: Shape


def fault(value: Any, shape: Shape, name: str = "") -> str:
    """What of a JSON value is not as expected, in words; empty if all is."""
    if isinstance(shape, Perhaps):
        return "" if value is None else fault(value, shape.shape, name)
    if isinstance(shape, dict | Each):
        if not isinstance(value, dict):
            return _is(name, value, "an object")
        inside = (
            ((key, own, value.get(key)) for key, own in shape.items())
            if isinstance(shape, dict)
            else ((key, shape.shape, own) for key, own in value.items())
        )
        for key, own, found in inside:
            if key not in value and not isinstance(own, Perhaps):
                return f"{name + ' ' if name else 'it '}lacks {key}"
            if wrong := fault(found, own, f"{name}.{key}" if name else str(key)):
                return wrong
        return ""
    if isinstance(shape, list):
        if not isinstance(value, list):
            return _is(name, value, "a list")
        return next((w for i, own in enumerate(value) if (w := fault(own, shape[0], f"{name}[{i}]"))), "")
    if shape is object or (shape is float and type(value) is int):
        return ""
    fits = isinstance(value, shape) and not (isinstance(value, bool) and shape in (int, float))
    return "" if fits else _is(name, value, getattr(shape, "__name__", str(shape)))


def _is(name: str, value: Any, wanted: str) -> str:
    text = repr(value)
    return f"{name or 'it'} is {text if len(text) < 40 else text[:36] + ' ...'}, not {wanted}"


def read_json(path: Path, shape: Shape = object, valid: str = "a JSON file that Veneer wrote") -> Any:
    """Read JSON; of a sealed object without its seal.

    Args:
        path: the file.
        shape: what is expected of its content (see ``fault``).
        valid: what the file should be, in words.

    Raises:
        InputError: the file is missing, no ordinary file, damaged, or of another shape.
    """
    try:
        content = json.loads(read_text(path, valid))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        why = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise InputError("file", str(path), valid, why) from error
    if isinstance(content, dict) and SEAL in content:
        seal = content.pop(SEAL)
        if seal != _seal(content):
            raise InputError("file", str(path), valid, "it was changed: its seal is not that of its content")
    if wrong := fault(content, shape):
        raise InputError("file", str(path), valid, wrong)
    return content


def read_text(path: Path, valid: str = "a text file that Veneer wrote") -> str:
    """Read a text in UTF-8.

    Raises:
        InputError: the file is missing, no ordinary file, or not UTF-8.
    """
    if exists(path) and not is_file(path):
        raise InputError("file", str(path), valid, "it is no ordinary file")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError("file", str(path), valid, why) from error


def read_table(
    path: Path, columns: Sequence[str] | Mapping[str, Any] = (), valid: str = "a table made by veneer"
) -> "pl.DataFrame":
    """Read a Parquet file; its name is taken as it stands, and stands for no pattern.

    Args:
        path: the file.
        columns: names that it must have, or names with their types.
        valid: what the file should be, in words.

    Raises:
        InputError: the file is missing, damaged, or lacks a column or has it with another type.
    """
    import polars as pl

    if not is_file(path):
        problem = "it is no ordinary file" if exists(path) else "there is no such file"
        raise InputError("file", str(path), valid, problem)
    try:
        table = pl.read_parquet(path, glob=False)
    except (Exception, pl.exceptions.PanicException) as error:  # polars raises all kinds on damaged files
        raise InputError("file", str(path), valid, " ".join(str(error).split())[:200]) from error
    if lacking := [name for name in columns if name not in table.columns]:
        raise InputError("file", str(path), valid, f"it lacks {', '.join(lacking)}")
    for name, kind in columns.items() if isinstance(columns, Mapping) else ():
        if table.schema[name] != kind:
            problem = f"its column {name} is {table.schema[name]}, not {kind}"
            raise InputError("file", str(path), valid, problem)
    return table


def write_table(path: Path, table: "pl.DataFrame") -> None:
    """Write a Parquet file whole or not at all."""
    with replacing(path) as temporary:
        table.write_parquet(temporary)
