"""The state of a fleet in training, in one safetensors file that is replaced whole and knows its checksum."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from veneer.models.files import is_file, write_bytes
from veneer.tasks.errors import InputError

CHECKSUM = "sha256"
"""The one key of the header: of all tensors, in the order of their names."""


def save_state(path: Path, state: dict[str, Tensor]) -> None:
    """Write the state whole or not at all: a reader sees the old file or the new one."""
    state = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    write_bytes(path, save(state, {CHECKSUM: _checksum(state)}))


def load_state(path: Path) -> dict[str, Tensor]:
    """Read a state back.

    Raises:
        InputError: the file is damaged, even by a single bit.
    """
    valid = "a complete safetensors file"
    if not is_file(path):
        raise InputError("checkpoint", str(path), valid, "it is no ordinary file")
    try:
        with safe_open(path, framework="pt") as file:
            stated = (file.metadata() or {}).get(CHECKSUM)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError("checkpoint", str(path), valid, str(error)) from error
    if stated != _checksum(state):
        raise InputError("checkpoint", str(path), valid, "its checksum is not that of what it holds")
    return state


def _checksum(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {tuple(state[name].shape)} {state[name].dtype}\0".encode())
        digest.update(state[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
