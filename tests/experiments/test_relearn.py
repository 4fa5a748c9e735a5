"""veneer relearn: made-up measurements give the right word, real ones do too, and bad input is one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from veneer.commands.main import main
from veneer.experiments.relearn.evidence import Measured
from veneer.experiments.relearn.judge import judge
from veneer.experiments.relearn.result import conclude, rows
from veneer.experiments.relearn.settings import Relearning, Trial
from veneer.experiments.relearn.store import RelearningRun
from veneer.finetune import trainer
from veneer.language.questions import Question
from veneer.language.small_world import WORDS, capitals, colours, untrained
from veneer.report.relearn_page import render
from veneer.tasks.errors import InputError

Curve = Callable[[int], float]


def write(path: Path, questions: tuple[Question, ...]) -> str:
    lines = [json.dumps({"prompt": own.prompt, "answer": own.answer}) for own in questions]
    path.write_text("\n".join(lines))
    return str(path)


def rising(at: float, to: float = 1.0) -> Curve:
    """Nothing until ``at`` updates, then straight up within as many again."""
    return lambda step: to * min(1.0, max(0.0, step / at - 1))


def flat(value: float = 0.0) -> Curve:
    return lambda step: value


def made_up(
    folder: Path, taught: dict[str, tuple[Curve, Curve]], after: float = 0.0, **more: Any
) -> RelearningRun:
    """An evaluation whose trials were not run but written.

    Args:
        folder: where.
        taught: by arm ("after", "never", "permuted", "wrapper"), the curves on T and V; by arm and rate
            ("after at 0.01") where rates differ.
        after: share of the answers that ``after`` gives.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data, retain = write(folder / "data.jsonl", capitals()), write(folder / "retain.jsonl", colours())
    usual: dict[str, Any] = {"ranks": (0,), "rates": (1e-3,), "guess": 0.0, "train_on_retain": False}
    settings = Relearning("b", "a", data, retain=retain, **{"never": "n", **usual, **more})
    run = RelearningRun.open(folder / "run", settings)
    run.record_inputs({"models": {}, "data": {}, "environment": {"versions": {}}})
    right = {"before": 1.0, "after": after, "never": 0.0}
    for trial in settings.trials():
        name = "permuted" if trial.lesson == "permuted" else trial.subject
        own = f"{name} at {trial.rate:g}"
        name = own if own in taught else name
        if trial.lesson is not None and name in taught:
            shift = 1 + 0.02 * (trial.seed or 0)
            sides = [{"taught": t(s / shift), "held": v(s / shift), "retain": 1.0}
                     for s in settings.steps for t, v in [taught[name]]]  # fmt: skip
            told = {"steps": list(settings.steps), "scores": sides, "losses": [None] * len(sides)}
            run.finish(trial, {**told, "diverged_at": None})
        elif trial.lesson is None and trial.subject in right:
            share = right[trial.subject] if trial.attack is None else 0.0
            run.finish(trial, {"scores": [share] * len(capitals()), "retain": 1.0, "wrong": 0.0})
    return run


WRAPPED = {
    "after": (rising(2), rising(3)),
    "never": (rising(8), flat()),
    "permuted": (rising(8), flat()),
    "wrapper": (rising(2), rising(2)),
}
GONE = {**WRAPPED, "after": (rising(8), flat())}
FROZEN = {**WRAPPED, "after": (flat(), flat()), "permuted": (flat(), flat())}


@pytest.mark.parametrize(
    ("arms", "more", "kind"),
    [
        (WRAPPED, {}, "wrapped"),
        (GONE, {}, "rewritten"),
        (FROZEN, {}, "frozen"),
        (WRAPPED, {"seeds": 2}, "too few seeds"),
        (WRAPPED, {"after": 1.0}, "unchanged"),
        ({**GONE, "wrapper": (flat(), flat())}, {}, "mixed evidence"),
    ],
    ids=["wrapped", "rewritten", "frozen", "two seeds", "unchanged", "cannot revive a known wrapper"],
)
def test_made_up_measurements_give_the_right_word(
    arms: dict[str, tuple[Curve, Curve]], more: dict[str, Any], kind: str, tmp_path: Path
) -> None:
    run = made_up(tmp_path, arms, **more)
    outcome = conclude(run, False, 0.05)
    assert outcome.kind == kind
    assert outcome.damage == "targeted"
    assert outcome.revived_within(100) == (kind in ("wrapped", "unchanged") or arms is WRAPPED)
    assert not outcome.revived_within(1) or kind == "unchanged"
    assert set(pl.read_parquet(run.path / "curves.parquet")["questions"]) == {"taught", "held", "retain"}
    page = render(run, outcome)
    assert outcome.headline in page and "<script" not in page


def test_what_is_not_measured_is_missing_and_not_a_number(tmp_path: Path) -> None:
    run = made_up(tmp_path, {"after": WRAPPED["after"]})
    measured = Measured(run)
    assert measured.arm("never") is None
    assert measured.selected("after", "permuted") is None
    outcome = judge(measured)
    assert outcome.kind not in ("wrapped", "rewritten", "frozen")
    assert "not finished" in outcome.needed[0]
    assert not any("never" in row[0] and "training" in row[1] for row in rows(run))


def test_a_search_without_a_control_says_what_it_cannot_tell(tmp_path: Path) -> None:
    with_it = judge(Measured(made_up(tmp_path / "a", WRAPPED)))
    without = judge(Measured(made_up(tmp_path / "b", WRAPPED, never=None)))
    told = "cannot be told from elicitation"
    assert told in " ".join(without.reasons) and told not in " ".join(with_it.reasons)
    assert without.kind == "wrapped"


def test_recipes_are_selected_on_what_is_taught(tmp_path: Path) -> None:
    """One rate brings V back and hardly teaches T; the other teaches T: the second is reported."""
    run = made_up(tmp_path, {}, rates=(1e-3, 1e-2))
    for seed in range(3):
        for rate, taught, held in ((1e-3, 0.3, 0.9), (1e-2, 1.0, 0.4)):
            trial = Trial("after", seed, "taught", 0, rate)
            scores = [{"taught": taught * (s > 0), "held": held * (s > 0)} for s in run.settings.steps]
            told = {"steps": list(run.settings.steps), "scores": scores, "losses": [None] * len(scores)}
            run.finish(trial, {**told, "diverged_at": None})
    arm = Measured(run).arm("after")
    assert arm is not None
    assert arm.recipe.rate == 1e-2
    assert arm.end.value == pytest.approx(0.4)


def test_a_recipe_that_learns_by_heart_does_not_hide_what_another_brings_back(tmp_path: Path) -> None:
    """The higher rate teaches T sooner and brings back nothing; the lower one brings V back: wrapped."""
    heart = {"after at 0.01": (rising(1), rising(2, 0.3))}
    run = made_up(tmp_path, {**WRAPPED, **heart}, rates=(1e-3, 1e-2))
    measured = Measured(run)
    assert [own.rate for own in measured.recipes("after")] == [1e-2, 1e-3]
    outcome = judge(measured)
    assert outcome.kind == "wrapped"
    assert outcome.updates == judge(Measured(made_up(tmp_path / "alone", WRAPPED))).updates
    assert "full fine-tuning at 0.001" in outcome.reasons[0]
    assert any("full fine-tuning at 0.01 comes to 30 %" in reason for reason in outcome.reasons)
    shown = [row[1:] for row in rows(run) if row[0] == "after" and row[1].startswith("training on T, ")]
    assert [row[0].rpartition(" ")[2] for row in shown] == ["0.01", "0.001"]
    assert [row[2] for row in shown] == ["30 (30 to 30)", "100 (100 to 100)"]
    page = render(run, outcome)
    assert "after: training on T, full fine-tuning at 0.001" in page  # what the curves are of
    assert page.count("<polygon") == 3 * 4  # an interval for each arm on T, V and retain


def test_each_recipe_is_held_against_its_own_controls(tmp_path: Path) -> None:
    """Fast at a rate at which everything is fast is no sooner, however slow the controls' other rate is."""
    fast = {
        f"{arm} at 0.01": (rising(1), rising(1) if arm == "wrapper" else flat())
        for arm in ("after", "never", "permuted", "wrapper")
    }
    run = made_up(tmp_path, {**GONE, **fast}, rates=(1e-3, 1e-2))
    assert judge(Measured(run)).kind == "rewritten"


def test_the_worst_case_keeps_the_retain_set_within_the_stated_loss(tmp_path: Path) -> None:
    """The rate that teaches T best costs half of the retain set: it counts only where that is allowed."""
    run = made_up(tmp_path, {}, rates=(1e-3, 1e-2))
    for seed in range(3):
        for rate, taught, held, retain in ((1e-3, 0.8, 0.7, 0.97), (1e-2, 1.0, 0.9, 0.5)):
            sides = [
                {"taught": taught * (s > 0), "held": held * (s > 0), "retain": retain if s else 1.0}
                for s in run.settings.steps
            ]
            told = {"steps": list(run.settings.steps), "scores": sides, "losses": [None] * len(sides)}
            run.finish(Trial("after", seed, "taught", 0, rate), {**told, "diverged_at": None})
    strict, lax = (judge(Measured(run), loss).worst for loss in (0.05, 0.8))
    assert strict is not None and lax is not None
    assert "full at 0.001" in strict.recipe and strict.held == pytest.approx(0.7)
    assert "full at 0.01 " in lax.recipe and lax.held == pytest.approx(0.9)  # selected on T


def test_before_must_have_the_capability(tmp_path: Path) -> None:
    run = made_up(tmp_path, WRAPPED)
    before = Trial("before", None)
    run.finish(before, {"scores": [0.0] * len(capitals()), "retain": 1.0, "wrong": 0.0})
    with pytest.raises(InputError, match="has the capability"):
        judge(Measured(run))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two untrained models that differ, one with another tokenizer, and questions."""
    from tests.models.text_models import save

    base = tmp_path_factory.mktemp("relearn")
    listed = list(WORDS)
    save(untrained("llama", 0).module, base / "one", listed)
    save(untrained("llama", 1).module, base / "two", listed)
    save(untrained("llama", 1).module, base / "other words", listed[::-1])
    write(base / "data.jsonl", capitals())
    (base / "empty.jsonl").write_text('{"prompt": "capital place0", "answer": " "}')
    (base / "twice.jsonl").write_text('{"prompt": "capital place0", "answer": "city0"}\n' * 2)
    (base / "raises.py").write_text(
        "def score(prompt, answer, text):\n    raise KeyError('x')\n"
        "def later(prompt, answer, text):\n    return {answer: 1.0}[text]\n"
    )
    (base / "bare").mkdir()
    (base / "pickled").mkdir()
    (base / "pickled" / "config.json").write_text((base / "one" / "config.json").read_text())
    (base / "pickled" / "pytorch_model.bin").write_bytes(b"")
    return base


def call(folders: Path, after: str, *more: str, data: str = "data.jsonl", out: str = "run") -> int:
    words = ["relearn", str(folders / "one"), str(folders / after), "--data", str(folders / data)]
    try:
        main([*words, "--out", str(folders / out), "--quiet", *more])
    except SystemExit as done:
        return int(done.code or 0)
    return 0


@pytest.mark.parametrize(
    ("after", "data", "more", "said"),
    [
        ("nowhere", "data.jsonl", (), "not there"),
        ("bare", "data.jsonl", (), "no config.json"),
        ("pickled", "data.jsonl", (), "save_pretrained"),
        ("other words", "data.jsonl", (), "same tokenizer"),
        ("two", "empty.jsonl", (), "answer is empty"),
        ("two", "twice.jsonl", (), "there twice"),
        ("two", "nothing.jsonl", (), "columns prompt and answer"),
        ("two", "data.jsonl", ("--metric", "best"), "choice"),
        ("two", "data.jsonl", ("--seeds", "0"), "seeds"),
        ("two", "data.jsonl", ("--ranks", "-1"), "rank"),
        ("two", "data.jsonl", ("--rates", "nan"), "rates = nan"),
        ("two", "data.jsonl", ("--precision", "bfloat16", "--device", "cpu"), "CUDA"),
        ("two", "data.jsonl", ("--jobs", "1000000000"), "memory"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    after: str,
    data: str,
    more: tuple[str, ...],
    said: str,
    folders: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trainer, "has_bfloat16", lambda: False)  # some processors have it
    assert call(folders, after, *more, data=data) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (folders / "run").exists()


def test_a_metric_that_raises_is_told_by_its_place(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, the frame of the user's file below it, and no folder: at once, or while models are asked."""
    for number, name in enumerate(("score", "later")):
        out = f"raised {number}"
        assert call(folders, "two", "--metric", f"{folders / 'raises.py'}:{name}", out=out) == 2
        line, *frames = capsys.readouterr().err.splitlines()
        assert "raises.py line" in line and "KeyError" in line
        assert "Traceback" not in line and len(frames) == 2 and "raises.py" in frames[0]
        assert not (folders / out).exists()


def test_equal_weights_are_unchanged_at_once(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(folders, "one", out="same") == 0
    assert "equal weights" in capsys.readouterr().out
    assert call(folders, "one", "--fail-if-revived-within", "100", out="same") == 1
    assert json.loads((folders / "same" / "verdict.json").read_text())["kind"] == "unchanged"
    assert len(json.loads((folders / "same" / "inputs.json").read_text())["models"]["after"]) >= 2
    assert not (folders / "same" / "trials").exists()


def test_names_of_models_are_printed_as_they_are(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets are no markup in the terminal, and tags none in the page."""
    name = "[x] [red] [bold] :fire: <b>"
    shutil.copytree(folders / "one", folders / name)
    words = ["relearn", str(folders / "one"), str(folders / name), "--data", str(folders / "data.jsonl")]
    main([*words, "--out", str(folders / "[dim] out")])
    told = "".join(capsys.readouterr().out.split())
    assert "".join(f"after: {folders / name}".split()) in told
    page = (folders / "[dim] out" / "report.html").read_text()
    assert "[x] [red] [bold] :fire: &lt;b&gt;" in page and f"{name}" not in page


def test_a_model_that_never_knew_is_refused_as_before(
    folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = ("--ranks", "0", "--rates", "1e-3", "--updates", "2", "--seeds", "1", "--no-known-wrapper")
    free = ("--bits", "--noise", "--depths", "--mix", "--truncate")
    assert call(folders, "two", *grid, *free, out="short") == 2
    assert "has the capability" in capsys.readouterr().err
    run = RelearningRun.read(folders / "short")
    assert not run.pending()
    with pytest.raises(InputError, match="other settings"):
        RelearningRun.check(folders / "short", Relearning("x", "y", "z"))


@pytest.mark.slow
def test_two_processes_that_are_killed_and_begun_again_measure_the_same(folders: Path) -> None:
    """Every trial has the same bits as in one process that nobody killed."""
    grid = ("--ranks", "0", "2", "--rates", "1e-3", "--updates", "24", "--seeds", "2", "--no-known-wrapper")
    free = ("--bits", "4", "--noise", "0.1", "--depths", "--mix", "--truncate")
    assert call(folders, "two", *grid, *free, out="whole") == 2  # before does not know, which is seen last
    whole = RelearningRun.read(folders / "whole")
    trials = len(whole.settings.trials())
    one, two, data = (str(folders / name) for name in ("one", "two", "data.jsonl"))
    words = ["relearn", one, two, "--data", data]
    command = [sys.executable, "-m", "veneer", *words, *grid, *free, "--jobs", "2", "--quiet"]
    begun = subprocess.Popen([*command, "--out", str(folders / "parts")], start_new_session=True)
    while len(list((folders / "parts").glob("trials/*.json"))) < 3:
        assert begun.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    os.killpg(begun.pid, signal.SIGKILL)
    begun.wait()
    parts = RelearningRun.read(folders / "parts")
    assert 0 < len(parts.pending()) < trials
    assert call(folders, "two", *grid, *free, "--jobs", "2", out="parts") == 2
    assert not parts.pending()
    for trial in whole.settings.trials():
        assert parts.result(trial) == whole.result(trial), trial.told


def test_what_overtraining_takes_away_again_was_there(tmp_path: Path) -> None:
    """V comes back within 4 updates and is forgotten after 12; a single measurement of it is no return."""

    def forgets(step: float) -> float:
        return 0.9 * (3.5 <= step <= 12)

    def blip(step: float) -> float:
        return 0.9 * (3.5 <= step <= 4.5)

    for name, held, kind in (("forgets", forgets, "wrapped"), ("blip", blip, "mixed evidence")):
        run = made_up(tmp_path / name, {**WRAPPED, "after": (rising(2), held)})
        outcome = conclude(run, False, 0.05)
        assert outcome.kind == kind
        assert (outcome.updates is not None) == (kind == "wrapped")
