"""``veneer verify``: whether a dataset is what it says, or a run is whole."""

import sys
from pathlib import Path

from veneer.commands.manners import tell
from veneer.commands.options import VerifyOptions, folder_of, parse
from veneer.commands.progress import following, quoted
from veneer.commands.screen import console
from veneer.commands.text_run import text_folder, text_verify
from veneer.tasks.errors import InputError


def command(words: list[str]) -> None:
    """A run has an experiment.json, a folder of trials its own file; all else is a dataset, or refused."""
    if len(words) == 1 and (trials := text_folder(Path(words[0]))) is not None:
        text_verify(trials)
        return None
    if words and not words[0].startswith("-") and (Path(words[0]) / "experiment.json").exists():
        return _verify_run(words)
    return _verify_dataset(words)


def _verify_run(words: list[str]) -> None:
    """``veneer verify RUN``: exits with 1 if a planned cell is missing or damaged."""
    from veneer.commands.status import folder_alone, repeat
    from veneer.experiments.status import verify as problems_of
    from veneer.experiments.store import Run

    run = Run.read(folder_alone(words, "verify"))
    problems = problems_of(run)
    if tell("verify", {"folder": str(run.path), "problems": list(map(str, problems))}):
        sys.exit(1 if problems else 0)
    for problem in problems:
        console.print(f"{run.path}: {problem}", soft_wrap=True)
    if problems:
        told = f"the same command makes what is missing or damaged again, and nothing else{repeat(run)}"
        console.print(told, soft_wrap=True)
        sys.exit(1)
    whole = f"{run.path}: all {len(run.finished()):,} finished cells are whole, and none is missing"
    console.print(whole, soft_wrap=True)
    following(f"veneer analyse {quoted(run.path)}")


def _verify_dataset(words: list[str]) -> None:
    """``veneer verify``: exits with 1 if problems were found."""
    folder, rest = folder_of(words, VerifyOptions, "veneer verify DIR", "DIR")
    options = parse(VerifyOptions, rest, "veneer verify DIR")
    if options.sample < 1:
        raise InputError("sample", options.sample, "1 or more rows")
    from veneer.suites.named import members
    from veneer.suites.tasks import relabel
    from veneer.suites.verify import read_manifest, verify

    problems: list[str] = []
    for dataset in members(folder):
        task = read_manifest(dataset)["plan"]["task"]
        again = relabel(task, options.program)
        found = verify(dataset, again, options.sample)
        problems += [f"{dataset}: {problem}" for problem in found]
        shown = [f"{dataset}: {problem}" for problem in found]
        if again is None:
            shown.append(f"{dataset}: labels not recomputed; name the program with --program")
        if not found:
            shown.append(f"{dataset}: as described: files, schema, ids, labels, overlap, statistics")
        for line in shown:
            console.print(line, soft_wrap=True)
    told = tell("verify", {"folder": str(folder), "problems": problems})
    if problems:
        sys.exit(1)
    if not told:
        following(f"veneer evaluate {quoted(members(folder)[0])} --predictions PREDICTIONS.parquet")
