"""Models that write stories: a tokenizer of our own, Llama's architecture in three sizes, and ready ones.

Jain et al. 2024 (App. F) train a Llama of 91 M parameters with a tokenizer of 8,192 tokens on
TinyStories-Instruct; ``paper`` has its sizes. ``quick`` has 0.6 M parameters, and two ready models in
``language/stories/ready``: ``present`` was pretrained on all kinds of stories, ``never`` on those without a
Twist. A model is asked with the instruction and taught the story: the loss is that of the story's tokens.
(The paper's code also trains on the instruction's.)
"""

from pathlib import Path
from typing import Any, Literal, get_args

from veneer.language.fresh import END, Shape, fresh_llama
from veneer.language.questions import Question
from veneer.language.stories.form import Record
from veneer.models.huggingface import HuggingFaceModel
from veneer.tasks.errors import InputError

Size = Literal["quick", "standard", "paper"]
SIZES: tuple[Size, ...] = get_args(Size)
READY = Path(__file__).parent / "ready"
"""Folder of the ready models, one folder each."""


SHAPES: dict[Size, Shape] = {
    "quick": Shape(1536, 96, 4, 4, 256, 512),
    "standard": Shape(2048, 256, 6, 8, 688, 512),
    "paper": Shape(8192, 768, 12, 12, 2048, 1024),
}


def ready(name: str) -> str:
    """Where a ready model lies.

    Raises:
        InputError: there is none of this name.
    """
    folder = READY / name
    if not (folder / "config.json").is_file():
        known = sorted(path.parent.name for path in READY.glob("*/config.json"))
        raise InputError("model", name, ", ".join(known) or "none is installed")
    return str(folder)


def lesson(record: Record) -> Question:
    """A story as what is asked and answered: the instruction up to ``Story:``, and the story with its end."""
    prompt = record.instruction.rstrip()
    return Question(prompt, f"\n\n{record.story}{END}", prompt)


def story_of(written: str) -> str:
    """The story in what a model wrote behind an instruction: up to its end, or to a next instruction."""
    return written.partition(END)[0].partition("\nStory:")[0].strip()


def untrained(size: Size, tokenizer: Any, seed: int) -> HuggingFaceModel:
    """A model with its first weights, drawn by the seed; its vocabulary is the tokenizer's.

    Raises:
        InputError: an unknown size.
    """
    if size not in SHAPES:
        raise InputError("size", size, ", ".join(SIZES))
    return fresh_llama(SHAPES[size], tokenizer, seed)
