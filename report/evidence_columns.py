"""The evidence behind every verdict as columns: a value, its interval, and what it speaks for.

The numbers are those that ``veneer.analysis.verdict`` weighs; sentences are left to those who ask for them.
Counts stand where they are plain: putting back 1 of 29,774 weights.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from veneer.analysis.evidence import Evidence, Revival, Rival, revival_threshold
from veneer.analysis.revival import Estimate
from veneer.analysis.verdict import ATTENTION_KEPT, FASTER, THAN_SCRATCH, beats, read_revival
from veneer.experiments.content import Content, ReadRun
from veneer.experiments.curves import Course
from veneer.report.figures import rate_name

Mark = Literal["hidden", "gone", "neither", "missing"]
MARKS: dict[Mark, tuple[str, str]] = {
    "hidden": ("◐", "speaks for hidden"),
    "gone": ("○", "speaks for gone"),
    "neither": ("·", "does not decide"),
    "missing": ("–", "not measured"),
}
HEADS = {
    "retraining": "retraining",
    "third": "a task it never had",
    "scratch": "from scratch",
    "weights": "few weights",
    "probe": "probe",
    "attention": "attention",
}
_READ: dict[str, Mark] = {"sooner": "hidden", "no sooner": "gone"}


@dataclass(frozen=True)
class Cell:
    """One piece of evidence on one setting.

    Attributes:
        value: the number, with its unit in words.
        interval: its 95 % interval over seeds, or nothing.
        mark: what it speaks for.
    """

    value: str
    interval: str = ""
    mark: Mark = "neither"


Columns = dict[str, Cell]
Setting = tuple[str, float, float]
NONE = Cell("–", "", "missing")


def columns(run: ReadRun, content: Content, parameters: Mapping[str, int]) -> dict[Setting, Columns]:
    """The evidence on every setting: by capability, rate and C_Tr.

    Args:
        run: the run.
        content: what is in its folder.
        parameters: by capability, how many weights a model has.
    """
    if content.metrics is None or not content.baselines:
        return {}
    found = {}
    for values, start, evidence in run.evidence:
        if start == "capability":
            setting = values["capability"], values["fine_tuning_rate"], values["c_tr"]
            found[setting] = _columns(evidence, parameters.get(values["capability"], 0))
    return found


def _columns(evidence: Evidence, weights: int) -> Columns:
    best = best_revival(evidence)
    return {
        "retraining": _retraining(best),
        "third": _rival(None if best is None else best.third, FASTER),
        "scratch": _rival(None if best is None else best.scratch, _margin(best)),
        "weights": _few_weights(evidence, weights),
        "probe": _probe(evidence),
        "attention": _attention(evidence.attention),
    }


def best_revival(evidence: Evidence) -> Revival | None:
    """The retraining that is furthest ahead of its control, or without one ends best."""

    def ahead(own: Revival) -> tuple[float, float]:
        first = next((rival.lead.value for rival in own.rivals if rival.lead.value is not None), -1.0)
        return first, own.after.value or 0.0

    return max(evidence.revivals, key=ahead, default=None)


def best_rates(run: ReadRun, content: Content, found: Iterable[Course]) -> dict[Setting, float]:
    """The rate of retraining that says most of each setting; by its curves where there is no evidence."""
    rates = {
        (one.capability, one.fine_tuning_rate, one.c_tr): one.reft_rate
        for one in found
        if one.reft_rate is not None
    }
    for values, start, evidence in run.evidence if content.metrics is not None and content.baselines else ():
        best = best_revival(evidence)
        if start == "capability" and best is not None:
            rates[values["capability"], values["fine_tuning_rate"], values["c_tr"]] = best.rate
    return rates


def _margin(best: Revival | None) -> float:
    """What the ratio from scratch must exceed: less where there is a third operand too."""
    return FASTER if best is None or best.third is None else THAN_SCRATCH


def _retraining(best: Revival | None) -> Cell:
    if best is None:
        return NONE
    mark = _READ.get(read_revival(best), "neither")
    return Cell(f"{_share(best.after)} at {rate_name(best.rate)}", _interval(best.after), mark)


def _rival(rival: Rival | None, margin: float) -> Cell:
    """How many times the updates something else takes; nothing that it must exceed is "gone"."""
    if rival is None:
        return NONE
    ratio = rival.ratio
    if ratio.value is None:
        bound = ratio.low if ratio.low is not None else ratio.high
        sign = "≥" if ratio.low is not None else "≤"
        value = "neither gets there" if bound is None else f"{sign} {bound:.1f} times the updates"
    else:
        value = f"{ratio.value:.1f} times the updates"
    mark: Mark = "neither"
    if beats(rival, margin):
        mark = "hidden"
    elif ratio.high is not None and ratio.high < margin:
        mark = "gone"
    limits = "" if None in (ratio.low, ratio.high) else f"{ratio.low:.1f} to {ratio.high:.1f}"
    return Cell(value, limits, mark)


def _few_weights(evidence: Evidence, weights: int) -> Cell:
    if evidence.restored is None or evidence.restored.value is None:
        return NONE
    count = round((evidence.restored_share or 0) * weights)
    touched = f"{count:,} of {weights:,} weights" if count else "few weights"
    back = evidence.restored.value >= revival_threshold(evidence.guess_pt)
    return Cell(
        f"{touched}: {_share(evidence.restored)}",
        _interval(evidence.restored),
        "hidden" if back else "neither",
    )


def _probe(evidence: Evidence) -> Cell:
    probe, control = evidence.probe, evidence.probe_control
    if probe is None or probe.value is None:
        return NONE
    if control is None or control.value is None:
        return Cell(_share(probe), _interval(probe))
    (low, high), (_, most) = _limits(probe), _limits(control)
    mark: Mark = "hidden" if low > most else "gone" if high <= most else "neither"
    return Cell(f"{_share(probe)}, scratch {_share(control)}", _interval(probe), mark)


def _attention(kept: Estimate | None) -> Cell:
    if kept is None or kept.value is None:
        return NONE
    limits = "" if kept.low is None or kept.high is None else f"{kept.low:.1f} to {kept.high:.1f}"
    low, high = _limits(kept)
    mark: Mark = "hidden" if low >= ATTENTION_KEPT else "gone" if high < ATTENTION_KEPT else "neither"
    return Cell(f"{kept.value:.1f} times as before", limits, mark)


def _limits(found: Estimate) -> tuple[float, float]:
    """Both ends of an interval; what has none (one seed) reaches without bound."""
    return -math.inf if found.low is None else found.low, math.inf if found.high is None else found.high


def _share(found: Estimate) -> str:
    return "–" if found.value is None else f"{100 * found.value:.0f} %"


def _interval(found: Estimate) -> str:
    if found.low is None or found.high is None or found.seeds < 2:
        return ""
    return f"{100 * found.low:.0f} to {100 * found.high:.0f}"


def any_measured(found: Mapping[Any, Columns]) -> bool:
    """Whether there is anything to show."""
    return any(cell.mark != "missing" for own in found.values() for cell in own.values())
