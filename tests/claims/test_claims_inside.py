"""Each claim about what is inside the models comes out either way, or undecided, on runs that are made up."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.claims.made_up import (
    EITHER,
    KINDS,
    NO,
    PCFG,
    YES,
    Made,
    Number,
    Rows,
    accuracies,
    answer,
    at,
    cell,
    counter,
    learned,
    wavering,
)
from veneer.experiments.named import PRESETS
from veneer.experiments.store import KEYS


def zeroed_rows(made: Made, unit: str, gains: dict[str, Number], k: int, fall: float, onto: float) -> None:
    """Tables of a pruning, in which each criterion adds so much to its operand at one K.

    O_FT loses ``fall`` by the first criterion's; of the predictions a share ``onto`` is one class too many.
    """
    accuracy, classes = [], []
    tuned = pl.DataFrame(made.rows).filter(stage="fine-tune").select("cell", "seed").unique()
    for (name, seed), (criterion, added) in product(tuned.iter_rows(), gains.items()):
        key = {"cell": name, "unit": unit, "criterion": criterion, "draw": 0}
        own = "other" if criterion == "null search" else "pt"
        for size, (texts, operand) in product((0, k), KINDS):
            value = 0.2 + (at(added, seed) if size else 0.0) if operand == "pt" else 0.9
            value -= fall if operand == "ft" and size and criterion == next(iter(gains)) else 0.0
            told = {"texts": texts, "operand": own if operand == "pt" else operand, "accuracy": value}
            accuracy.append({**key, "k": size, **told})
        for size, index in product((0, k), (0, 1)):
            share = 0.5 + (onto if index else -onto) * bool(size)
            classes.append({**key, "k": size, "texts": "uncorrelated", "class": index, "share": share})
            classes[-1]["expected"] = 0.5
    made.table("pruning", accuracy)
    made.table("classes", classes)


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({}, YES),
        ({"gain": 0.05}, NO),
        ({"gain": wavering(0.1, 0.6)}, EITHER),
        ({"null": 0.6}, NO),  # trying alone does as much for an operand that the model never had
        ({"fall": 0.0}, NO),  # O_FT is as right as before
        ({"onto": 0.5}, NO),  # a collapse onto one class
    ],
)
@pytest.mark.parametrize(("number", "unit"), [("5a", "weight"), ("5b", "neuron")])
def test_few_weights_count_if_they_do_what_neither_trying_nor_collapse_does(
    tmp_path: Path, number: str, unit: str, change: dict[str, Any], outcome: str
) -> None:
    made = counter(tmp_path) if number == "5a" else learned(tmp_path)
    settings = {"gain": 0.6, "null": 0.02, "fall": 0.5, "onto": 0.1, **change}
    gains = {"search": settings["gain"], "null search": settings["null"]}
    zeroed_rows(made, unit, gains, 3, settings["fall"], settings["onto"])
    found = answer(number, made)
    assert found.outcome == outcome, found.explanation


def test_a_run_that_was_pruned_before_there_was_a_search_is_to_be_analysed_again(tmp_path: Path) -> None:
    made = counter(tmp_path)
    zeroed_rows(made, "weight", {"saliency": 0.6, "random": 0.0}, 3, 0.5, 0.1)
    assert answer("5a", made).outcome == "no run"


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({}, YES),
        ({"gain": 0.05}, NO),
        ({"gain": wavering(0.0, 0.6)}, EITHER),
        ({"random": 0.6}, NO),  # any damage would have done it
        ({"onto": 0.5}, NO),  # a collapse onto one class
        ({"k": 200}, EITHER),  # too many neurons: none of those asked about was tried
        ({"kept": 0.9}, EITHER),  # O_PT was not lost
    ],
)
def test_an_inhibitor_is_one_if_neurons_lift_it_that_chance_does_not_find(
    tmp_path: Path, change: dict[str, Any], outcome: str
) -> None:
    settings = {"gain": 0.6, "random": 0.02, "k": 100, "onto": 0.1, "kept": 0.2, **change}
    made = learned(tmp_path, resisted=0.97, kept=settings["kept"])
    gains = {"saliency": settings["gain"], "random": settings["random"]}
    zeroed_rows(made, "neuron", gains, settings["k"], 0.5, settings["onto"])
    found = answer("13", made)
    assert found.outcome == outcome, found.explanation


def test_a_run_without_uncorrelated_fine_tuning_cannot_say_whether_there_is_an_inhibitor(
    tmp_path: Path,
) -> None:
    made = learned(tmp_path, experiment=replace(PCFG, c_tr=(0.8, 1.0)))
    zeroed_rows(made, "neuron", {"saliency": 0.6, "random": 0.02}, 100, 0.5, 0.1)
    found = answer("13", made)
    assert found.outcome == "no run" and "C_Tr of 0 and 1" in found.explanation


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({}, YES),
        ({"small": (0.3, 0.6)}, NO),  # after a small rate answers hang on O_FT's tokens
        ({"large": (0.7, 0.6)}, NO),  # after the largest with C_Tr = 0 on O_PT's still
        ({"medium": (0.02, 0.6)}, NO),  # after the medium one on O_FT's alone
        ({"small": (wavering(0.2, 0.9), 0.1)}, EITHER),
    ],
)
def test_answers_hang_on_the_old_tokens_but_after_large_rates_without_correlation(
    tmp_path: Path, change: dict[str, tuple[Number, Number]], outcome: str
) -> None:
    made, rows = counter(tmp_path), []
    tuned = pl.DataFrame(made.rows).filter(stage="fine-tune", start="capability").unique("cell")
    changed = {"small": (0.7, 0.1), "large": (0.05, 0.6), "medium": (0.3, 0.6), **change}
    for keys in tuned.select(*KEYS).to_dicts():
        moves = keys["learning_rate"] > 5e-3 and keys["c_tr"] == 0
        size = "small" if not moves else "large" if keys["learning_rate"] > 5e-2 else "medium"
        for hidden, share in zip(("pt", "ft"), changed[size], strict=True):
            place = {"asked": None, "texts": "natural", "hidden": hidden}
            rows.append({**keys, **place, "changed": at(share, keys["seed"])})
    made.table("attention_hidden", rows)
    found = answer("7", made)
    assert found.outcome == outcome, found.explanation


@pytest.mark.parametrize(
    ("elsewhere", "carved", "outcome"),
    [
        (0.8, 0.45, YES),
        (0.15, 0.1, NO),  # probes do no better than from scratch
        (0.7, 0.9, NO),  # the exception is none
        (wavering(0.2, 0.8), 0.1, EITHER),
    ],
)
def test_probes_still_read_the_capability_but_for_the_exception(
    tmp_path: Path, elsewhere: Number, carved: Number, outcome: str
) -> None:
    made, rows = learned(tmp_path), []
    tuned = pl.DataFrame(made.rows).filter(stage="fine-tune").unique("cell").select(*KEYS).to_dicts()
    models = [
        (keys, at(carved if keys["capability"] == "L" and keys["learning_rate"] > 2e-4 else elsewhere, seed))
        for keys, seed in zip(tuned, (keys["seed"] for keys in tuned), strict=True)
    ]
    for seed in range(3):
        for name in ("L", "H"):
            models.append(({**cell(name, 0.0, None, seed), "stage": "capability"}, 0.9))
            models.append((cell(name, 3e-3, 0.0, seed, start="scratch"), 0.1))
    for keys, right in models:
        for labels, accuracy in (("real", right + 0.05), ("control", 0.05)):
            place = {"residual": 1, "target": "pt", "method": "logistic", "labels": labels}
            rows.append({**keys, **place, "accuracy": accuracy})
            rows.append({**keys, **place, "residual": 0, "accuracy": 0.05})
    made.table("probes", rows)
    found = answer("6", made)
    assert found.outcome == outcome, found.explanation


@pytest.mark.parametrize(
    ("large", "small", "last", "outcome"),
    [
        (0.5, 0.02, 0.05, YES),
        (0.05, 0.02, 0.05, NO),  # 1e-3 keeps the sorting too
        (0.5, 0.3, 0.05, NO),  # 1e-4 does not
        (0.5, 0.02, 0.0, NO),  # block 2 looks where it did
        (wavering(0.02, 0.5), 0.02, 0.05, EITHER),
    ],
)
def test_sorting_is_distorted_by_large_rates_only(
    tmp_path: Path, large: Number, small: Number, last: Number, outcome: str
) -> None:
    fine: Rows = []
    table: Rows = []
    for seed in range(5):
        for rate in (1e-2, 1e-3, 1e-4):
            keys = cell("compiled", rate, 1.0, seed)
            fine += accuracies(keys, {"correlated_ft": 0.97}, {})
            for block, moved in ((0, small if rate < 5e-4 else large), (2, last)):
                place = {"block": block, "head": 0, "sorting": 0.9, "distance": at(moved, seed)}
                table.append({**keys, **place})
    made = Made(tmp_path, replace(PRESETS["max-identifier"]["quick"], seeds=5), fine)
    made.table("attention_sorting", table)
    found = answer("12", made)
    assert found.outcome == outcome, found.explanation


@pytest.mark.parametrize("clip", [1.0, None])
def test_sorting_is_not_asked_where_updates_take_the_program_apart(
    tmp_path: Path, clip: float | None
) -> None:
    made = Made(tmp_path, replace(PRESETS["max-identifier"]["quick"], clip=clip), [])
    found = answer("12", made)
    assert found.outcome == "no run" and "clipped at 0.1 or less" in found.explanation
