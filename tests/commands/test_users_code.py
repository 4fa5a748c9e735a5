"""A user's method in a run: its faults are told before anything is written, and nobody else's is ever run."""

import shutil
from pathlib import Path

import pytest

from tests.commands.test_fuzz import ended
from veneer.commands.main import main
from veneer.experiments.status import status
from veneer.experiments.store import Run

SMALL = (
    "--length 6 --learning-rates 0.01 --c-tr 1 --iterations 6 --reft-iterations 6 --evaluation-samples 10 "
    "--seeds 1 --no-controls --no-third-operand --engine in-process --batch 8"
)
HEAD = """\
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch

from veneer.finetune.method import FullFineTuning, Method

"""
MINE = f"""{HEAD}
Path("was here").write_text("x")

@dataclass(frozen=True)
class Mine(FullFineTuning):
    def loss(self, step):
        return 1.0 * super().loss(step)
"""
LOSSES = {
    "raises": ("raise KeyError('x')", "mine.py line 13 in loss: KeyError: 'x'"),
    "raises what a full disk raises": (
        "raise OSError(28, 'No space left')",
        "mine.py line 13 in loss: OSError",
    ),
    "nothing": ("return None", "a loss for each"),
    "a float": ("return 1.0", "a loss for each"),
    "a scalar": ("return torch.tensor(1.0, requires_grad=True)", "a loss for each"),
    "a list": ("return [1.0]", "a loss for each"),
    "another shape": ("return torch.zeros(3, 4, requires_grad=True)", "a loss for each"),
    "no gradient": ("return super().loss(step).detach()", "depends on no weight that moves"),
    "a gradient of zero": ("return 0 * super().loss(step)", "gradient"),
    "no number": ("return super().loss(step) * float('nan')", "finite"),
    "does not end": ("while True: pass", "mine.py line 13 in loss: it did not end within 0.5 seconds"),
    "ends the program": ("sys.exit(3)", "mine.py line 13 in loss: it ends the program"),
}
CLASSES = {
    "an init of its own": "@dataclass(frozen=True)\nclass Mine(Method):\n    def __init__(self, x): pass\n",
    "not a method": "class Mine:\n    pass\n",
    "a list in a field": "@dataclass(frozen=True)\nclass Mine(Method):\n    x: list = field(default=[])\n",
    "an error at import": "raise ValueError('at import')\n",
}


def refused(file: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The line with which a run of the file's method is refused; the user's own frames may follow it."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(["run", "counter", *SMALL.split(), "--reft-rates", "--method", f"{file}:Mine", "--out", "out"])
    said = capsys.readouterr()
    line, *frames = said.err.splitlines()
    assert end.value.code == 2 and line.startswith("veneer: "), said
    assert "Traceback" not in said.err
    assert all(file.name in frame for frame in frames if frame.lstrip().startswith("File ")), frames
    assert not Path("out").exists()
    return line


@pytest.mark.parametrize("case", LOSSES)
def test_what_is_wrong_with_a_loss_is_told_by_a_step_before_anything_is_written(
    case: str,
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("veneer.experiments.trial.LONGEST", 0.5 if "not end" in case else 60.0)
    body, words = LOSSES[case]
    loss = (
        f"@dataclass(frozen=True)\nclass Mine(FullFineTuning):\n    def loss(self, step):\n        {body}\n"
    )
    Path("mine.py").write_text(f"{HEAD}\n{loss}")
    assert words in refused(Path("mine.py"), capsys)


@pytest.mark.parametrize("case", CLASSES)
def test_what_is_wrong_with_a_class_is_told_before_anything_is_written(
    case: str,
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(HEAD + CLASSES[case])
    refused(Path("mine.py"), capsys)


def test_an_edited_method_is_another_one_and_what_the_old_one_made_is_left_aside(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And reading runs no file: the run is analysed with a trap in its place, and elsewhere without it."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)
    words = ["run", "counter", *SMALL.split(), "--reft-rates", "0.001", "--method", "mine.py:Mine"]
    main([*words, "--out", "run"])
    before = Run.read("run").metrics()
    Path("mine.py").write_text(MINE.replace("1.0 *", "0.5 *"))
    main([*words, "--out", "run"])
    run = Run.read("run")
    found = status(run)
    assert (found.cells, found.done, len(run.stored())) == (2, 2, 4)
    assert not {*before["cell"]} & {*run.metrics()["cell"]}
    assert "0.5 *" in (run.path / "methods.json").read_text()
    Path("mine.py").write_text("raise SystemExit(9)\n")
    Path("was here").unlink()
    assert ended(["analyse", "run", "--only", "revival", "verdicts", "--jobs", "1"], capsys).code == 0
    shutil.move("run", "elsewhere")
    Path("mine.py").unlink()
    assert ended(["analyse", "elsewhere", "--only", "pruning", "--jobs", "1"], capsys).code == 0
    assert not Path("was here").exists()


def test_every_value_of_an_axis_is_tried_before_the_first_update(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["sweep", "counter", *SMALL.split(), "--reft-rates", "none", "--method", "full,lora:99"]
    assert "rank" in (told := ended([*words, "--out", "out"], capsys)).err and told.code == 2
    assert not list(tmp_path.iterdir())
