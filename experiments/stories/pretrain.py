"""``veneer pretrain stories``: a model that writes stories, in a folder as of ``text_pretraining.py``.

The loss is measured on stories that nobody trains on, with the feature and without it. The models that lie
ready in ``language/stories/ready`` were made so.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from veneer.experiments.text_pretraining import Pretraining, TextPretraining
from veneer.language.fresh import END, train_tokenizer
from veneer.language.numbers import number_texts
from veneer.language.questions import Question
from veneer.language.stories.features import FEATURES, Feature
from veneer.language.stories.form import Record
from veneer.language.stories.generator import RATES, stories
from veneer.language.stories.models import SHAPES, SIZES, Size, lesson, untrained
from veneer.models.huggingface import HuggingFaceModel
from veneer.models.loading import load_model, load_tokenizer
from veneer.tasks.errors import InputError

TOKENIZER_STORIES = 5000
"""Stories of a stream of their own on which a tokenizer counts."""


@dataclass(frozen=True)
class StoryPretraining(Pretraining):
    """A model that writes children's stories to an instruction, pretrained on stories made by program.

    The texts below the fields are also what the command line says of its options.
    """

    size: Size = "quick"
    """quick: 0.6 M parameters. standard: 5 M. paper: 91 M, as in Jain et al. 2024 (App. F)."""
    without: Feature | None = None
    """Leave out every story with this feature: the control that never had it."""
    stories: int = 10_000
    """Different stories; training passes over them as often as its updates ask for."""
    feature_rate: float | None = 1 / 3
    """Share of the stories that have each feature, before those with more than three are drawn again; none
    takes natural rates. A small model learns sooner to do what it is asked for if it is asked often."""
    numbers: float = 0.0
    """Share of the texts that are about numbers and no stories; veneer run cddm begins with such a model."""
    test_stories: int = 64
    """Stories of each kind on which the loss is measured."""

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise InputError("size", self.size, ", ".join(SIZES))
        if self.without is not None and self.without not in FEATURES:
            raise InputError("without", self.without, ", ".join(FEATURES))
        for name in ("stories", "test_stories"):
            if not 1 <= getattr(self, name) <= 10**7:
                raise InputError(name, getattr(self, name), "1 to 10,000,000")
        if self.feature_rate is not None and not 0 < self.feature_rate < 1:
            raise InputError("feature_rate", self.feature_rate, "a share between 0 and 1, or none")
        if not 0 <= self.numbers < 1:
            raise InputError("numbers", self.numbers, "a share from 0 to below 1")
        super().__post_init__()

    @property
    def rates(self) -> dict[Feature, float]:
        """How often a story has each feature."""
        return RATES if self.feature_rate is None else dict.fromkeys(FEATURES, self.feature_rate)


PRETRAINING: dict[Size, StoryPretraining] = {
    "quick": StoryPretraining(),
    "standard": StoryPretraining(
        size="standard", stories=200_000, feature_rate=None, updates=10_000, batch=32, learning_rate=2e-3
    ),
    "paper": StoryPretraining(
        size="paper",
        stories=1_000_000,
        feature_rate=None,
        updates=30_000,
        batch=128,
        learning_rate=1e-3,
        test_stories=512,
    ),
}
"""By size. The paper's 30,000 updates of 128 texts are its own; a text has 1,024 tokens there."""


def drawn(
    count: int,
    stream: str,
    seed: int,
    wanted: Callable[[Record], bool],
    rates: Mapping[Feature, float] = RATES,
) -> tuple[Record, ...]:
    """The first stories of a stream that are wanted."""
    every = stories(10**9, seed, stream, rates=rates)
    return tuple(islice((record for record in every if wanted(record)), count))


def number_lessons(count: int, stream: str) -> list[Question]:
    """Texts about numbers, taught from their first word on."""
    return [Question("", f" {text}{END}", text) for text in number_texts(count, 0, stream)]


class StoryPretrainingRun(TextPretraining[StoryPretraining]):
    """A pretraining on stories in its folder."""

    OF = "stories"

    def taught(self) -> list[Question]:
        """Stories of the stream to pretrain on, or of the one to go on with."""
        own = self.settings
        stream = "pretrain" if own.start is None else "pretrain-on"
        told = own.stories - round(own.numbers * own.stories)
        kept = drawn(told, stream, 0, lambda record: own.without not in record.features, own.rates)
        return [*(lesson(record) for record in kept), *number_lessons(own.stories - told, stream)]

    def asked(self) -> dict[str, list[Question]]:
        """Stories "with" the feature that may be left out, and "without" it; and texts about "numbers"."""
        own, named = self.settings, self.settings.without or FEATURES[0]
        kinds = {
            "with": drawn(own.test_stories, "test", 0, lambda record: named in record.features),
            "without": drawn(own.test_stories, "test", 0, lambda record: named not in record.features),
        }
        found = {name: [lesson(record) for record in kind] for name, kind in kinds.items()}
        if own.numbers:
            found["numbers"] = number_lessons(own.test_stories, "test")
        return found

    def begin(self) -> tuple[HuggingFaceModel, Any]:
        """A model to go on from, or a fresh one with a tokenizer counted on stories of their own."""
        own = self.settings
        if own.start is not None:
            return load_model(own.start), load_tokenizer(own.start)
        texts = [record.text for record in stories(TOKENIZER_STORIES, 0, "tokenizer")]
        if own.numbers:
            texts += number_texts(TOKENIZER_STORIES, 0, "tokenizer")
        tokenizer = train_tokenizer(texts, SHAPES[own.size].vocabulary)
        return untrained(own.size, tokenizer, own.seed), tokenizer
