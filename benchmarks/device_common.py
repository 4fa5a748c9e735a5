"""What the parts of ``make device-check`` share: the device, the clock, and how numbers are told.

A part that fails in one of its steps says so in place of the number and goes on with the next; its loops
look at the clock.
"""

import gc
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.contenders import Size
from benchmarks.machine import synchronize
from veneer.finetune.processor import settle


@dataclass
class Part:
    """A part at work.

    Attributes:
        dry: in small, on the CPU.
        seconds: when loops end by themselves.
        tell: takes results.
    """

    dry: bool
    seconds: float
    tell: Callable[[dict[str, Any]], None]
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if self.dry:
            settle(1)
        else:
            torch.backends.cuda.matmul.allow_tf32 = False

    @property
    def device(self) -> torch.device:
        """What is measured."""
        return torch.device("cpu" if self.dry else "cuda")

    @property
    def left(self) -> float:
        """Seconds."""
        return self.began + self.seconds - time.monotonic()

    @property
    def size(self) -> Size:
        """The Counter that fleets are timed on."""
        return Size("dry", 6, 10_000, 2, 16) if self.dry else Size("quick", 16, 10_000, 8)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of members."""
        return (1, 2, 4) if self.dry else (1, 4, 16, 64, 256, 1024, 4096)

    def attempt(self, name: str, work: Callable[[], Any]) -> Any:
        """Tell what a step gives, or how it failed; gives None then."""
        try:
            found = work()
        except Exception as error:  # whatever it is, the other numbers should still be found
            where = traceback.format_exc().strip().splitlines()[-3:]
            found = None
            self.tell({name: {"error": f"{type(error).__name__}: {str(error)[:300]}", "where": where}})
        else:
            if found is not None:
                self.tell({name: found})
        gc.collect()
        if not self.dry:
            torch.cuda.empty_cache()
        return found

    def per_update(self, advance: Callable[[int], object], most: float) -> float:
        """Seconds per update, after a warm-up, from about ``most`` seconds of them."""
        advance(2)
        synchronize(self.device)
        began, made, block = time.perf_counter(), 0, 2
        while True:
            advance(block)
            synchronize(self.device)
            made += block
            spent = time.perf_counter() - began
            if spent > most or self.left < most:
                return spent / made
            block = min(64, 2 * block)
