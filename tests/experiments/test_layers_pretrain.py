"""veneer pretrain layers: the steps by which a base is made, one after another, killed and gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from veneer.commands.main import main
from veneer.experiments.layers.pretrain import BasePretraining, BasePretrainingRun
from veneer.experiments.layers.settings import Layers
from veneer.experiments.layers.store import LayersRun
from veneer.experiments.layers.work import work
from veneer.models.loading import load_model, load_tokenizer, weights_hash

ROOT = Path(__file__).parents[2]
SMALL = ("--passages", "12", "--batch", "2", "--test-passages", "4")
OFTEN = """
import sys
from functools import partial
from veneer.commands.main import main
from veneer.experiments import text_pretraining
from veneer.experiments.layers import pretrain
pretrain.COUNTED = 60
text_pretraining.train = partial(text_pretraining.train, state_seconds=0.0)
main(sys.argv[1:])
"""
"""The command line, with few passages for the tokenizer and a state kept after every update."""


@pytest.fixture(autouse=True)
def few_passages(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the tokenizer, which checked types make slow."""
    monkeypatch.setattr("veneer.experiments.layers.pretrain.COUNTED", 60)


def call(*words: str) -> int:
    try:
        main(["pretrain", "layers", *words, "--quiet"])
    except SystemExit as done:
        return int(done.code or 0)
    return 0


@pytest.mark.slow
def test_the_three_steps_of_a_base_end_in_one_that_is_tuned_and_compared(tmp_path: Path) -> None:
    first, second, base = (str(tmp_path / name) for name in ("first", "second", "base"))
    assert call(*SMALL, "--again", "0", "--updates", "4", "--out", first) == 0
    on = ("--start", first, "--again", "1", "--updates", "3", "--floor", "0.3", "--out", second)
    assert call(*SMALL, *on) == 0
    assert call(*SMALL, "--start", second, "--again", "0.5", "--updates", "3", "--out", base) == 0
    models = [load_model(own) for own in (first, second, base)]
    assert len({weights_hash(model) for model in models}) == 3
    text = "Anna has a ball."
    assert len({tuple(load_tokenizer(own)(text)["input_ids"]) for own in (first, second, base)}) == 1
    assert {file.suffix for file in Path(base).iterdir()} <= {".json", ".safetensors", ".parquet"}
    few: dict[str, Any] = {
        "updates": 1,
        "multi_updates": 1,
        "batch": 2,
        "look": 0,
        "texts": 8,
        "questions": 4,
    }
    settings = Layers(base, tasks=("review", "capital"), seeds=1, mapped=0, known=0, **few)
    run = LayersRun.open(tmp_path / "run", settings)
    work(run, torch.device("cpu"))
    assert not run.problems() and run.similarity()["layer"].max() == 8


@pytest.mark.parametrize(
    ("again", "alike"), [(0.0, False), (1.0, True)], ids=["nothing is said again", "all is said again"]
)
def test_passages_say_the_same_again_as_often_as_is_asked(again: float, alike: bool, tmp_path: Path) -> None:
    run = BasePretrainingRun(BasePretraining(again=again, passages=30), tmp_path / "run")
    parts = [own.answer.split() for own in run.taught()]
    said = [len(set(words)) / len(words) for words in parts]
    assert (sum(said) / len(said) < 0.5) == alike


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--again", "1.5"), "again"),
        (("--updates", "0"), "iterations"),
        (("--start", "./nowhere"), "not there"),
        (("--passages", "0"), "passages"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words, "--out", str(tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def begin(out: Path) -> subprocess.Popen[bytes]:
    """A small pretraining by the command line, in a process of its own."""
    command = [sys.executable, "-c", OFTEN, "pretrain", "layers", *SMALL, "--updates", "40", "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([*command, "--out", str(out)], cwd=ROOT, env=environment)


@pytest.mark.slow
def test_a_pretraining_whose_process_is_killed_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert begin(whole).wait() == 0
    moment = Random(17)
    for _ in range(2):
        process, state = begin(killed), killed / "unfinished" / "state.safetensors"
        before = state.stat().st_mtime_ns if state.exists() else 0
        while not state.exists() or state.stat().st_mtime_ns == before:  # it trains, and not only begins
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
        time.sleep(0.5 * moment.random())
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert state.exists() and not (killed / "metrics.parquet").exists()
    assert begin(killed).wait() == 0
    assert not (killed / "unfinished").exists()
    for name in ("model.safetensors", "metrics.parquet", "tokenizer.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name
