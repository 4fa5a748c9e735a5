"""What can be asked a text: a Transformer together with how it reads texts and writes answers.

Written and learned capabilities, and the models that fine-tuning makes of them, are asked in the same way.
Each only says which token ids a text has, where the answer is read, and what a class means.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from veneer.models.transformer import Transformer

Text = str | Sequence[Any]
"""A text: a string whose characters are the tokens, or the tokens one by one."""


class Answering(ABC):
    """A model that is asked texts, one at a time.

    Attributes:
        model: its weights, a fleet of one.
        answer_position: where the answer is read, special tokens counted; None where every position
            answers.
    """

    model: Transformer
    answer_position: int | None

    @abstractmethod
    def token_ids(self, text: Text, operand: str | None = None, task_token: str | None = None) -> list[int]:
        """Token ids of a text as the model reads it, special tokens included.

        Args:
            text: a string of one-character tokens, or a sequence of tokens.
            operand: what is asked for, of a model whose input names it.
            task_token: the token that asks, of a model that has several.

        Raises:
            InputError: a token, length, operand or task token that the model does not know.
        """

    @abstractmethod
    def decode(self, logits: Float[Tensor, "*lead classes"]) -> Any:
        """Answers from logits, nested in lists as the leading axes are."""

    def answer(self, text: Text, operand: str | None = None, task_token: str | None = None) -> Any:
        """The model's answer to a text; of a model that answers everywhere, one for each token of it.

        Args:
            text: see ``token_ids``.
            operand: see ``token_ids``.
            task_token: see ``token_ids``.

        Raises:
            InputError: as ``token_ids``.
        """
        logits = self.logits(text, operand, task_token)
        at = self.answer_position
        return self.decode(logits[1:]) if at is None else self.decode(logits[at])

    def logits(
        self, text: Text, operand: str | None = None, task_token: str | None = None
    ) -> Float[Tensor, "position classes"]:
        """Logits at every position of a text.

        Args:
            text: see ``token_ids``.
            operand: see ``token_ids``.
            task_token: see ``token_ids``.

        Raises:
            InputError: as ``token_ids``.
        """
        with torch.no_grad():
            return self.model(self._batch(text, operand, task_token)).logits[0, 0]

    def capture(
        self, text: Text, *names: str, operand: str | None = None, task_token: str | None = None
    ) -> dict[str, Tensor]:
        """Activations on a text, by name, without the axes of members and batch.

        Args:
            text: see ``token_ids``.
            names: ``residual.I`` ([position, width]), ``attention.I`` ([head, query, key]) or ``mlp.I``
                ([position, hidden]), see ``Transformer.forward``; none given takes all.
            operand: see ``token_ids``.
            task_token: see ``token_ids``.

        Raises:
            InputError: as ``token_ids``, or a name that the model does not have.
        """
        wanted = names or self.model.captures
        with torch.no_grad():
            captured = self.model(self._batch(text, operand, task_token), capture=wanted).captured
        return {name: captured[name][0, 0] for name in wanted}

    def _batch(self, text: Text, operand: str | None, task_token: str | None) -> Tensor:
        ids = self.token_ids(text, operand, task_token)
        return torch.tensor([[ids]], device=self.model.token_embedding.device)


def look_up(words: Sequence[Any], ids: Any) -> Any:
    """The words of ids, nested in lists as the ids are."""
    return [look_up(words, i) for i in ids] if isinstance(ids, list) else words[ids]
