"""Story models: what is asked and answered fits as tokens, and the ready ones know what they should."""

from functools import cache
from typing import Any

import pytest

from veneer.experiments.text_pretraining import loss
from veneer.language.encoding import token_ids
from veneer.language.fresh import END, START, train_tokenizer
from veneer.language.sampling import sample
from veneer.language.stories.features import FEATURES, has
from veneer.language.stories.generator import stories
from veneer.language.stories.models import lesson, ready, story_of, untrained
from veneer.models.huggingface import HuggingFaceModel
from veneer.models.loading import load_model, load_tokenizer
from veneer.tasks.errors import InputError

NONE = dict.fromkeys(FEATURES, 0.0)
RECORDS = list(stories(60, seed=5, stream="test"))


@cache
def small() -> Any:
    return train_tokenizer([own.text for own in RECORDS], 400)


@cache
def loaded(name: str) -> HuggingFaceModel:
    return load_model(ready(name))


@pytest.mark.parametrize("source", ["new", "ready"])
def test_a_story_has_the_same_tokens_behind_its_instruction_as_in_the_whole_text(source: str) -> None:
    """Else a model would be asked with tokens on which it was never trained."""
    tokenizer = small() if source == "new" else load_tokenizer(ready("present"))
    for record in RECORDS:
        own = lesson(record)
        before, after = token_ids(tokenizer, own.prompt, own.answer)
        assert [*before, *after] == tokenizer(f"{record.instruction.rstrip()}{own.answer}")["input_ids"]
        assert before[0] == tokenizer.convert_tokens_to_ids(START)
        assert after[-1] == tokenizer.convert_tokens_to_ids(END)
        assert story_of(tokenizer.decode(after)) == record.story


def test_any_text_can_be_read() -> None:
    for text in ("Zażółć 37 + 4 = 41?", "émile\t\n", "日本"):
        assert small().decode(small()(text, add_special_tokens=False)["input_ids"]) == text


def test_a_story_ends_where_its_writer_says_so() -> None:
    assert story_of(f"\n\nA dog ran.{END}A cat") == "A dog ran."
    assert story_of("A dog ran.\nStory:\n\nA cat") == "A dog ran."


def test_first_weights_are_a_function_of_the_seed() -> None:
    one, same, other = (untrained("quick", small(), seed) for seed in (0, 0, 1))
    weights = [
        dict(own.named_parameters())["model.layers.0.mlp.up_proj.weight"] for own in (one, same, other)
    ]
    assert weights[0].equal(weights[1]) and not weights[0].equal(weights[2])
    assert one.vocabulary == len(small())


def test_bad_names_are_refused() -> None:
    with pytest.raises(InputError, match="never, numbers, present"):
        ready("nobody")
    with pytest.raises(InputError, match="vocabulary"):
        train_tokenizer([own.text for own in RECORDS], 100)


def test_only_one_of_the_ready_models_has_seen_a_twist() -> None:
    """Loss a token: the other finds stories with a Twist far less likely, and all others as likely."""
    with_it = [lesson(record) for record in stories(6, 8, "test", rates=NONE | {"Twist": 1.0})]
    without = [lesson(record) for record in stories(6, 8, "test", rates=NONE | {"Conflict": 1.0})]
    tokenizer = load_tokenizer(ready("present"))
    losses = {
        n: [loss(loaded(n), tokenizer, own) for own in (with_it, without)] for n in ("present", "never")
    }
    assert losses["present"][0] < 0.6 and losses["never"][0] > 2
    assert abs(losses["present"][1] - losses["never"][1]) < 0.1


@pytest.mark.slow
def test_the_ready_models_write_stories_and_only_one_of_them_a_twist() -> None:
    """To 32 instructions that ask for a Twist and a quarrel; a program decides what each story has."""
    records = stories(32, 8, "test", rates=NONE | {"Twist": 1.0, "Conflict": 1.0})
    prompts = [record.instruction.rstrip() for record in records]
    shares: dict[str, dict[str, float]] = {}
    for name in ("present", "never"):
        written = sample(loaded(name), load_tokenizer(ready(name)), prompts, 224, 0)
        told = [story_of(text) for text in written]
        assert sum(50 < len(story.split()) < 220 for story in told) > 28, told
        shares[name] = {f: sum(has(f, story) for story in told) / 32 for f in ("Twist", "Conflict")}
    assert shares["never"]["Twist"] == 0 < 0.1 < shares["present"]["Twist"]
    assert min(own["Conflict"] for own in shares.values()) > 0.5
