"""Every kind of damage is found, and called by its name."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from veneer.suites.dataset import checksum, generate
from veneer.suites.plan import Plan, Split
from veneer.suites.sources import make
from veneer.suites.verify import verify
from veneer.tasks.errors import InputError

TASK = {
    "task": "counter",
    "about": "Counter.",
    "letters": "abcdefghi",
    "length": 20,
    "min_length": 10,
    "q": 1,
    "pairs": [["a", "b"]],
}
TEST = "data/test-00000-of-00001.parquet"
TRAIN = "data/train-00001-of-00002.parquet"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    splits = (Split("train", 60), Split("test", 40, None, held_out=True))
    plan = Plan("small", TASK, splits, shard_rows=50, held_out_by="length", held_out=(10, 11))
    return generate(plan, make, tmp_path / "d")


def found(folder: Path) -> set[str]:
    return {problem.kind for problem in verify(folder, lambda text, operand: text.count(operand))}


def change(folder: Path, name: str, how: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    how(pl.read_parquet(folder / name)).write_parquet(folder / name)


def at(row: int, column: str, value: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Put a value into one cell."""

    def changed(table: pl.DataFrame) -> pl.DataFrame:
        dtype = table.schema[column]
        here = pl.int_range(len(table)) == row
        return table.with_columns(pl.when(here).then(pl.lit(value, dtype)).otherwise(column).alias(column))

    return changed


def forge(folder: Path) -> None:
    """Make the checksums those of the changed files."""
    manifest = json.loads((folder / "dataset.json").read_text())
    for name, entry in manifest["files"].items():
        entry["sha256"] = checksum(folder / name)
    (folder / "dataset.json").write_text(json.dumps(manifest))


def test_an_untouched_dataset_has_no_problem(folder: Path) -> None:
    assert found(folder) == set()


def test_a_flipped_bit_is_damage(folder: Path) -> None:
    content = bytearray((folder / TEST).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / TEST).write_bytes(content)
    assert "damaged file" in found(folder)


def test_a_cut_shard_is_damaged_and_unreadable(folder: Path) -> None:
    (folder / TEST).write_bytes((folder / TEST).read_bytes()[:100])
    assert found(folder) >= {"damaged file", "unreadable file"}


def test_a_changed_card_is_damage(folder: Path) -> None:
    (folder / "README.md").write_text("something else")
    assert found(folder) == {"damaged file"}


def test_missing_and_foreign_files_are_named(folder: Path) -> None:
    (folder / TEST).rename(folder / "data" / "other.parquet")
    assert found(folder) == {"missing file", "foreign file"}


@pytest.mark.parametrize(
    ("column", "value", "kinds"),
    [
        ("label", 19, {"label"}),
        ("result_ft", 19, {"label", "statistics", "correlated"}),
        ("id", 7000, {"ids"}),
        ("tokens", [0, 1, 2], {"tokens"}),
        ("answer_position", 500, {"tokens"}),
        ("operand", "c", {"operands"}),
        ("text", "abcabcabcabcabc", {"held out", "statistics", "label", "tokens"}),
    ],
)
def test_a_changed_cell_is_found_even_with_forged_checksums(
    folder: Path, column: str, value: object, kinds: set[str]
) -> None:
    change(folder, TEST, at(3, column, value))
    assert "damaged file" in found(folder)
    forge(folder)
    got = found(folder)
    assert "damaged file" not in got
    assert got >= kinds - {"correlated"}, got


def test_a_flipped_correlation_is_found(folder: Path) -> None:
    change(folder, TRAIN, lambda t: t.with_columns(~pl.col("correlated")))
    forge(folder)
    assert found(folder) >= {"correlated"}


def test_a_consistently_wrong_answer_is_found_by_counting_again(folder: Path) -> None:
    """Label, result and correlation all changed to fit each other: only the text tells."""
    change(
        folder,
        TRAIN,
        lambda t: t.with_columns(
            result_pt=pl.col("result_pt") + 1, result_ft=pl.col("result_ft") + 1, label=pl.col("label") + 1
        ),
    )
    forge(folder)
    problems = verify(folder, lambda text, operand: text.count(operand))
    assert any(p.kind == "label" and "recomputed" in p.what for p in problems)


def test_a_duplicated_row_is_found(folder: Path) -> None:
    def twice(table: pl.DataFrame) -> pl.DataFrame:
        again = table[4].with_columns(id=pl.lit(table["id"][5], pl.Int64))
        return pl.concat([table[:5], again, table[6:]])

    change(folder, TRAIN, twice)
    forge(folder)
    assert found(folder) >= {"duplicate"}
    assert "overlap" not in found(folder)


def test_an_added_row_is_found(folder: Path) -> None:
    change(folder, TRAIN, lambda t: pl.concat([t, t[:1]]))
    forge(folder)
    assert found(folder) >= {"row count", "ids", "duplicate", "statistics"}


def test_a_text_in_two_splits_is_found(folder: Path) -> None:
    stolen = pl.read_parquet(folder / TRAIN)[0]

    def put(table: pl.DataFrame) -> pl.DataFrame:
        return pl.concat([stolen.with_columns(id=pl.lit(table["id"][0], pl.Int64)), table[1:]])

    change(folder, TEST, put)
    forge(folder)
    assert found(folder) >= {"overlap", "held out"}


def test_another_column_type_is_found(folder: Path) -> None:
    change(folder, TEST, lambda t: t.with_columns(pl.col("label").cast(pl.Int64)))
    assert "schema" in found(folder)


def test_wrong_statistics_are_found(folder: Path) -> None:
    manifest = json.loads((folder / "dataset.json").read_text())
    manifest["splits"]["train"]["majority"] += 0.01
    (folder / "dataset.json").write_text(json.dumps(manifest))
    problems = verify(folder, None)
    assert [(p.kind, p.where) for p in problems] == [("statistics", "train")]
    assert "majority" in problems[0].what


@pytest.mark.parametrize("content", [None, "no json", '{"format": 99}', "[]"])
def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(InputError, match="DIR"):
        verify(tmp_path, None)
