"""Checkpoints: the weights of a fleet in ``NAME.safetensors``, what they are in ``NAME.json``.

The JSON names the sha256 of the weights, and the header of the weights repeats the JSON's
description, so neither file can be damaged, edited or exchanged without being noticed (shapes alone
would not tell a causal model from a bidirectional one). Nothing is ever unpickled.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from veneer.models.config import TransformerConfig
from veneer.models.files import exists, is_file, replacing
from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError

FORMAT = 1
DTYPES = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
TYPES = {
    "members": int,
    "dtype": Literal["float32", "float64", "bfloat16", "float16"],
    "metadata": dict,
    "sha256": str,
}
HEADER = "veneer"
"""The one key of the safetensors header under which the description is repeated."""


def save_checkpoint(
    path: str | os.PathLike[str], model: Transformer, metadata: Mapping[str, Any] | None = None
) -> tuple[Path, Path]:
    """Write a fleet (a single model is a fleet of one) and say where its two files are.

    Both files are written beside their places and then renamed, the JSON last: after a crash there
    is the old checkpoint, the new one, or one that ``load_checkpoint`` refuses.

    Args:
        path: folder and name, with or without ``.safetensors`` or ``.json``; folders are made.
        model: what to save, on any device; its dtype is kept.
        metadata: anything that JSON can hold, returned by ``load_checkpoint``.

    Raises:
        InputError: the parameters are not all of one of ``DTYPES``.
        OSError: the files cannot be written; neither is then left half-written.
    """
    weights_path, json_path = checkpoint_files(path)
    description = {
        "format": FORMAT,
        "config": asdict(model.config),
        "members": model.members,
        "dtype": _dtype_of(model),
        "metadata": dict(metadata or {}),
    }
    header = {HEADER: json.dumps(description, sort_keys=True, allow_nan=False)}
    weights = to_bytes({name: value.contiguous() for name, value in model.state_dict().items()}, header)
    description["sha256"] = hashlib.sha256(weights).hexdigest()
    text = json.dumps(description, indent=1, allow_nan=False) + "\n"
    weights_path.parent.mkdir(parents=True, exist_ok=True)
    _replace({weights_path: weights, json_path: text.encode()})
    return weights_path, json_path


def load_checkpoint(
    path: str | os.PathLike[str], device: str | torch.device = "cpu"
) -> tuple[Transformer, dict[str, Any]]:
    """Read a fleet and its metadata back.

    Args:
        path: folder and name, with or without ``.safetensors`` or ``.json``.
        device: where the parameters shall be.

    Raises:
        InputError: one of the files is missing, damaged, of an unknown format, or does not belong
            to the other; the value names that file.
    """
    weights_path, json_path = checkpoint_files(path)
    for file in (json_path, weights_path):
        if exists(file) and not is_file(file):
            raise _refusal(file, "it is no ordinary file")
    described = _read_description(json_path)
    config, members, dtype = _understand(described, json_path)
    try:
        with weights_path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        if checksum != described["sha256"]:
            raise _refusal(weights_path, f"its sha256 is not the one in {json_path.name}")
        with safe_open(weights_path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "null"))
            tensors = {name: file.get_tensor(name).to(device, copy=True) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise _refusal(weights_path, str(error)) from error
    if header != {key: value for key, value in described.items() if key != "sha256"}:
        raise _refusal(json_path, f"it describes other weights than {weights_path.name}")
    return _assemble(config, members, dtype, tensors, weights_path), described["metadata"]


def checkpoint_files(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """The weights' and the description's file of a checkpoint, from its name or either of them."""
    path = Path(path)
    stem = path.stem if path.suffix in (".safetensors", ".json") else path.name
    return path.with_name(f"{stem}.safetensors"), path.with_name(f"{stem}.json")


def _dtype_of(model: Transformer) -> str:
    dtypes = sorted({str(value.dtype).removeprefix("torch.") for value in model.state_dict().values()})
    if len(dtypes) != 1 or dtypes[0] not in DTYPES:
        raise InputError("dtype", ", ".join(dtypes), f"one of {', '.join(DTYPES)} for all parameters")
    return dtypes[0]


def _replace(contents: dict[Path, bytes]) -> None:
    """Write all files under temporary names, and only then put them in place, in order.

    (What a stack of contexts entered last it leaves first.)
    """
    with ExitStack() as stack:
        places = [
            (stack.enter_context(replacing(path)), content) for path, content in reversed(contents.items())
        ]
        for temporary, content in places:
            temporary.write_bytes(content)


def _refusal(path: Path, problem: str) -> InputError:
    return InputError("checkpoint", str(path), "a complete checkpoint of Veneer", problem)


def _read_description(path: Path) -> dict[str, Any]:
    try:
        described = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise _refusal(path, str(error)) from error
    expected = {"format", "config", *TYPES}
    if not isinstance(described, dict):
        raise _refusal(path, "it does not hold a JSON object")
    if described.get("format") != FORMAT:
        raise _refusal(path, f"its format is {described.get('format')!r}, this version reads {FORMAT}")
    if described.keys() != expected:
        raise _refusal(path, f"missing or unknown: {', '.join(sorted(described.keys() ^ expected))}")
    return described


def _understand(described: dict[str, Any], path: Path) -> tuple[TransformerConfig, int, torch.dtype]:
    """Configuration, members and dtype out of a description, each of its values checked."""
    given, hints = described["config"], get_type_hints(TransformerConfig)
    names = {field.name for field in fields(TransformerConfig)}
    if not isinstance(given, dict) or given.keys() != names:
        raise _refusal(path, f"its config does not have the fields {', '.join(sorted(names))}")
    values = [(f"config.{name}", value, hints[name]) for name, value in given.items()]
    values += [(name, described[name], kind) for name, kind in TYPES.items()]
    for name, value, kind in values:
        choices = get_args(kind) if get_origin(kind) is not None else None
        valid = value in choices if choices else type(value) is kind and not (kind is int and value < 0)
        if not valid:
            raise _refusal(path, f"{name} cannot be {value!r}")
    return TransformerConfig(**given), described["members"], DTYPES[described["dtype"]]


def _assemble(
    config: TransformerConfig, members: int, dtype: torch.dtype, tensors: dict[str, Tensor], path: Path
) -> Transformer:
    """The fleet that these tensors are, which must be exactly what the configuration asks for.

    No size is greater than the numbers that are there, and no block is without tensors: what claims more is
    refused before a model of that size is laid out.
    """
    numbers = sum(value.numel() for value in tensors.values())
    sizes = {name: value for name, value in vars(config).items() if type(value) is int} | {"members": members}
    for name, size in sizes.items():
        if size > (most := len(tensors) if name == "blocks" else numbers):
            held = f"{most:,} {'tensors' if name == 'blocks' else 'numbers'}"
            raise _refusal(path, f"its config says {name} = {size}, and it holds {held}")
    with torch.device("meta"):
        model = Transformer(config, members)
    expected = {name: (value.shape, dtype) for name, value in model.state_dict().items()}
    found = {name: (value.shape, value.dtype) for name, value in tensors.items()}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise _refusal(path, f"not as its config says: {', '.join(wrong[:3])}{' ...' if wrong[3:] else ''}")
    model.load_state_dict(tensors, assign=True)
    return model
