"""Veneer: what fine-tuning does to a capability that a small Transformer provably has.

Everything that is called from Python is here; where it is defined, it says what it does. The names are
looked up when they are first used, so that ``import veneer`` loads neither torch nor polars nor JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from veneer.compiled.capability import CompiledCapability
    from veneer.compiled.file import compile
    from veneer.experiments.store import Run
    from veneer.experiments.tuned import TunedModel
    from veneer.face import analyse, load, load_capability, run, write_report
    from veneer.finetune.method import Method, Step
    from veneer.pcfg.capability import LearnedCapability
    from veneer.tasks.errors import InputError

__version__ = "0.1.0"

__all__ = [
    "CompiledCapability",
    "InputError",
    "LearnedCapability",
    "Method",
    "Run",
    "Step",
    "TunedModel",
    "__version__",
    "analyse",
    "compile",
    "load",
    "load_capability",
    "run",
    "write_report",
]

_DEFINED_IN = {
    "CompiledCapability": "compiled.capability",
    "InputError": "tasks.errors",
    "LearnedCapability": "pcfg.capability",
    "Method": "finetune.method",
    "Run": "experiments.store",
    "Step": "finetune.method",
    "TunedModel": "experiments.tuned",
    "analyse": "face",
    "compile": "compiled.file",
    "load": "face",
    "load_capability": "face",
    "run": "face",
    "write_report": "face",
}


def __getattr__(name: str) -> Any:
    if name not in _DEFINED_IN:
        raise AttributeError(f"module 'veneer' has no attribute {name!r}")
    value = getattr(import_module(f"veneer.{_DEFINED_IN[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
