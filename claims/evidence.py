"""What the claims of Jain et al. 2024 are judged by: a run's numbers by seed, and what intervals allow.

A claim is a conjunction of inequalities between numbers and thresholds (``Part``). It is replicated if every
interval lies wholly beyond its threshold, not replicated if one lies wholly on the other side, and
undecidable otherwise, or with too few seeds. The rules themselves are in ``veneer.claims.rules``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import mean
from typing import Literal

from veneer.analysis.revival import Estimate, estimate

Outcome = Literal["replicated", "not replicated", "undecidable at this size", "no run"]
Unit = Literal["points", "times", "share", "nats", "dimensions"]
BySeed = dict[int, float]


@dataclass(frozen=True)
class Part:
    """One inequality that a claim asserts.

    Attributes:
        what: the quantity in words; parts of one claim that share it differ in their setting only.
        where: the setting in words.
        effect: the quantity over seeds.
        above: the claim says that it lies above this.
        below: the claim says that it lies below this (with ``above``: between the two).
        unit: "points" (shares of texts, shown times 100), "times" (a ratio), "share", "nats" or "dimensions".
        setting: rate and C_Tr of the one fine-tuning that it is about; None where it is about several.
    """

    what: str
    where: str
    effect: Estimate
    above: float | None = None
    below: float | None = None
    unit: Unit = "points"
    setting: tuple[float, float] | None = None

    def holds(self, fewest: int) -> bool | None:
        """Whether the interval lies wholly where the claim says; None if it does not decide.

        Args:
            fewest: seeds below which nothing is decided.
        """
        low, high = self.effect.low, self.effect.high
        if self.effect.seeds < fewest:
            return None
        if (self.above is not None and high is not None and high < self.above) or (
            self.below is not None and low is not None and low > self.below
        ):
            return False
        reaches = self.above is None or (low is not None and low > self.above)
        stays = self.below is None or (high is not None and high < self.below)
        return True if reaches and stays else None

    @property
    def margin(self) -> float:
        """How far the value lies on the claim's side; a bound stands in where censoring left no value."""
        margins = []
        for threshold, side, bound in ((self.above, 1, self.effect.low), (self.below, -1, self.effect.high)):
            if threshold is not None:
                value = self.effect.value if self.effect.value is not None else bound
                margins.append(float("-inf") if value is None else side * (value - threshold))
        return min(margins)

    @property
    def sentence(self) -> str:
        """What was measured, its interval, and what the rule asks for."""
        asked = [
            f"{word} {shown(threshold, self.unit)}"
            for word, threshold in (("above", self.above), ("below", self.below))
            if threshold is not None
        ]
        where = f" ({self.where})" if self.where else ""
        return f"{self.what}{where} is {told(self.effect, self.unit)}, asked for {' and '.join(asked)}"


@dataclass(frozen=True)
class Measured:
    """What a rule found.

    Attributes:
        parts: the claim's inequalities; those that share the first one's ``what`` carry its effect size.
        notes: what a reader must know besides, in whole clauses (settings left out, ...).
        paper: the paper's number for the effect size; None where it has none.
    """

    parts: list[Part]
    notes: list[str] = field(default_factory=list)
    paper: float | None = None


@dataclass(frozen=True)
class Finding:
    """The answer to one claim.

    Attributes:
        outcome: the answer.
        explanation: a sentence with the numbers behind it.
        effect: the effect size: of the quantity that the claim names first, in its weakest setting.
        unit: its unit.
        paper: the paper's number, in the same unit.
        seeds: fewest seeds behind any part.
        parts: every inequality that was looked at.
        runs: folders that it comes from.
        more: of an undecided one, commands that add seeds to the settings in which it is open.
        minutes: about how long they take together; None where the run does not tell.
    """

    outcome: Outcome
    explanation: str
    effect: Estimate | None = None
    unit: Unit = "points"
    paper: float | None = None
    seeds: int = 0
    parts: tuple[Part, ...] = ()
    runs: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    minutes: int | None = None


def judge(found: Measured, fewest: int, runs: tuple[str, ...] = ()) -> Finding:
    """The outcome that intervals allow, with the weakest part of each kind told."""
    if not found.parts:
        reason = "; ".join(found.notes) or "no setting of the run can answer"
        return Finding("undecidable at this size", f"undecidable: {reason}.", paper=found.paper, runs=runs)
    held = [part.holds(fewest) for part in found.parts]
    outcome: Outcome = "undecidable at this size"
    if False in held:
        outcome = "not replicated"
    elif all(held):
        outcome = "replicated"
    first = found.parts[0]
    kinds = list(dict.fromkeys(part.what for part in found.parts))
    weakest = [
        min((part for part in found.parts if part.what == kind), key=lambda part: _weakness(part, fewest))
        for kind in kinds
    ]
    seeds = min(part.effect.seeds for part in found.parts)
    notes = [f"{seeds} of the {fewest} seeds asked for"] if seeds < fewest else []
    clauses = [*(part.sentence for part in weakest), *notes, *found.notes]
    word = outcome.removesuffix(" at this size")
    counted = f" ({held.count(True)} of {len(held)} inequalities hold)" if len(held) > 1 else ""
    return Finding(
        outcome,
        f"{word}{counted}: {'; '.join(clauses)}.",
        weakest[0].effect,
        first.unit,
        found.paper,
        seeds,
        tuple(found.parts),
        runs,
    )


def _weakness(part: Part, fewest: int) -> tuple[int, float]:
    """Refuted parts first, then undecided ones, then by margin."""
    return {False: 0, None: 1, True: 2}[part.holds(fewest)], part.margin


def shown(value: float, unit: Unit) -> str:
    """A number in its unit."""
    match unit:
        case "points":
            return f"{round(100 * value):+d}" if round(100 * value) else "0"
        case "times":
            return f"{value:.3g}×"
        case "share":
            return f"{round(value, 2) + 0.0:.2f}"
        case "nats":
            return f"{value:+.3f}" if round(value, 3) else "0"
        case "dimensions":
            return f"{value:+.3g}"


def interval(effect: Estimate, unit: Unit) -> str:
    """Both limits, with a dash for one that is open."""
    if effect.low is None and effect.high is None:
        return "–"
    low, high = ("–" if end is None else shown(end, unit) for end in (effect.low, effect.high))
    return f"{low} to {high}"


def told(effect: Estimate, unit: Unit) -> str:
    """An estimate in words."""
    seeds = f"{effect.seeds} seed{'' if effect.seeds == 1 else 's'}"
    if effect.value is None and effect.low is None and effect.high is None:
        return f"not to be told ({seeds})"
    if effect.value is None:
        side = f"at least {shown(effect.low, unit)}" if effect.low is not None else ""
        most = f"at most {shown(effect.high, unit)}" if effect.high is not None else ""
        return f"{' and '.join(filter(None, (side, most)))} ({seeds})"
    points = " points" if unit == "points" else ""
    return f"{shown(effect.value, unit)}{points} ({interval(effect, unit)}, {seeds})"


def over_seeds(function: Callable[..., float], *values: BySeed) -> Estimate:
    """Mean and interval of a function of values of the same seed, over the seeds that all have."""
    seeds = sorted(set.intersection(*(set(part) for part in values))) if values else []
    if not seeds:
        return Estimate(None, None, None, 0)
    return estimate([function(*(part[seed] for part in values)) for seed in seeds])


def averaged(values: list[BySeed]) -> BySeed:
    """Mean over settings by seed, of the seeds that all settings have."""
    seeds = set.intersection(*(set(part) for part in values)) if values else set()
    return {seed: mean(part[seed] for part in values) for seed in seeds}
