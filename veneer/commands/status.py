"""``veneer status``: what of a run is done, in training, given up and left."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from veneer.commands.manners import tell
from veneer.commands.progress import duration, following, quoted
from veneer.commands.screen import console
from veneer.commands.text_run import text_folder, text_status
from veneer.experiments.folder import RunFolder
from veneer.experiments.status import status as look
from veneer.models.files import is_file


def command(words: list[str]) -> None:
    """``veneer status RUN``: what is done, in training, given up and left."""
    folder = folder_alone(words, "status")
    if (trials := text_folder(folder)) is not None:
        text_status(trials)
        return
    run = RunFolder.read(folder)
    found = look(run)
    planned, done = found.updates
    if tell("status", {"run": str(run.path), **asdict(found), "seconds_left": found.seconds_left}):
        return
    share = f" ({done / planned:.0%} of the updates)" if planned else ""
    console.print(f"{found.done:,} of {found.cells:,} cells are finished{share}")
    page = run.path / "report.html"
    if found.diverged:
        lost = f"; {found.without_start:,} that would start from them are not trained"
        console.print(f"{found.diverged:,} diverged{lost if found.without_start else ''}")
    moments: tuple[tuple[Literal["running", "interrupted"], str], ...] = (
        ("running", "in training"),
        ("interrupted", "begun, but in nobody's hands"),
    )
    for kind, text in moments:
        for fleet, at in getattr(found, kind).items():
            rate = f", {at.rate:,.0f} model updates/s" if kind == "running" and at.rate else ""
            where = f", process {at.process} on {at.host}" if kind == "running" else ""
            shown = f"{at.step:,} of {at.updates:,} updates{rate}{where}"
            console.print(f"{text}: fleet {fleet}, {at.members} cells, {shown}")
    for fleet, why in found.failed.items():
        console.print(f"given up: fleet {fleet}: {why}")
    if found.seconds_left is not None:
        console.print(f"about {duration(found.seconds_left)} left at this rate")
    elif done < planned:
        console.print("nobody is at work on it; the same command goes on")
        command = run.experiment.get("command")
        following(*([command] if command else []))
    else:
        following(*_next(run), page=page if page.exists() else None)


def _next(run: RunFolder) -> list[str]:
    """What is left to do with a run that is trained: what looks into it, or what draws what was found."""
    analysed = is_file(run.path / "analysis" / "verdicts.parquet")
    return [f"veneer {'figures' if analysed else 'analyse'} {quoted(run.path)}"]


def repeat(run: RunFolder) -> str:
    """The command that goes on with a run, as the end of a sentence."""
    command = run.experiment.get("command")
    return f": {command}" if command else ""


def folder_alone(words: list[str], command: str) -> Path:
    """The folder of a command that takes nothing else."""
    if len(words) != 1 or words[0].startswith("-"):
        print(f"usage: veneer {command} RUN    (RUN is a folder made by veneer run or sweep)")
        sys.exit(0 if words[:1] in (["-h"], ["--help"]) else 2)
    return Path(words[0])
