"""What the commands do with a folder of trials, whichever experiment on text models made it."""

import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from veneer.commands.manners import tell
from veneer.commands.progress import following, quoted
from veneer.commands.screen import console
from veneer.models.files import exists
from veneer.tasks.errors import InputError


@dataclass(frozen=True)
class Kind:
    """A kind of folder of trials: where its functions are, as "module:name", which are loaded when needed.

    Attributes:
        run: the class that reads it.
        conclude: what came out, from the folder.
        page: writes its page, from the folder and what came out.
        figures: draws the counterparts of the paper's, if it has some.
        look: does trials that only look inside, if ``veneer analyse`` is to do them.
    """

    run: str
    conclude: str
    page: str
    figures: str | None = None
    look: str | None = None


EXPERIMENTS, PAGES = "veneer.experiments", "veneer.report"
KINDS = {
    "stories.json": Kind(
        f"{EXPERIMENTS}.stories.store:StoriesRun",
        f"{EXPERIMENTS}.stories.result:conclude",
        f"{PAGES}.stories_page:write_stories_page",
    ),
    "relearning.json": Kind(
        f"{EXPERIMENTS}.relearn.store:RelearningRun",
        f"{EXPERIMENTS}.relearn.result:conclude",
        f"{PAGES}.relearn_page:write_relearning_page",
    ),
    "cddm.json": Kind(
        f"{EXPERIMENTS}.cddm.store:DecisionsRun",
        f"{EXPERIMENTS}.cddm.result:conclude",
        f"{PAGES}.cddm_page:write_decisions_page",
        f"{PAGES}.paper.decisions:decision_figures",
        "veneer.commands.cddm_run:look_inside",
    ),
    "layers.json": Kind(
        f"{EXPERIMENTS}.layers.store:LayersRun",
        f"{EXPERIMENTS}.layers.result:conclude",
        f"{PAGES}.layers_page:write_layers_page",
        f"{PAGES}.paper.layers:layer_figures",
    ),
}
"""The kinds of folders of trials, by the file that tells each."""


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def text_folder(path: Path) -> Any:
    """The folder of trials at a path; None if it is of another kind.

    Raises:
        InputError: it is one, and is damaged or of another version.
    """
    for file, kind in KINDS.items():
        if exists(path / file):
            return _named(kind.run).read(path)
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
    if look := KINDS[run.FILE].look:
        _named(look)(run)
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
    figures = KINDS[run.FILE].figures
    if figures is None:
        problem = f"its page has the curves of {run.MADE_BY}"
        raise InputError("run", str(run.path), "a run that figures are drawn of", problem)
    return _named(figures)(run, style, out)


def text_report(run: Any) -> Path:
    """The page of a folder of trials, written again from what is there."""
    kind = KINDS[run.FILE]
    return _named(kind.page)(run, _named(kind.conclude)(run))
