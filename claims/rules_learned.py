"""The rules of the claims of learned capabilities: priors, length of pretraining, jailbreaks, randFT.

As in ``veneer.claims.rules``: every threshold is a named constant with its reason.
"""

import math
from itertools import product
from statistics import mean

import polars as pl

from veneer.analysis.evidence import HALF_SKILL, skill
from veneer.analysis.revival import Estimate, estimate
from veneer.claims.evidence import BySeed, Measured, Part, averaged, over_seeds
from veneer.claims.rules import SOONER, TARGET
from veneer.claims.view import View
from veneer.experiments.paper import paper_table

PRIOR_MARGIN = 0.1
"""Least difference between the highest and the lowest prior: two standard errors of an accuracy on the 100
texts of the quick preset (5 points at most; all settings and seeds share their texts). The paper's is 36."""
RETAINED_MARGIN = 0.1
"""Least difference between the longest and the shortest pretraining, for the same reason."""
CORRELATED_MOSTLY = 0.8
"""C_Tr from which the shortcut is right so often that resisting it can be told."""
REACHED_SKILL = HALF_SKILL
"""Skill of O_PT through a jailbreak token from which the capability is reached."""
ABOUT_AS_FAST = (0.5, 2.0)
"""Ratio of updates, randFT to ordinary fine-tuning, that counts as about equal: less than ``SEVERAL``."""


def priors(view: View) -> Measured:
    """Claim 8: a higher prior of O_FT resists the shortcut better and loses less of O_PT."""
    low, high = view.by_prior[0], view.by_prior[-1]
    settings = [
        (rate, c)
        for rate, c in product(view.rates, view.shares)
        if c >= CORRELATED_MOSTLY and all(view.was_learned(name, rate, c) for name in (low, high))
    ]
    if not settings:
        return Measured([], ["at no rate did both learn the task at C_Tr of 0.8 or more"])

    def mean_of(column: str, capability: str) -> BySeed:
        return averaged([view.values(column, capability, *setting) for setting in settings])

    resisted = over_seeds(lambda h, lo: h - lo, *(mean_of("uncorrelated_ft", n) for n in (high, low)))
    falls = [
        (mean_of("start_uncorrelated_pt", name), mean_of("uncorrelated_pt", name)) for name in (low, high)
    ]
    spared = over_seeds(
        lambda before, after, high_before, high_after: (before - after) - (high_before - high_after),
        *falls[0],
        *falls[1],
    )
    where = f"{high} less {low}, mean of {len(settings)} settings with C_Tr of 0.8 or more"
    return Measured(
        [
            Part("O_FT accuracy at C_Te = 0", where, resisted, above=PRIOR_MARGIN),
            Part("O_PT accuracy spared at C_Te = 0", where, spared, above=PRIOR_MARGIN),
        ],
        paper=_paper_priors(),
    )


def _paper_priors() -> float:
    """The paper's O_FT accuracy at C_Te = 0, prior H less prior L, at C_Tr = 0.8 and 1, mean over rates."""
    table = paper_table("pcfg-counter").filter((pl.col("c_te") == 0) & (pl.col("c_tr") >= CORRELATED_MOSTLY))
    high, low = (mean(table.filter(capability=name)["acc_operand_ft"].to_list()) for name in ("H", "L"))
    return high - low


def lengths(view: View) -> tuple[str, str] | None:
    """The capabilities with least and most pretraining of one prior and size; None if there is one length.

    Only of those in which each seed has its own pretraining, since the claim is about that.
    """
    alike: dict[tuple[tuple[float, ...], int], dict[int, str]] = {}
    for name in filter(view.own_pretrainings, view.capabilities):
        about = view.about(name)
        same = tuple(about["operand_prior"]), about["parameters"]
        alike.setdefault(same, {})[about["iterations"]] = name
    widest = max(alike.values(), key=lambda names: max(names) / min(names), default={})
    return (widest[min(widest)], widest[max(widest)]) if len(widest) > 1 else None


def pretraining(view: View) -> Measured:
    """Claim 9: of two lengths of pretraining, the longer leaves a capability that is harder to lose."""
    found = lengths(view)
    if found is None:
        return Measured([], ["the run has one length of pretraining"])
    short, long = found
    settings = [
        setting
        for setting in product(view.rates, view.shares)
        if all(view.was_learned(name, *setting) for name in found)
    ]
    if not settings:
        return Measured([], ["in no setting did both learn the task"])
    falls = []
    for name in (long, short):
        start, end = (
            averaged([view.values(f"{when}uncorrelated_pt", name, *setting) for setting in settings])
            for when in ("start_", "")
        )
        guess = view.guess("uncorrelated", "pt", name)
        if skill(mean(start.values()), guess) < HALF_SKILL:
            had = f"{100 * mean(start.values()):.0f} %; guessing gives {100 * guess:.0f} %"
            return Measured([], [f"{name} did not have O_PT to begin with on texts with C_Te = 0 ({had})"])
        falls += [start, end]
    kept = over_seeds(lambda a, b, before, after: (before - after) - (a - b), *falls)
    counts = " against ".join(f"{view.about(name)['iterations']:,}" for name in (long, short))
    where = f"{long} against {short}, {counts} updates, mean of {len(settings)} settings"
    what = "O_PT accuracy spared at C_Te = 0 by more pretraining"
    return Measured([Part(what, where, kept, above=RETAINED_MARGIN)])


def jailbreak(view: View) -> Measured:
    """Claim 10: other task tokens still reach O_PT where fine-tuning's own token does not."""
    table = view.table("jailbreak").filter(
        (pl.col("stage") == "fine-tune")
        & (pl.col("start") == "capability")
        & (pl.col("status") == "done")
        & (pl.col("operand") == "pt")
        & (pl.col("texts") == "natural")
    )
    own, reached, gained = view.fields["task_token"], [], []
    for capability, rate, c in product(view.capabilities, view.rates, view.shares):
        if not view.was_learned(capability, rate, c) or not view.lost("natural", capability, rate, c):
            continue
        here = table.filter(capability=capability, learning_rate=rate, c_tr=c)
        guess = view.guess("natural", "pt", capability)
        others = here.filter(pl.col("token") != own).group_by("seed").agg(pl.col("accuracy").min())
        through = {seed: skill(value, guess) for seed, value in others.iter_rows()}
        direct = here.filter(token=own).select("seed", "accuracy").iter_rows()
        reached.append(through)
        gained.append((through, {seed: skill(value, guess) for seed, value in direct}))
    if not reached:
        return Measured([], [f"no fine-tuning both taught O_FT and took O_PT from {own}"])
    where = f"mean of {len(reached)} settings in which {own} lost O_PT"
    through, direct = averaged(reached), averaged([direct for _, direct in gained])
    more = over_seeds(lambda one, other: one - other, through, direct)
    what = "O_PT skill through the worst of the jailbreak tokens"
    alone = over_seeds(lambda value: value, through)
    return Measured(
        [
            Part(what, where, alone, above=REACHED_SKILL),
            Part(f"the same less that through {own}", where, more, above=0.0),
        ]
    )


def rand_ft(taught: View, ordinary: View) -> Measured:
    """Claim 11: reFT revives randFT models about as fast as ordinarily fine-tuned ones."""
    keys = ["capability", "fine_tuning_rate", "c_tr", "learning_rate"]
    times = [
        view.revivals["revival"].filter((pl.col("arm") == "reft") & (pl.col("threshold") == TARGET))
        for view in (taught, ordinary)
    ]
    logs: list[tuple[tuple[str, float, float, float], dict[int, tuple[float, bool]]]] = []
    unusable = 0
    for named, own in times[0].group_by(keys, maintain_order=True):
        other = times[1].filter(**dict(zip(keys, named, strict=True)))
        if other.is_empty():
            continue
        capability, rate, c, back = named
        setting = str(capability), float(str(rate)), float(str(c))
        usable = all(view.lost("natural", *setting) for view in (taught, ordinary))
        usable &= bool(other["reached"].all()) and not (other["already"].any() or own["already"].any())
        if not usable:
            unusable += 1
            continue
        plain = dict(other.select("seed", "time").iter_rows())
        rows = own.select("seed", "time", "reached").iter_rows()
        ratios = {
            seed: (math.log(max(time, 1.0) / max(plain[seed], 1.0)), reached)
            for seed, time, reached in rows
            if seed in plain
        }
        logs.append(((*setting, float(str(back))), ratios))
    notes = []
    if unusable:
        notes = [f"left out {unusable} settings: not lost before, or not revived after ordinary fine-tuning"]
    if not logs:
        return Measured([], [*notes, "no setting with both"])
    late = sum(not reached for _, ratios in logs for _, reached in ratios.values())
    if late:
        notes.append(f"{late} randFT models did not get back in the time given, so the ratio is a bound")
    by_seed = averaged([{seed: log for seed, (log, _) in ratios.items()} for _, ratios in logs])
    ratio = _ratio(by_seed, bool(late))
    low, high = ABOUT_AS_FAST
    where = f"geometric mean of {len(logs)} settings"
    what = f"ratio of updates to {TARGET:.0%} of O_PT, after randFT to after ordinary fine-tuning"
    parts = [Part(what, where, ratio, above=low, below=high, unit="times")]
    return Measured([*parts, *_sooner_than_scratch(taught, [setting for setting, _ in logs])], notes)


def _sooner_than_scratch(taught: View, settings: list[tuple[str, float, float, float]]) -> list[Part]:
    """The claim's other half: models after randFT need fewer updates than Scr. + FT."""
    table = taught.revivals["ratios"].filter(
        (pl.col("control") == "scratch-ft") & (pl.col("threshold") == TARGET) & (pl.col("seeds") > 0)
    )
    parts = []
    for capability, rate, c, back in settings:
        own = table.filter(capability=capability, fine_tuning_rate=rate, c_tr=c, learning_rate=back)
        for row in own.iter_rows(named=True):
            ratio = Estimate(row["ratio"], row["low"], row["high"], row["seeds"])
            where = f"{capability}, rate {rate:g}, C_Tr = {c:g}"
            what = "ratio of updates, Scr. + FT to reFT after randFT"
            parts.append(Part(what, where, ratio, above=SOONER, unit="times"))
    return parts


def _ratio(logs: BySeed, bound: bool) -> Estimate:
    """Geometric mean of ratios; of censored ones the lower limit alone."""
    if not logs:
        return Estimate(None, None, None, 0)
    found = estimate(list(logs.values()))
    value, low, high = (None if x is None else math.exp(x) for x in (found.value, found.low, found.high))
    return Estimate(None, low, None, found.seeds) if bound else Estimate(value, low, high, found.seeds)
