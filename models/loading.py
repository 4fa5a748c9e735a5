"""Real language models from a folder, a GGUF file or a hub's name: safetensors only, no code but ours.

What a model will take is told from its files' headers before anything is loaded. A folder whose weights are
pickled is refused with the command that converts it; ``trust_remote_code`` is never set. A base model and a
PEFT adapter are written ``BASE+ADAPTER``, or as the adapter's folder alone where it names its base.
"""

import hashlib
import importlib.util
import json
import logging
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from veneer.models.huggingface import HuggingFaceModel
from veneer.tasks.errors import InputError

PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
ADAPTER = "adapter_config.json"
ROOM = 0.9
"""Share of the free memory that loading may take."""
Source = tuple[str, str | None]  # the model, and an adapter on it


@dataclass(frozen=True)
class Cost:
    """What loading and running a model takes, told before it is loaded.

    Attributes:
        parameters: how many numbers it has (those of a tied embedding once).
        load: bytes in memory once loaded in float32.
        forward: floating-point operations for one token (two for each parameter).
    """

    parameters: int
    load: int
    forward: int

    def told(self) -> str:
        """The cost in a few words."""
        return f"{self.parameters / 1e6:,.1f} M parameters, {self.load / 1e9:.2f} GB in float32"


def split_source(source: str) -> Source:
    """Model and adapter out of ``MODEL``, ``BASE+ADAPTER`` or an adapter's folder.

    Raises:
        InputError: an adapter's folder that does not name its base.
    """
    if not Path(source).exists() and "+" in source:
        base, adapter = source.split("+", 1)
        return base, adapter
    described = Path(source) / ADAPTER
    if described.is_file():
        base = _json(described).get("base_model_name_or_path")
        if not base:
            valid = "BASE+ADAPTER, both folders"
            raise InputError("model", source, valid, f"its {ADAPTER} does not name a base model")
        return str(base), source
    return source, None


def check_source(source: str) -> Cost | None:
    """Look at a model's files, without loading weights, and say what it will cost; None for a hub's name.

    Raises:
        InputError: nothing is there, there are no weights, they are pickled, or memory does not suffice.
    """
    require_transformers()
    base, adapter = split_source(source)
    if adapter is not None:
        _check_adapter(Path(adapter))
    path = Path(base)
    if path.suffix == ".gguf" and path.is_file():
        _require("gguf", "to read GGUF files")
        parameters = _gguf_parameters(path)
    elif path.is_dir():
        parameters = _folder_parameters(path)
    elif path.is_absolute() or base.startswith(".") or base.count("/") > 1 or not base:
        raise InputError("model", base, "a model's folder, a .gguf file or a hub's name", "it is not there")
    else:
        return None
    cost = Cost(parameters, 4 * parameters, 2 * parameters)
    check_memory(cost.load, f"loading {base}")
    return cost


def load_model(source: str, device: str | torch.device = "cpu") -> HuggingFaceModel:
    """A causal model in float32, in evaluation mode; an adapter is merged into its base.

    Args:
        source: folder, .gguf file, hub's name, ``BASE+ADAPTER`` or an adapter's folder.
        device: where its parameters shall be.

    Raises:
        InputError: as ``check_source``; or transformers cannot load it, or lacks weights of it.
    """
    check_source(source)
    base, adapter = split_source(source)
    from transformers import AutoModelForCausalLM

    with _refusing(source), _quiet():
        name, named = _where(base)
        loader: Any = AutoModelForCausalLM
        model, told = loader.from_pretrained(
            name,
            **named,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
            **({} if base.endswith(".gguf") else {"use_safetensors": True}),
        )
        missing = sorted(told["missing_keys"])
        if base.endswith(".gguf"):
            model = _plain(model)
    if missing:
        raise InputError("model", base, "a folder with all weights", f"it lacks {', '.join(missing[:3])}")
    if adapter is not None:
        model = _with_adapter(model, adapter)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return HuggingFaceModel(model.to(device))


def fresh_model(source: str, seed: int) -> HuggingFaceModel:
    """A model of the same configuration with its first weights, as its class draws them, by the seed."""
    from transformers import AutoConfig, AutoModelForCausalLM

    base, _ = split_source(source)
    name, named = _where(base)
    with _refusing(source), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = AutoConfig.from_pretrained(name, **named, trust_remote_code=False)
        made = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    return HuggingFaceModel(made)


def load_tokenizer(source: str) -> Any:
    """The tokenizer of a model.

    Raises:
        InputError: there is none that transformers can load without foreign code.
    """
    require_transformers()
    base, _ = split_source(source)
    from transformers import AutoTokenizer

    name, named = _where(base)
    with _refusing(source, "tokenizer"), _quiet():
        return AutoTokenizer.from_pretrained(name, **named, trust_remote_code=False)


def source_hashes(source: str) -> dict[str, str]:
    """SHA-256 of every file of a model that decides what it computes, by path; of a hub's name nothing."""
    base, adapter = split_source(source)
    found: dict[str, str] = {}
    for part in filter(None, (base, adapter)):
        path = Path(part)
        files = [path] if path.is_file() else sorted((*path.glob("*.json"), *path.glob("*.safetensors")))
        for file in files:
            with file.open("rb") as opened:
                found[str(file)] = hashlib.file_digest(opened, "sha256").hexdigest()
    return found


def hashes_by_name(source: str) -> dict[str, str]:
    """SHA-256 of a model's files by name; of a model by a hub's name, of its weights."""
    found = source_hashes(source)
    if not found:
        return {"weights": weights_hash(load_model(source))}
    return {Path(file).name: own for file, own in found.items()}


def model_kind(source: str) -> str:
    """The family of a model, as transformers calls it (``model_type``).

    Raises:
        InputError: there is no configuration that transformers can read without foreign code.
    """
    require_transformers()
    from transformers import AutoConfig

    base, _ = split_source(source)
    name, named = _where(base)
    with _refusing(source), _quiet():
        return str(AutoConfig.from_pretrained(name, **named, trust_remote_code=False).model_type)


def weights_hash(model: HuggingFaceModel) -> str:
    """SHA-256 over all parameters, names and values: equal weights have equal hashes."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name}{tuple(parameter.shape)}{parameter.dtype}".encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_memory(needed: int, purpose: str, device: str = "cpu") -> None:
    """Refuse what would not fit into the memory of a device that is free now.

    Raises:
        InputError: saying how much is needed and how much there is.
    """
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else free_memory()
    if free is not None and needed > ROOM * free:
        where = "the GPU" if device == "cuda" else "this machine"
        valid = f"at most {ROOM * free / 1e9:.1f} GB, of {free / 1e9:.1f} GB free on {where}"
        raise InputError("memory", f"{needed / 1e9:.1f} GB for {purpose}", valid)


def free_memory() -> int | None:
    """Bytes of memory that are free; None where this system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def require_transformers() -> None:
    """Refuse to go on without the extra.

    Raises:
        InputError: it is not installed.
    """
    _require("transformers", "to load language models")


def _require(package: str, purpose: str) -> None:
    if importlib.util.find_spec(package) is None:
        valid = "after pip install 'veneer[huggingface]'"
        raise InputError("package", package, valid, f"it is needed {purpose}, and is not installed")


def _where(base: str) -> tuple[str, dict[str, str]]:
    """How transformers wants a base named: a GGUF file as its folder and its name."""
    path = Path(base)
    return (str(path.parent), {"gguf_file": path.name}) if path.suffix == ".gguf" else (base, {})


def _plain(model: Any) -> Any:
    """A model read from GGUF without the mark of its quantization, so that it can be saved."""
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.random.fork_rng(devices=[]):
        fresh = type(model)(config)
    fresh.load_state_dict(model.state_dict())
    return fresh.to(torch.float32)


def _with_adapter(model: Any, adapter: str) -> Any:
    _require("peft", "to load adapters")
    from peft import PeftModel

    with _refusing(adapter, "adapter"), _quiet():
        return PeftModel.from_pretrained(model, adapter, use_safetensors=True).merge_and_unload()


def _check_adapter(folder: Path) -> None:
    if not (folder / ADAPTER).is_file():
        raise InputError("adapter", str(folder), "a folder that PEFT wrote", f"there is no {ADAPTER}")
    if not (folder / "adapter_model.safetensors").is_file():
        problem = "it has no adapter_model.safetensors"
        raise InputError("adapter", str(folder), "an adapter in safetensors", problem)


def _folder_parameters(folder: Path) -> int:
    """How many numbers a folder's safetensors hold, from their headers.

    Raises:
        InputError: no config.json, no weights, or pickled ones only.
    """
    if not (folder / "config.json").is_file():
        raise InputError("model", str(folder), "a folder that transformers wrote", "it has no config.json")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = [file.name for pattern in PICKLED for file in sorted(folder.glob(pattern))]
        if not pickled:
            raise InputError("model", str(folder), "a folder with *.safetensors", "it has no weights")
        convert = (
            'python -c "from transformers import AutoModelForCausalLM as M; '
            f"M.from_pretrained('{folder}').save_pretrained('{folder}-safe')\""
        )
        problem = f"its weights are pickled ({pickled[0]}), which can run code"
        raise InputError(
            "model", str(folder), f"safetensors; if you trust the file, convert it: {convert}", problem
        )
    return sum(_safetensors_parameters(file) for file in files)


def _safetensors_parameters(file: Path) -> int:
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > file.stat().st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(opened.read(length))
    except (OSError, ValueError, struct.error) as error:
        raise InputError("model", str(file), "a whole safetensors file", str(error)) from error
    return sum(math.prod(own["shape"]) for name, own in header.items() if name != "__metadata__")


def _gguf_parameters(file: Path) -> int:
    from gguf import GGUFReader

    with _refusing(str(file)):
        return sum(int(tensor.n_elements) for tensor in GGUFReader(str(file)).tensors)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError("file", str(path), "a JSON file", str(error)) from error
    if not isinstance(found, dict):
        raise InputError("file", str(path), "a JSON object")
    return found


@contextmanager
def _refusing(source: str, what: str = "model") -> Iterator[None]:
    """Turn whatever a library says of unreadable files into one line."""
    try:
        yield
    except InputError:
        raise
    except (
        Exception
    ) as error:  # transformers raises anything: OSError, ValueError, KeyError, RuntimeError ...
        lines = str(error).strip().splitlines()
        problem = lines[0][:200] if lines else type(error).__name__
        raise InputError(what, source, f"a {what} that transformers can load", problem) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and remarks, and the hub's tries; their errors still come."""
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging as theirs

    level, bars, hub_level = theirs.get_verbosity(), theirs.is_progress_bar_enabled(), hub.get_verbosity()
    theirs.set_verbosity(logging.ERROR)
    hub.set_verbosity(logging.ERROR)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        hub.set_verbosity(hub_level)
        if bars:
            theirs.enable_progress_bar()
