"""``veneer pretrain layers``: the base of instruction tuning, in a folder of ``text_pretraining.py``.

The loss is measured on passages that nobody trains on, and on instructions with their answers, which no base
was taught. The base that lies ready in ``language/instructions/ready`` was made so.
"""

from dataclasses import dataclass
from typing import Any

from veneer.experiments.text_pretraining import TextPretraining
from veneer.finetune.recipe import Recipe
from veneer.language.instructions.base import fresh_base
from veneer.language.instructions.corpus import passages, reading
from veneer.language.instructions.tasks import TASKS, examples
from veneer.language.questions import Question
from veneer.models.huggingface import HuggingFaceModel
from veneer.models.loading import load_model, load_tokenizer
from veneer.tasks.errors import InputError

COUNTED = 4000
"""Passages on which the tokenizer counts."""


@dataclass(frozen=True)
class BasePretraining:
    """A small Llama, pretrained on plain text made by program that holds no instruction.

    The texts below the fields are also what the command line says of its options.
    """

    passages: int = 19_200
    """Different passages; training passes over them as often as its updates ask for."""
    start: str | None = None
    """Go on from this model, with its tokenizer: a folder; none begins with fresh weights."""
    updates: int = 1_200
    """Updates of the schedule."""
    stop: int = 800
    """The update after which it ends, before the rate is low."""
    batch: int = 16
    """Passages of an update."""
    learning_rate: float = 4e-3
    """AdamW's maximal rate; a tenth of the updates warms up, then a cosine follows."""
    floor: float = 0.02
    """The last rate, as a share of the maximal one."""
    test_passages: int = 64
    """Passages, and instructions, on which the loss is measured."""
    seed: int = 0
    """Of the first weights and of the order of the passages."""

    def __post_init__(self) -> None:
        if self.stop < 1:
            raise InputError("stop", self.stop, "1 or more")
        for name in ("passages", "test_passages"):
            if not 1 <= getattr(self, name) <= 10**7:
                raise InputError(name, getattr(self, name), "1 to 10,000,000")
        if self.seed < 0:
            raise InputError("seed", self.seed, "0 or more")
        self.recipe  # noqa: B018 - refuses what no recipe can be

    @property
    def recipe(self) -> Recipe:
        """How it trains."""
        warmup = self.updates // 10
        return Recipe("adamw", self.learning_rate, self.updates, warmup, self.batch, self.floor)

    @property
    def last(self) -> int:
        """The update after which it ends."""
        return min(self.stop, self.updates)


class BasePretrainingRun(TextPretraining[BasePretraining]):
    """A pretraining on passages in its folder."""

    OF = "texts"

    def taught(self) -> list[Question]:
        """Passages of the stream to pretrain on, or of the one to go on with."""
        stream = "pretrain" if self.settings.start is None else "pretrain-on"
        return [reading(text) for text in passages(self.settings.passages, 0, stream)]

    def asked(self) -> dict[str, list[Question]]:
        """Other passages, and "instructions"."""
        count = self.settings.test_passages
        each = -(-count // len(TASKS))
        told = [own.question for task in TASKS for own in examples(task, each, 0, "test")]
        return {
            "passages": [reading(text) for text in passages(count, 0, "test")],
            "instructions": told[:count],
        }

    def begin(self) -> tuple[HuggingFaceModel, Any]:
        """A model to go on from, or a fresh one with its tokenizer."""
        own = self.settings
        if own.start is not None:
            return load_model(own.start), load_tokenizer(own.start)
        return fresh_base(COUNTED, own.seed)
