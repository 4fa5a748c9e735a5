"""What would decide an open claim: more seeds, in the settings in which it is open and nowhere else."""

import shlex
from collections.abc import Sequence

from veneer.analysis.evidence import more_seeds
from veneer.claims.evidence import Part
from veneer.claims.view import View
from veneer.experiments.deciding import other_flags, pretrainings_there, seconds_per_update, updates_of
from veneer.experiments.store import Run


def commands(
    view: View, alike: Sequence[Run], parts: Sequence[Part], fewest: int, analyses: Sequence[str]
) -> tuple[tuple[str, ...], int | None]:
    """The commands whose runs, read beside the others, add their seeds, and about how many minutes they take.

    Args:
        view: the runs that did not decide.
        alike: all runs like them that are there: their seeds are not asked for again.
        parts: the claim's inequalities.
        fewest: seeds below which nothing is decided.
        analyses: those of ``veneer analyse`` that the runs need; the tables that were read are made again.

    Returns:
        One command for each set of C_Tr, with its rates; none where every inequality is decided, or where
        more seeds would take pretrainings that are not there. The minutes of all, at the pace of the run;
        None where that is not known.
    """
    left = [part for part in parts if part.holds(fewest) is None]
    if not left:
        return (), None
    described, fields = view.run.experiment, view.fields
    looked = [name for name in analyses if any(table.startswith(name) for table in view.read)]
    taken = [run.experiment["fields"] for run in (*view.runs, *alike)]
    first = max(own["first_seed"] + own["seeds"] for own in taken)
    have = min(part.effect.seeds for part in left)
    seeds = more_seeds(have, have) - have
    pretrained = fields.get("pretrained", ())
    seeds = min([seeds, *(pretrainings_there(word, first, seeds) for word in pretrained)])
    if seeds < 1:
        return (), None
    by_shares: dict[tuple[float, ...], list[float]] = {}
    for rate, shares in _settings(view, left).items():
        by_shares.setdefault(tuple(shares), []).append(rate)
    found, updates = [], 0
    for shares, rates in by_shares.items():
        changes = {
            "first-seed": first,
            "seeds": seeds,
            "learning-rates": " ".join(f"{rate:g}" for rate in rates),
            "c-tr": " ".join(f"{share:g}" for share in shares),
        }
        if fields["controls"] and max(rates) != (control := view.control_rate):
            changes["control-rate"] = f"{control:g}"
        named = f"{changes['learning-rates']} c-tr {changes['c-tr']} from {first}".replace(" ", "-")
        out = shlex.quote(f"{view.path}-{named}")
        preset = "" if described["preset"] == "quick" else f" --preset {described['preset']}"
        flags = " ".join(f"--{name} {value}" for name, value in changes.items())
        line = f"veneer run {view.name}{preset} {flags}{other_flags(described, changes)} --out {out}"
        line += f" && veneer analyse {out} --only {' '.join(looked)}" if looked else ""
        found.append(line)
        updates += len(rates) * len(shares) * updates_of(fields | {"seeds": seeds})
    each = seconds_per_update(view.run)
    return tuple(found), None if each is None else max(1, round(updates * each / 60))


def _settings(view: View, left: Sequence[Part]) -> dict[float, list[float]]:
    """C_Tr by rate of the settings that are open; of all settings where a part is about several."""
    if any(part.setting is None for part in left):
        return {rate: view.shares for rate in view.rates}
    found: dict[float, list[float]] = {}
    for rate, share in sorted({part.setting for part in left if part.setting}, reverse=True):
        found.setdefault(rate, []).insert(0, share)
    return found
