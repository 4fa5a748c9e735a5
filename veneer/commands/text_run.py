"""What the commands do with a folder of trials, whichever experiment on text models made it."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from veneer.commands.manners import tell
from veneer.commands.progress import following, quoted
from veneer.commands.screen import console
from veneer.models.files import exists
from veneer.tasks.errors import InputError

FOLDERS = {
    "stories.json": ("veneer.experiments.stories.store", "StoriesRun"),
    "relearning.json": ("veneer.experiments.relearn.store", "RelearningRun"),
    "cddm.json": ("veneer.experiments.cddm.store", "DecisionsRun"),
    "layers.json": ("veneer.experiments.layers.store", "LayersRun"),
}
"""Folders of trials by the file that tells them: where the class is that reads each."""


def text_folder(path: Path) -> Any:
    """The folder of trials at a path; None if it is of another kind.

    Raises:
        InputError: it is one, and is damaged or of another version.
    """
    for file, (module, name) in FOLDERS.items():
        if exists(path / file):
            return getattr(import_module(module), name).read(path)
    return None


def text_status(run: Any) -> None:
    """What of a folder of trials is done, in work and left."""
    total, pending = len(run.trials()), run.pending()
    held = [trial.told for trial in pending if _held(run, trial)]
    plain = {"run": str(run.path), "trials": total, "done": total - len(pending), "in_work": held}
    if tell("status", plain):
        return
    console.print(f"{total - len(pending):,} of {total:,} trials are finished")
    for told in held:
        console.print(f"in work: {told}")
    page = run.path / "report.html"
    if pending and not held:
        console.print("nobody is at work on it; the command that began it goes on")
    following(f"veneer report {quoted(run.path)}", page=page if page.exists() else None)


def _held(run: Any, trial: Any) -> bool:
    """Whether a process works on a trial now."""
    if not exists(run.path / "locks" / f"{trial.id}.lock"):
        return False
    with run.claim(trial.id) as free:
        return not free


def text_verify(run: Any) -> None:
    """Whether a folder of trials is whole; exits with 1 if a trial is missing or damaged."""
    problems = run.problems()
    if not tell("verify", {"folder": str(run.path), "problems": problems}):
        for problem in problems:
            console.print(f"{run.path}: {problem}", soft_wrap=True)
        if problems:
            console.print("the same command makes what is missing; remove a damaged file first")
        else:
            console.print(f"{run.path}: all {len(run.trials()):,} trials are whole", soft_wrap=True)
            following(f"veneer report {quoted(run.path)}")
    if problems:
        sys.exit(1)


def text_analyse(run: Any, words: list[str]) -> None:
    """The tables of a folder of trials and its page, made again from what its trials measured.

    Raises:
        InputError: options, of which it takes none: its trials are its analyses.
    """
    if words:
        valid = f"none: the trials of {run.MADE_BY} are its analyses"
        raise InputError("option", " ".join(words), valid)
    if run.FILE == "cddm.json":
        from veneer.commands.cddm_run import look_inside

        look_inside(run)
    page = text_report(run)
    if not tell("analyse", {"run": str(run.path), "tables": sorted(map(str, run.path.glob("*.parquet")))}):
        for table in sorted(run.path.glob("*.parquet")):
            console.print(f"wrote {table}", soft_wrap=True)
        following(f"veneer claims {quoted(run.path)}", page=page)


def text_figures(run: Any, style: str, out: Path) -> list[Path]:
    """The counterparts of the paper's figures, of a folder of trials whose kind has some.

    Raises:
        InputError: a kind that has none, or what the figures need is missing.
    """
    if run.FILE == "cddm.json":
        from veneer.report.paper.decisions import decision_figures

        return decision_figures(run, style, out)
    if run.FILE != "layers.json":
        problem = f"its page has the curves of {run.MADE_BY}"
        raise InputError("run", str(run.path), "a run that figures are drawn of", problem)
    from veneer.report.paper.layers import layer_figures

    return layer_figures(run, style, out)


def text_report(run: Any) -> Path:
    """The page of a folder of trials, written again from what is there."""
    if run.FILE == "stories.json":
        from veneer.experiments.stories.result import conclude
        from veneer.report.stories_page import write_stories_page

        return write_stories_page(run, conclude(run))
    if run.FILE == "cddm.json":
        from veneer.experiments.cddm.result import conclude as compared
        from veneer.report.cddm_page import write_decisions_page

        return write_decisions_page(run, compared(run))
    if run.FILE == "layers.json":
        from veneer.experiments.layers.result import conclude as gathered
        from veneer.report.layers_page import write_layers_page

        return write_layers_page(run, gathered(run))
    from veneer.experiments.relearn.judge import UTILITY_LOSS
    from veneer.experiments.relearn.result import conclude as judged
    from veneer.report.relearn_page import write_relearning_page

    same = not exists(run.path / "trials")
    return write_relearning_page(run, judged(run, same, UTILITY_LOSS))
