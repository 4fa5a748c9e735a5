"""What ``veneer push`` lays out of datasets ``datasets`` opens, from the disk and without a network."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from tests.suites.test_dataset import content, counter, max_identifier, plan, read
from veneer.commands.main import main
from veneer.suites.dataset import generate
from veneer.suites.hub import lay_out_dataset
from veneer.suites.named import Suite, write_suite
from veneer.suites.sources import make
from veneer.suites.verify import verify
from veneer.tasks.errors import InputError

OPEN = """
import json, sys, datasets
found = {}
for config in sys.argv[2:] or [None]:
    loaded = datasets.load_dataset(sys.argv[1], *([config] if config else []))
    found[config or "default"] = {name: split.to_list() for name, split in loaded.items()}
print(json.dumps(found))
"""


def opened(folder: Path, tmp_path: Path, *configs: str) -> dict[str, dict[str, list[dict[str, object]]]]:
    """What the library reads in a process of its own that may not ask a hub."""
    pytest.importorskip("datasets", reason="datasets is not installed")
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(folder), *configs],
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def rows(folder: Path, split: str) -> list[dict[str, object]]:
    return read(folder).filter(split=split).drop("split", "file").sort("id").to_dicts()


@pytest.mark.slow
def test_datasets_opens_what_is_laid_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = generate(plan(), make, tmp_path / "made")
    main(["push", str(made), "--out", str(tmp_path / "hub")])
    told = " ".join(capsys.readouterr().out.split())
    assert "1 dataset and a card" in told and "--repo-type dataset" in told
    assert content(tmp_path / "hub") == content(made)
    assert not list(verify(tmp_path / "hub", None))
    found = opened(tmp_path / "hub", tmp_path)["default"]
    assert {name: len(own) for name, own in found.items()} == {"train": 60, "validation": 20, "test": 20}
    assert sorted(found["test"], key=lambda row: int(str(row["id"]))) == rows(made, "test")


@pytest.mark.slow
def test_of_a_suite_every_dataset_is_a_configuration(tmp_path: Path) -> None:
    plans = tuple(
        replace(plan(task), name=name) for name, task in (("one", counter()), ("two", max_identifier()))
    )
    write_suite(
        "both", Suite("Two.", plans), tmp_path / "made", "veneer ...", ("parquet",), 1, lambda n: None
    )
    main(["push", str(tmp_path / "made"), "--out", str(tmp_path / "hub")])
    found = opened(tmp_path / "hub", tmp_path, "one", "two")
    for name in ("one", "two"):
        shown = sorted(found[name]["train"], key=lambda row: int(str(row["id"])))
        assert shown == rows(tmp_path / "made" / name, "train")
    card = (tmp_path / "hub" / "README.md").read_text()
    assert 'load_dataset("DIR", "one")' in card and card.startswith("---\nlicense:\n- cc0-1.0\n")


def test_a_damaged_file_is_refused_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = generate(plan(), make, tmp_path / "made")
    file = next((made / "data").glob("train-00000*"))
    pl.read_parquet(file).head(3).write_parquet(file)
    with pytest.raises(SystemExit) as ended:
        main(["push", str(made), "--out", str(tmp_path / "hub")])
    assert ended.value.code == 2
    assert "missing or damaged" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made"]
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        lay_out_dataset(made, tmp_path / "hub")
