"""The texts analyses look at: drawn under stream names of their own, one batch for all members.

Training draws from "train/..." and evaluation from "evaluate/...". A name like "analyse/prune" shares
no draw with either, so that nothing is chosen on the texts it is judged by.
"""

import torch

from veneer.tasks import random
from veneer.tasks.encoding import Batch, Encoding, Task
from veneer.tasks.mixture import Mixture, Mixtures


def draw(
    task: Task,
    encoding: Encoding,
    mixture: Mixture,
    samples: int,
    device: torch.device,
    stream: str,
    seed: int = 0,
) -> Batch:
    """Texts of a mixture, a pure function of (task, seed, stream).

    Args:
        task: what is asked.
        encoding: how the models read it.
        mixture: which kinds of text, and which operand each asks for and is labelled with.
        samples: how many.
        device: where the models are.
        stream: names the use, e.g. "analyse/probe"; other names give other texts.
        seed: as ``stream``.

    Returns:
        A batch with a member axis of one: expand its tokens over the members of a fleet.
    """
    key = random.step_key(random.stream_key(task.name, seed, stream), 0)
    keys = torch.tensor([key], device=device)
    return encoding.encode(task.draw(keys, Mixtures([mixture], device), samples))
