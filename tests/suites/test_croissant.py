"""``croissant.json`` is valid by MLCommons' own reader, offline, and says what the folder holds."""

import json
import logging
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.suites.test_dataset import counter, max_identifier, plan, read
from veneer.suites.croissant import FILE
from veneer.suites.dataset import generate
from veneer.suites.sources import make
from veneer.suites.verify import verify

RESPONSIBLE = (
    "data_collection",
    "data_collection_missing_data",
    "data_collection_raw_data",
    "data_imputation_protocol",
    "data_preprocessing_protocol",
    "data_annotation_protocol",
    "annotations_per_item",
    "annotator_demographics",
    "machine_annotation_tools",
    "data_biases",
    "data_use_cases",
    "data_limitations",
    "data_social_impact",
    "personal_sensitive_information",
    "data_release_maintenance_plan",
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be asked for."""

    def refused(*given: Any, **named: Any) -> None:
        pytest.fail(f"asked the network: {given}")

    monkeypatch.setattr("socket.socket.connect", refused)
    monkeypatch.setattr("socket.getaddrinfo", refused)


def opened(folder: Path) -> Any:
    croissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    return croissant.Dataset(folder / FILE)


@pytest.mark.parametrize(
    ("task", "formats"),
    [(counter(), ("parquet", "jsonl")), (counter(), ("jsonl",)), (max_identifier(), ("parquet",))],
    ids=["both formats", "lines", "letters as labels"],
)
def test_its_reader_finds_no_fault_and_the_same_rows(
    tmp_path: Path, task: dict[str, Any], formats: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    folder = generate(plan(task, formats=formats), make, tmp_path / "d")
    with caplog.at_level(logging.WARNING):
        dataset = opened(folder)
    assert not dataset.metadata.ctx.issues.errors
    assert "not standard" not in caplog.text
    wanted = read(folder).drop("file") if "parquet" in formats else None
    for split, samples in (("train", 60), ("validation", 20), ("test", 20)):
        rows = [plain(row, split) for row in dataset.records(split)]
        assert len(rows) == samples
        if wanted is not None:
            own = wanted.filter(split=split).drop("split").sort("id").to_dicts()
            assert sorted(rows, key=lambda row: row["id"]) == own


def plain(row: dict[str, Any], split: str) -> dict[str, Any]:
    """A row of its reader without the split in front of names, and with texts instead of bytes."""
    found = {}
    for name, value in row.items():
        value = value.tolist() if hasattr(value, "tolist") else value
        value = [int(part) for part in value] if isinstance(value, list) else value
        found[name.removeprefix(f"{split}/")] = value.decode() if isinstance(value, bytes) else value
    return found


def test_it_names_every_file_and_says_how_the_data_came_about(tmp_path: Path) -> None:
    folder = generate(plan(), make, tmp_path / "d")
    metadata = opened(folder).metadata
    told = {name: getattr(metadata, name) for name in RESPONSIBLE}
    assert [name for name, value in told.items() if not value] == []
    assert "50.00% of the samples" in told["data_biases"][0], "the correlation that is there on purpose"
    assert metadata.license and metadata.cite_as and metadata.version
    manifest = json.loads((folder / "dataset.json").read_text())
    files = {own.content_url: own.sha256 for own in metadata.file_objects}
    assert files == {n: e["sha256"] for n, e in manifest["files"].items() if n.startswith("data/")}
    assert FILE in manifest["files"] and not list(verify(folder, None))


def test_its_columns_are_those_of_the_files(tmp_path: Path) -> None:
    folder = generate(plan(max_identifier()), make, tmp_path / "d")
    columns = set(pl.read_parquet(next((folder / "data").glob("test-*"))).columns)
    for record_set in opened(folder).metadata.record_sets:
        assert {field.name.split("/")[-1] for field in record_set.fields} == columns
