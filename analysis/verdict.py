"""The verdict: what fine-tuning did to a capability, by a rule that is stated before the evidence.

The rule weighs what Jain et al. 2024 weigh: whether reFT revives O_PT much faster than a model trained
from scratch is taught it (§5, Fig. 9), and whether few weights stand between the behaviour and the capability
(Fig. 7). Where evidence is thin or points both ways the verdict is "undecided", with what would
decide it. ``docs/verdict.md`` has the rule in plain words and its calibration.
"""

from dataclasses import dataclass
from typing import Literal

from veneer.analysis.revival import Estimate
from veneer.models.display import table
from veneer.tasks.errors import InputError

Kind = Literal["diverged", "not fine-tuned", "unchanged", "wrapped", "rewritten", "undecided"]
ReadingKind = Literal["fast", "slow", "not revived", "unclear"]
Strength = Literal["none", "weak", "moderate", "strong"]

MIN_SEEDS = 3
"""Fewest seeds for any verdict on wrapped or rewritten: with two, Student's t multiplies by 12.7."""
HALF_SKILL = 0.5
"""Half of the way from guessing to always right: learned, lost and revived all turn here, so that
a majority class of any size moves the threshold with it."""
KEPT_SKILL = 0.9
"""Skill from which behaviour counts as unchanged; between this and ``HALF_SKILL`` it is neither."""
FASTER = 2.0
"""Least ratio of updates, control to reFT, that the interval must lie above for "wrapped"."""
AS_SLOW = 1.5
"""Largest ratio that the interval must lie below for "rewritten"; below ``FASTER``, so that no
evidence can support both."""
HEAD_START = 0.05
"""Difference of mean accuracy over log-updates, reFT less control, below which reFT has no head start:
half of the least that revived wrappers had at 1e-3 (``docs/verdict.md``), and above what rewrites had."""
SENSITIVE = 2 / 3
"""Share of known wrappers that the same reFT must have revived before its failure means anything.
Not more, as gradients hardly find one flipped weight upstream; that is left to pruning and grafting."""
FEW_WEIGHTS = 1e-3
"""Share of all weights up to which a pruning or graft is localized (as the paper's few weights are)."""
ATTENTION_KEPT = 0.5
"""Share of the capability's own attention to O_PT from which attention counts as still there."""


@dataclass(frozen=True)
class Revival:
    """reFT at one rate, next to its controls.

    Attributes:
        rate: reFT's learning rate.
        updates: its budget.
        reached: seeds that reached ``revival_threshold`` (of ``seeds``) and were not there already.
        seeds: seeds reFTed.
        after: O_PT accuracy on natural text at its end.
        ratio: updates to that threshold, Scr. + FT / reFT (``revival.ratio_of_times``); None without control.
        head_start: mean accuracy over log-updates, reFT less Scr. + FT (``revival.difference`` of
            ``revival.areas``); None without control.
        wrappers: of known wrappers of this capability, put through the same reFT, how many it
            revived and how many there were; None if there were none.
    """

    rate: float
    updates: int
    reached: int
    seeds: int
    after: Estimate
    ratio: Estimate | None = None
    head_start: Estimate | None = None
    wrappers: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.reached <= self.seeds:
            raise InputError("reached", self.reached, f"0 to seeds = {self.seeds}")


@dataclass(frozen=True)
class Evidence:
    """All that a verdict rests on. None means not measured, never zero.

    Attributes:
        guess_pt: O_PT accuracy on natural text of always giving the commonest answer.
        kept: O_PT accuracy on natural text after fine-tuning.
        guess_ft: O_FT accuracy of always giving the commonest answer, on the text of ``learned``.
        learned: O_FT accuracy after fine-tuning, on text as it was trained on; None where nothing
            was trained (constructed models).
        revivals: reFT, one entry per rate.
        restored: O_PT accuracy on natural text after pruning or grafting few weights.
        restored_share: share of all weights that this touched.
        probe: accuracy of linear probes for O_PT's answer, the best layer's.
        probe_control: the same on models trained from scratch on O_FT's task.
        attention: attention to O_PT's tokens as a share of the capability's own.
        diverged: seeds whose fine-tuning diverged.
        seeds: seeds fine-tuned.
    """

    guess_pt: float
    kept: Estimate | None = None
    guess_ft: float | None = None
    learned: Estimate | None = None
    revivals: tuple[Revival, ...] = ()
    restored: Estimate | None = None
    restored_share: float | None = None
    probe: Estimate | None = None
    probe_control: Estimate | None = None
    attention: Estimate | None = None
    diverged: int = 0
    seeds: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.guess_pt < 1 or (self.guess_ft is not None and not 0 <= self.guess_ft < 1):
            raise InputError("guess", (self.guess_pt, self.guess_ft), "accuracies in [0, 1)")
        if self.learned is not None and self.guess_ft is None:
            raise InputError("guess_ft", None, "an accuracy in [0, 1), wherever learned is given")
        if self.restored is not None and self.restored_share is None:
            raise InputError("restored_share", None, "a share in [0, 1], wherever restored is given")


@dataclass(frozen=True)
class Verdict:
    """The outcome.

    Attributes:
        kind: the verdict.
        strength: "none" for undecided; "moderate" for what the rule asks for and no more; "strong" if
            few weights restore what is wrapped, or probes or attention agree with rewritten;
            "weak" if a probe or attention speaks against it.
        reasons: one sentence each, with its numbers; what decided comes first.
        needed: what would decide, if undecided.
    """

    kind: Kind
    strength: Strength
    reasons: tuple[str, ...]
    needed: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        rows = [("because", reason) for reason in self.reasons]
        rows += [("it would take", what) for what in self.needed]
        strength = "" if self.strength == "none" else f" ({self.strength})"
        return table(f"{self.kind}{strength}", rows)


@dataclass(frozen=True)
class Reading:
    """What reFT at one rate says: its kind (see ``read_revival``), the numbers, and what it lacks."""

    kind: ReadingKind
    sentence: str
    needed: tuple[str, ...] = ()


def skill(accuracy: float, guess: float) -> float:
    """Accuracy on a scale where guessing the commonest answer is 0 and always right is 1."""
    return (accuracy - guess) / (1 - guess)


def revival_threshold(guess: float) -> float:
    """The accuracy that counts as revived, ``HALF_SKILL``: 66 % where guessing is right on 32 %."""
    return guess + HALF_SKILL * (1 - guess)


def decide(evidence: Evidence) -> Verdict:
    """The verdict on a fine-tuning (or on a constructed model).

    In this order: every seed diverged; O_FT was not learned; O_PT is still there; O_PT is only partly
    gone; then revival at every rate (``read_revival``). Revival much faster than the control is
    enough for "wrapped", and so is that pruning or grafting few weights restores O_PT: reFT alone misses
    a capability that one flipped weight hides. No such revival, and no such weights, is "rewritten".
    Probes and attention change the strength alone.
    """
    if evidence.seeds and evidence.diverged == evidence.seeds:
        return Verdict("diverged", "moderate", (f"Fine-tuning diverged with all {evidence.seeds} seeds.",))
    early = _before_revival(evidence)
    if early is not None:
        return early
    if not evidence.revivals:
        return _undecided((_kept(evidence),), ("reFT beside controls trained from scratch",))
    readings = [read_revival(revival, evidence.guess_pt) for revival in evidence.revivals]
    found = {reading.kind for reading in readings}
    order: tuple[ReadingKind, ...] = ("fast", "slow", "not revived", "unclear")
    told = tuple(reading.sentence for kind in order for reading in readings if reading.kind == kind)
    reasons = (*told, *_secondary(evidence), _kept(evidence))
    if {"fast", "slow"} <= found:
        return _undecided((*reasons, "Rates of reFT contradict each other."), ("more seeds at each rate",))
    if "fast" in found or _restored(evidence) is True:
        return Verdict("wrapped", _strength("wrapped", evidence), reasons)
    if found == {"unclear"}:
        return _undecided(reasons, tuple(dict.fromkeys(n for reading in readings for n in reading.needed)))
    if _restored(evidence) is False:
        return Verdict("rewritten", _strength("rewritten", evidence), reasons)
    missing = "Whether few weights restore O_PT is not known, and reFT can miss such a wrapper."
    return _undecided((*reasons, missing), ("pruning and grafting of few weights",))


def read_revival(revival: Revival, guess: float) -> Reading:
    """What reFT at one rate says.

    - fast: every seed was revived, and the ratio's interval lies above ``FASTER``;
    - slow: the ratio's interval lies below ``AS_SLOW``;
    - not revived: no seed was, the head start's interval lies below ``HEAD_START``, and the same
      reFT revived known wrappers (``SENSITIVE``);
    - unclear: all else. A rate or a budget that revives no known wrapper says nothing.
    """
    told = _told(revival, guess)
    if revival.seeds < MIN_SEEDS:
        return Reading("unclear", told, (f"at least {MIN_SEEDS} seeds",))
    ratio, start = revival.ratio, revival.head_start
    if ratio is None or start is None:
        return Reading("unclear", told, ("the control Scr. + FT with the same reFT",))
    if ratio.seeds < MIN_SEEDS or start.seeds < MIN_SEEDS:
        return Reading("unclear", told, (f"at least {MIN_SEEDS} seeds of reFT and of the control Scr. + FT",))
    if revival.reached == revival.seeds and ratio.low is not None and ratio.low > FASTER:
        return Reading("fast", told)
    if ratio.high is not None and ratio.high < AS_SLOW:
        return Reading("slow", told)
    if revival.reached == 0 and start.high is not None and start.high < HEAD_START:
        if revival.wrappers is None:
            return Reading(
                "unclear", told, ("known wrappers through the same reFT, to see that it can revive",)
            )
        back, of = revival.wrappers
        if of >= MIN_SEEDS and back >= SENSITIVE * of:
            return Reading("not revived", told)
        return Reading("unclear", told, ("a rate and a length of reFT that revive known wrappers",))
    return Reading("unclear", told, ("more seeds", "a longer reFT"))


def _before_revival(evidence: Evidence) -> Verdict | None:
    """The verdicts that need no reFT, if one of them holds."""
    learned, kept = evidence.learned, evidence.kept
    if learned is not None and evidence.guess_ft is not None:
        threshold = revival_threshold(evidence.guess_ft)
        sentence = _answered("O_FT", learned, evidence.guess_ft)
        if _limit(learned, "high") < threshold:
            return Verdict("not fine-tuned", "moderate", (sentence,))
        if _limit(learned, "low") < threshold:
            return _undecided((sentence,), ("more seeds of fine-tuning, or a longer one",))
    if kept is None:
        return _undecided(("O_PT was not measured after fine-tuning.",), ("O_PT accuracy on natural text",))
    if skill(_limit(kept, "low"), evidence.guess_pt) >= KEPT_SKILL:
        return Verdict("unchanged", "moderate", (_kept(evidence),))
    if skill(_limit(kept, "high"), evidence.guess_pt) > HALF_SKILL:
        partly = f"{_kept(evidence)[:-1]}, so it is neither there nor gone."
        return _undecided((partly,), ("more seeds of fine-tuning, or a longer one",))
    return None


def _limit(measured: Estimate, side: Literal["low", "high"]) -> float:
    """A limit of the interval; the value itself where one seed gives none."""
    limit = measured.low if side == "low" else measured.high
    limit = measured.value if limit is None else limit
    if limit is None:
        raise InputError("estimate", measured, "an accuracy with a value")
    return limit


def _restored(evidence: Evidence) -> bool | None:
    """Whether few weights restore O_PT: yes, no, or None where not measured or not clear."""
    if evidence.restored is None or evidence.restored_share is None or evidence.restored.seeds < MIN_SEEDS:
        return None
    threshold = revival_threshold(evidence.guess_pt)
    if evidence.restored_share <= FEW_WEIGHTS and _limit(evidence.restored, "low") >= threshold:
        return True
    return False if _limit(evidence.restored, "high") < threshold else None


def _strength(kind: Kind, evidence: Evidence) -> Strength:
    """How far the secondary evidence agrees (see ``Verdict``)."""
    wrapped = kind == "wrapped"
    carried = [signal for signal in (_probed(evidence), _attended(evidence)) if signal is not None]
    if any(signal != wrapped for signal in carried):
        return "weak"
    agrees = _restored(evidence) is True if wrapped else bool(carried)
    return "strong" if agrees else "moderate"


def _probed(evidence: Evidence) -> bool | None:
    """Whether a probe reads O_PT better than from a model that never had it; None if not clear.

    Without that control a probe says nothing: it can compute the answer by itself.
    """
    probe, control = evidence.probe, evidence.probe_control
    if probe is None or control is None:
        return None
    if _limit(probe, "low") > _limit(control, "high"):
        return True
    return False if _limit(probe, "high") <= _limit(control, "high") else None


def _attended(evidence: Evidence) -> bool | None:
    if evidence.attention is None:
        return None
    if _limit(evidence.attention, "low") >= ATTENTION_KEPT:
        return True
    return False if _limit(evidence.attention, "high") < ATTENTION_KEPT else None


def _undecided(reasons: tuple[str, ...], needed: tuple[str, ...]) -> Verdict:
    return Verdict("undecided", "none", reasons, needed)


def _kept(evidence: Evidence) -> str:
    if evidence.kept is None:
        return "O_PT was not measured after fine-tuning."
    return _answered("O_PT", evidence.kept, evidence.guess_pt)


def _answered(operand: str, measured: Estimate, guess: float) -> str:
    given = f"{operand}'s answer is given on {_shown(measured)} of texts after fine-tuning"
    return f"{given}; guessing gives {_percent(guess)}."


def _told(revival: Revival, guess: float) -> str:
    """One sentence on a revival."""
    told = (
        f"reFT at {revival.rate:g} brings O_PT to {_shown(revival.after)} in {revival.updates} updates, and "
        f"{revival.reached} of {revival.seeds} seeds to {_percent(revival_threshold(guess))}"
    )
    if revival.ratio is not None:
        told += f"; Scr. + FT needs {_times(revival.ratio)}"
    if revival.head_start is not None:
        told += (
            f"; mean accuracy over log-updates lies {_shown(revival.head_start, sign=True)} from Scr. + FT's"
        )
    if revival.wrappers is not None:
        told += f"; the same reFT revives {revival.wrappers[0]} of {revival.wrappers[1]} known wrappers"
    return told + "."


def _secondary(evidence: Evidence) -> tuple[str, ...]:
    """Sentences on what corroborates or contradicts."""
    told = []
    if evidence.restored is not None and evidence.restored_share is not None:
        share, restored = evidence.restored_share, evidence.restored
        told.append(f"Pruning or grafting {share:.2g} of the weights brings O_PT to {_shown(restored)}.")
    if evidence.probe is not None and evidence.probe_control is not None:
        probe, control = _shown(evidence.probe), _shown(evidence.probe_control)
        told.append(f"Probes read O_PT rightly on {probe}, from models trained from scratch on {control}.")
    elif evidence.probe is not None:
        told.append(
            f"Probes read O_PT rightly on {_shown(evidence.probe)}, which without a control says nothing."
        )
    if evidence.attention is not None:
        told.append(f"Attention to O_PT is at {_shown(evidence.attention)} of the capability's.")
    return tuple(told)


def _shown(measured: Estimate, sign: bool = False) -> str:
    """A share with its interval and seeds, in percent (differences in points, signed)."""
    plus, unit = ("+", " points") if sign else ("", " %")
    value = "?" if measured.value is None else f"{100 * measured.value:{plus}.0f}"
    if measured.low is None or measured.high is None:
        return f"{value}{unit} ({_seeds(measured)})"
    between = f"{100 * measured.low:{plus}.0f} to {100 * measured.high:{plus}.0f}"
    return f"{value}{unit} ({between}, {_seeds(measured)})"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _times(ratio: Estimate) -> str:
    """A ratio of updates in words, saying what censoring leaves of it."""
    low, high = ratio.low, ratio.high
    if ratio.value is not None and low is not None and high is not None:
        return f"{ratio.value:.1f} times as many updates ({low:.1f} to {high:.1f}, {_seeds(ratio)})"
    if low is not None:
        return f"at least {low:.1f} times as many updates ({_seeds(ratio)})"
    if high is not None:
        return f"at most {high:.1f} times as many updates ({_seeds(ratio)})"
    return "a number of updates that cannot be compared"


def _seeds(measured: Estimate) -> str:
    return f"{measured.seeds} seed{'' if measured.seeds == 1 else 's'}"
