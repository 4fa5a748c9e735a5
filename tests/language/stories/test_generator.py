"""Stories are distinct, in a child's words, what their instruction says, and a function of their seed."""

import random
import re

import pytest

from veneer.language.stories.features import features_of
from veneer.language.stories.generator import stories, story
from veneer.tasks.errors import InputError

RECORDS = list(stories(150))


def test_no_story_comes_twice() -> None:
    assert len({record.story for record in RECORDS}) == len(RECORDS)


def test_the_vocabulary_is_a_childs() -> None:
    words = {word.lower() for record in RECORDS for word in re.findall(r"[A-Za-z]+", record.story)}
    assert 600 < len(words) < 1500  # TinyStories were written from about 1,500 basic words


def test_an_instruction_says_what_is_in_the_story() -> None:
    for record in RECORDS:
        assert record.sentence in record.story and '"' not in record.sentence
        assert all(re.search(rf"\b{word}\b", record.story) for word in record.words)
        assert set(record.features) == set(features_of(record.story))


def test_nothing_is_left_open_and_sentences_begin_with_a_capital() -> None:
    for record in RECORDS:
        assert not re.search(r"[{}\[\]|]|\ba [aeiou]|\ban (?!hour)[^aeiou]|  ", record.text), record.text
        for paragraph in record.story.split("\n\n"):
            assert re.match(r"\"?[A-Z]", paragraph)
            assert not re.search(r"\. \"?[a-z]", paragraph), paragraph


def test_a_story_is_a_function_of_seed_stream_and_index() -> None:
    assert [*stories(3, start=7)] == RECORDS[7:10]
    assert next(stories(1, seed=1)) != RECORDS[0]
    assert next(stories(1, stream="evaluate")) != RECORDS[0]


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="features"):
        story(random.Random(0), ("Twist", "Twist"))
    with pytest.raises(InputError, match="features"):
        story(random.Random(0), ("Murder",))
    with pytest.raises(InputError, match="count"):
        next(stories(-1))
