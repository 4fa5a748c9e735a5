"""Modules that are made like others without being initialized: that takes as long as a small forward pass."""

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn

Kind = TypeVar("Kind", bound=nn.Module)


def with_parameters(shape: Kind, values: Mapping[str, Tensor]) -> Kind:
    """A module of the same kind with these parameters, which share the memory of what is given.

    Args:
        shape: a module that says which parameters are trained; it is left as it is, and may be without
            values (on the device "meta").
        values: all of its parameters, by name.

    Raises:
        ValueError: a parameter is missing, unknown, or of another shape.
    """
    left = dict(values)
    made = _made(shape, "", left)
    if left:
        raise ValueError(f"there is no parameter {', '.join(sorted(left))}")
    return made


def _made(module: Kind, path: str, left: dict[str, Tensor]) -> Kind:
    """The module named ``path`` with its own of the values that are left, which are taken."""
    made = object.__new__(type(module))
    for name, value in vars(module).items():  # hooks and the like, to be its own
        vars(made)[name] = value.copy() if isinstance(value, dict | set) else value
    for name, parameter in module._parameters.items():
        if parameter is None:
            continue
        value = left.pop(f"{path}{name}", None)
        if value is None or value.shape != parameter.shape:
            found = "missing" if value is None else tuple(value.shape)
            raise ValueError(f"{path}{name} is {found}, not {tuple(parameter.shape)}")
        made._parameters[name] = nn.Parameter(value, requires_grad=parameter.requires_grad)
    for name, child in module._modules.items():
        made._modules[name] = None if child is None else _made(child, f"{path}{name}.", left)
    return made
