"""The verdict: what fine-tuning did to a capability, by a rule that is stated before the evidence.

The question is Jain et al.'s (2024, §5): is the old capability still there, under a wrapper, or gone?
Their sign is that training on it again (reFT) brings it back sooner than a model from scratch learns it
(Fig. 9), or that few weights stand in between (Fig. 7). A fine-tuned model and a fresh one differ in more
than what they know, so the rule asks first within the model: does the old operand come back sooner than
the same model learns an operand that it never had? ``docs/verdict.md`` has the rule in plain words, and
its calibration.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from veneer.analysis import reasons as say
from veneer.analysis.evidence import (
    HALF_SKILL,
    MIN_SEEDS,
    Evidence,
    Revival,
    Rival,
    at_face_value,
    more_seeds,
    revival_threshold,
    skill,
)
from veneer.analysis.revival import Estimate
from veneer.models.display import table
from veneer.tasks.errors import InputError

RULE_VERSION = "3 of 27 November 2026"
"""Changes whenever a word could change for the same numbers."""

Kind = Literal[
    "wrapped",
    "rewritten",
    "frozen",
    "unchanged",
    "not fine-tuned",
    "diverged",
    "too few seeds",
    "mixed evidence",
]
DECIDED: tuple[Kind, ...] = ("wrapped", "rewritten", "frozen", "unchanged", "not fine-tuned", "diverged")
ReadingKind = Literal["sooner", "no sooner", "unclear"]
Strength = Literal["none", "weak", "moderate", "strong"]

KEPT_SKILL = 0.9
"""Skill from which behaviour counts as unchanged; between this and ``HALF_SKILL`` it is neither."""
FASTER = 2.0
"""Ratio of updates, third operand to O_PT, that the interval must lie above for "sooner", and below for "no
sooner". One border: an interval that excludes it has answered the question."""
THAN_SCRATCH = 1.0
"""The same for a control from scratch, where there is a third operand too: a fresh model trains better than
a compiled one (clipped gradients, weights of 100), so to beat it at all is asked for, and no margin."""
HEAD_START = 0.05
"""Mean accuracy over log-updates, O_PT's less a rival's, that decides where no ratio can: clearly less where
neither gets there is "no sooner", clearly more where O_PT does and the rival never does is "sooner". And no
ratio says "no sooner" where O_PT is as far ahead on average."""
TRAINED = 2 / 3
"""Share of the seeds that must get there for a model to count as one that can still be trained, and of
known wrappers that a reFT must show, where they were tried, for its "no sooner" to mean anything."""
RATES = 2
"""Fewest rates of reFT that must say "no sooner", all of them, where no known wrappers were tried: a rate
that is too high breaks what is hidden too, and brings it back no sooner than something new."""
SEARCH = "a search for few weights: veneer analyse"
SECOND_RATE = "reFT at a second rate, or known wrappers beside it (--constructed)"
FEW_WEIGHTS = 1e-3
"""Share of all weights up to which a pruning or graft is localized (as the paper's few weights are)."""
ATTENTION_KEPT = 0.5
"""Share of the capability's own attention to O_PT from which attention counts as still there."""


@dataclass(frozen=True)
class Verdict:
    """The outcome.

    Attributes:
        kind: the verdict.
        strength: "none" where nothing is decided; "moderate" for what the rule asks for and no more;
            "strong" if few weights restore what is wrapped, or probes or attention agree with rewritten;
            "weak" if something speaks against it, or if few weights were not searched for what is rewritten.
        reasons: one sentence each, with its numbers; what decided comes first.
        needed: what would decide, where nothing is decided.
        leaning: the verdict that the means give, their scatter aside; None where they give none, or it is
            the verdict.
    """

    kind: Kind
    strength: Strength
    reasons: tuple[str, ...]
    needed: tuple[str, ...] = ()
    leaning: Kind | None = None

    def _repr_html_(self) -> str:
        rows = [("because", reason) for reason in self.reasons]
        rows += [("leans towards", self.leaning)] if self.leaning else []
        rows += [("it would take", what) for what in self.needed]
        strength = "" if self.strength == "none" else f" ({self.strength})"
        return table(f"{self.kind}{strength}", rows)


@dataclass(frozen=True)
class _Found:
    """What the rule gives when it takes intervals as they are: a kind, or None and what is missing."""

    kind: Kind | None
    reasons: tuple[str, ...]
    needed: tuple[str, ...] = ()
    against: bool = False
    leaning: Kind | None = None


def decide(evidence: Evidence) -> Verdict:
    """The verdict on a fine-tuning (or on a constructed model).

    The rule is applied twice: to the intervals, which gives the verdict; and, where they are too wide or
    there are fewer than ``MIN_SEEDS`` seeds, to the means, which gives what the evidence leans towards. Means
    that give one verdict are "too few seeds"; means that give none, or two, "mixed evidence".
    """
    enough = evidence.seeds >= MIN_SEEDS
    found = _rule(evidence if enough else at_face_value(evidence))
    if enough and found.kind is not None:
        return Verdict(found.kind, _strength(found, evidence), found.reasons)
    leaning = _rule(at_face_value(evidence))
    told = _rule(evidence).reasons
    if leaning.kind is None or leaning.against:
        needed = found.needed or ("more seeds, as rates of reFT point both ways",)
        return Verdict("mixed evidence", "none", told, needed, leaning.kind or leaning.leaning)
    needed = f"{more_seeds(evidence.seeds, evidence.seeds)} seeds"
    return Verdict("too few seeds", "none", told, (needed,), leaning.kind)


def _rule(evidence: Evidence) -> _Found:
    """In this order: diverged; O_FT not learned; O_PT still there, or half gone; then what reFT tells."""
    if evidence.seeds and evidence.diverged == evidence.seeds:
        return _Found("diverged", (f"Fine-tuning diverged with all {evidence.seeds} seeds.",))
    early = _before_revival(evidence)
    if early is not None:
        return early
    kept = say.kept(evidence)
    if not evidence.revivals:
        return _Found(None, (kept,), ("reFT, beside a third operand and controls from scratch",))
    read: dict[Revival, ReadingKind] = {r: read_revival(r) for r in evidence.revivals}
    order: tuple[ReadingKind, ...] = ("sooner", "no sooner", "unclear")
    told = tuple(
        say.told(r, evidence.guess_pt) for kind in order for r, found in read.items() if found == kind
    )
    reasons = (*told, *say.secondary(evidence), kept)
    kinds = set(read.values())
    if "sooner" in kinds or restored(evidence) is True:
        return _Found("wrapped", reasons, against="no sooner" in kinds and "sooner" in kinds)
    return _gone(evidence, read, reasons)


def _gone(evidence: Evidence, read: Mapping[Revival, ReadingKind], reasons: tuple[str, ...]) -> _Found:
    """Rewritten or frozen, where no rate says sooner: what "no sooner" needs beside it."""
    telling = [r for r, kind in read.items() if kind == "no sooner" and shows_wrappers(r) is not False]
    unclear = [r for r, kind in read.items() if kind == "unclear" and shows_wrappers(r) is not False]
    if not telling:
        return _Found(None, reasons, _lacking(evidence.revivals))
    means = at_face_value(Evidence(0.0, revivals=tuple(unclear))).revivals
    if any(read_revival(revival) == "sooner" for revival in means):
        return _Found(None, reasons, ("more seeds, as rates of reFT point both ways",))
    trained = any(
        _most(one.reached, one.seeds)
        for revival in evidence.revivals
        for one in (revival, revival.third)
        if one is not None
    )
    fresh = any(r.scratch and _most(r.scratch.reached, r.scratch.seeds) for r in evidence.revivals)
    word: Kind | None = "rewritten" if trained else "frozen" if fresh else None
    needed: tuple[str, ...] = ()
    if word is None:
        needed = ("a longer reFT: not even its controls get there",)
    elif not any(shows_wrappers(revival) for revival in telling):
        if unclear:
            needed = _lacking(tuple(unclear))
        elif len(telling) < RATES:
            needed = (SECOND_RATE,)
    if not needed and word == "rewritten" and evidence.unsearched:
        needed = (SEARCH,)
    return _Found(None, reasons, needed, leaning=word) if needed else _Found(word, reasons)


def read_revival(revival: Revival) -> ReadingKind:
    """What reFT at one rate says.

    - sooner: every seed came back to half of skill, a third operand needs clearly more than ``FASTER``
      times as many updates, and a fresh model clearly more than as many (more than ``FASTER`` times as
      many, where there is no third operand). A rival that gets there with no seed gives a ratio that the
      budget limits, so there O_PT may be clearly more than ``HEAD_START`` ahead instead;
    - no sooner: a third operand clearly needs less than ``FASTER`` times as many, and O_PT is not
      ``HEAD_START`` ahead on average (it can be, and stop short of half of skill); or O_PT is clearly less
      than ``HEAD_START`` ahead, does not get there alone, and the third operand's mean is no more than
      ``FASTER`` times as many;
    - unclear: all else.
    """
    rival = revival.third or revival.scratch
    if rival is None or min(revival.seeds, *(one.seeds for one in revival.rivals)) < MIN_SEEDS:
        return "unclear"
    beaten = all(beats(one, FASTER if one is rival else THAN_SCRATCH) for one in revival.rivals)
    if revival.reached == revival.seeds and beaten:
        return "sooner"
    lead, ratio, least = rival.lead, rival.ratio, rival.bounds[0]
    ahead = lead.value is None or lead.value >= HEAD_START
    as_slow = ratio.high is not None and ratio.high < FASTER and not ahead
    alone = _most(revival.reached, revival.seeds) and not _most(rival.reached, rival.seeds)
    no_lead = lead.high is not None and lead.high < HEAD_START and (least is None or least <= FASTER)
    return "no sooner" if as_slow or (no_lead and not alone) else "unclear"


def beats(rival: Rival, margin: float) -> bool:
    """Whether O_PT comes back clearly sooner than this rival, where O_PT comes back with every seed."""
    ahead = rival.reached == 0 and rival.lead.low is not None and rival.lead.low > HEAD_START
    return ahead or (rival.ratio.low is not None and rival.ratio.low > margin)


def _most(reached: int, seeds: int) -> bool:
    return reached >= TRAINED * seeds


def shows_wrappers(revival: Revival) -> bool | None:
    """Whether this reFT shows known wrappers; None where none were put through it."""
    return None if revival.wrappers is None else _most(*revival.wrappers)


def _lacking(revivals: tuple[Revival, ...]) -> tuple[str, ...]:
    """What would make unclear readings clear."""
    found = []
    for revival in revivals:
        if not revival.rivals:
            found.append("a third operand and controls from scratch with the same reFT")
        elif not any(rival.reached for rival in revival.rivals) and revival.reached == 0:
            found.append("a longer reFT: not even its controls get there")
        else:
            found.append("more seeds")
    return tuple(dict.fromkeys(found))


def _before_revival(evidence: Evidence) -> _Found | None:
    """What needs no reFT, if that holds."""
    learned, kept = evidence.learned, evidence.kept
    if learned is not None and evidence.guess_ft is not None:
        threshold = revival_threshold(evidence.guess_ft)
        sentence = (say.answered("O_FT", learned, evidence.guess_ft),)
        if _limit(learned, "high") < threshold:
            return _Found("not fine-tuned", sentence)
        if _limit(learned, "low") < threshold:
            return _Found(None, sentence, ("more seeds of fine-tuning, or a longer one",))
    if kept is None:
        return _Found(None, ("O_PT was not measured after fine-tuning.",), ("O_PT accuracy on natural text",))
    if skill(_limit(kept, "low"), evidence.guess_pt) >= KEPT_SKILL:
        return _Found("unchanged", (say.kept(evidence),))
    if skill(_limit(kept, "high"), evidence.guess_pt) > HALF_SKILL:
        partly = f"{say.kept(evidence)[:-1]}, so it is neither there nor gone."
        return _Found(None, (partly,), ("more seeds of fine-tuning, or a longer one",))
    return None


def _limit(measured: Estimate, side: Literal["low", "high"]) -> float:
    """A limit of the interval; the value itself where one seed gives none."""
    limit = measured.low if side == "low" else measured.high
    limit = measured.value if limit is None else limit
    if limit is None:
        raise InputError("estimate", measured, "an accuracy with a value")
    return limit


def restored(evidence: Evidence) -> bool | None:
    """Whether few weights restore O_PT; None where not measured, or where what was tried does not.

    That a search finds nothing is no evidence that nothing is there.
    """
    if evidence.restored is None or evidence.restored_share is None or evidence.restored.seeds < MIN_SEEDS:
        return None
    enough = _limit(evidence.restored, "low") >= revival_threshold(evidence.guess_pt)
    return True if enough and evidence.restored_share <= FEW_WEIGHTS else None


def _strength(found: _Found, evidence: Evidence) -> Strength:
    """How far the secondary evidence agrees (see ``Verdict``)."""
    if found.kind not in ("wrapped", "rewritten"):
        return "moderate"
    wrapped = found.kind == "wrapped"
    carried = [signal for signal in (_probed(evidence), _attended(evidence)) if signal is not None]
    unsearched = not wrapped and evidence.restored is None
    if any(signal != wrapped for signal in carried) or found.against or unsearched:
        return "weak"
    agrees = restored(evidence) is True if wrapped else bool(carried)
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
