"""The rules of the claims that accuracies decide: shortcuts, rates, revival, priors, jailbreaks, randFT.

Every threshold is a named constant with its reason, fixed before any run was looked at. Claims are those
of Jain et al. 2024 (arXiv 2311.12786v2); ``veneer.claims.list`` has their statements and places.
"""

import math
from itertools import product
from statistics import mean

import polars as pl

from veneer.analysis.evidence import HALF_SKILL, skill
from veneer.analysis.revival import Estimate, estimate
from veneer.analysis.verdict import FASTER
from veneer.claims.evidence import BySeed, Measured, Part, View, averaged, over_seeds
from veneer.experiments.paper import paper_table

SHORTCUT_GAP = 0.5
"""Points between correlated and uncorrelated texts: midway between no shortcut and nothing but it. The least
in the paper is 92 for the Counter, and 98 for the learned one at prior L."""
RATES_GAP = 0.5
"""Points between large and small rates at C_Te = 0: midway too; the least in the paper is 67."""
REVIVED_APART = HALF_SKILL
"""Difference of skill (clipped to 0 to 1) after reFT: above one half, the one must lie above half of skill
and the other below it, which is how this project tells back from gone (``docs/verdict.md``)."""
SEVERAL = FASTER
"""Least ratio of updates that counts as several times; the verdict's own."""
TARGET = 0.9
"""O_PT accuracy to which updates are counted."""
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
LITTLE_CORRELATED = 0.8
"""Largest C_Tr of claim 2 (its own words)."""


def shortcut_compiled(view: View) -> Measured:
    """Claim 1a: with C_Tr = 1, right on correlated texts and wrong on the others, at every rate."""
    return _shortcut(view, "compiled", "counter")


def shortcut_learned(view: View) -> Measured:
    """Claim 1b: the same of the capability that pretraining asked least for O_FT."""
    return _shortcut(view, view.by_prior[0], "pcfg-counter")


def _shortcut(view: View, capability: str, experiment: str) -> Measured:
    what, parts, notes = "O_FT accuracy at C_Te = 1 less that at C_Te = 0", [], []
    for rate in view.rates:
        if not view.was_learned(capability, rate, 1.0):
            notes.append(f"left out rate {rate:g}, at which fine-tuning was not learned")
            continue
        right, wrong = (
            view.values(f"{kind}_ft", capability, rate, 1.0) for kind in ("correlated", "uncorrelated")
        )
        gap = over_seeds(lambda one, other: one - other, right, wrong)
        parts.append(Part(what, f"rate {rate:g}, C_Tr = 1, {capability}", gap, above=SHORTCUT_GAP))
    table = paper_table(experiment).filter(capability=capability, c_tr=1.0)
    paper = table.group_by("learning_rate").agg(
        gap=pl.col("acc_operand_ft").filter(c_te=1).first() - pl.col("acc_operand_ft").filter(c_te=0).first()
    )
    return Measured(parts, notes, None if paper.is_empty() else float(paper["gap"].to_numpy().min()))


def rates_compiled(view: View) -> Measured:
    """Claim 2: what large rates learn really, small rates learn as a shortcut only."""
    large = [rate for rate in view.rates if view.size(rate) in ("L", "M")]
    small = [rate for rate in view.rates if view.size(rate) in ("S", "VS")]
    parts: list[Part] = []
    notes: list[str] = []
    if not large or not small:
        return Measured(parts, ["the run has no large rates, or no small ones"])
    shares = [c for c in view.shares if c <= LITTLE_CORRELATED]
    for c in shares:
        at = [view.values("uncorrelated_ft", "compiled", rate, c) for rate in (*large, *small)]
        few = len(large)
        gap = over_seeds(lambda *v, few=few: min(v[:few]) - max(v[few:]), *at)
        what = "O_FT accuracy at C_Te = 0, least of the large rates less greatest of the small ones"
        parts.append(Part(what, f"C_Tr = {c:g}", gap, above=RATES_GAP))
    for c, rate in product([c for c in shares if c >= 0.5], small):
        if not view.was_learned("compiled", rate, c):
            notes.append(f"rate {rate:g} did not learn the task at C_Tr = {c:g}")
            continue
        pair = (view.values(f"{kind}_ft", "compiled", rate, c) for kind in ("correlated", "uncorrelated"))
        what = "O_FT accuracy at C_Te = 1 less that at C_Te = 0 at small rates"
        gap = over_seeds(lambda one, other: one - other, *pair)
        parts.append(Part(what, f"rate {rate:g}, C_Tr = {c:g}", gap, above=SHORTCUT_GAP))
    return Measured(parts, notes, _paper_rates(shares))


def _paper_rates(shares: list[float]) -> float | None:
    """The paper's number for claim 2 over the C_Tr that a run has too."""
    table = paper_table("counter").filter((pl.col("c_te") == 0) & pl.col("c_tr").is_in(shares))
    gaps = table.group_by("c_tr").agg(
        gap=pl.col("acc_operand_ft").filter(pl.col("learning_rate") > 5e-3).min()
        - pl.col("acc_operand_ft").filter(pl.col("learning_rate") < 5e-3).max()
    )
    return None if gaps.is_empty() else float(gaps["gap"].to_numpy().min())


def revival_compiled(view: View) -> Measured:
    """Claim 3: reFT at a very small rate brings O_PT back after η_M or smaller, not after η_L."""
    rows = view.metrics.filter(
        (pl.col("measure") == "accuracy")
        & (pl.col("texts") == "natural")
        & (pl.col("operand") == "pt")
        & (pl.col("stage") == "reft")
        & (pl.col("start") == "capability")
        & (pl.col("step") == pl.col("step").max().over("cell"))
    )
    if rows.is_empty():
        return Measured([], ["no reFT is finished"])
    slow = float(rows["learning_rate"].to_numpy().min())
    guess = view.guess("natural", "pt", "compiled")
    what = "O_PT skill after reFT, least after η_M or smaller less greatest after η_L"
    parts, notes = [], [f"reFT at {slow:g}"]
    for c in view.shares:
        after: dict[bool, list[BySeed]] = {True: [], False: []}
        for rate in view.rates:
            usable = view.was_learned("compiled", rate, c) and view.lost("natural", "compiled", rate, c)
            own = rows.filter(fine_tuning_rate=rate, c_tr=c, learning_rate=slow)
            if usable and not own.is_empty():
                values = own.select("seed", "value").iter_rows()
                after[view.size(rate) == "L"].append(
                    {seed: min(1.0, max(0.0, skill(value, guess))) for seed, value in values}
                )
        if not after[True] or not after[False]:
            which = "η_L" if not after[True] else "η_M or smaller"
            notes.append(f"at C_Tr = {c:g} no fine-tuning at {which} both taught O_FT and took O_PT away")
            continue
        few = len(after[False])
        gap = over_seeds(lambda *v, few=few: min(v[:few]) - max(v[few:]), *after[False], *after[True])
        parts.append(Part(what, f"C_Tr = {c:g}", gap, above=REVIVED_APART))
    return Measured(parts, notes)


def speed(view: View) -> Measured:
    """Claims 4a and 4b: Scr. + FT needs several times the updates of reFT."""
    own = view.revivals["ratios"].filter(
        (pl.col("c_tr") == 1) & (pl.col("control") == "scratch-ft") & (pl.col("threshold") == TARGET)
    )
    what = f"ratio of updates to {TARGET:.0%} of O_PT, Scr. + FT to reFT"
    parts, notes = [], []
    for capability, rate in product(view.capabilities, view.rates):
        here = own.filter(capability=capability, fine_tuning_rate=rate)
        if view.size(rate) == "L" or here.is_empty():
            continue
        place = f"{capability}, fine-tuned at {rate:g}"
        if not view.was_learned(capability, rate, 1.0):
            notes.append(f"left out {place}: not learned")
            continue
        row = here.sort("learning_rate").row(-1, named=True)
        if not row["seeds"] or not view.lost("natural", capability, rate, 1.0):
            notes.append(f"left out {place}: O_PT was not lost")
            continue
        ratio = Estimate(row["ratio"], row["low"], row["high"], row["seeds"])
        where = f"{place}, reFT at {row['learning_rate']:g}"
        parts.append(Part(what, where, ratio, above=SEVERAL, unit="times"))
    return Measured(parts, notes)


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
    """The capabilities with least and most pretraining of one prior and size; None if there is one length."""
    alike: dict[tuple[tuple[float, ...], int], dict[int, str]] = {}
    for name in view.capabilities:
        about = view.about(name)
        same = tuple(about["operand_prior"]), about["parameters"]
        alike.setdefault(same, {})[about["iterations"]] = name
    widest = max(alike.values(), key=lambda names: max(names) / min(names))
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
    logs: list[dict[int, tuple[float, bool]]] = []
    unusable = 0
    for named, own in times[0].group_by(keys, maintain_order=True):
        other = times[1].filter(**dict(zip(keys, named, strict=True)))
        if other.is_empty():
            continue
        capability, rate, c, _ = named
        setting = str(capability), float(str(rate)), float(str(c))
        usable = all(view.lost("natural", *setting) for view in (taught, ordinary))
        usable &= bool(other["reached"].all()) and not (other["already"].any() or own["already"].any())
        if not usable:
            unusable += 1
            continue
        plain = dict(other.select("seed", "time").iter_rows())
        rows = own.select("seed", "time", "reached").iter_rows()
        logs.append(
            {
                seed: (math.log(max(time, 1.0) / max(plain[seed], 1.0)), reached)
                for seed, time, reached in rows
                if seed in plain
            }
        )
    notes = []
    if unusable:
        notes = [f"left out {unusable} settings: not lost before, or not revived after ordinary fine-tuning"]
    if not logs:
        return Measured([], [*notes, "no setting with both"])
    late = sum(not reached for setting in logs for _, reached in setting.values())
    if late:
        notes.append(f"{late} randFT models did not get back in the time given, so the ratio is a bound")
    by_seed = averaged([{seed: log for seed, (log, _) in setting.items()} for setting in logs])
    ratio = _ratio(by_seed, bool(late))
    low, high = ABOUT_AS_FAST
    where = f"geometric mean of {len(logs)} settings"
    what = f"ratio of updates to {TARGET:.0%} of O_PT, after randFT to after ordinary fine-tuning"
    return Measured([Part(what, where, ratio, above=low, below=high, unit="times")], notes)


def _ratio(logs: BySeed, bound: bool) -> Estimate:
    """Geometric mean of ratios; of censored ones the lower limit alone."""
    if not logs:
        return Estimate(None, None, None, 0)
    found = estimate(list(logs.values()))
    value, low, high = (None if x is None else math.exp(x) for x in (found.value, found.low, found.high))
    return Estimate(None, low, None, found.seeds) if bound else Estimate(value, low, high, found.seeds)
