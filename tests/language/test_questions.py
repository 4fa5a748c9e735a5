"""Questions: what is divided stays apart, and what is bad is refused with its row."""

import json
from pathlib import Path

import polars as pl
import pytest

from veneer.language.encoding import check_tokenizers, encode_questions, token_ids
from veneer.language.questions import (
    Question,
    divide,
    permuted_answers,
    read_questions,
    with_choices,
)
from veneer.language.small_world import capitals, words
from veneer.tasks.errors import InputError


def test_taught_and_held_out_halves_share_nothing_and_change_with_the_seed() -> None:
    questions = capitals()
    taught, held = divide(questions, 0)
    assert {*taught, *held} == set(questions)
    assert not {*taught} & {*held}
    assert len(taught) == len(questions) // 2
    assert divide(questions, 0) == (taught, held)
    assert divide(questions, 1)[0] != taught


def test_groups_are_never_divided() -> None:
    questions = tuple(Question(f"p{i}", f"a{i}", f"g{i // 5}") for i in range(50))
    for seed in range(5):
        taught, held = divide(questions, seed, 0.3)
        assert not {own.group for own in taught} & {own.group for own in held}
        assert len(taught) == 15
    with pytest.raises(InputError, match="groups"):
        divide(questions[:15], 0)


def test_permuted_answers_are_the_same_answers_elsewhere() -> None:
    questions = capitals()
    for seed in range(4):
        changed = permuted_answers(questions, seed)
        assert sorted(own.answer for own in changed) == sorted(own.answer for own in questions)
        assert all(a.answer != b.answer for a, b in zip(questions, changed, strict=True))


def test_choices_hold_wrong_answers_only() -> None:
    offered = with_choices(capitals(), 3, 0)
    assert all(len(set(own.choices)) == 3 and own.answer not in own.choices for own in offered)
    assert with_choices(capitals(), 3, 0) == offered


def test_both_formats_give_the_same_questions(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "answer": f"a{i}", "group": i // 2} for i in range(6)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pl.DataFrame(rows).write_parquet(tmp_path / "a.parquet")
    assert read_questions(tmp_path / "a.jsonl") == read_questions(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"prompt": "p", "answer": " "}], "row 1: answer is empty"),
        ([{"prompt": "p", "answer": "a"}, {"prompt": "", "answer": "a"}], "row 2: prompt is empty"),
        ([{"prompt": "p"}], "answer is missing"),
        ([{"prompt": "p", "answer": 3}], "no text"),
        ([{"prompt": "p", "answer": "a"}, {"prompt": "p", "answer": "b"}], "there twice"),
        ([["p", "a"]], "no object"),
        ([{"prompt": "p", "answer": "a", "choices": "abc"}], "choices"),
        ([], "empty"),
    ],
)
def test_bad_rows_are_refused(rows: list[object], said: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match=said):
        read_questions(file)


@pytest.mark.parametrize("name", ["nowhere.jsonl", "broken.jsonl", "broken.parquet", "data.txt"])
def test_unreadable_files_are_refused(name: str, tmp_path: Path) -> None:
    if not name.startswith("nowhere"):
        (tmp_path / name).write_text("{not json")
    with pytest.raises(InputError, match="columns prompt and answer"):
        read_questions(tmp_path / name)


def test_an_answers_tokens_are_predicted_from_the_position_before() -> None:
    tokenizer = words()
    questions = (Question("capital place3", "city1 city2", "a"), Question("open capital place4", "no", "b"))
    batch = encode_questions(tokenizer, questions)
    assert batch.tokens.shape == (2, 4)
    for item, position, target in zip(batch.items, batch.positions, batch.targets, strict=True):
        assert batch.tokens[item, position + 1] == target
    assert [tokenizer.decode(t) for t in batch.targets] == ["city1", "city2", "no"]
    assert token_ids(tokenizer, "capital place3 ", "city1") == token_ids(tokenizer, "capital place3", "city1")


def test_other_tokenizers_are_refused() -> None:
    from tests.models.text_models import tokenizer

    check_tokenizers(words(), words(), capitals(), "after")
    with pytest.raises(InputError, match="same tokenizer"):
        check_tokenizers(words(), tokenizer(["capital", "place0"]), capitals(), "after")
