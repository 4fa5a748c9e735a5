"""What a dataset's bytes depend on beside its plan: versions of Python, Veneer and libraries."""

import platform
import tomllib
from importlib import metadata
from pathlib import Path

_LIBRARIES = ("numpy", "polars", "torch")


def versions() -> dict[str, str]:
    """What a dataset's bytes depend on beside its plan."""
    libraries = {name: metadata.version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), "veneer": _own_version(), **libraries}


def _own_version() -> str:
    """This project's version: as installed, or as a checkout says that is run in place."""
    try:
        return metadata.version("veneer")
    except metadata.PackageNotFoundError:
        project = Path(__file__).resolve().parents[1] / "pyproject.toml"
        return tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
