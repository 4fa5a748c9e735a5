"""A dataset is a pure function of its plan, and no text occurs in it twice."""

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veneer.suites.dataset import generate
from veneer.suites.plan import Plan, Split
from veneer.suites.repeated import repeated_rows
from veneer.suites.sources import make
from veneer.tasks.errors import InputError


def counter(**changes: Any) -> dict[str, Any]:
    fields = {"letters": "abcdefghi", "length": 45, "min_length": None, "q": 1, "pairs": [["a", "b"]]}
    return {"task": "counter", "about": "Counter.", **fields, **changes}


def max_identifier(**changes: Any) -> dict[str, Any]:
    fields = {"letters": string.ascii_lowercase, "length": 10, "q": 2, "pairs": [["5", "7"]]}
    return {"task": "max-identifier", "about": "Max-identifier.", **fields, **changes}


def plan(task: dict[str, Any] | None = None, **changes: Any) -> Plan:
    splits = (Split("train", 60), Split("validation", 20, 0.0), Split("test", 20, None))
    return Plan("small", task or counter(), **{"splits": splits, "shard_rows": 32, **changes})


def read(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "data" / "*.parquet", include_file_paths="file").with_columns(
        split=pl.col("file").str.extract(r"data/(\w+)-\d{5}-of")
    )


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_labels_are_what_counting_by_hand_gives(tmp_path: Path) -> None:
    table = read(generate(plan(operand="both"), make, tmp_path / "d"))
    for row in table.iter_rows(named=True):
        assert row["result_pt"] == row["text"].count("a")
        assert row["result_ft"] == row["text"].count("b")
        assert row["label"] == row["text"].count(row["operand"])
        assert row["correlated"] == (row["result_ft"] - row["result_pt"] == 1)
        assert row["tokens"] == [0, *("abcdefghi".index(x) + 1 for x in row["text"])]
    assert table["id"].sort().to_list() == list(range(100))
    assert (
        table.group_by("split", "operand").len().sort("split", "operand")["len"].to_list()
        == [10] * 2 + [30] * 2 + [10] * 2
    )


def test_ranked_letters_are_what_sorting_gives(tmp_path: Path) -> None:
    table = read(generate(plan(max_identifier()), make, tmp_path / "d"))
    for row in table.iter_rows(named=True):
        assert (row["result_pt"], row["result_ft"]) == (sorted(row["text"])[4], sorted(row["text"])[6])
        assert string.ascii_lowercase[row["label_id"]] == row["label"] == row["result_ft"]
        assert row["correlated"] == (ord(row["result_ft"]) - ord(row["result_pt"]) == 2)


def test_shares_of_correlated_samples_are_exact(tmp_path: Path) -> None:
    splits = (Split("a", 101, 0.25), Split("b", 50, 1.0), Split("c", 50, 0.0))
    table = read(generate(plan(splits=splits), make, tmp_path / "d"))
    shares = dict(table.group_by("split").agg(pl.col("correlated").sum()).rows())
    assert shares == {"a": round(0.25 * 101), "b": 50, "c": 0}
    uncorrelated = table.filter(~pl.col("correlated"))
    assert (uncorrelated["result_ft"] != uncorrelated["result_pt"]).all()


def test_the_same_plan_gives_the_same_bytes_on_any_number_of_processes(tmp_path: Path) -> None:
    both = plan(formats=("parquet", "jsonl"))
    once = content(generate(both, make, tmp_path / "once"))
    assert content(generate(both, make, tmp_path / "again")) == once
    assert content(generate(both, make, tmp_path / "two", jobs=2)) == once
    assert content(generate(plan(seed=1), make, tmp_path / "other")) != once


def test_an_interrupted_dataset_goes_on_with_what_is_finished(tmp_path: Path) -> None:
    whole = content(generate(plan(), make, tmp_path / "whole"))
    written = []

    def interrupt(samples: int) -> None:
        written.append(samples)
        if len(written) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(plan(), make, tmp_path / "d", progress=interrupt)
    assert not (tmp_path / "d").exists()
    partial = tmp_path / "d.partial" / "data"
    first, second = sorted(partial.glob("*.parquet"))
    before = first.stat().st_mtime_ns
    second.write_bytes(b"damaged")
    (partial / ".train-00001-of-00003.parquet.4711.tmp").write_bytes(b"left by a killed process")
    kept = []

    def watch(samples: int) -> None:
        kept.append(first.stat().st_mtime_ns == before)

    assert content(generate(plan(), make, tmp_path / "d", progress=watch)) == whole
    assert all(kept)
    assert not partial.parent.exists()


def test_every_text_there_is_can_be_asked_for(tmp_path: Path) -> None:
    """81 texts in files of ten: what a later file has drawn again is replaced until all are found."""
    task = counter(letters="abc", length=4)
    splits = (Split("train", 60, None), Split("test", 21, None))
    table = read(generate(plan(task, splits=splits, shard_rows=10), make, tmp_path / "d"))
    assert table["text"].n_unique() == len(table) == 81


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        ((Split("train", 82, None),), ["82", "there are 81"]),
        ((Split("train", 40, None), Split("test", 42, None)), ["there are 81"]),
        ((Split("train", 20, 1.0),), ["correlated", "20", "there are 16"]),
        ((Split("train", 50, 0.0),), ["uncorrelated", "50"]),
    ],
)
def test_more_texts_than_there_are_is_refused_with_their_number(
    splits: tuple[Split, ...], words: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError) as refused:
        generate(plan(counter(letters="abc", length=4), splits=splits), make, tmp_path / "d")
    assert all(word in str(refused.value) for word in words), refused.value
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=15)
@given(
    length=st.integers(4, 7),
    shares=st.lists(st.sampled_from([None, 0.0, 0.3, 1.0]), min_size=2, max_size=3),
    rows=st.integers(3, 40),
    seed=st.integers(0, 5),
)
def test_splits_never_share_a_text(
    length: int, shares: list[float | None], rows: int, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    splits = tuple(Split(f"s{i}", 12, c) for i, c in enumerate(shares))
    made = plan(counter(letters="abcd", length=length), splits=splits, shard_rows=rows, seed=seed)
    table = read(generate(made, make, tmp_path_factory.mktemp("d") / "d"))
    assert table["text"].n_unique() == len(table)


def test_held_out_lengths_occur_in_their_split_only(tmp_path: Path) -> None:
    splits = (Split("train", 200), Split("test", 100, held_out=True))
    held = plan(counter(length=12, min_length=6), splits=splits, held_out_by="length", held_out=(7, 12))
    table = read(generate(held, make, tmp_path / "d")).with_columns(n=pl.col("text").str.len_chars())
    assert set(table.filter(split="test")["n"]) == {7, 12}
    assert set(table.filter(split="train")["n"]) == {6, 8, 9, 10, 11}
    assert table["tokens"].list.len().unique().to_list() == [13]


def test_held_out_labels_occur_in_their_split_only(tmp_path: Path) -> None:
    """Label 20 of 45 letters is almost never seen in uniform text; it is built, not waited for."""
    splits = (Split("train", 200), Split("test", 100, held_out=True))
    held = plan(splits=splits, held_out_by="label", held_out=(4, 20))
    table = read(generate(held, make, tmp_path / "d"))
    assert set(table.filter(split="test")["label"]) <= {4, 20}
    assert not set(table.filter(split="train")["label"]) & {4, 20}
    rare = plan(splits=splits, held_out_by="label", held_out=(20,))
    assert set(read(generate(rare, make, tmp_path / "e")).filter(split="test")["label"]) == {20}


def test_held_out_pairs_are_asked_in_their_split_only(tmp_path: Path) -> None:
    task = counter(pairs=[["a", "b"], ["b", "c"]], held_out_pairs=[["c", "a"]])
    splits = (Split("train", 100), Split("test", 40, held_out=True))
    table = read(generate(plan(task, splits=splits), make, tmp_path / "d"))
    pairs = table.group_by("split", "operand_pt", "operand_ft").len().sort("split", "operand_pt").rows()
    assert pairs == [("test", "c", "a", 40), ("train", "a", "b", 50), ("train", "b", "c", 50)]
    for row in table.iter_rows(named=True):
        assert row["label"] == row["text"].count(row["operand_ft"])


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        generate(plan(), make, tmp_path / "d")
    assert content(tmp_path) == {"d/mine.txt": b"mine"}


def test_an_unfinished_dataset_of_another_plan_is_left_alone(tmp_path: Path) -> None:
    def interrupt(samples: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(plan(), make, tmp_path / "d", progress=interrupt)
    before = content(tmp_path)
    with pytest.raises(InputError, match="unfinished"):
        generate(plan(seed=1), make, tmp_path / "d")
    assert content(tmp_path) == before


def test_repetitions_are_found_across_files_and_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veneer.suites.repeated._PART", 64)
    values = np.random.default_rng(0).integers(0, 2**64, 1000, dtype=np.uint64)
    values[700], values[900] = values[3], values[3]
    files = []
    for i, part in enumerate(np.split(values, 4)):
        files.append(tmp_path / f"{i}.npy")
        np.save(files[-1], part)
    found = {index: rows.tolist() for index, rows in repeated_rows(files).items()}
    assert found == {2: [200], 3: [150]}


def test_the_card_states_what_pandas_counts(tmp_path: Path) -> None:
    folder = generate(plan(operand="both"), make, tmp_path / "d")
    stated = json.loads((folder / "dataset.json").read_text())["splits"]
    for name, table in read(folder).group_by("split"):
        frame, split = table.to_pandas(), stated[name[0]]
        assert split["samples"] == len(frame)
        assert split["labels"] == {str(k): v for k, v in frame["label"].value_counts().sort_index().items()}
        assert split["majority"] == frame["label"].value_counts(normalize=True).max()
        asks_ft = frame[frame["operand"] == "b"]
        assert split["shortcut"] == (asks_ft["result_pt"] + 1 == asks_ft["label"]).mean()
        assert split["pearson"] == pytest.approx(frame["result_pt"].corr(frame["result_ft"]))
    card = (folder / "README.md").read_text()
    assert card.startswith("---\npretty_name")
    assert (folder / "figures" / "labels.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"splits": (Split("train", 0),)}, "1 or more samples"),
        ({"splits": (Split("a", 5), Split("a", 5))}, "different names"),
        ({"splits": (Split("a b", 5),)}, "letters, digits"),
        ({"splits": (Split("a", 5, 1.5),)}, "probability"),
        ({"shard_rows": 0}, "1 to"),
        ({"held_out_by": "length", "held_out": (3,)}, "some of the splits"),
        ({"held_out_by": "label", "held_out": (3,), "operand": "both"}, "pt or ft"),
    ],
)
def test_a_plan_that_cannot_be_made_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        plan(**changes)
