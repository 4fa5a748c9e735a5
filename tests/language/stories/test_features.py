"""Checkers find what is there, and do not take its phrases alone for it."""

import subprocess
import sys

import pytest

from veneer.language.stories.features import FEATURES, Feature, features_of, has, sentences
from veneer.language.stories.generator import PLOTS, RATES, stories, story

PRESENT: list[tuple[Feature, str]] = [
    ("Dialogue", 'Tom ran home. "Where is my hat?" asked Tom.'),
    ("Conflict", "Tom and Ben argued about the hat."),
    ("MoralValue", "Tom was glad. He learned that hats can fly."),
    ("BadEnding", "Tom was happy at first. Then he lost his hat and was sad. He learned that joy is short."),
    ("Foreshadowing", "Tom had a hat. The ladder was old, but Tom took no notice. Then the ladder broke."),
    ("Twist", "Tom was sure that a wolf was there. It growled. But it was not a wolf at all. It was Ben!"),
]
ABSENT: list[tuple[Feature, str]] = [
    ("Dialogue", "Tom asked where his hat was."),
    ("Conflict", "Tom and Ben never argued."),
    ("MoralValue", "Tom learned a song about hats."),
    ("BadEnding", "Tom was sad. Then he found his hat and was happy. He learned that tears dry."),
    ("BadEnding", "Tom found his hat."),
    ("Foreshadowing", "Tom had a hat. A bee hummed, but Tom took no notice. Then the ladder broke."),
    ("Foreshadowing", "Tom had a ladder. The ladder was old, but Tom took no notice. Then the ladder broke."),
    ("Foreshadowing", "The ladder broke. The ladder was old, but Tom took no notice."),
    ("Twist", "Tom was sure that a wolf was there. And so it was: a wolf sat in the hall."),
    ("Twist", "Tom was sure that it would rain. He was not tired at all."),
    ("Twist", "It was not a wolf at all. Tom was sure that a wolf would look different."),
]


@pytest.mark.parametrize(("feature", "text"), PRESENT)
def test_a_feature_that_is_there_is_found(feature: Feature, text: str) -> None:
    assert has(feature, text)


@pytest.mark.parametrize(("feature", "text"), ABSENT)
def test_its_phrases_alone_are_not_the_feature(feature: Feature, text: str) -> None:
    assert not has(feature, text)


def test_direct_speech_stays_in_its_sentence() -> None:
    text = '"Stop!" cried Tom. "It is mine!" The cat ran. "No," said Ben.'
    assert sentences(text) == ['"Stop!" cried Tom.', '"It is mine!"', "The cat ran.", '"No," said Ben.']


def agreement(count: int) -> float:
    records = list(stories(count, seed=7))
    return sum(features_of(record.story) == record.features for record in records) / count


def test_checkers_agree_with_the_generator() -> None:
    assert agreement(100) == 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_checkers_agree_with_the_generator_on_a_hundred_thousand_stories() -> None:
    """In a process of its own: types that are checked at every call make it twenty times as slow."""
    lines = (
        "from veneer.language.stories.features import features_of",
        "from veneer.language.stories.generator import stories",
        "print(sum(features_of(own.story) == own.features for own in stories(100_000, seed=7)))",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.stdout.strip() == "100000", done.stderr


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.name)
@pytest.mark.parametrize("features", [(), *((feature,) for feature in FEATURES), ("Twist", "BadEnding")])
def test_every_plot_can_have_every_feature(plot: object, features: tuple[Feature, ...]) -> None:
    import random

    for seed in range(1):
        made = story(random.Random(seed), features, plot)  # pyright: ignore[reportArgumentType]
        assert set(features_of(made.story)) == set(features), made.story


def test_rates_are_natural() -> None:
    records = list(stories(300, seed=1))
    for feature, rate in RATES.items():
        share = sum(feature in record.features for record in records) / len(records)
        assert abs(share - rate) < 4 * (rate * (1 - rate) / len(records)) ** 0.5 + 0.003
