"""Recipes: the schedule is a linear warmup and a cosine, and a recipe that cannot train is refused."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veneer.finetune.recipe import Recipe
from veneer.finetune.trainer import evaluation_steps
from veneer.tasks.errors import InputError


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.3, 1.0]))
def test_warmup_is_linear_and_then_half_a_cosine_falls_to_the_floor(
    n: int, share: float, floor: float
) -> None:
    warmup = round(share * n)
    recipe = Recipe("sgd", 0.1, n, warmup=warmup, floor=floor)
    for step in range(warmup):
        assert recipe.rate_factor(step) == pytest.approx((step + 1) / warmup)
    for step in range(warmup, n):
        angle = math.pi * (step - warmup) / (n - warmup)
        assert recipe.rate_factor(step) == pytest.approx(floor + (1 - floor) * math.cos(angle / 2) ** 2)


def test_the_papers_schedule_at_four_steps() -> None:
    recipe = Recipe("sgd", 1.0, 10_000, warmup=2000)
    assert recipe.rate_factor(0) == pytest.approx(1 / 2000)
    assert recipe.rate_factor(1999) == recipe.rate_factor(2000) == 1.0
    assert recipe.rate_factor(6000) == pytest.approx(0.505)
    assert recipe.rate_factor(10_000) == pytest.approx(0.01)


def test_after_its_end_the_schedule_stays_at_the_floor() -> None:
    assert Recipe("sgd", 1.0, 10).rate_factor(25) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("learning_rate", {"learning_rate": 0.0}),
        ("learning_rate", {"learning_rate": -1.0}),
        ("learning_rate", {"learning_rate": math.nan}),
        ("learning_rate", {"learning_rate": math.inf}),
        ("iterations", {"iterations": 0}),
        ("warmup", {"warmup": 11}),
        ("warmup", {"warmup": -1}),
        ("batch", {"batch": 0}),
        ("floor", {"floor": 1.5}),
        ("clip", {"clip": 0.0}),
        ("clip", {"clip": math.nan}),
        ("momentum", {"momentum": 1.0}),
    ],
)
def test_a_recipe_that_cannot_train_is_refused_by_name(field: str, arguments: dict) -> None:
    usable = {"optimizer": "sgd", "learning_rate": 0.1, "iterations": 10}
    with pytest.raises(InputError) as refused:
        Recipe(**{**usable, **arguments})
    assert refused.value.field == field


def test_evaluation_is_log_spaced_six_to_the_decade() -> None:
    assert evaluation_steps(100) == (0, 10, 15, 22, 32, 46, 68, 100)
    assert evaluation_steps(3) == (0, 3)
    assert evaluation_steps(10_000)[-7:] == (1000, 1468, 2154, 3162, 4642, 6813, 10_000)


@given(st.integers(1, 200_000))
def test_evaluation_begins_before_the_first_update_and_ends_after_the_last(iterations: int) -> None:
    steps = evaluation_steps(iterations)
    assert (steps[0], steps[-1]) == (0, iterations)
    assert all(a < b for a, b in pairwise(steps))
