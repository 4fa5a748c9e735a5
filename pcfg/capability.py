"""A learned capability: a pretrained GPT with the layout of its samples and what it was trained on."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from veneer.models.answering import Answering, Text, look_up
from veneer.models.checkpoint import load_checkpoint, save_checkpoint
from veneer.models.transformer import Transformer
from veneer.pcfg.families import SampleLayout
from veneer.tasks.errors import InputError

CHECKPOINTS = Path(__file__).parent / "checkpoints"
"""Ready checkpoints of the quick size, one per prior (quick-L, quick-M, quick-H), and some besides."""


@dataclass(frozen=True)
class LearnedCapability(Answering):
    """A pretrained GPT.

    Attributes:
        model: the Transformer, a fleet of one.
        layout: shape and words of its samples.
        operand_prior: P_T(O) that it was pretrained with.
        seed: of its weights and data.
        iterations: pretraining updates behind it.
        accuracy: share of right answers by question ("C a"), as measured at the end.
        command: how to make it again.
    """

    model: Transformer
    layout: SampleLayout
    operand_prior: tuple[float, ...]
    seed: int
    iterations: int
    accuracy: dict[str, float]
    command: str

    @property
    def answer_position(self) -> int:
        """Position of ART, at which the answer is predicted."""
        return self.layout.answer_position

    def token_ids(self, text: Text, operand: str | None = None, task_token: str | None = None) -> list[int]:
        """Token ids of ``SOS T O O' SOT text EOT ART``.

        Args:
            text: a window of the grammar's terminals, as long as in training.
            operand: the terminal asked for.
            task_token: the token that asks; none takes the layout's first.

        Raises:
            InputError: a text of another length, a token that is no terminal, or an operand or a task
                token that is missing or does not exist.
        """
        layout, letters = self.layout, self.layout.grammar.terminals
        if len(text) != layout.window:
            raise InputError(
                "text", text, f"{layout.window} tokens of {', '.join(letters)}", f"it has {len(text)}"
            )
        if unknown := next((token for token in text if token not in letters), None):
            raise InputError("text token", unknown, ", ".join(letters))
        names = [token.name for token in layout.task_tokens]
        asked = names[0] if task_token is None else task_token
        if asked not in names:
            raise InputError("task_token", asked, ", ".join(names))
        if operand is None:
            raise InputError("operand", None, ", ".join(letters), "the input names what is asked for")
        ids = layout.prompt(
            torch.tensor(names.index(asked)),
            torch.tensor(layout.operand(operand)),
            torch.tensor([letters.index(token) for token in text]),
        )
        return [layout.id["SOS"], *ids.tolist()]

    def decode(self, logits: Float[Tensor, "*lead classes"]) -> Any:
        """Tokens of the vocabulary, such as "=7", nested in lists as the leading axes are."""
        return look_up(self.layout.vocabulary, logits.argmax(-1).tolist())

    def __repr__(self) -> str:
        letters, name = self.layout.grammar.terminals, self.layout.grammar.name
        prior = ", ".join(f"{letter} {p:g}" for letter, p in zip(letters, self.operand_prior, strict=True))
        families = ", ".join(token.name for token in self.layout.task_tokens)
        return (
            f"LearnedCapability({name}, windows of {self.layout.window}: tasks {families}; "
            f"operands {prior}; {self.iterations:,} updates, {self.model.parameter_count:,} parameters)"
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``PATH.safetensors`` and ``PATH.json``."""
        metadata = {
            "layout": self.layout.describe(),
            "operand_prior": list(self.operand_prior),
            "seed": self.seed,
            "iterations": self.iterations,
            "accuracy": self.accuracy,
            "command": self.command,
        }
        save_checkpoint(path, self.model, metadata)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "LearnedCapability":
        """Read what ``save`` wrote. Weights that are kept in half precision are read into float32.

        Raises:
            InputError: missing, damaged, or the checkpoint of something else.
        """
        model, metadata = load_checkpoint(path)
        model = model.float() if model.token_embedding.dtype.itemsize == 2 else model
        try:
            layout = SampleLayout.read(metadata["layout"])
            capability = LearnedCapability(
                model,
                layout,
                tuple(metadata["operand_prior"]),
                metadata["seed"],
                metadata["iterations"],
                metadata["accuracy"],
                metadata["command"],
            )
        except (KeyError, TypeError) as error:
            valid = "a checkpoint made by veneer pretrain"
            raise InputError("checkpoint", str(path), valid, f"it lacks {error}") from error
        expected = (len(layout.vocabulary), layout.length)
        if (model.config.vocabulary, model.config.positions) != expected:
            found = f"{model.config.vocabulary} tokens and {model.config.positions} positions"
            valid = f"a model of {expected[0]} tokens and {expected[1]} positions, as its layout has"
            raise InputError("checkpoint", str(path), valid, f"its vocabulary differs: {found}")
        return capability
