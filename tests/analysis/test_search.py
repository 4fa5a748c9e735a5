"""Trying weights finds the one that hides a capability, and finds none where nothing is hidden."""

from dataclasses import replace

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.analysis.test_pruning import (
    ENCODING,
    GPT,
    TASK,
    corrupted_model,
    counting_model,
    random_model,
)
from veneer.analysis.search import Search, search
from veneer.tasks.errors import InputError

# The planted weight is 4, the circuit's own are up to 25: what counts as small is small beside these.
FEW = Search(
    largest=5.0,
    scored=20,
    moved=5,
    choosing=32,
    finalists=4,
    confirming=64,
    most=3,
    gradient_texts=64,
    samples=80,
)


def right(table: pl.DataFrame, k: int, operand: str = "pt") -> float:
    kept = table.filter(
        (pl.col("texts") == "uncorrelated") & (pl.col("operand") == operand) & (pl.col("k") == k)
    )
    return kept["accuracy"].item()


def test_the_planted_weight_is_found_and_nothing_is_added_to_it() -> None:
    model, name = corrupted_model()
    found = search(counting_model(), model, TASK, ENCODING, FEW, [f"direction {i}" for i in range(12)])
    assert set(found.accuracy["criterion"]) == {"search"}
    assert found.accuracy["k"].unique().sort().to_list() == [0, 1]
    assert found.pruned["name"].to_list() == [name]
    assert found.pruned["column_label"].to_list() == ["direction 6"]
    assert right(found.accuracy, 0) < 0.9
    assert right(found.accuracy, 1) == 1.0
    whole = found.classes.filter((pl.col("k") == 1) & (pl.col("texts") == "natural"))
    assert whole["share"].to_list() == whole["expected"].to_list()


def test_within_one_matrix_every_weight_is_tried_and_no_other() -> None:
    model, name = corrupted_model()
    matrix = name.partition("[")[0].removesuffix(".weight")
    every = replace(FEW, within=(matrix,), scored=10_000, moved=0, largest=float("inf"))
    found = search(counting_model(), model, TASK, ENCODING, every)
    assert found.pruned["name"].to_list() == [name]
    other = "blocks.0.query" if matrix != "blocks.0.query" else "blocks.0.key"
    found = search(counting_model(), model, TASK, ENCODING, replace(every, within=(other,)))
    assert all(own.startswith(other) for own in found.pruned["name"])
    with pytest.raises(InputError, match=r"within.*blocks\.7\.key.*blocks\.0\.key"):
        search(counting_model(), model, TASK, ENCODING, replace(every, within=("blocks.7.key",)))


def test_large_weights_are_not_tried_however_high_their_score() -> None:
    model, name = corrupted_model()
    found = search(counting_model(), model, TASK, ENCODING, replace(FEW, largest=3.9))
    assert name not in found.pruned["name"].to_list()
    assert found.pruned["value"].abs().to_numpy().max(initial=0) <= 3.9


def test_a_null_search_of_the_same_model_brings_back_no_operand_that_it_never_had() -> None:
    model, _ = corrupted_model()
    other = replace(TASK, operand_pt="c")
    found = search(counting_model(), model, other, ENCODING, FEW, sought="other")
    assert set(found.accuracy["criterion"]) == {"null search"}
    assert set(found.accuracy["operand"]) == {"other", "ft"}
    most = found.accuracy["k"].to_numpy().max()
    assert right(found.accuracy, most, "other") - right(found.accuracy, 0, "other") < 0.3


def test_neurons_are_searched_alike() -> None:
    model, _ = corrupted_model()
    found = search(counting_model(), model, TASK, ENCODING, replace(FEW, unit="neuron"))
    assert found.pruned["name"].to_list()[0] in (
        "blocks.0.output.weight[:, 6]",
        "blocks.0.mlp_in.weight[:, 0]",
    )
    assert found.pruned["row"].to_list()[0] is None
    assert right(found.accuracy, 1) > right(found.accuracy, 0)


@pytest.mark.parametrize("unit", ["weight", "neuron"])
def test_a_member_is_searched_in_a_fleet_as_it_is_alone(unit: str) -> None:
    before, after = random_model(GPT, 2), random_model(GPT, 2)
    after.blocks[0].value.weight.data *= 1.5
    settings = replace(FEW, unit=unit)
    fleet = search(before, after, TASK, ENCODING, settings)
    alone = search(before.member(1), after.member(1), TASK, ENCODING, settings)
    for table in ("accuracy", "pruned", "classes"):
        in_fleet = getattr(fleet, table).filter(pl.col("member") == 1).drop("member")
        assert_frame_equal(in_fleet, getattr(alone, table).drop("member"), check_exact=False, abs_tol=1e-9)


@pytest.mark.parametrize("field", ["scored", "choosing", "finalists", "confirming", "most", "samples"])
def test_counts_below_one_are_refused(field: str) -> None:
    with pytest.raises(InputError, match=f"{field} = 0"):
        replace(FEW, **{field: 0})
