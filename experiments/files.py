"""Small files, written under a temporary name and renamed: a reader sees the old one or the new one."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from veneer.tasks.errors import InputError


def write_json(path: Path, content: Any) -> None:
    """Write JSON under a temporary name, then rename."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError("file", str(path), "a JSON file that Veneer wrote", str(error)) from error


def check_format(folder: Path, version: int) -> None:
    """Whether a run has the format of this version; what is damaged is for whoever reads it to say.

    Args:
        folder: the run's.
        version: the format that is read.

    Raises:
        InputError: it has another.
    """
    try:
        found = json.loads((folder / "experiment.json").read_text())
    except (OSError, ValueError):
        return
    if isinstance(found, dict) and found.get("format", version) != version:
        problem = f"it has format {found['format']!r}"
        valid = (
            f"a run of format {version}; read this one with the version in its environment.json, or run it "
            "again into a new folder"
        )
        raise InputError("run", str(folder), valid, problem)


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
