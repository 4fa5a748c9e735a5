"""``veneer pretrain layers``: the base of instruction tuning, in a folder of ``text_pretraining.py``.

The loss is measured on passages that nobody trains on, and on instructions with their answers, which no base
was taught. The base that lies ready in ``language/instructions/ready`` was made so.
"""

from dataclasses import dataclass
from typing import Any

from veneer.experiments.text_pretraining import Pretraining, TextPretraining
from veneer.language.instructions.base import fresh_base
from veneer.language.instructions.corpus import AGAIN, passages, reading
from veneer.language.instructions.tasks import TASKS, examples
from veneer.language.questions import Question
from veneer.models.huggingface import HuggingFaceModel
from veneer.models.loading import load_model, load_tokenizer
from veneer.tasks.errors import InputError

COUNTED = 4000
"""Passages on which the tokenizer counts."""


@dataclass(frozen=True)
class BasePretraining(Pretraining):
    """A small Llama, pretrained on plain text made by program that holds no instruction.

    The texts below the fields are also what the command line says of its options.
    """

    again: float = AGAIN
    """Share of the passages that say the same words or facts again and again. With 1 a model learns soonest
    to look back for what stood before, which it needs for all that an instruction can ask of a text."""
    passages: int = 40_000
    """Different passages; training passes over them as often as its updates ask for."""
    updates: int = 2_500
    """Updates."""
    batch: int = 16
    """Passages of an update."""
    floor: float = 0.05
    """The last rate, as a share of the maximal one."""
    test_passages: int = 64
    """Passages, and instructions, on which the loss is measured."""

    def __post_init__(self) -> None:
        for name in ("passages", "test_passages"):
            if not 1 <= getattr(self, name) <= 10**7:
                raise InputError(name, getattr(self, name), "1 to 10,000,000")
        if not 0 <= self.again <= 1:
            raise InputError("again", self.again, "a share from 0 to 1")
        super().__post_init__()


class BasePretrainingRun(TextPretraining[BasePretraining]):
    """A pretraining on passages in its folder."""

    OF = "texts"

    def taught(self) -> list[Question]:
        """Passages of the stream to pretrain on, or of the one to go on with."""
        own = self.settings
        stream = "pretrain" if own.start is None else "pretrain-on"
        return [reading(text) for text in passages(own.passages, 0, stream, own.again)]

    def asked(self) -> dict[str, list[Question]]:
        """Other passages, those that say the same "again", and "instructions"."""
        count = self.settings.test_passages
        each = -(-count // len(TASKS))
        told = [own.question for task in TASKS for own in examples(task, each, 0, "test")]
        return {
            "passages": [reading(text) for text in passages(count, 0, "test", 0.0)],
            "again": [reading(text) for text in passages(count, 0, "test", 1.0)],
            "instructions": told[:count],
        }

    def begin(self) -> tuple[HuggingFaceModel, Any]:
        """A model to go on from, or a fresh one with its tokenizer."""
        own = self.settings
        if own.start is not None:
            return load_model(own.start), load_tokenizer(own.start)
        return fresh_base(COUNTED, own.seed)
