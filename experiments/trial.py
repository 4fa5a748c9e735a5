"""A trial of every method on every capability before anything is written.

What a method cannot do with a model (a rank above a matrix's size, a loss of another shape, an error in the
user's own code) is then refused at once, and not after other points of a sweep were trained.
"""

import torch

from veneer.experiments.cells import Prepared
from veneer.experiments.run import fleet_job
from veneer.finetune.cell import Fleet, describe
from veneer.finetune.method import FullFineTuning, file_of
from veneer.tasks.errors import InputError
from veneer.tasks.user_code import running

LONGEST = 60.0
"""Seconds of the processor after which the first loss of a user's method counts as one that does not end."""


def try_methods(prepared: Prepared, device: torch.device) -> None:
    """Let each method prepare each capability; one of the user's also makes a loss and its gradient.

    Raises:
        InputError: a method that cannot train a capability.
    """
    tried = set[tuple[str, ...]]()
    for cell in prepared.cells:
        method = cell.stage.method
        key = (repr(describe(method)), cell.origin.capability, cell.task_id)
        if type(method) is FullFineTuning or key in tried:
            continue
        tried.add(key)
        job = fleet_job(Prepared(prepared.sources, [cell]), None, Fleet((cell,)), device)
        if (file := file_of(type(method))) is None:
            job.prepare()
            continue
        with running(file, "method", str(method), "a method that trains this model", LONGEST):
            job.prepare()
            loss = job.loss(next(job.batches(0)), 0)
        if not bool(loss.isfinite().all()):
            problem = f"its loss on the first batch is {float(loss[0])}"
            raise InputError("method", str(method), "a method whose first loss is finite", problem)
        loss.sum().backward()
        gradients = [p.grad for p in job.model.parameters() if p.requires_grad and p.grad is not None]
        if not any(bool((gradient != 0).any()) for gradient in gradients):
            problem = "the gradient of its loss on the first batch is zero"
            raise InputError("method", str(method), "a method whose loss moves a weight", problem)
