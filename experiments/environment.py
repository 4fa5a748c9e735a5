"""What a run was made with: versions, commit, device."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from veneer.finetune.processor import can_flush_subnormals, cores

PACKAGES = ("veneer", "torch", "numpy", "tracr-pypi", "jax", "dm-haiku", "polars", "safetensors")


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, commit and device, as plain data."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "cores": cores(),
        "subnormals": "flushed to zero" if can_flush_subnormals() else "kept",
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """Commit of the source tree that is running, or "unknown" for an installed package."""
    git = ["git", "-C", str(Path(__file__).resolve().parent.parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + (" with changes" if dirty.stdout.strip() else "")
