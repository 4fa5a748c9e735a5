"""Questions as token ids: prompt and answer encoded apart, side by side, filled up on the right."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from veneer.language.questions import Question
from veneer.tasks.errors import InputError


@dataclass(frozen=True)
class Encoded:
    """Prompts with their answers as one batch.

    Attributes:
        tokens: ids, filled up on the right with the first token of each.
        items: the item of every answer token.
        positions: the position whose logits should give that token.
        targets: that token.
    """

    tokens: Int[Tensor, "batch position"]
    items: Int[Tensor, "row"]
    positions: Int[Tensor, "row"]
    targets: Int[Tensor, "row"]

    def to(self, device: str | torch.device) -> "Encoded":
        """The same on another device."""
        return Encoded(*(value.to(device) for value in vars(self).values()))


def encode(tokenizer: Any, prompts: Sequence[str], answers: Sequence[str]) -> Encoded:
    """Prompts and answers as a batch.

    Raises:
        InputError: a prompt or an answer of which the tokenizer makes nothing.
    """
    pairs = [token_ids(tokenizer, p, a) for p, a in zip(prompts, answers, strict=True)]
    longest = max(len(prompt) + len(answer) for prompt, answer in pairs)
    rows = [[*p, *a, *([p[0]] * (longest - len(p) - len(a)))] for p, a in pairs]
    places = [(i, len(p) + j - 1, token) for i, (p, a) in enumerate(pairs) for j, token in enumerate(a)]
    items, positions, targets = (torch.tensor(column) for column in zip(*places, strict=True))
    return Encoded(torch.tensor(rows), items, positions, targets)


def encode_questions(tokenizer: Any, questions: Sequence[Question]) -> Encoded:
    """Questions with their right answers as a batch."""
    return encode(tokenizer, [own.prompt for own in questions], [own.answer for own in questions])


def token_ids(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    """Ids of a prompt (with the special tokens in front that the tokenizer adds), and of an answer behind it.

    The answer is set off by a space, unless one is there. Both are encoded apart, so that the prompt reads
    the same whatever its answer.

    Raises:
        InputError: one of them gives no token.
    """
    before = _ids(tokenizer, prompt.rstrip(), True)
    if before and before[-1] == tokenizer.eos_token_id and before[-1] != tokenizer.bos_token_id:
        before = before[:-1]  # a prompt is not over
    spaced = prompt[-1:].isspace() or not answer[:1].isspace()
    after = _ids(tokenizer, f" {answer.strip()}" if spaced else answer, False)
    if not before or not after:
        raise InputError("question", f"{prompt} → {answer}", "texts that the tokenizer knows")
    return list(before), list(after)


@lru_cache(maxsize=100_000)
def _ids(tokenizer: Any, text: str, special: bool) -> tuple[int, ...]:
    """A text's ids; remembered, as training reads the same questions again and again."""
    return tuple(tokenizer(text, add_special_tokens=special)["input_ids"])


def check_tokenizers(one: Any, other: Any, questions: Sequence[Question], named: str) -> None:
    """Refuse two models that read the same questions as different tokens.

    Raises:
        InputError: naming the first text on which they differ.
    """
    for own in questions:
        first, second = (token_ids(tokenizer, own.prompt, own.answer) for tokenizer in (one, other))
        if first != second:
            problem = f"it reads {own.prompt!r} as other tokens than before's tokenizer"
            raise InputError("tokenizer", named, "the same tokenizer in all models", problem)
