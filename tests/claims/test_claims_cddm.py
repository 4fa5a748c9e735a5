"""Claims L1 to L8: made-up decisions as the paper has them replicate it, and each lie is found out."""

from pathlib import Path
from typing import Any

import pytest

from tests.claims.made_up import EITHER, NO, YES
from tests.experiments.made_up_decisions import PAPER, Lie, made_up
from veneer.claims.cddm import DecisionsView
from veneer.claims.evidence import Finding
from veneer.claims.list import claims, evaluate
from veneer.experiments.cddm.store import DecisionsRun

LIN = [f"L{number}" for number in range(1, 9)]


def answer(number: str, run: DecisionsRun) -> Finding:
    (claim,) = claims([number])
    return evaluate(claim, [DecisionsView(run)])


@pytest.mark.parametrize("number", LIN)
def test_what_the_paper_says_is_replicated(number: str, tmp_path: Path) -> None:
    found = answer(number, made_up(tmp_path / "run"))
    assert found.outcome == YES, found.explanation


@pytest.mark.parametrize(
    ("number", "ends", "depths"),
    [
        ("L1", {"scratch": 0.7}, {}),
        ("L2", {"pretrained": 0.9}, {}),
        ("L3", {}, {"fine_tuned": 0.1}),
        ("L4", {}, {"scratch": 0.9}),
        ("L5", {}, {"fine_tuned": 0.1, "scratch": 0.9}),
    ],
)
def test_lies_are_found_out(number: str, ends: Any, depths: dict[str, float], tmp_path: Path) -> None:
    found = answer(number, made_up(tmp_path / "run", {**PAPER, **ends}, **depths))
    assert found.outcome == NO, found.explanation


@pytest.mark.parametrize(
    ("number", "lie"),
    [
        ("L6", "looks elsewhere"),
        ("L7", "fewer units"),
        ("L7", "less apart"),
        ("L8", "far later"),
        ("L8", "near earlier"),
    ],
)
def test_a_lie_about_insides_is_found_out_by_its_claim_alone(number: str, lie: Lie, tmp_path: Path) -> None:
    run = made_up(tmp_path / "run", lie=lie)
    outcomes = {name: answer(name, run).outcome for name in LIN}
    assert outcomes == {name: NO if name == number else YES for name in LIN}


@pytest.mark.parametrize("number", LIN[2:])
def test_insides_of_arms_that_are_not_matched_decide_nothing(number: str, tmp_path: Path) -> None:
    found = answer(number, made_up(tmp_path / "run", {**PAPER, "scratch": 0.8}))
    assert found.outcome == EITHER and "void for 3 of 3 seeds" in found.explanation


def test_four_blocks_are_said_to_be_coarse(tmp_path: Path) -> None:
    assert "with 4 blocks, later and first are coarse" in answer("L3", made_up(tmp_path / "run")).explanation


def test_a_run_that_has_not_looked_inside_answers_nothing(tmp_path: Path) -> None:
    run = made_up(tmp_path / "run")
    for trial in run.settings.trials_of("look"):
        run._file(trial).unlink()
    assert answer("L1", run).outcome == "no run"
