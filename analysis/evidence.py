"""What a verdict rests on: numbers with their intervals; None where nothing was measured, never zero."""

from dataclasses import dataclass, replace

from veneer.analysis.revival import Estimate
from veneer.tasks.errors import InputError

MIN_SEEDS = 3
"""Fewest seeds for any verdict: with two, Student's t multiplies by 12.7, and one has no interval at all."""
MANY_SEEDS = 9
"""Seeds that are asked for where three or more scatter too much."""
HALF_SKILL = 0.5
"""Half of the way from guessing to always right: learned, lost and returned all turn here, so that a
majority class of any size moves the threshold with it."""


def skill(accuracy: float, guess: float) -> float:
    """Accuracy on a scale where guessing the commonest answer is 0 and always right is 1."""
    return (accuracy - guess) / (1 - guess)


def more_seeds(have: int, found: int) -> int:
    """How many seeds to ask for where those that there are do not decide.

    Args:
        have: seeds that were asked for. If all are there, the same again would say the same.
        found: those of them that are there.
    """
    wanted = MIN_SEEDS if found < MIN_SEEDS else MANY_SEEDS
    return max(wanted, have) if have < wanted or found < have else 2 * have


def revival_threshold(guess: float) -> float:
    """The accuracy that counts as returned, ``HALF_SKILL``: 66 % where guessing is right on 32 %."""
    return guess + HALF_SKILL * (1 - guess)


@dataclass(frozen=True)
class Rival:
    """Training by reFT's recipe that O_PT's return is held against.

    Attributes:
        name: "a third operand" (the same model, an operand that it never had), "Scr." or "Scr. + FT".
        reached: seeds that reached half of skill in it, and held it.
        seeds: seeds trained.
        ratio: its updates to half of skill over those of O_PT (``revival.ratio_of_times``).
        bounds: between which numbers the mean of that ratio lies, scatter over seeds aside; None where
            censoring leaves it open. One seed has these, but no interval.
        lead: mean accuracy over log-updates, O_PT's less its (``revival.difference`` of ``revival.areas``).

    Raises:
        InputError: more seeds reached it than there are.
    """

    name: str
    reached: int
    seeds: int
    ratio: Estimate
    bounds: tuple[float | None, float | None]
    lead: Estimate

    def __post_init__(self) -> None:
        _check_reached(self.reached, self.seeds)


@dataclass(frozen=True)
class Revival:
    """reFT at one rate, beside what it is held against.

    Attributes:
        rate: reFT's learning rate.
        updates: its budget.
        reached: seeds that came back to half of skill, held it, and were not there already.
        seeds: seeds reFTed.
        after: O_PT accuracy on natural text at its end.
        time: updates to half of skill, geometric mean over seeds; None if a seed did not get there.
        third: the same model on an operand that it never had; None where that was not trained.
        scratch: the faster of the controls from scratch; None where there is none.
        wrappers: of known wrappers of this capability, put through the same reFT, how many it showed (came
            back, ahead of a third operand where they were taught one) and how many there were; None if none.

    Raises:
        InputError: more seeds reached it than there are.
    """

    rate: float
    updates: int
    reached: int
    seeds: int
    after: Estimate
    time: float | None = None
    third: Rival | None = None
    scratch: Rival | None = None
    wrappers: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _check_reached(self.reached, self.seeds)

    @property
    def rivals(self) -> tuple[Rival, ...]:
        """The third operand and the control from scratch, those that there are."""
        return tuple(rival for rival in (self.third, self.scratch) if rival is not None)


@dataclass(frozen=True)
class Evidence:
    """All that a verdict rests on.

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
        unsearched: few weights could be searched for, and were not yet.

    Raises:
        InputError: a guess outside [0, 1), or one half of a pair without the other.
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
    unsearched: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.guess_pt < 1 or (self.guess_ft is not None and not 0 <= self.guess_ft < 1):
            raise InputError("guess", (self.guess_pt, self.guess_ft), "accuracies in [0, 1)")
        if self.learned is not None and self.guess_ft is None:
            raise InputError("guess_ft", None, "an accuracy in [0, 1), wherever learned is given")
        if self.restored is not None and self.restored_share is None:
            raise InputError("restored_share", None, "a share in [0, 1], wherever restored is given")


def at_face_value(evidence: Evidence) -> Evidence:
    """The evidence as if every mean were known exactly, from enough seeds: what it leans towards."""
    return replace(
        evidence,
        kept=_exact(evidence.kept),
        learned=_exact(evidence.learned),
        restored=_exact(evidence.restored),
        revivals=tuple(_exact_revival(revival) for revival in evidence.revivals),
        seeds=max(evidence.seeds, MIN_SEEDS),
        diverged=MIN_SEEDS if evidence.seeds == evidence.diverged and evidence.seeds < MIN_SEEDS else 0,
    )


def _exact_revival(revival: Revival) -> Revival:
    seeds = max(revival.seeds, MIN_SEEDS)
    whole = revival.reached == revival.seeds and revival.seeds > 0
    after = _exact(revival.after)
    assert after is not None
    return replace(
        revival,
        reached=seeds if whole else min(revival.reached, seeds - 1),
        seeds=seeds,
        after=after,
        third=_exact_rival(revival.third),
        scratch=_exact_rival(revival.scratch),
    )


def _exact_rival(rival: Rival | None) -> Rival | None:
    if rival is None:
        return None
    seeds, lead = max(rival.seeds, MIN_SEEDS), _exact(rival.lead)
    assert lead is not None
    whole = rival.reached == rival.seeds and rival.seeds > 0
    ratio = Estimate(rival.ratio.value, *rival.bounds, seeds)
    return replace(rival, reached=seeds if whole else rival.reached, seeds=seeds, ratio=ratio, lead=lead)


def _exact(measured: Estimate | None) -> Estimate | None:
    if measured is None:
        return None
    return Estimate(measured.value, measured.value, measured.value, max(measured.seeds, MIN_SEEDS))


def _check_reached(reached: int, seeds: int) -> None:
    if not 0 <= reached <= seeds:
        raise InputError("reached", reached, f"0 to seeds = {seeds}")
