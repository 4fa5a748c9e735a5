"""Whether an experiment goes on with a run that is there: the same, or the same with more.

Cells are known by their content, so that more seeds, rates or shares add cells and change none.
"""

import json
from dataclasses import asdict
from typing import Any

from veneer.experiments.named import Experiment

GROWING = ("learning_rates", "c_tr", "reft_rates", "pretrained")
"""Fields of which each value has cells of its own."""
SWITCHES = ("controls", "constructed", "third_operand", "reft_above")
"""Fields that add cells where they are switched on."""


def differences(experiment: Experiment, axes: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What keeps an experiment from going on with a run, as ``name: theirs -> ours``; empty if nothing does.

    Args:
        experiment: what is asked for; of a sweep the first of its grid.
        axes: its fields with several values.
        found: ``experiment.json`` of the run.
    """
    ours, ours_axes = json.loads(json.dumps([asdict(experiment), axes]))
    theirs, theirs_axes = found["fields"], found.get("axes") or {}
    if ours_axes.keys() != theirs_axes.keys():
        return [f"axes: {theirs_axes} -> {ours_axes}"]
    changed = [
        f"{name}: {theirs.get(name)} -> {own}"
        for name, own in ours.items()
        if name not in ours_axes and not _adds(name, theirs.get(name), own)
    ]
    for name, own in ours_axes.items():
        if not _contains(own, theirs_axes[name]):
            changed.append(f"axes: {name}: {theirs_axes[name]} -> {own}")
    return changed


def _adds(name: str, theirs: Any, ours: Any) -> bool:
    """Whether a field has the same value, or one that adds cells to those that are there."""
    if theirs == ours and type(theirs) is type(ours):
        return True
    if name in GROWING and isinstance(ours, list):
        return _contains(ours, theirs)
    if name == "seeds" and type(theirs) is int and type(ours) is int:
        return ours >= theirs
    if name in SWITCHES:
        return theirs is False
    return theirs == ours and isinstance(ours, float)


def _contains(ours: list[Any], theirs: Any) -> bool:
    return isinstance(theirs, list) and all(value in ours for value in theirs)
