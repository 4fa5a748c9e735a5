"""From a task's own indices to a model's: token ids, output classes, and where the answer is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from veneer.tasks.constants import constant
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import Examples, Mixtures

Value = str | int | float | bool | tuple | None


@runtime_checkable
class Task(Protocol):
    """What a capability is asked: a distribution of texts and the answers for two operands.

    ``draw`` must be a pure function of the keys and mixtures, and the same for a key whatever
    other keys are drawn with it. See ``veneer.tasks.counter.Counter`` for an example.
    """

    @property
    def name(self) -> str: ...  # names the distribution of texts: it seeds the data stream

    @property
    def vocabulary(self) -> Sequence[Value]: ...  # token by index; None is padding

    @property
    def answers(self) -> Sequence[Value]: ...  # answer by index

    @property
    def q(self) -> int: ...  # the spurious correlation's constant

    @property
    def names_operand(self) -> bool: ...  # whether the input says which operand is asked for

    def draw(self, keys: Int[Tensor, "member"], mixtures: Mixtures, batch: int) -> Examples: ...


@runtime_checkable
class MarkedTask(Task, Protocol):
    """A task that can also say where in a text its answers come from, for the attention analyses."""

    def marks(self, tokens: Int[Tensor, "*sample position"]) -> Bool[Tensor, "*sample position 2"]:
        """Positions that the answers for O_PT and for O_FT are read from, of task tokens as drawn."""
        ...


@dataclass(frozen=True)
class Batch:
    """A batch as the models see it.

    Attributes:
        tokens: token ids, special tokens included.
        labels: class taught.
        results: classes of the answers for O_PT and O_FT.
    """

    tokens: Int[Tensor, "member batch position"]
    labels: Int[Tensor, "member batch"]
    results: Int[Tensor, "member batch 2"]


@dataclass(frozen=True)
class Encoding:
    """How a model reads a task.

    Attributes:
        tokens: model token id of each task token.
        classes: model class of each task answer.
        prefix: token ids in front of every text (BOS).
        answer: position, prefix included, at which the answer is read.
    """

    tokens: tuple[int, ...]
    classes: tuple[int, ...]
    prefix: tuple[int, ...]
    answer: int

    @staticmethod
    def between(
        task: Task, vocabulary: Sequence[Value], classes: Sequence[Value], bos: Value, pad: Value, answer: int
    ) -> "Encoding":
        """Match a task's tokens and answers with a model's vocabulary and output classes by value.

        Raises:
            InputError: a token or an answer that the model does not know.
        """
        token_id, class_id = (
            {(type(value), value): i for i, value in enumerate(values)} for values in (vocabulary, classes)
        )
        wanted = [pad if token is None else token for token in task.vocabulary]
        for field, values, known in (("token", wanted, token_id), ("answer", task.answers, class_id)):
            for value in values:
                if (type(value), value) not in known:
                    valid = ", ".join(repr(v) for _, v in list(known)[:12])
                    raise InputError(field, value, f"what the model knows: {valid}")
        return Encoding(
            tuple(token_id[type(v), v] for v in wanted),
            tuple(class_id[type(v), v] for v in task.answers),
            (token_id[type(bos), bos],),
            answer,
        )

    def encode(self, examples: Examples) -> Batch:
        """Task indices to model ids."""
        device = examples.tokens.device
        tokens = constant(self.tokens, device)[examples.tokens]
        classes = constant(self.classes, device)
        front = constant(self.prefix, device).expand(*tokens.shape[:2], -1)
        return Batch(torch.cat([front, tokens], -1), classes[examples.labels], classes[examples.results])


def at_least_float32(logits: torch.Tensor) -> torch.Tensor:
    """Logits as they are, but for half precision, in which no loss should be computed."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def accuracy(
    logits: torch.Tensor, results: Int[Tensor, "member batch 2"]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Accuracy and cross-entropy against each operand's answers, both [member, 2 operands]."""
    logits = at_least_float32(logits)
    right = (logits.argmax(-1, keepdim=True) == results).double().mean(1)
    both = logits.unsqueeze(2).expand(-1, -1, 2, -1)
    loss = F.cross_entropy(both.flatten(0, 2), results.flatten(), reduction="none")
    return right, loss.view(results.shape).double().mean(1)
