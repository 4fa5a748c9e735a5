"""``veneer run`` on text models, one model at a time, in a folder of trials: stories, layers."""

import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from veneer.commands.manners import current, runs_folder, tell
from veneer.commands.options import TextRunOptions, ask, preset_of
from veneer.commands.progress import duration, following, quoted
from veneer.commands.screen import Table, Waiting, console, styled
from veneer.models.files import exists
from veneer.tasks.errors import InputError

STEPS_SHOWN = (0, 1, 4, 8, 32)
"""Updates of reFT in the table; and the last."""


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


def run_stories(words: list[str]) -> None:
    """``veneer run stories``: delete, revive, and say what came out.

    Raises:
        InputError: an option or a model that cannot be used; nothing has been written then.
    """
    from veneer.experiments.stories.settings import STORIES

    preset = preset_of(words)
    about = "Delete a feature from a model that writes stories, and see how fast it comes back."
    options, settings = ask(TextRunOptions(preset), STORIES[preset], words, "veneer run stories", about)
    evaluate(settings, replace(options, out=options.out or runs_folder() / f"stories-{preset}"))


def evaluate(settings: Any, options: TextRunOptions) -> None:
    """Check everything, do what is not done, and show what came out."""
    from veneer.experiments.stories.prepare import prepare
    from veneer.experiments.stories.result import conclude
    from veneer.experiments.stories.work import begin_work, work
    from veneer.report.stories_page import write_stories_page

    began = time.monotonic()
    prepared = done(settings, options, prepare, work, begin_work)
    outcomes = conclude(prepared.run)
    page = write_stories_page(prepared.run, outcomes)
    plain = {"run": str(prepared.run.path), "outcomes": [own.plain() for own in outcomes]}
    if not tell("run", plain):
        show(prepared.run, outcomes)
        _say(duration(time.monotonic() - began), "dim")
        following(f"veneer report {quoted(prepared.run.path)}", page=page)


def done(settings: Any, options: TextRunOptions, prepare: Any, work: Any, begin_work: Any) -> Any:
    """Prepare a run and do all of its trials; what ``prepare`` gave.

    Args:
        settings: of the experiment.
        options: where and how to run.
        prepare: checks all, and opens the folder.
        work: does the trials in this process.
        begin_work: does them in one of several.

    Raises:
        InputError: what cannot be used; a folder in which nothing was measured is taken back.
    """
    from veneer.experiments.begin import device_of
    from veneer.finetune.processor import cores

    assert options.out is not None
    device = device_of(options.device)
    jobs = options.jobs if options.jobs is not None else 1 if device.type == "cuda" else cores()
    if jobs < 1:
        raise InputError("jobs", options.jobs, "1 or more")
    prepared = prepare(settings, options.out, device, jobs)
    for line in prepared.told:
        _say(line)
    try:
        _work(prepared.run, device, jobs, work, begin_work)
    except InputError:
        if prepared.fresh:
            prepared.run.withdraw()
        raise
    return prepared


def show(run: Any, outcomes: list[Any]) -> None:
    """The table of shares, then each verdict with its reasons."""
    from veneer.experiments.stories.result import rows

    found = rows(run, outcomes)
    last = run.settings.reft_updates
    steps = [step for step in STEPS_SHOWN if step < last] + [last]
    feature = run.settings.feature
    title = (
        f"stories with a {feature}, in percent, after updates of reFT (Wilson's 95 % interval at the ends)"
    )
    table = Table(title=title, title_justify="left")
    for name in ("deletion", *map(str, steps), "others", "loss before, after"):
        table.add_column(name, justify="left" if name == "deletion" else "right", overflow="fold")
    for row in found:
        cells = []
        for step in steps:
            cells.append(_share(row, step, step in (0, last)))
        losses = ", ".join("–" if own is None else f"{own:.2f}" for own in row.loss)
        others = "–" if row.others is None else f"{100 * row.others:.0f}"
        table.add_row(row.name, *cells, others, losses)
    console.print(table)
    for own in outcomes:
        strength = "" if own.strength == "none" else f" ({own.strength})"
        leaning = f", leaning {own.leaning}" if own.leaning else ""
        console.print(styled((own.kind, "bold"), f"{strength}{leaning}: {own.name}"))
        for reason in own.reasons:
            console.print(f"• {reason}")
        for need in own.needed:
            console.print(f"  it would take {need}")


def _share(row: Any, step: int, wide: bool) -> str:
    if step not in row.shares:
        return "–"
    low, high = row.intervals[step]
    return f"{100 * row.shares[step]:.0f}" + (f" ({100 * low:.0f} to {100 * high:.0f})" if wide else "")


def _say(text: str, style: str | None = None) -> None:
    """A line on the way to the result."""
    if not current().quiet:
        console.print(text, style=style)


def _work(run: Any, device: Any, jobs: int, work: Any, begin_work: Any) -> None:
    """Do the trials, here or in several processes, and say what is being done."""
    from veneer.experiments.trial_work import work_beside

    total, pending = len(run.trials()), len(run.pending())
    if pending < total:
        _say(f"{total - pending} of {total} trials were done before")
    with Waiting(not current().quiet) as line:
        line.update(f"{pending} trials")

        def progress(told: str, step: int) -> None:
            left = len(run.pending())
            line.update(f"{total - left} of {total} trials done; {told}, {step} updates")
            if step == 0 and not console.is_terminal:
                _say(f"{total - left}/{total} {told}")

        if jobs == 1 or pending == 0:
            work(run, device, progress)
        else:
            work_beside(run, begin_work, device, jobs, progress)
