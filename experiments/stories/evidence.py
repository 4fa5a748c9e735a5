"""What a run of stories measured, on one scale, and the verdict on each deletion by the one rule.

*Skill* is the share of written stories that have the feature, on a scale where the model that never had it
is 0 and the pretrained model is 1. What the rule calls reFT is training on stories that all have the feature.
It is held against the model that never had it and against Scr. + FT, whichever learns faster: that is the
paper's control, and the rule's control from scratch. There is no third operand here, so the rule asks for
twice as many updates of the control.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import polars as pl

from veneer.analysis.evidence import HALF_SKILL, Evidence, Revival, Rival
from veneer.analysis.reasons import percent, shown
from veneer.analysis.revival import (
    areas,
    bounds_of_ratio,
    difference,
    estimate,
    ratio_of_times,
    threshold_times,
)
from veneer.analysis.verdict import RULE_VERSION, Verdict, decide
from veneer.experiments.stories.settings import NAMES, Arm, StoryTrial
from veneer.experiments.stories.store import StoriesRun

LEAST = 0.1
"""Least share by which the pretrained model must lie above the one that never had the feature."""
CONTROLS: tuple[Arm, ...] = ("never", "scratch")


@dataclass(frozen=True)
class Outcome:
    """What came out of one deletion at one rate.

    Attributes:
        arm: the deletion.
        rate: its learning rate.
        kind: the verdict's word.
        strength: of the verdict.
        reasons: sentences with their numbers.
        needed: what would decide, where nothing is decided.
        leaning: what the means give, where nothing is decided.
        rule: the version of the rule.
    """

    arm: Arm
    rate: float
    kind: str
    strength: str
    reasons: tuple[str, ...]
    needed: tuple[str, ...]
    leaning: str | None
    rule: str = RULE_VERSION

    @property
    def name(self) -> str:
        """The deletion and its rate, as a reader calls them."""
        return f"{NAMES[self.arm]} at {self.rate:g}"

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


class Measured:
    """The measurements of a run, as far as they are there."""

    def __init__(self, run: StoriesRun) -> None:
        self.run, self.settings = run, run.settings

    @cached_property
    def curves(self) -> pl.DataFrame:
        """All measurements (``store.CURVES``)."""
        return self.run.curves()

    def as_it_is(self, arm: Arm, measure: str = "share") -> float | None:
        """What was measured of a model before any training; None if it was not."""
        found = self.curves.filter(
            (pl.col("arm") == arm) & (pl.col("stage") == "as it is") & (pl.col("measure") == measure)
        )
        return None if found.is_empty() else float(found["value"][0])

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The shares that count as no skill and as full skill; None if not measured, or hardly apart."""
        full, none = self.as_it_is("present"), self.as_it_is("never")
        if full is None:
            return None
        floor = none or 0.0
        return (floor, full) if full - floor >= LEAST else None

    def skill(self, share: float) -> float:
        """A share on the scale from no skill to full skill."""
        assert self.bounds is not None
        floor, full = self.bounds
        return (share - floor) / (full - floor)

    def curve(self, arm: Arm, rate: float, measure: str = "share") -> pl.DataFrame:
        """How an arm comes back, from the start of its reFT on: columns seed, step, value."""
        own = self.curves.filter((pl.col("arm") == arm) & (pl.col("measure") == measure))
        parts = []
        for trial in self.run.trials():
            if (trial.arm, trial.rate, trial.stage) != (arm, rate, "revive"):
                continue
            start, rest = (self._of(own, one) for one in (trial.parent, trial))
            if start.is_empty() or rest.is_empty():
                continue
            first = start.tail(1).with_columns(step=pl.lit(0, pl.Int64))
            columns = ("step", "value")
            both = pl.concat([first.select(columns), rest.select(columns)])
            parts.append(both.with_columns(seed=pl.lit(trial.seed, pl.Int64)))
        empty = pl.DataFrame(schema={"step": pl.Int64, "value": pl.Float64, "seed": pl.Int64})
        return pl.concat([empty, *parts]).select("seed", "step", "value").drop_nulls()

    def _of(self, rows: pl.DataFrame, trial: StoryTrial) -> pl.DataFrame:
        same = pl.col("stage") == trial.stage, pl.col("rate") == trial.rate, pl.col("seed") == trial.seed
        return rows.filter(*same).sort("step")

    def skills(self, arm: Arm, rate: float) -> pl.DataFrame:
        """``curve`` in skill."""
        return self.curve(arm, rate).with_columns(
            value=pl.col("value").map_elements(self.skill, return_dtype=pl.Float64)
        )

    @property
    def arms(self) -> list[tuple[Arm, float]]:
        """Every arm that is revived, with the rate of its deletion, in order."""
        found: list[tuple[Arm, float]] = [(t.arm, t.rate) for t in self.run.trials() if t.stage == "revive"]
        return list(dict.fromkeys(found))

    def outcome(self, arm: Arm, rate: float) -> Outcome | None:
        """The verdict on a deletion; None where too little is measured to ask."""
        if self.bounds is None or (curve := self.skills(arm, rate)).is_empty():
            return None
        controls = [
            self._rival(curve, own, own_rate)
            for own, own_rate in self.arms
            if own in CONTROLS and not self.curve(own, own_rate).is_empty()
        ]
        fastest = min(controls, key=lambda rival: rival.lead.value or 0.0, default=None)
        times = threshold_times(curve, [], (HALF_SKILL,))
        first, last = curve["step"].min(), curve["step"].max()
        start, end = (curve.filter(pl.col("step") == step) for step in (first, last))
        revival = Revival(
            rate=self.settings.reft_rate,
            updates=self.settings.reft_updates,
            reached=int((times["reached"] & ~times["already"]).sum()),
            seeds=len(times),
            after=estimate(end["value"].to_list()),
            time=bounds_of_ratio(times, times)[1],
            scratch=fastest,
        )
        kept = estimate(start["value"].to_list())
        verdict = decide(Evidence(0.0, kept=kept, revivals=(revival,), seeds=len(times)))
        return self._outcome(arm, rate, verdict, revival)

    def _rival(self, curve: pl.DataFrame, arm: Arm, rate: float) -> Rival:
        """A control as the rule reads it."""
        other = self.skills(arm, rate)
        mine, theirs = (threshold_times(own, [], (HALF_SKILL,)) for own in (curve, other))
        lead = difference(
            *(dict(areas(own, []).select("seed", "area").iter_rows()) for own in (curve, other))
        )
        reached = int((theirs["reached"] & ~theirs["already"]).sum())
        ratio, bounds = ratio_of_times(mine, theirs), bounds_of_ratio(mine, theirs)[0]
        return Rival(NAMES[arm], reached, len(theirs), ratio, bounds, lead)

    def _outcome(self, arm: Arm, rate: float, verdict: Verdict, revival: Revival) -> Outcome:
        """The verdict in sentences about stories."""
        feature = self.settings.feature
        pretrained, before = self.as_it_is("present"), self.curve(arm, rate).filter(pl.col("step") == 0)
        assert pretrained is not None
        left = estimate(before["value"].to_list(), 0.0, 1.0)
        reasons = [
            f"After the deletion {shown(left)} of the stories that should have a {feature} have one; "
            f"before, {percent(pretrained)}."
        ]
        goal = f"half of the way back to the pretrained model's {percent(pretrained)}"
        if revival.time is not None:
            reasons.append(f"reFT brings it {goal} in {revival.time:.1f} updates.")
        elif revival.reached or left.value is None or self.skill(left.value) < HALF_SKILL:
            seeds = f"{revival.reached} of {revival.seeds} seeds"
            reasons.append(f"reFT brings it {goal} with {seeds} within {revival.updates} updates.")
        if (rival := revival.scratch) is not None and rival.lead.value is not None:
            reasons.append(f"{rival.name}, the fastest control: {_against(rival)}.")
        return Outcome(
            arm, rate, verdict.kind, verdict.strength, tuple(reasons), verdict.needed, verdict.leaning
        )

    @property
    def outcomes(self) -> list[Outcome]:
        """The verdict on every deletion that can be asked."""
        asked = [cell for cell in self.arms if cell[0] not in CONTROLS]
        return [own for cell in asked if (own := self.outcome(*cell)) is not None]


def _against(rival: Rival) -> str:
    ratio, (least, most) = rival.ratio, rival.bounds
    lead = (
        f"and lies {shown(rival.lead).replace(' %', ' points')} of skill behind on average over log-updates"
    )
    if ratio.value is not None:
        between = "" if ratio.low is None or ratio.high is None else f" ({ratio.low:.1f} to {ratio.high:.1f})"
        return f"it needs {ratio.value:.1f} times as many updates{between} {lead}"
    if least is not None:
        return f"it needs at least {least:.1f} times as many updates {lead}"
    if most is not None:
        return f"it needs at most {most:.1f} times as many updates {lead}"
    return lead.removeprefix("and ").replace("lies", "it lies", 1)
