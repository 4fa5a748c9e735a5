"""The form is written and read without loss, also as the hub's files have it."""

import json
from pathlib import Path

import pytest

from veneer.language.stories.form import SEPARATOR, load, parse
from veneer.language.stories.generator import stories
from veneer.tasks.errors import InputError

RECORDS = list(stories(50))
HUB = """Features: Dialogue, BadEnding
Words: nap, bowl, tall
Summary: A dog sleeps in a bowl.
Random sentence: The bowl was not big.
Story:

There was a dog.

"I am tired," said the dog. The bowl was not big.
<|endoftext|>
Summary: A cat sits.
Words: sit, cat, soft
Story: A cat sat on a soft mat.
<|endoftext|>
"""


def test_what_is_written_is_read_again() -> None:
    for record in RECORDS:
        found = parse(record.text)
        for name in ("words", "features", "summary", "sentence", "story", "text"):
            assert getattr(found, name) == getattr(record, name)


def test_a_story_without_features_has_no_line_for_them() -> None:
    plain = next(record for record in RECORDS if not record.features)
    assert "Features" not in plain.instruction
    assert plain.instruction.endswith("Story:\n\n")


def test_a_file_of_the_hub_is_read(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(HUB)
    first, second = load(tmp_path / "train.txt")
    assert first.features == ("Dialogue", "BadEnding")
    assert first.words == ("nap", "bowl", "tall")
    assert first.sentence == "The bowl was not big."
    assert first.story == 'There was a dog.\n\n"I am tired," said the dog. The bowl was not big.'
    assert second.features == () and second.sentence == ""
    assert second.story == "A cat sat on a soft mat."


def test_a_shard_of_the_release_is_read(tmp_path: Path) -> None:
    row = {
        "story": "\n\nA cat sat on a mat.",
        "instruction": {"prompt:": "Write ...", "words": ["sit", "cat"], "features": ["Twist"]},
        "summary": "A cat sits.",
        "source": "GPT-4",
    }
    (tmp_path / "data00.json").write_text(json.dumps([row]))
    (record,) = load(tmp_path / "data00.json")
    assert (record.words, record.features) == (("sit", "cat"), ("Twist",))
    assert (record.summary, record.story) == ("A cat sits.", "A cat sat on a mat.")


def test_a_whole_corpus_is_written_and_read(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text(SEPARATOR.join(record.text for record in RECORDS))
    assert [record.text for record in load(tmp_path / "own.txt")] == [record.text for record in RECORDS]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", f"Story: one\n{SEPARATOR}\nWords: two\n", "text 2"),
        ("a.txt", "Words: a\nWords: b\nStory: c\n", "once"),
        ("a.json", "{", "JSON"),
        ("a.json", "{}", "a list"),
        ("a.json", '[{"story": "x"}]', "text 1"),
        ("a.json", '[{"story": " ", "instruction": {}}]', "text 1"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=says) as refused:
        list(load(tmp_path / name))
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="file"):
        list(load(tmp_path / "none.txt"))
