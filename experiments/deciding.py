"""What would decide an open verdict: one command, and about how many minutes it takes.

The time is that of the run itself: updates that its fleets made, over the seconds between their ends, so
that it fits the machine and the engine. A run that was broken off has long gaps, which a median leaves out.
"""

import shlex
from dataclasses import asdict
from itertools import pairwise
from statistics import median
from typing import Any

from veneer.analysis.evidence import MANY_SEEDS, MIN_SEEDS, more_seeds
from veneer.analysis.verdict import DECIDED, SEARCH, SECOND_RATE, Verdict
from veneer.experiments.model_names import SEED, model_name
from veneer.experiments.named import PRESETS
from veneer.experiments.origins import is_there
from veneer.experiments.reuse import has_weights, written_down
from veneer.experiments.store import Run
from veneer.models.files import read_json
from veneer.tasks.errors import InputError

LONGER = 3
"""How many times longer a reFT is asked for where even its controls do not get there."""
SMALLER = 10
"""How many times smaller a second rate of reFT is: a smaller one leaves in place what is hidden."""


def deciding_command(run: Run, values: dict[str, Any], verdict: Verdict, seeds: int) -> str:
    """The command for one setting, with its minutes; empty where something is decided.

    Args:
        run: the run that did not decide.
        values: the setting: its fine_tuning_rate and c_tr.
        verdict: what was found.
        seeds: seeds behind it.
    """
    if verdict.kind in DECIDED or values.get("fine_tuning_rate") is None:
        return ""
    if SEARCH in verdict.needed:
        return f"veneer analyse {shlex.quote(str(run.path))}"
    described = run.experiment
    point = {name: values[name] for name in described.get("axes") or {}}  # of a sweep
    fields = described["fields"] | point
    rate, c_tr = values["fine_tuning_rate"], values["c_tr"]
    changes: dict[str, Any] = {"learning-rates": f"{rate:g}", "c-tr": f"{c_tr:g}"}
    longer = any("longer reFT" in what for what in verdict.needed)
    complete = fields["reft_rates"] and fields["controls"] and fields["third_operand"]
    unasked = not complete and any("third operand" in what for what in verdict.needed)
    wanted = more_seeds(fields["seeds"], seeds)
    if longer and seeds >= MIN_SEEDS:
        wanted = max(MANY_SEEDS, fields["seeds"])
    changes["seeds"] = wanted
    planned = fields | {"seeds": wanted}
    made = fields
    if unasked:  # no reFT, or nothing to hold it against: the same seeds, with these
        own = asdict(PRESETS[described["name"]][described["preset"]])["reft_rates"]
        fields = fields | {
            "controls": True,
            "third_operand": True,
            "reft_rates": made["reft_rates"] or list(own),
        }
        changes["seeds"] = max(MIN_SEEDS, fields["seeds"])
        planned = fields | {"seeds": changes["seeds"]}
    if SECOND_RATE in verdict.needed:
        rates = [*fields["reft_rates"], min(fields["reft_rates"]) / SMALLER]
        changes |= {"seeds": max(MIN_SEEDS, seeds), "reft-rates": " ".join(f"{rate:g}" for rate in rates)}
        planned |= {"seeds": changes["seeds"], "reft_rates": rates}
    if longer:
        changes["reft-iterations"] = LONGER * fields["reft_iterations"]
        planned |= {"reft_iterations": changes["reft-iterations"]}
    if "pretrained" in fields:
        words = {model_name(word): word for word in fields["pretrained"]}
        word = words[values["capability"]]
        changes["pretrained"] = shlex.quote(word)
        there = pretrainings_there(word, fields["first_seed"], changes["seeds"])
        if there == fields["seeds"] < changes["seeds"]:
            return ""  # it takes pretrainings that are not there
        if there > fields["seeds"]:  # if there are fewer, they lie elsewhere now
            changes["seeds"] = planned["seeds"] = there
    flags = " ".join(f"--{name} {value}" for name, value in changes.items()) + other_flags(
        described | {"fields": fields}, changes
    )
    several = [values["capability"]] if len(fields.get("pretrained", ())) > 1 else []
    names = [str(run.path), *several, f"{rate:g}", f"{c_tr:g}", *map(str, point.values())]
    out = shlex.quote("-".join(names))
    preset = "" if described["preset"] == "quick" else f" --preset {described['preset']}"
    reuse = f" --reuse {shlex.quote(str(run.path))}" if has_weights(run) else ""
    command = f"veneer run {described['name']}{preset} {flags} --out {out}{reuse} && veneer analyse {out}"
    each = seconds_per_update(run)
    if each is None:
        return command
    shared = made | {"seeds": min(made["seeds"], planned["seeds"])}
    updates = updates_of(planned) - (_reused(shared, rate, longer) if reuse else 0)
    return f"{command} (about {max(1, round(updates * each / 60))} min)"


def other_flags(described: dict[str, Any], changes: dict[str, Any]) -> str:
    """What else of a run's fields is not its preset's, as flags."""
    preset = asdict(PRESETS[described["name"]][described["preset"]])
    found = ""
    for name, value in described["fields"].items():
        own, flag = preset.get(name), name.replace("_", "-")
        own = list(own) if isinstance(own, tuple) else own
        if flag in changes or name not in preset or own == value:
            continue
        if isinstance(value, bool):
            found += f" --{flag}" if value else f" --no-{flag}"
        else:
            words = value if isinstance(value, list) else [value]
            shown = (f"{w:g}" if isinstance(w, float) else shlex.quote(str(w)) for w in words)
            found += " ".join((f" --{flag}", *shown))
    return found


def updates_of(fields: dict[str, Any]) -> int:
    """Model updates of one setting with its controls."""
    back = len(fields["reft_rates"]) * fields["reft_iterations"]
    controls = 2 * back + fields["iterations"] if fields["controls"] else 0
    third = back if fields["third_operand"] else 0
    return fields["seeds"] * (fields["iterations"] + back + third + controls)


def _reused(fields: dict[str, Any], rate: float, longer: bool) -> int:
    """Model updates of the setting that the run has made already, and another one takes over.

    Models from scratch are fine-tuned at the largest rate, which is another one where only a smaller one is
    asked for. A longer reFT is another training from its first update.
    """
    same = fields["controls"] and rate == (fields["control_rate"] or max(fields["learning_rates"]))
    done = fields | {"controls": same, "reft_iterations": 0 if longer else fields["reft_iterations"]}
    return updates_of(done)


def pretrainings_there(word: str, first: int, wanted: int) -> int:
    """How many seeds can be asked for: where each needs a pretraining of its own, so many as are there."""
    if SEED not in word:
        return wanted
    numbers = (word.replace(SEED, str(first + seed)) for seed in range(wanted))
    return next((there for there, name in enumerate(numbers) if not is_there(name)), wanted)


def seconds_per_update(run: Run) -> float | None:
    """Wall seconds of a model update in this run, its engine's parallelism included; None if not known.

    A run that is kept for its numbers was copied since: the times of its files are not those of training.
    """
    if not has_weights(run):
        return None
    try:
        fleets = read_json(run.path / "plan.json")["fleets"]
    except (InputError, KeyError, TypeError):
        return None
    ended, copies = [], written_down(run)
    for fleet in fleets:
        if copies.keys() & fleet["cells"]:  # trained elsewhere, and at another time
            continue
        files = [run.cell_path(cell) / "cell.json" for cell in fleet["cells"]]
        times = [file.stat().st_mtime for file in files if file.exists()]
        if times:
            ended.append((max(times), fleet["updates"]))
    rates = [(later - former) / updates for (former, _), (later, updates) in pairwise(sorted(ended))]
    return median(rates) if rates else None
