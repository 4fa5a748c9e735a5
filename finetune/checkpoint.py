"""The state of a fleet in training, in one safetensors file that is replaced whole."""

import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from veneer.tasks.errors import InputError


def save_state(path: Path, state: dict[str, Tensor]) -> None:
    """Write the state beside its place, then rename: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_state(path: Path) -> dict[str, Tensor]:
    """Read a state back.

    Raises:
        InputError: the file is damaged.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError("checkpoint", str(path), "a complete safetensors file", str(error)) from error
