"""Numbers are compared as numbers, wherever a file or a command line has them as texts."""

import json
from pathlib import Path

import polars as pl
import pytest
import torch

from tests.commands.test_fuzz import ended
from veneer.suites.scores import evaluate

PROGRAM = """\
from tracr.rasp import rasp

def count():
    return rasp.SelectorWidth(rasp.Select(rasp.tokens == "a", rasp.tokens, lambda key, query: bool(key)))
def half(): return rasp.numerical(rasp.Map(lambda n: n / 3, count()))
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("numbers") / "p.py"
    file.write_text(PROGRAM)
    return file


def generated(program: Path, name: str, out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> Path:
    words = [
        "generate",
        f"{program}:{name}",
        "--vocabulary",
        "a",
        "b",
        "--max-length",
        "7",
        "--min-length",
        "7",
    ]
    found = ended([*words, "--samples", "100", "--out", str(out), *more], capsys)
    assert found.code == 0, found.err
    return out


def rows(data: Path, split: str = "test") -> pl.DataFrame:
    return pl.concat(
        [pl.read_parquet(file, glob=False) for file in sorted((data / "data").glob(f"{split}*"))]
    )


def test_held_out_numbers_of_a_program_are_found_whatever_type_they_have(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--held-out-labels", "2-3", "--split", "train=0.6,test=0.4"]
    data = generated(program, "count", tmp_path / "d", capsys, *asked)
    assert set(rows(data)["label"].cast(pl.Float64)) == {2.0, 3.0}
    assert not set(rows(data, "train")["label"].cast(pl.Float64)) & {2.0, 3.0}


def test_a_programs_labels_become_tensors_by_the_cards_own_lines(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = rows(generated(program, "count", tmp_path / "d", capsys))
    ids = torch.tensor(table["label_id"].to_list())
    assert ids.dtype == torch.int64 and ids.min() >= 0
    assert table.select("label", "label_id").unique()["label_id"].n_unique() == table["label"].n_unique()
    assert "label_id" in (tmp_path / "d" / "README.md").read_text().split("DataLoader")[1]


@pytest.mark.parametrize(("off", "right"), [(3e-8, 1.0), (5e-2, 0.0)])
def test_decimals_are_right_within_the_stated_tolerance(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], off: float, right: float
) -> None:
    table = rows(data := generated(program, "half", tmp_path / "d", capsys))
    labels = {row["id"]: float(row["label"]) for row in table.to_dicts()}
    file = tmp_path / "p.jsonl"
    given = {i: label + (0 if label.is_integer() else off) for i, label in labels.items()}
    file.write_text("".join(json.dumps({"id": i, "prediction": value}) + "\n" for i, value in given.items()))
    parts = [1.0 if label.is_integer() else right for label in labels.values()]
    assert 0 < sum(label.is_integer() for label in labels.values()) < len(labels)
    assert evaluate(data, file).accuracy.value == pytest.approx(sum(parts) / len(parts))
