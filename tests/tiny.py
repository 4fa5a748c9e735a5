"""A run so small that tests can have many of them, and progress that counts and tells nobody."""

from collections.abc import Callable

import torch

from veneer.experiments.named import CounterExperiment
from veneer.finetune.cell import Fleet

CPU = torch.device("cpu")
EXPERIMENT = CounterExperiment(
    length=6,
    learning_rates=(1e-2, 1e-3),
    c_tr=(1.0,),
    reft_rates=(1e-3,),
    iterations=12,
    reft_iterations=10,
    evaluation_samples=20,
    controls=False,
    third_operand=False,
)
UPDATES = 2 * 12 + 2 * 10  # of all its cells: two fine-tunings, and a reFT of each


class Quiet:
    """Counts model updates and calls, cells found finished, updates restored; keeps the notices.

    Args:
        at: called with the updates trained so far, after each.
    """

    def __init__(self, at: Callable[[int], None] = lambda trained: None) -> None:
        self.trained, self.calls, self.skips, self.restored = 0, 0, 0, 0
        self.notices, self.at = list[str](), at

    def fleet(self, fleet: Fleet, index: int, fleets: int) -> None: ...

    def updates(self, count: int) -> None:
        self.trained += count
        self.calls += 1
        self.at(self.trained)

    def skipped(self, cells: int, updates: int) -> None:
        self.skips += cells
        self.restored += 0 if cells else updates

    def notice(self, text: str) -> None:
        self.notices.append(text)


def interrupted_at(updates: int) -> Quiet:
    """Progress that ends the run, as Ctrl-C does, once so many updates are trained."""

    def stop(trained: int) -> None:
        if trained >= updates:
            raise KeyboardInterrupt

    return Quiet(stop)
