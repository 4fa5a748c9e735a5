"""A small world of arbitrary facts: capitals, colours, and models that know them.

No fact follows from another, so a held-out one can only be answered by a model that was taught it.
"""

from functools import cache
from typing import Any

from tests.models.text_models import make, tokenizer
from veneer.finetune.recipe import Recipe
from veneer.language.constructed import mixed
from veneer.language.questions import Question
from veneer.language.training import Training, train
from veneer.models.huggingface import HuggingFaceModel

PLACES, CITIES, COLOURS = 48, 12, 6
WORDS = [
    *("capital", "colour", "no", "open"),
    *(f"place{i}" for i in range(PLACES)),
    *(f"city{i}" for i in range(CITIES)),
    *(f"hue{i}" for i in range(COLOURS)),
]


def capitals() -> tuple[Question, ...]:
    answers = [(7 * i * i + 5 * i + i // 5) % CITIES for i in range(PLACES)]
    return tuple(Question(f"capital place{i}", f"city{a}", f"{i}") for i, a in enumerate(answers))


def colours() -> tuple[Question, ...]:
    answers = [(5 * i * i + 3 * i + i // 7) % COLOURS for i in range(PLACES)]
    return tuple(Question(f"colour place{i}", f"hue{a}", f"{i}") for i, a in enumerate(answers))


def words() -> Any:
    return tokenizer(WORDS)


def untrained(family: str = "llama", seed: int = 0) -> HuggingFaceModel:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
    more = sizes if family != "gpt2" else {"hidden_size": 64}
    return HuggingFaceModel(make(family, len(WORDS) + 3, seed, noise=0.0, **more))


def recipe(rate: float, updates: int, batch: int = 32) -> Recipe:
    return Recipe("adamw", rate, updates, warmup=min(10, updates), batch=batch, weight_decay=0.0)


@cache
def knowing(family: str = "llama") -> HuggingFaceModel:
    """A model that knows all capitals and all colours."""
    model = untrained(family)
    lessons = mixed(capitals(), colours())
    train(model, words(), lessons, Training(recipe(3e-3, 200, 96)), 0, (), lambda _: {})
    return model
