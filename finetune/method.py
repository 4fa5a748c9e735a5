"""Methods: what moves while a stage trains, and down which loss.

Ordinary fine-tuning of all weights is one; published fine-tunings and unlearnings are others
(``veneer.finetune.methods``), and a user's own is a subclass of ``Method``. Whatever the method, the same
stages come before and after it, so that every method gets the same verdict from reFT.
"""

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils import parametrize

from veneer.models.transformer import Output, Transformer
from veneer.tasks.encoding import Batch, at_least_float32
from veneer.tasks.errors import InputError
from veneer.tasks.user_code import digest


@dataclass(frozen=True)
class Step:
    """What a method sees of one update.

    Attributes:
        model: the fleet as it is now.
        start: the fleet as it was before this stage; its parameters take no gradient.
        batch: the stage's mixture.
        number: updates made before this one.
        answer: the position at which the answer is read.
        forward: the forward pass to train through (``model``, or ``model`` compiled).
        draw_old: makes the batch that ``old`` gives.
    """

    model: Transformer
    start: Transformer
    batch: Batch
    number: int
    answer: int
    forward: Callable[..., Output]
    draw_old: Callable[[int], Batch]

    def old(self) -> Batch:
        """Natural texts that ask for O_PT, labelled with O_PT's answer.

        As many as the stage's batch has, from a stream of their own: a pure function of task, seed,
        stage and update. Where the input names no operand, only the label says that it is O_PT's.
        """
        return self.draw_old(self.number)

    def logits(self, batch: Batch, model: Transformer | None = None) -> Float[Tensor, "member batch classes"]:
        """Logits at the answer position, in float32 or better; of ``model``, by default as it is now."""
        forward = self.forward if model is None else model
        return at_least_float32(forward(batch.tokens, answer=self.answer).logits)

    def cross_entropy(self, batch: Batch) -> Float[Tensor, "member"]:
        """Cross-entropy at the answer position, averaged over each member's batch."""
        logits = self.logits(batch)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), reduction="none")
        return loss.view(batch.labels.shape).mean(1)


@dataclass(frozen=True)
class Method:
    """How a stage trains. As it stands: ordinary fine-tuning of all weights.

    A subclass is a frozen dataclass; its fields enter the identity of a cell. It may replace either
    function or both. All tensors have a leading member axis, and members must not mix: average over
    samples, never over members. This one may not change what the model says on old texts:

        @dataclass(frozen=True)
        class StayClose(Method):
            weight: float = 1.0

            def loss(self, step):
                old = step.old()
                before = step.logits(old, step.start).log_softmax(-1).detach()
                now = step.logits(old).log_softmax(-1)
                far = F.kl_div(now, before, log_target=True, reduction="none").sum(-1).mean(1)
                return step.cross_entropy(step.batch) + self.weight * far
    """

    teaches: ClassVar[bool] = True
    """Whether it is meant to teach O_FT. Where it only takes O_PT away, no verdict asks for O_FT."""

    @property
    def is_mean_over_samples(self) -> bool:
        """Whether the loss is a mean over the samples of ``step.batch``, and of nothing else.

        A GPT's batch is then cut into slices, one for each core. So is cross-entropy, whatever moves; a
        method with a loss of its own says it by giving True here, and then may not ask for ``step.old()``.
        """
        return type(self).loss is Method.loss

    def prepare(self, model: Transformer, seeds: list[int]) -> None:
        """Say what moves: called once, before the optimizer takes the parameters that require a gradient.

        Freeze with ``requires_grad_(False)``; give new parameters to a module with
        ``torch.nn.utils.parametrize``, as functions of a weight whose result has its shape. They
        must be a function of the seeds (one per member) alone. They are trained, kept in
        checkpoints, in force at evaluations, and merged into ordinary weights at the end.
        """

    def loss(self, step: Step) -> Float[Tensor, "member"]:
        """Each member's loss, to go down; NaN or infinity freezes a member as diverged."""
        return step.cross_entropy(step.batch)

    def describe(self) -> dict[str, Any]:
        """The method as plain data: name, fields, and for a user's own a hash of what it is written in."""
        source = _source(type(self))
        return {"type": type(self).__name__, **asdict(self), **({"source": source} if source else {})}


@dataclass(frozen=True)
class FullFineTuning(Method):
    """All weights move, down the cross-entropy of the stage's mixture."""


@cache
def _source(kind: type[Method]) -> str | None:
    """Hash of the file that a method was written in and of what that imports from beside it.

    None for this project's (and where there is no file). Two versions of a user's files are two methods:
    results of the one must not pass for the other's.
    """
    file = file_of(kind)
    return None if file is None else digest(file)


def file_of(kind: type[Method]) -> Path | None:
    """The user's file that a method was written in; None for this project's, and where there is none."""
    if kind.__module__.partition(".")[0] == __name__.partition(".")[0]:
        return None
    try:
        file = inspect.getsourcefile(kind)
    except (TypeError, OSError):  # written at a prompt
        return None
    return Path(file) if file is not None and Path(file).is_file() else None


def recorded(description: dict[str, Any], teaches: bool) -> Method:
    """A method of a user's as a run remembers it: it has its identity, and cannot train.

    Args:
        description: what its ``describe`` gave.
        teaches: whether it was meant to teach O_FT.
    """

    def refuse(*_: object) -> Any:
        raise InputError("method", description.get("type"), "a run that is only read", "its code is not run")

    members = {"teaches": teaches, "describe": lambda self: dict(description)}
    return type("RecordedMethod", (Method,), {**members, "prepare": refuse, "loss": refuse})()


def merge(model: Transformer, trained: dict[str, bool]) -> Transformer:
    """An ordinary Transformer with the same weights as the one that a method prepared.

    Args:
        model: prepared and trained.
        trained: which parameters required a gradient before ``prepare``.
    """
    parametrized = [module for module in model.modules() if parametrize.is_parametrized(module)]
    for module in parametrized:
        for name in list(module.parametrizations):  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]
            parametrize.remove_parametrizations(module, name, leave_parametrized=True)
    if parametrized:
        model = model.select(list(range(model.members)))  # merging leaves parameters in another order
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trained[name])
    return model
