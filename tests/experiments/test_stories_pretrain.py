"""veneer pretrain stories: a folder that transformers reads, gone on with from another; what is refused."""

import json
from pathlib import Path

import pytest

from veneer.commands.main import main
from veneer.experiments.stories.pretrain import StoryPretraining, StoryPretrainingRun, drawn
from veneer.language.stories.features import FEATURES
from veneer.models.loading import load_model, load_tokenizer, weights_hash

SMALL = ("--stories", "6", "--updates", "2", "--batch", "2", "--test-stories", "2")


@pytest.fixture(autouse=True)
def few_stories(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a tokenizer, which checked types make slow."""
    monkeypatch.setattr("veneer.experiments.stories.pretrain.TOKENIZER_STORIES", 20)


def call(*words: str) -> int:
    try:
        main(["pretrain", "stories", *words, "--quiet"])
    except SystemExit as done:
        return int(done.code or 0)
    return 0


def test_a_pretraining_leaves_a_model_that_another_goes_on_from(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert call(*SMALL, "--without", "Twist", "--out", str(first)) == 0
    assert not (first / "unfinished").exists()
    model, tokenizer = load_model(str(first)), load_tokenizer(str(first))
    assert model.vocabulary == len(tokenizer) and model.kind == "llama"
    before = (first / "model.safetensors").stat().st_mtime_ns
    assert call(*SMALL, "--without", "Twist", "--out", str(first)) == 0  # done: nothing is trained again
    assert (first / "model.safetensors").stat().st_mtime_ns == before
    assert call(*SMALL, "--start", str(first), "--out", str(second)) == 0
    assert weights_hash(load_model(str(second))) != weights_hash(model)
    text = "Once there was a kite."
    assert load_tokenizer(str(second))(text)["input_ids"] == tokenizer(text)["input_ids"]
    runs = [StoryPretrainingRun(StoryPretraining(**json.loads((own / "pretraining.json").read_text())), own)
            for own in (first, second)]  # fmt: skip
    ends = [dict(run.final().select("stories", "loss").iter_rows()) for run in runs]
    assert ends[1]["with"] < ends[0]["with"]
    assert set(ends[0]) == {"with", "without", "train"}


def test_what_is_left_out_is_never_drawn_and_rates_are_those_asked_for() -> None:
    without = StoryPretraining(without="Conflict")
    told = drawn(30, "x", 0, lambda record: without.without not in record.features, without.rates)
    assert not any("Conflict" in record.features for record in told)
    often = sum(len(record.features) for record in told) / len(told)
    natural = drawn(30, "x", 0, lambda record: True)
    assert often > 1.2 > sum(len(record.features) for record in natural) / 30
    assert StoryPretraining(feature_rate=None).rates["Twist"] == 0.15
    assert set(without.rates) == set(FEATURES)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--without", "Rhyme"), "Twist"),
        (("--updates", "0"), "iterations"),
        (("--feature-rate", "1.5"), "feature_rate"),
        (("--start", "./nowhere"), "not there"),
        (("--stories", "0"), "stories"),
        (("--learning-rate", "-1"), "learning_rate"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words, "--out", str(tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_of_other_settings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pretraining.json").write_text(json.dumps({"size": "paper"}))
    assert call(*SMALL, "--out", str(tmp_path)) == 2
    assert "other" in capsys.readouterr().err
