"""Reasons of a verdict as sentences: short, each with its numbers, seeds and intervals."""

from veneer.analysis.evidence import Evidence, Revival, Rival, revival_threshold
from veneer.analysis.revival import Estimate


def kept(evidence: Evidence) -> str:
    """What fine-tuning left of O_PT."""
    if evidence.kept is None:
        return "O_PT was not measured after fine-tuning."
    return answered("O_PT", evidence.kept, evidence.guess_pt)


def answered(operand: str, measured: Estimate, guess: float) -> str:
    """An operand's accuracy after fine-tuning, beside that of guessing."""
    return f"Fine-tuning leaves {operand} right on {shown(measured)}; guessing is right on {percent(guess)}."


def told(revival: Revival, guess: float) -> str:
    """What reFT at one rate did, and what it is held against."""
    goal, seeds = percent(revival_threshold(guess)), f"{revival.reached} of {revival.seeds} seeds"
    if revival.time is not None:
        start = f"Trained again at {revival.rate:g}, O_PT is back at {goal} after {revival.time:,.0f} updates"
    else:
        within = f"within {revival.updates:,} updates"
        start = f"Trained again at {revival.rate:g}, {seeds} bring O_PT back to {goal} {within}"
        start += f" (it ends at {shown(revival.after)})"
    rivals = "".join(f"; {_against(rival)}" for rival in revival.rivals)
    tried = ""
    if revival.wrappers is not None:
        tried = f"; the same reFT shows {revival.wrappers[0]} of {revival.wrappers[1]} known wrappers"
    return f"{start}{rivals}{tried}."


def _against(rival: Rival) -> str:
    """How a rival compares: in times as many updates, or, where neither gets there, in accuracy."""
    ratio, (least, most) = rival.ratio, rival.bounds
    if ratio.value is not None and ratio.low is not None and ratio.high is not None:
        limits = f"({_times(ratio.low)} to {_times(ratio.high)})"
        return f"{rival.name} takes {_times(ratio.value)} times as many {limits}"
    low, high = ratio.low or least, ratio.high or most
    if rival.reached == 0 and low is not None and rival.lead.value is not None:
        ahead = f"O_PT is {shown(rival.lead, sign=True)} ahead of it on average"
        return f"{rival.name} takes at least {_times(low)} times as many, as no seed gets there, and {ahead}"
    if ratio.value is not None:
        return f"{rival.name} takes {_times(ratio.value)} times as many"
    if low is not None:
        return f"{rival.name} takes at least {_times(low)} times as many"
    if high is not None:
        return f"{rival.name} takes at most {_times(high)} times as many"
    if rival.lead.value is None:
        return f"{rival.name} cannot be compared with it"
    reached = f"gets there with {rival.reached} of {rival.seeds} seeds"
    return f"{rival.name} {reached}, and O_PT is {shown(rival.lead, sign=True)} ahead of it on average"


def secondary(evidence: Evidence) -> tuple[str, ...]:
    """What corroborates or contradicts."""
    found = []
    if evidence.restored is not None and evidence.restored_share is not None:
        share, back = evidence.restored_share, evidence.restored
        found.append(f"Pruning or grafting {share:.2g} of the weights brings O_PT to {shown(back)}.")
    if evidence.probe is not None and evidence.probe_control is not None:
        probe, control = shown(evidence.probe), shown(evidence.probe_control)
        found.append(f"Probes read O_PT rightly on {probe}, from models trained from scratch on {control}.")
    elif evidence.probe is not None:
        found.append(
            f"Probes read O_PT rightly on {shown(evidence.probe)}, which without a control says nothing."
        )
    if evidence.attention is not None:
        found.append(f"Attention to O_PT is at {shown(evidence.attention)} of the capability's.")
    return tuple(found)


def shown(measured: Estimate, sign: bool = False) -> str:
    """A share with its interval and seeds, in percent (differences in points, signed)."""
    plus, unit = ("+", " points") if sign else ("", " %")
    value = "?" if measured.value is None else f"{100 * measured.value:{plus}.0f}"
    if measured.low is None or measured.high is None:
        return f"{value}{unit} ({_seeds(measured)})"
    between = f"{100 * measured.low:{plus}.0f} to {100 * measured.high:{plus}.0f}"
    return f"{value}{unit} ({between}, {_seeds(measured)})"


def percent(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.0f} %"


def _times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}"


def _seeds(measured: Estimate) -> str:
    return f"{measured.seeds} seed{'' if measured.seeds == 1 else 's'}"
