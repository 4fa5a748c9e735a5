"""What the JSON files of a run hold: a file of another shape is refused where it is read.

See ``veneer.models.files.fault`` for the notation.
"""

from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from veneer.experiments.named import PRESETS
from veneer.models.files import Each, Perhaps, fault

EXPERIMENT: dict[str, Any] = {
    "format": int,
    "name": str,
    "preset": str,
    "fields": dict,
    "axes": Perhaps(Each([object])),
    "command": Perhaps(str),
}
PLAN = {"fleets": [{"fleet": str, "updates": int, "cells": [str]}]}
LATER = {"first_seed": 0}
"""Fields that runs of this format may lack, since they are older, with the values that these had."""
ENVIRONMENT = {"versions": Each(str)}
RECORD = "reused.json"
REUSED = Each({"run": str, "commit": str, "device": str, "weights": str})
TEXTS = {"majority": {"pt": float, "ft": float}, "answer": Perhaps(dict), "shortcut": Perhaps(float)}
MAJORITIES = Each({"texts": Each({"majority": {"pt": float, "ft": float}})})
BASELINES = Each({"samples": int, "texts": Each(TEXTS)})
_COMPONENT = {"weight": float, "kind": str, "operand": str, "label": str}
_RECIPE = {"learning_rate": float, "iterations": int}
CELL = {
    "format": int,
    "id": str,
    "status": str,
    "start": dict,
    "stage": {"name": str, "mixture": {"components": [_COMPONENT]}, "recipe": _RECIPE},
    "evaluation": {"samples": int, "steps": [int]},
    "seed": int,
    "task": dict,
    "task_id": str,
    "files": Each(str),
}
ORIGIN = {"capability": str, "name": str, "noise": float, "seed": int, "start": str}
ACCURACY = {
    "origin": ORIGIN,
    "texts": int,
    "accuracy": {"as_started": Each({"pt": float, "ft": float})},
    "about": {"kind": str, "parameters": int},
    "files": Perhaps(Each(str)),
}
PROGRESS = {
    "members": int,
    "step": int,
    "updates": int,
    "restored": int,
    "seconds": float,
    "failed": str,
    "host": str,
    "process": int,
}


def completed(described: dict[str, Any]) -> dict[str, Any]:
    """An ``experiment.json`` with the fields that came after it."""
    return {**described, "fields": {**LATER, **described["fields"]}}


def experiment_fault(described: dict[str, Any]) -> str:
    """What of an ``experiment.json`` of the right shape does not fit its experiment; empty if all does."""
    if described["name"] not in PRESETS:
        return f"its experiment {described['name']!r} is not one of {', '.join(PRESETS)}"
    kind = type(PRESETS[described["name"]]["quick"])
    hints = get_type_hints(kind)
    for part in fields(kind):
        if part.name not in described["fields"]:
            return f"its fields lack {part.name}"
        values = described.get("axes", {}).get(part.name, [])
        for value in (described["fields"][part.name], *values):
            if wrong := _misfit(value, hints[part.name], f"fields.{part.name}"):
                return wrong
    for name in ("learning_rates", "c_tr"):
        if not described["fields"][name]:
            return f"its fields.{name} are empty"
    if strange := set(described.get("axes", {})) - {part.name for part in fields(kind)}:
        return f"its axes have {', '.join(sorted(strange))}"
    return ""


def _misfit(value: Any, hint: Any, name: str) -> str:
    """Whether a JSON value is one of a field's type."""
    if get_origin(hint) is tuple:
        return fault(value, [get_args(hint)[0]], name)
    if get_origin(hint) is Literal:
        return "" if value in get_args(hint) else f"{name} is {value!r}, not {' or '.join(get_args(hint))}"
    kinds = [Perhaps(kind) for kind in get_args(hint) if kind is not type(None)] or [hint]
    return fault(value, kinds[0], name)
