"""What is installed only on request: an extra that is missing is named, with the command that installs it."""

from importlib.util import find_spec

from veneer.tasks.errors import InputError

MODULES = {
    "compile": ("haiku", "jax", "tracr"),
    "figures": ("matplotlib",),
    "huggingface": ("tokenizers", "transformers"),
}
"""By extra, the modules that have to be there."""


def need(extra: str) -> None:
    """Go on only where an extra is installed.

    Args:
        extra: its name in ``pip install "veneer[NAME]"``.

    Raises:
        InputError: one of its modules is missing.
    """
    missing = [name for name in MODULES[extra] if find_spec(name) is None]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        problem = f"{', '.join(missing)} {verb} not installed"
        raise InputError("extra", extra, f'after: pip install "veneer[{extra}]"', problem)
