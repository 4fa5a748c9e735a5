"""Each claim about what is inside the models comes out either way, or undecided, on runs that are made up."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.claims.made_up import (
    EITHER,
    KINDS,
    NO,
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


def prune_rows(
    made: Made, unit: str, k: int, gain: Number, random: Number, fall: float, onto: float
) -> tuple[Rows, Rows]:
    """Tables of a pruning: at one K saliency adds ``gain`` to O_PT, random pruning ``random``.

    Of the predictions a share ``onto`` is one class too many.
    """
    accuracy, classes = [], []
    tuned = pl.DataFrame(made.rows).filter(stage="fine-tune").select("cell", "seed").unique()
    for name, seed in tuned.iter_rows():
        for criterion, added in (("saliency", gain), ("random", random)):
            key = {"cell": name, "unit": unit, "criterion": criterion, "draw": 0}
            for size in (0, 10, 100):
                here = size == k
                for texts, operand in KINDS:
                    value = 0.2 + (at(added, seed) if here else 0.0) if operand == "pt" else 0.9
                    value -= fall if operand == "ft" and here and criterion == "saliency" else 0.0
                    told = {"texts": texts, "operand": operand, "accuracy": value}
                    accuracy.append({**key, "k": size, **told})
                for index in (0, 1):
                    share = 0.5 + (onto if index else -onto) * here
                    told = {"texts": "uncorrelated", "class": index, "share": share, "expected": 0.5}
                    classes.append({**key, "k": size, **told})
    return accuracy, classes


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({}, YES),
        ({"gain": 0.05}, NO),
        ({"gain": wavering(0.1, 0.6)}, EITHER),
        ({"random": 0.6}, NO),  # any damage would have done it
        ({"fall": 0.0}, NO),  # O_FT is as right as before
        ({"onto": 0.5}, NO),  # a collapse onto one class
        ({"k": 100}, NO),  # too many weights
    ],
)
@pytest.mark.parametrize(("number", "unit"), [("5a", "weight"), ("5b", "neuron")])
def test_pruning_counts_if_few_weights_do_what_neither_chance_nor_collapse_does(
    tmp_path: Path, number: str, unit: str, change: dict[str, Any], outcome: str
) -> None:
    made = counter(tmp_path) if number == "5a" else learned(tmp_path)
    settings = {"k": 10, "gain": 0.6, "random": 0.02, "fall": 0.5, "onto": 0.1, **change}
    accuracy, classes = prune_rows(made, unit, **settings)
    made.table("pruning", accuracy)
    made.table("classes", classes)
    found = answer(number, made)
    assert found.outcome == outcome, found.explanation


@pytest.mark.parametrize(
    ("small", "moved", "outcome"),
    [
        (0.8, 0.9, YES),
        (0.1, 0.9, NO),  # a small rate lost O_PT's tokens
        (0.8, 0.02, NO),  # a large rate with C_Tr = 0 kept them
        (wavering(0.1, 0.8), 0.9, EITHER),
    ],
)
def test_attention_stays_but_for_large_rates_without_correlation(
    tmp_path: Path, small: Number, moved: Number, outcome: str
) -> None:
    made, rows = counter(tmp_path), []
    tuned = pl.DataFrame(made.rows).filter(stage="fine-tune").unique("cell").select(*KEYS).to_dicts()
    models = [(keys, at(0.1 if _moves(keys) else small, keys["seed"])) for keys in tuned]
    models.append(({**cell("compiled", 0.0, None, 0), "stage": "capability"}, 0.9))
    for keys, share in models:
        on_ft = at(moved, keys["seed"]) if _moves(keys) else 0.05
        for on, value in (("pt", share), ("ft", on_ft), ("other", 0.0)):
            place = {"asked": None, "kind": "natural", "block": 1, "head": 0, "on": on}
            rows.append({**keys, **place, "share": value})
    made.table("attention", rows)
    assert answer("7", made).outcome == outcome


def _moves(keys: dict[str, Any]) -> bool:
    return keys["learning_rate"] > 5e-3 and keys["c_tr"] == 0


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
