"""Small tables of whole numbers on a device, made once.

Making a tensor from a list copies it from the processor's memory, and a GPU's queue waits for that; so
what a task looks up at every step (letters, classes, ids) is kept on each device.
"""

from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor


@lru_cache(maxsize=256)
def constant(values: tuple[int, ...], device: torch.device) -> Int[Tensor, "value"]:
    """The values as a tensor on a device; the same one each time, so it must not be written to."""
    return torch.tensor(values, device=device, dtype=torch.int64)
