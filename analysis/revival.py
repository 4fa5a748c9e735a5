"""How fast a capability comes back: reFT against models trained from scratch, with censoring.

Jain et al. 2024 (Fig. 9, 26, 27) compare the iterations that reFT needs with those of Scr. + FT
(from scratch on O_FT's task, then the same training as reFT) and Scr. (from scratch on O_PT's).
Training that ends before a threshold is reached is *censored*: it says "later than this", never
"at this", and every function here keeps it so. Tables are long: one row per curve and evaluation.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist, mean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from veneer.tasks.errors import InputError

if TYPE_CHECKING:  # takes a second to import, and most commands do without
    from scipy import stats

THRESHOLDS = (0.5, 0.9, 0.99)
CONFIDENCE = 0.95
DIP = 0.03
"""How far below a threshold later evaluations may fall: two standard errors of 1,000 texts."""


@dataclass(frozen=True)
class Estimate:
    """A number measured over seeds.

    Attributes:
        value: the mean (of a ratio: the geometric mean); None where censoring leaves only bounds.
        low: lower limit of the interval; None where there is none (one seed, or not bounded below).
        high: upper limit; None where there is none.
        seeds: how many seeds are behind it.
    """

    value: float | None
    low: float | None
    high: float | None
    seeds: int


def estimate(
    values: Sequence[float], least: float = -math.inf, most: float = math.inf, texts: int | None = None
) -> Estimate:
    """Mean over seeds with Student's t interval, limits cut to the range that the quantity has.

    One value has no interval. Values that are all equal have one of width zero, unless they are shares of
    texts: texts are a sample too, and its binomial variance is added.

    Args:
        values: one for each seed.
        least: smallest value that the quantity can have.
        most: largest.
        texts: how many texts the mean rests on, of all seeds that have texts of their own; None for what
            is no share of texts.

    Raises:
        InputError: no values, or one that is not finite.
    """
    if not values or not all(map(math.isfinite, values)):
        raise InputError("values", list(values), "one finite number or more")
    if len(values) == 1:
        return Estimate(values[0], None, None, 1)
    centre = mean(values)
    half = math.hypot(_half_width(values), _sampling(centre, texts))
    return Estimate(centre, max(least, centre - half), min(most, centre + half), len(values))


def threshold_times(
    curves: pl.DataFrame, keys: Sequence[str], thresholds: Sequence[float] = THRESHOLDS
) -> pl.DataFrame:
    """When each curve reaches each threshold.

    A threshold is *reached* at the first evaluation at or above it after which no evaluation lies more
    than ``DIP`` below it, and the last is at or above it. So what was touched and lost again does
    not count: at high rates curves jump. Between the evaluation before and the one that
    reached it, the time is interpolated linearly in log(1 + step), as evaluations are log-spaced.
    A curve that starts at or above the threshold has nothing to reach: time 0, ``already``. Curves end at
    their first value that is not finite; those of diverged members are to be cut where they diverged.

    Args:
        curves: columns of ``keys``, seed, step (updates), value; one row per evaluation.
        keys: what tells groups of curves apart, seeds aside (arm, rates, ...).
        thresholds: absolute values, such as accuracies of 0.5, 0.9 and 0.99.

    Returns:
        Columns of ``keys``, seed, threshold, time (updates; of a censored curve its last step),
        reached, after (last step known to be too early; null if already there), by (step that
        reached it; null if censored), already.

    Raises:
        InputError: a column is missing, or a curve has two values for one step.
    """
    missing = [name for name in (*keys, "seed", "step", "value") if name not in curves.columns]
    if missing:
        raise InputError("curves", curves.columns, f"a table with columns {', '.join(missing)} too")
    identity = [*keys, "seed"]
    rows: list[dict[str, Any]] = []
    for named, curve in curves.sort([*identity, "step"]).group_by(identity, maintain_order=True):
        steps, values = curve["step"].to_list(), curve["value"].to_list()
        if len(set(steps)) != len(steps):
            raise InputError("curves", named, "one value per step and curve", "two values for one step")
        end = next((i for i, v in enumerate(values) if v is None or not math.isfinite(v)), len(values))
        for threshold in thresholds if end else ():
            found = _first_reached(steps[:end], values[:end], threshold)
            rows.append({**dict(zip(identity, named, strict=True)), "threshold": threshold, **found})
    own = {"threshold": pl.Float64, "time": pl.Float64, "reached": pl.Boolean, "after": pl.Int64}
    own |= {"by": pl.Int64, "already": pl.Boolean}
    return pl.DataFrame(rows, schema={**{name: curves.schema[name] for name in identity}, **own})


def _first_reached(steps: list[int], values: list[float], threshold: float) -> dict[str, Any]:
    if values[-1] < threshold:
        last = {"time": float(steps[-1]), "reached": False, "after": steps[-1], "by": None}
        return {**last, "already": False}
    fallen = max((i for i, value in enumerate(values) if value < threshold - DIP), default=-1)
    at = next(i for i in range(fallen + 1, len(values)) if values[i] >= threshold)
    if at == 0:
        first = {"time": float(steps[0]), "reached": True, "after": None, "by": steps[0]}
        return {**first, "already": True}
    left, right = math.log1p(steps[at - 1]), math.log1p(steps[at])
    share = (threshold - values[at - 1]) / (values[at] - values[at - 1])
    time = math.expm1(left + share * (right - left))
    between = {"time": time, "reached": True, "after": steps[at - 1], "by": steps[at]}
    return {**between, "already": False}


def survival(times: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Kaplan–Meier medians of the times to each threshold.

    The median is the first time by which half of the seeds, estimated with censoring, have reached
    the threshold. Its interval is Brookmeyer and Crowley's (1982): where the log(-log) band of the
    survival function crosses one half. A null median or upper limit means "not within the budget".
    With one or two seeds the band says little; with one, nothing, and both limits are null.

    Args:
        times: what ``threshold_times`` gives.
        keys: the groups, as there.

    Returns:
        Columns of ``keys``, threshold, seeds, reached (how many), median, low, high (updates).
    """
    rows = []
    for named, group in times.group_by([*keys, "threshold"], maintain_order=True):
        median, low, high = median_time(group["time"].to_list(), group["reached"].to_list())
        counted = {"seeds": len(group), "reached": int(group["reached"].sum())}
        found = {**counted, "median": median, "low": low, "high": high}
        rows.append({**dict(zip([*keys, "threshold"], named, strict=True)), **found})
    own = {"threshold": pl.Float64, "seeds": pl.Int64, "reached": pl.Int64}
    own |= {"median": pl.Float64, "low": pl.Float64, "high": pl.Float64}
    return pl.DataFrame(rows, schema={**{name: times.schema[name] for name in keys}, **own})


def median_time(
    times: Sequence[float], reached: Sequence[bool]
) -> tuple[float | None, float | None, float | None]:
    """Kaplan–Meier median and its interval; None where not reached within the budget."""
    from scipy import stats

    if not any(reached):
        return None, None, None
    function = stats.ecdf(_censored(times, reached)).sf
    at, share = function.quantiles, function.probabilities
    if len(times) == 1:
        return _crossing(at, share), None, None
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The confidence interval is undefined", RuntimeWarning)
        band = function.confidence_interval(CONFIDENCE, method="log-log")
    # The band is not defined where the estimate is 1 or 0: it lies at 1, and from 0 up.
    lower = np.where(np.isnan(band.low.probabilities), np.where(share >= 1, 1.0, 0.0), band.low.probabilities)
    upper = np.where(np.isnan(band.high.probabilities), 1.0, band.high.probabilities)
    return _crossing(at, share), _crossing(at, lower), _crossing(at, upper)


def _crossing(at: np.ndarray, share: np.ndarray) -> float | None:
    """The first time at which a survival function is at or below one half."""
    below = np.flatnonzero(share <= 0.5 + 1e-12)
    return float(at[below[0]]) if len(below) else None


def _censored(times: Sequence[float], reached: Sequence[bool]) -> "stats.CensoredData":
    from scipy import stats

    pairs = list(zip(times, reached, strict=True))
    return stats.CensoredData(uncensored=[t for t, r in pairs if r], right=[t for t, r in pairs if not r])


def log_rank(
    one: Sequence[float], one_reached: Sequence[bool], other: Sequence[float], other_reached: Sequence[bool]
) -> float | None:
    """Two-sided p-value of the log-rank test that two groups reach a threshold alike.

    Rests on large numbers: with three seeds a side it is a description, not evidence. None where no
    seed of either group reached the threshold.
    """
    from scipy import stats

    if not any((*one_reached, *other_reached)):
        return None
    test = stats.logrank(_censored(one, one_reached), _censored(other, other_reached))
    return None if math.isnan(float(test.pvalue)) else float(test.pvalue)


def ratio_of_times(reft: pl.DataFrame, control: pl.DataFrame) -> Estimate:
    """How many times fewer updates reFT needs than the control: time of control / time of reFT.

    Every time is known exactly or, if censored, from below. So each log ratio is known exactly,
    from below (control censored: "at least"), from above (reFT censored) or not at all (both).
    The interval's lower limit is that of Student's t on the lower ends, the upper that on the upper
    ends, so censoring widens it; a limit is None as soon as one seed leaves it open.
    Arms that share two seeds or more are paired by seed, others are compared with Welch's t.

    Args:
        reft: rows of one group and threshold of ``threshold_times``: seed, time, reached, already.
        control: the same of the control.

    Returns:
        The geometric mean ratio; its ``value`` is None if anything was censored. No seeds at all
        where a curve was at the threshold already: then there is no time to compare.
    """
    if reft.is_empty() or control.is_empty() or reft["already"].any() or control["already"].any():
        return Estimate(None, None, None, 0)
    fast, slow = _log_times(reft), _log_times(control)
    shared = sorted(fast.keys() & slow.keys())
    if len(shared) >= 2 or len(fast) == len(slow) == len(shared):
        lows = [slow[s][0] - fast[s][1] for s in shared]
        highs = [slow[s][1] - fast[s][0] for s in shared]
        low, high = _limit(lows, -1), _limit(highs, 1)
        centre, seeds = (mean(lows) if lows == highs else None), len(shared)
    else:
        low = _welch([lo for lo, _ in slow.values()], [hi for _, hi in fast.values()], -1)
        high = _welch([hi for _, hi in slow.values()], [lo for lo, _ in fast.values()], 1)
        exact = all(lo == hi for lo, hi in (*fast.values(), *slow.values()))
        centre = mean(t for t, _ in slow.values()) - mean(t for t, _ in fast.values()) if exact else None
        seeds = min(len(fast), len(slow))
    value, low, high = (None if x is None else math.exp(x) for x in (centre, low, high))
    return Estimate(value, low, high, seeds)


def _log_times(times: pl.DataFrame) -> dict[int, tuple[float, float]]:
    """By seed, the ends between which the logarithm of its time lies; an update is the shortest time."""
    rows = times.select("seed", "time", "reached").iter_rows()
    logs = [(seed, math.log(max(time, 1.0)), reached) for seed, time, reached in rows]
    return {seed: (log, log if reached else math.inf) for seed, log, reached in logs}


def bounds_of_ratio(
    reft: pl.DataFrame, control: pl.DataFrame
) -> tuple[tuple[float | None, float | None], float | None]:
    """Between which numbers the mean of ``ratio_of_times`` lies, scatter over seeds aside; and reFT's time.

    Returns:
        The geometric mean of the ratio's lower ends and of its upper ends, None where one is open; and the
        geometric mean of the updates that reFT needs, None where a seed did not get there.
    """
    if reft.is_empty() or control.is_empty() or reft["already"].any() or control["already"].any():
        return (None, None), None
    (fast_low, fast_high), (slow_low, slow_high) = (
        (mean(low for low, _ in own.values()), mean(high for _, high in own.values()))
        for own in (_log_times(reft), _log_times(control))
    )
    low = math.exp(slow_low - fast_high) if math.isfinite(fast_high) else None
    high = math.exp(slow_high - fast_low) if math.isfinite(slow_high) else None
    return (low, high), math.exp(fast_high) if math.isfinite(fast_high) else None


def _sampling(share: float, texts: int | None) -> float:
    """Half the width of the normal interval of a share of so many texts."""
    if texts is None:
        return 0.0
    quantile = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return quantile * math.sqrt(max(share * (1 - share), 0.0) / texts)


def _student(freedom: float) -> float:
    """The quantile of Student's t at the confidence's upper end."""
    from scipy import special

    return float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _half_width(values: Sequence[float]) -> float:
    quantile = _student(float(len(values) - 1))
    return quantile * stdev(values) / math.sqrt(len(values))


def _limit(values: list[float], side: int) -> float | None:
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    return mean(values) + side * _half_width(values)


def _welch(slow: list[float], fast: list[float], side: int) -> float | None:
    """A limit of mean(slow) - mean(fast), with Welch and Satterthwaite's degrees of freedom."""
    if min(len(slow), len(fast)) < 2 or not all(map(math.isfinite, (*slow, *fast))):
        return None
    parts = [(stdev(x) ** 2 / len(x), len(x) - 1) for x in (slow, fast)]
    total = sum(variance for variance, _ in parts)
    centre = mean(slow) - mean(fast)
    if total == 0:
        return centre
    freedom = total**2 / sum(variance**2 / count for variance, count in parts)
    return centre + side * _student(float(freedom)) * math.sqrt(total)


def areas(curves: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Mean value of each curve over log(1 + step), from its first to its last evaluation.

    Needs no threshold to be reached, so it compares arms that are both censored (the restricted
    mean of survival analysis, of a curve instead of a survival function). Compare only curves
    with the same evaluations.

    Returns:
        Columns of ``keys``, seed, area (in the unit of value), last (the step it runs to).

    Raises:
        InputError: a curve with fewer than two evaluations or a value that is not finite.
    """
    identity, rows = [*keys, "seed"], []
    for named, curve in curves.sort([*identity, "step"]).group_by(identity, maintain_order=True):
        values = curve["value"].to_list()
        if len(values) < 2 or not all(v is not None and math.isfinite(v) for v in values):
            raise InputError("curves", named, "two finite evaluations or more for each curve")
        at = [math.log1p(step) for step in curve["step"]]
        whole = sum(
            (b - a) * (u + v) / 2 for (a, b), (u, v) in zip(pairwise(at), pairwise(values), strict=True)
        )
        area = whole / (at[-1] - at[0])
        rows.append({**dict(zip(identity, named, strict=True)), "area": area, "last": curve["step"][-1]})
    own = {"area": pl.Float64, "last": pl.Int64}
    return pl.DataFrame(rows, schema={**{name: curves.schema[name] for name in identity}, **own})


def difference(reft: dict[int, float], control: dict[int, float]) -> Estimate:
    """Mean of reFT minus control by seed (areas, accuracies), paired or after Welch as ``ratio_of_times``."""
    shared = sorted(reft.keys() & control.keys())
    if len(shared) >= 2 or len(reft) == len(control) == len(shared) > 0:
        return estimate([reft[s] - control[s] for s in shared])
    if not reft or not control:
        return Estimate(None, None, None, 0)
    low, high = (_welch(list(reft.values()), list(control.values()), side) for side in (-1, 1))
    centre = mean(reft.values()) - mean(control.values())
    return Estimate(centre, low, high, min(len(reft), len(control)))
