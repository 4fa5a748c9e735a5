"""The base model of instruction tuning: a small Llama that has read plain text and seen no instruction.

One lies ready in ``language/instructions/ready/base``; ``veneer pretrain layers`` made it.
"""

from itertools import chain
from pathlib import Path
from typing import Any

from veneer.language.fresh import Shape, fresh_llama, train_tokenizer
from veneer.language.instructions.corpus import ASKED, WORD_LIST, passages
from veneer.models.huggingface import HuggingFaceModel
from veneer.tasks.errors import InputError

READY = Path(__file__).parent / "ready" / "base"
"""Folder of the ready base."""
SHAPE = Shape(vocabulary=1536, width=80, blocks=8, heads=4, hidden=224, positions=256)
"""0.76 M parameters: deep for its width, as layers are what is looked at."""
WORD_COUNT = 1000
"""How often each word of the tasks counts in the tokenizer, so that it becomes one token."""


def ready_base() -> str:
    """Where the ready base lies.

    Raises:
        InputError: it is not installed.
    """
    if not (READY / "config.json").is_file():
        raise InputError("base", str(READY), "a model's folder", "the ready base is not installed")
    return str(READY)


def fresh_base(counted: int, seed: int) -> tuple[HuggingFaceModel, Any]:
    """An untrained base and its tokenizer.

    Args:
        counted: passages, of a stream of their own, on which the tokenizer counts.
        seed: of the first weights.
    """
    words = [f" {word}" for word in WORD_LIST]
    words += [f" {word.capitalize()}\n{word.capitalize()}" for word in ASKED]
    texts = chain((f" {text}" for text in passages(counted, 0, "tokenizer")), words * WORD_COUNT)
    tokenizer = train_tokenizer(texts, SHAPE.vocabulary)
    return fresh_llama(SHAPE, tokenizer, seed), tokenizer
