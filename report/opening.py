"""What the template shows first: the title, the leading curves, the evidence, and what would help.

It gathers what ``answer``, ``evidence_columns`` and ``glossary`` make into the words of one chapter.
"""

import re
import shlex
from collections.abc import Sequence
from typing import Any

from veneer.analysis.evidence import MIN_SEEDS
from veneer.experiments.content import Content, ReadRun
from veneer.experiments.deciding import seconds_per_update
from veneer.experiments.store import Run
from veneer.models.files import read_json
from veneer.report import answer
from veneer.report.answer import Lead
from veneer.report.evidence_columns import HEADS, MARKS, any_measured, columns
from veneer.report.figures import rate_name
from veneer.report.glossary import glossary
from veneer.report.methods import command
from veneer.report.tables import Judged


def opening(
    run: ReadRun, content: Content, found: Sequence[Judged], path: str, point: str = ""
) -> tuple[dict[str, Any], Lead | None]:
    """The words of the first screen, and the setting that leads it.

    Args:
        run: the run.
        content: what is in its folder.
        found: every setting's verdict.
        path: the run's folder, as it was given.
        point: of a sweep's point, its name; it is repeated in a folder of its own.
    """
    alone = f"{path}-{re.sub('[^A-Za-z0-9.]+', '-', point)}" if point else path
    lead = answer.find_lead(content, found)
    weights = {files.name: files.accuracy["about"]["parameters"] for files in content.capabilities}
    evidence = columns(run, content, weights)
    words = {
        "title": answer.title(content.experiment, lead),
        "names": answer.plain_names(content.experiment),
        "lead": None if lead is None else _described(content, lead),
        "evidence": evidence if any_measured(evidence) else {},
        "marks": MARKS,
        "heads": HEADS,
        "glossary": glossary(content.experiment),
        "few_seeds": few_seeds(run, content, found, alone),
        "path": path,
        "command": command(content.experiment, alone),
        "analyse": shlex.join(["veneer", "analyse", path]),
    }
    return words, lead


def _described(content: Content, lead: Lead) -> dict[str, str]:
    verdict, step = lead.judged.curves, lead.step
    beside = ", ".join(
        f"{answer.ARM_NAMES.get(own.arm, own.arm)} {own.at(step):.0%}" for own in lead.controls
    )
    described = (
        f"Curves of the old task while it is retrained at {rate_name(lead.rate)}: after {step:,} updates "
        f"{lead.curve.at(step):.0%}{'; ' if beside else ''}{beside}. Guessing is right on {lead.guess:.0%}."
    )
    return {
        "capability": verdict.capability,
        "rate": rate_name(verdict.fine_tuning_rate),
        "c_tr": rate_name(verdict.c_tr),
        "reft": rate_name(lead.rate),
        "described": described,
    }


def few_seeds(run: Run, content: Content, found: Sequence[Judged], path: str) -> tuple[str, str]:
    """What the run leans to, and the command that would decide, if its seeds are too few; else nothing."""
    settings = content.experiment["fields"]
    if settings["seeds"] >= MIN_SEEDS or not settings["reft_rates"]:
        return "", ""
    more = {**content.experiment, "fields": {**settings, "seeds": MIN_SEEDS}}
    line = command(more, f"{path}-{MIN_SEEDS}-seeds")
    leaning = [one.leaning or {"came back": "wrapped"}.get(one.kind, "") for one in found]
    counts = {name: leaning.count(name) for name in ("wrapped", "rewritten")}
    told = [f"{name} in {count}" for name, count in counts.items() if count]
    first = f"It leans to {' and to '.join(told)} of {len(found)} settings. " if told else ""
    minutes = _minutes(run, content, MIN_SEEDS)
    return f"{first}This makes the {MIN_SEEDS} seeds that a verdict needs{minutes}:", line


def _minutes(run: Run, content: Content, seeds: int) -> str:
    """About how long the whole run takes with so many seeds, at the pace that it had."""
    each = seconds_per_update(run)
    if each is None or content.metrics is None:
        return ""
    planned = read_json(run.path / "plan.json")["fleets"]
    updates = sum(fleet["updates"] for fleet in planned)
    minutes = each * updates * seeds / content.experiment["fields"]["seeds"] / 60
    return f" in about {max(1, round(minutes))} min"
