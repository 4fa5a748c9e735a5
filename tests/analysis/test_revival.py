"""Times to a threshold stay what they are under censoring: bounds, where training ended too early."""

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veneer.analysis.revival import (
    areas,
    bounds_of_ratio,
    difference,
    estimate,
    log_rank,
    median_time,
    ratio_of_times,
    survival,
    threshold_times,
)
from veneer.tasks.errors import InputError

TIMES = st.lists(st.integers(1, 1000).map(float), min_size=1, max_size=12)


def curves(
    *values: list[float], steps: tuple[int, ...] = (0, 10, 100, 1000), arm: str = "reft"
) -> pl.DataFrame:
    rows = [
        (arm, seed, step, float(value))
        for seed, curve in enumerate(values)
        for step, value in zip(steps, curve, strict=True)
    ]
    return pl.DataFrame(rows, schema=["arm", "seed", "step", "value"], orient="row")


def times(seconds: dict[int, float], reached: bool = True, already: bool = False) -> pl.DataFrame:
    return pl.DataFrame(
        [(seed, time, reached, already) for seed, time in seconds.items()],
        schema=["seed", "time", "reached", "already"],
        orient="row",
    )


def only(curve: list[float], threshold: float) -> dict[str, object]:
    return threshold_times(curves(curve), ["arm"], [threshold]).row(0, named=True)


def test_the_time_lies_between_two_evaluations_halfway_in_log_steps() -> None:
    found = only([0.0, 0.4, 0.6, 0.9], 0.5)
    assert found["time"] == pytest.approx(math.sqrt(11 * 101) - 1)
    assert (found["after"], found["by"], found["reached"]) == (10, 100, True)


def test_a_threshold_that_is_touched_and_lost_again_is_reached_where_it_is_held() -> None:
    assert only([0.0, 0.9, 0.1, 0.2], 0.5)["reached"] is False
    assert only([0.0, 0.9, 0.9, 0.2], 0.5)["reached"] is False
    assert only([0.0, 0.9, 0.1, 0.9], 0.5)["by"] == 1000


def test_a_dip_within_the_sampling_error_of_texts_takes_nothing_back() -> None:
    assert only([0.0, 0.51, 0.48, 0.9], 0.5)["by"] == 10
    assert only([0.0, 0.51, 0.48, 0.49], 0.5)["reached"] is False


def test_means_have_bounds_where_one_seed_has_no_interval() -> None:
    (low, high), time = bounds_of_ratio(times({0: 50.0}), times({0: 400.0}, reached=False))
    assert (low, high, time) == (pytest.approx(8.0), None, pytest.approx(50.0))
    (low, high), time = bounds_of_ratio(times({0: 400.0}, reached=False), times({0: 200.0}))
    assert (low, high, time) == (None, pytest.approx(0.5), None)


def test_texts_are_a_sample_too() -> None:
    alike = estimate([0.2, 0.2, 0.2], 0.0, 1.0, texts=1000)
    assert alike.high is not None
    assert alike.high - 0.2 == pytest.approx(1.96 * math.sqrt(0.2 * 0.8 / 1000), rel=1e-3)
    assert estimate([0.2, 0.2, 0.2]).high == 0.2


def test_the_last_evaluation_confirms_itself() -> None:
    found = only([0.0, 0.1, 0.2, 0.9], 0.9)
    assert (found["reached"], found["by"], found["time"]) == (True, 1000, pytest.approx(1000.0))


def test_a_curve_that_never_gets_there_is_censored_at_its_last_step() -> None:
    found = only([0.0, 0.1, 0.2, 0.3], 0.5)
    assert (found["time"], found["reached"], found["after"], found["by"]) == (1000.0, False, 1000, None)


def test_a_curve_that_starts_above_has_nothing_to_reach() -> None:
    found = only([0.9, 0.9, 0.9, 0.9], 0.5)
    assert (found["time"], found["already"]) == (0.0, True)


def test_a_curve_ends_where_it_is_no_number_any_more() -> None:
    assert only([0.0, 0.1, math.nan, 0.9], 0.5)["time"] == 10.0


def test_every_seed_and_threshold_has_a_row() -> None:
    both = pl.concat([curves([0, 0, 1, 1], [0, 1, 1, 1]), curves([0, 0, 0, 0], arm="control")])
    found = threshold_times(both, ["arm"])
    assert len(found) == 9
    assert found.filter(pl.col("arm") == "control")["reached"].sum() == 0


def test_tables_that_are_no_curves_are_refused() -> None:
    with pytest.raises(InputError, match="step"):
        threshold_times(curves([0, 0, 0, 0]).drop("step"), ["arm"])
    with pytest.raises(InputError, match="two values for one step"):
        threshold_times(curves([0, 0, 0, 0], steps=(0, 10, 10, 20)), ["arm"])


def test_kaplan_meier_of_freireich_1963() -> None:
    """Remission of 21 patients on 6-MP, the textbooks' example: median 23 weeks, at least 13."""
    reached = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    censored = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    weeks = [float(t) for t in reached + censored]
    median, low, high = median_time(weeks, [True] * len(reached) + [False] * len(censored))
    assert (median, low, high) == (23.0, 13.0, None)


def test_log_rank_of_freireich_1963() -> None:
    """Against placebo the log-rank statistic is 16.79 on one degree of freedom, p = 4.17e-5."""
    treated = [6, 6, 6, 7, 10, 13, 16, 22, 23], [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    weeks = [float(t) for t in treated[0] + treated[1]]
    placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    p = log_rank(weeks, [True] * 9 + [False] * 12, [float(t) for t in placebo], [True] * 21)
    assert p == pytest.approx(4.17e-5, rel=0.01)


def test_nothing_reached_has_no_median_and_no_test() -> None:
    assert median_time([5.0, 5.0], [False, False]) == (None, None, None)
    assert log_rank([5.0], [False], [5.0], [False]) is None


def test_without_censoring_the_median_is_the_samples() -> None:
    assert median_time([3.0, 1.0, 2.0], [True] * 3)[0] == 2.0


@given(TIMES, st.data(), st.floats(0.1, 10))
def test_scaling_all_times_scales_the_median_and_its_interval(
    seconds: list[float], data: st.DataObject, factor: float
) -> None:
    reached = data.draw(st.lists(st.booleans(), min_size=len(seconds), max_size=len(seconds)))
    scaled = median_time([factor * t for t in seconds], reached)
    for one, other in zip(median_time(seconds, reached), scaled, strict=True):
        assert other is None if one is None else other == pytest.approx(factor * one)


@given(TIMES, st.data())
def test_another_censored_seed_never_shortens_the_median(seconds: list[float], data: st.DataObject) -> None:
    reached = data.draw(st.lists(st.booleans(), min_size=len(seconds), max_size=len(seconds)))
    more = data.draw(st.integers(1, 2000).map(float))
    before, after = median_time(seconds, reached)[0], median_time([*seconds, more], [*reached, False])[0]
    if after is not None:
        assert before is not None
        assert after >= before


@given(TIMES, st.data())
def test_the_interval_holds_the_median(seconds: list[float], data: st.DataObject) -> None:
    reached = data.draw(st.lists(st.booleans(), min_size=len(seconds), max_size=len(seconds)))
    median, low, high = median_time(seconds, reached)
    if median is not None and low is not None:
        assert low <= median <= (math.inf if high is None else high)


def test_survival_has_one_row_per_group_and_threshold() -> None:
    both = pl.concat(
        [curves([0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1]), curves(*[[0, 0, 0, 0]] * 3, arm="control")]
    )
    found = survival(threshold_times(both, ["arm"], [0.5]), ["arm"]).sort("arm")
    assert found["reached"].to_list() == [0, 3]
    assert found["median"].to_list()[0] is None


def test_a_ratio_is_paired_by_seed() -> None:
    reft, control = times({0: 10.0, 1: 100.0, 2: 1000.0}), times({0: 50.0, 1: 500.0, 2: 5000.0})
    found = ratio_of_times(reft, control)
    assert [found.value, found.low, found.high] == pytest.approx([5.0, 5.0, 5.0])


def test_a_censored_control_makes_the_ratio_at_least() -> None:
    found = ratio_of_times(
        times({0: 10.0, 1: 10.0, 2: 10.0}), times({0: 800.0, 1: 800.0, 2: 800.0}, reached=False)
    )
    assert (found.value, found.high) == (None, None)
    assert found.low == pytest.approx(80.0)


def test_a_censored_reft_makes_it_at_most_and_both_leave_it_open() -> None:
    censored = times({0: 800.0, 1: 800.0}, reached=False)
    found = ratio_of_times(censored, times({0: 400.0, 1: 400.0}))
    assert (found.low, found.high) == (None, pytest.approx(0.5))
    both = ratio_of_times(censored, censored)
    assert (both.value, both.low, both.high, both.seeds) == (None, None, None, 2)


def test_unpaired_arms_are_compared_with_welchs_t() -> None:
    """scipy.stats.ttest_ind(equal_var=False) on the log times gives the same interval."""
    from scipy.stats import ttest_ind

    fast, slow = {0: 10.0, 1: 12.0, 2: 15.0}, {5: 80.0, 6: 95.0, 7: 120.0, 8: 70.0}
    logs = [[math.log(t) for t in arm.values()] for arm in (slow, fast)]
    interval = ttest_ind(*logs, equal_var=False).confidence_interval(0.95)
    found = ratio_of_times(times(fast), times(slow))
    assert found.low == pytest.approx(math.exp(interval.low))
    assert found.high == pytest.approx(math.exp(interval.high))


def test_where_a_curve_was_above_already_there_is_no_ratio() -> None:
    assert ratio_of_times(times({0: 0.0, 1: 0.0}, already=True), times({0: 5.0, 1: 5.0})).seeds == 0


@given(st.floats(1.1, 50), st.floats(1.0, 100))
def test_a_longer_budget_without_success_never_lowers_the_bound(factor: float, longer: float) -> None:
    reft = times({0: 10.0, 1: 12.0, 2: 15.0})
    short = ratio_of_times(reft, times(dict.fromkeys(range(3), 10 * factor), reached=False)).low
    long = ratio_of_times(reft, times(dict.fromkeys(range(3), 10 * factor * longer), reached=False)).low
    assert short is not None
    assert long is not None
    assert long >= short * (1 - 1e-9)


def test_the_area_of_a_straight_line_in_log_steps_is_its_middle() -> None:
    at = [math.log1p(s) / math.log1p(1000) for s in (0, 10, 100, 1000)]
    assert areas(curves(at), ["arm"])["area"].to_list() == pytest.approx([0.5])
    assert areas(curves([0.3] * 4), ["arm"])["area"].to_list() == pytest.approx([0.3])


def test_a_difference_is_paired_where_seeds_are_shared() -> None:
    paired = difference({0: 0.5, 1: 0.9, 2: 0.7}, {0: 0.4, 1: 0.8, 2: 0.6})
    assert [paired.value, paired.low, paired.high] == pytest.approx([0.1, 0.1, 0.1])
    unpaired = difference({0: 0.5, 1: 0.9, 2: 0.7}, {3: 0.4, 4: 0.8, 5: 0.6})
    assert unpaired.low is not None
    assert unpaired.low < 0 < 0.1 == pytest.approx(unpaired.value)


def test_an_estimate_is_students() -> None:
    """2, 4, 6: mean 4, standard error 2 / sqrt(3), t(2, 0.975) = 4.3027."""
    found = estimate([2.0, 4.0, 6.0])
    assert (found.value, found.seeds) == (4.0, 3)
    assert found.high == pytest.approx(4 + 4.3027 * 2 / math.sqrt(3), rel=1e-4)
    assert estimate([0.9, 0.99], most=1.0).high == 1.0
    assert estimate([0.5]) == estimate([0.5])
    assert estimate([0.5]).low is None
