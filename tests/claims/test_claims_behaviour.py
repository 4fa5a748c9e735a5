"""Each claim that accuracies decide comes out either way, or undecided, on runs that are made up."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.claims.made_up import EITHER, NO, PCFG, PRIORS, YES, Number, answer, at, counter, learned, wavering
from veneer.claims.needs import LONG_REFT, SHOWING_REFT
from veneer.experiments.store import KEYS

LONG = {"experiment": replace(PCFG, reft_iterations=LONG_REFT)}


@pytest.mark.parametrize(
    ("number", "change", "outcome"),
    [
        ("1a", {}, YES),
        ("1a", {"wrong": 0.9}, NO),
        ("1a", {"wrong": wavering(0.3, 0.65)}, EITHER),
        ("1a", {"seeds": 2}, EITHER),
        ("2", {}, YES),
        ("2", {"large": 0.3}, NO),
        ("2", {"small": 0.9}, NO),
        ("2", {"large": wavering(0.5, 0.9)}, EITHER),
        ("3", {}, YES),
        ("3", {"back": 0.25}, NO),
        ("3", {"hardly": 0.97}, NO),  # back after every C_Tr
        ("3", {"known": 0.3}, EITHER),  # a reFT that brings no wrapper back says nothing
        ("3", {"seeds": 2}, EITHER),
        ("4a", {}, YES),
        ("4a", {"too_large": True}, YES),  # reFT above fine-tuning's rate is not asked
        ("4a", {"control": lambda seed: 60.0 + seed}, NO),
        ("4a", {"control": lambda seed: 1e9}, YES),  # never gets there: at least so many times
        ("4a", {"control": lambda seed: 60.0 if seed % 2 else 400.0}, EITHER),
        ("4a", {"control": lambda seed: 1e9, "back": 0.5}, YES),  # to 50 %, where neither gets to 90 %
        ("4a", {"control": lambda seed: 1e9, "back": 0.4}, EITHER),  # neither gets there
    ],
)
def test_claims_of_the_counter_that_accuracies_decide(
    tmp_path: Path, number: str, change: dict[str, Any], outcome: str
) -> None:
    found = answer(number, counter(tmp_path, **change))
    assert found.outcome == outcome, found.explanation


@pytest.mark.parametrize("number", ["3", "4a"])
def test_a_reft_that_does_not_show_known_wrappers_does_not_answer(tmp_path: Path, number: str) -> None:
    made = counter(tmp_path)
    made.experiment["fields"]["reft_iterations"] = SHOWING_REFT - 1
    found = answer(number, made)
    assert found.outcome == "no run" and f"{SHOWING_REFT} updates of reFT" in found.explanation


def test_effect_is_the_weakest_of_the_settings_and_stands_beside_the_papers(tmp_path: Path) -> None:
    found = answer("1a", counter(tmp_path, wrong=0.2))
    assert found.effect is not None
    assert found.effect.value == pytest.approx(0.77)
    assert found.paper == pytest.approx(0.943 - 0.022)  # Tab. 3, 1e-3, the least of the four rates
    assert found.seeds == 5


def test_what_is_left_out_of_the_speed_is_said_with_its_reason(tmp_path: Path) -> None:
    neither = answer("4a", counter(tmp_path, control=lambda seed: 1e9, back=0.4))
    assert "too few seeds of either arm came back" in neither.explanation
    assert "not lost" not in neither.explanation


def test_a_control_that_never_gets_there_gives_a_lower_bound(tmp_path: Path) -> None:
    found = answer("4a", counter(tmp_path, control=lambda seed: 1e9))
    assert found.effect is not None
    assert found.effect.value is None
    assert found.effect.low == pytest.approx(800 / 52, rel=0.1)
    assert "at least" in found.explanation


@pytest.mark.parametrize(
    ("number", "change", "outcome"),
    [
        ("1b", {}, YES),
        ("1b", {"wrong": 0.9}, NO),
        ("1b", {"wrong": wavering(0.2, 0.8)}, EITHER),
        ("1b", {"seeds": 2}, EITHER),
        ("4b", LONG, YES),
        ("4b", {"control": 60.0, **LONG}, NO),
        ("4b", {"reft": lambda seed: 20.0 if seed else 150.0, **LONG}, EITHER),
        ("4b", {}, "no run"),  # the control would not get there
        ("8", {}, YES),
        ("8", {"resisted": 0.1}, NO),
        ("8", {"kept": 0.2}, NO),
        ("8", {"resisted": wavering(0.1, 0.6)}, EITHER),
    ],
)
def test_claims_of_learned_capabilities_that_accuracies_decide(
    tmp_path: Path, number: str, change: dict[str, Any], outcome: str
) -> None:
    found = answer(number, learned(tmp_path, **change))
    assert found.outcome == outcome, found.explanation


def test_a_higher_prior_is_told_by_the_models_and_not_by_their_names(tmp_path: Path) -> None:
    made = learned(tmp_path)
    made.capability("H", PRIORS["L"])
    made.capability("L", PRIORS["H"])
    assert answer("8", made).outcome == NO


@pytest.mark.parametrize(("kept", "outcome"), [(0.6, YES), (0.2, NO), (wavering(0.2, 0.6), EITHER)])
def test_pretraining_counts_between_models_of_one_prior(tmp_path: Path, kept: Number, outcome: str) -> None:
    made = learned(tmp_path, names=("long", "short"), kept=kept)
    made.capability("long", (0.9, 0.1, 0.0), own=True)
    made.capability("short", (0.9, 0.1, 0.0), iterations=2000, own=True)
    assert answer("9", made).outcome == outcome
    made.capability("short", (0.9, 0.1, 0.0), iterations=2000)
    assert answer("9", made).outcome == "no run", "the claim is about pretraining, and seeds share one"
    made.capability("short", (0.5, 0.3, 0.2), iterations=2000, own=True)
    assert answer("9", made).outcome == "no run", "of two priors"


def test_a_pretraining_that_seeds_share_does_not_stand_in_for_their_own(tmp_path: Path) -> None:
    """It is wider: fewer updates than either that seeds have of their own."""
    made = learned(tmp_path, names=("long", "short", "shared"), kept=0.6)
    made.capability("long", (0.9, 0.1, 0.0), own=True)
    made.capability("short", (0.9, 0.1, 0.0), iterations=4000, own=True)
    made.capability("shared", (0.9, 0.1, 0.0), iterations=2000)
    found = answer("9", made)
    assert found.outcome == YES and "long against short, 6,000 against 4,000" in found.explanation


@pytest.mark.parametrize(("worst", "outcome"), [(0.9, YES), (0.25, NO), (wavering(0.3, 0.9), EITHER)])
def test_jailbreaks_count_by_the_worst_token_that_was_not_fine_tuned(
    tmp_path: Path, worst: Number, outcome: str
) -> None:
    made, rows = learned(tmp_path, experiment=replace(PCFG, task_token="T_NJ")), []
    tuned = pl.DataFrame(made.rows).filter(stage="fine-tune").unique("cell").select(*KEYS).to_dicts()
    for keys in tuned:
        for token, value in (("T_NJ", 0.2), ("T_J1", 0.97), ("T_J2", at(worst, keys["seed"]))):
            rows.append({**keys, "token": token, "operand": "pt", "texts": "natural", "accuracy": value})
            rows.append({**keys, "token": token, "operand": "ft", "texts": "natural", "accuracy": 0.01})
    made.table("jailbreak", rows)
    assert answer("10", made).outcome == outcome


@pytest.mark.parametrize(
    ("time", "outcome"),
    [
        (lambda seed: 55.0, YES),
        (lambda seed: 180.0 + seed, NO),  # much slower
        (lambda seed: 10.0, NO),  # much faster is not about equal either
        (lambda seed: 20.0 if seed else 150.0, EITHER),
        (lambda seed: 1e9, NO),  # never, within 800 updates
    ],
)
def test_rand_ft_is_held_against_ordinary_fine_tuning(
    tmp_path: Path, time: Callable[[int], float], outcome: str
) -> None:
    long = replace(PCFG, reft_iterations=LONG_REFT)
    ordinary = learned(tmp_path / "ordinary", experiment=long)
    taught = learned(tmp_path / "taught", reft=time, experiment=replace(long, rand_ft=0.5))
    found = answer("11", taught, ordinary)
    assert found.outcome == outcome, found.explanation
    assert answer("11", taught).outcome == "no run"


def test_rand_ft_that_is_revived_no_sooner_than_a_model_from_scratch_fails_the_claim(tmp_path: Path) -> None:
    long = replace(PCFG, reft_iterations=LONG_REFT)
    ordinary = learned(tmp_path / "ordinary", experiment=long)
    taught = learned(tmp_path / "taught", control=30.0, experiment=replace(long, rand_ft=0.5))
    assert answer("11", taught, ordinary).outcome == NO
