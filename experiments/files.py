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


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
