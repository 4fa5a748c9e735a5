"""Compiled capabilities on disk, found by what they were made from.

A key is the SHA-256 of a recipe: program, vocabulary, length, tokens, exactness and versions. So a
changed program or a new Tracr is another entry, and nothing needs to be invalidated. Importing this
module, and reading an entry, imports neither JAX nor Tracr.
"""

import hashlib
import importlib.metadata
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from veneer.compiled.capability import FORMAT, CompiledCapability
from veneer.tasks.errors import InputError
from veneer.tasks.extras import need


def folder() -> Path:
    """Where entries lie: $VENEER_CACHE, else $XDG_CACHE_HOME/veneer, else ~/.cache/veneer."""
    own, shared = os.environ.get("VENEER_CACHE"), os.environ.get("XDG_CACHE_HOME")
    root = Path(own) if own else (Path(shared) if shared else Path.home() / ".cache") / "veneer"
    return root / "compiled"


def key(recipe: Mapping[str, Any]) -> str:
    """Names the entry of a recipe, a mapping that JSON can write; versions are added here.

    Raises:
        InputError: the extra ``compile`` is not installed, whose version is part of the key.
    """
    need("compile")
    versions = {"format": FORMAT, "tracr": importlib.metadata.version("tracr-pypi")}
    text = json.dumps({"versions": versions, **recipe}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def remembered(recipe: Mapping[str, Any], make: Callable[[], CompiledCapability]) -> CompiledCapability:
    """The entry of a recipe; where there is none, or a damaged one, it is made and kept."""
    entry = folder() / key(recipe)
    found = _load(entry)
    if found is not None:
        return found
    capability = make()
    keep(lambda: capability.save(entry))
    return capability


def keep(write: Callable[[], object]) -> None:
    """Write to the cache; where that cannot be, it is said, and the work is done again the next time."""
    try:
        write()
    except OSError as error:
        place = error.filename or folder()
        told = "not kept for the next time: %s: %s"
        logging.getLogger(__name__).warning(told, place, error.strerror or error)


def _load(entry: Path) -> CompiledCapability | None:
    try:
        return CompiledCapability.load(entry)
    except InputError:
        return None
