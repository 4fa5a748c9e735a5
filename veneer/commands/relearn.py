"""``veneer relearn``: is a capability gone from a language model, or does a little training bring it back?"""

import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from veneer.commands.manners import tell
from veneer.commands.options import parse
from veneer.commands.progress import duration, following
from veneer.commands.screen import Table, console, styled
from veneer.commands.text_work import do_trials, say
from veneer.experiments.relearn.settings import Relearning
from veneer.tasks.errors import InputError

NAMES = tuple(field.name for field in fields(Relearning))


@dataclass(frozen=True)
class RelearnOptions(Relearning):
    """Is the capability gone from AFTER, or does a little training bring it back?

    BEFORE has it, AFTER is said not to. The data is divided into a taught and a held-out half; what comes
    back on the held-out half was never gone. Models: a folder, a .gguf file, a hub's name, or BASE+ADAPTER.
    """

    out: Path = Path("runs/relearn")
    """Folder; an interrupted evaluation in it is continued."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    jobs: int = 1
    """Processes that share the trials; each loads its own models."""
    like: Path | None = None
    """Another evaluation with the same settings but for AFTER, to take over what it measured on others."""
    minutes: float | None = None
    """Stop beginning trials after so many minutes; what is missing is named as missing."""
    utility_loss: float = 0.05
    """How much of the retain set's skill the worst case may cost."""
    fail_if_revived_within: int | None = None
    """Exit with 1 if half of the capability is there, or back within so many updates."""


def command(words: list[str]) -> None:
    """The command.

    Raises:
        InputError: an option, a model or a file that cannot be used; nothing has been written then.
    """
    import tyro

    @dataclass(frozen=True)
    class Words(RelearnOptions):
        before: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="BEFORE")]
        """The model that has it."""
        after: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="AFTER")]
        """The model that is said not to have it any more."""

        def __post_init__(self) -> None:
            """Nothing: what cannot be used is refused where the question is made, in its own words."""

    Words.__doc__ = RelearnOptions.__doc__
    options = parse(Words, words, "veneer relearn")
    settings = Relearning(**{name: getattr(options, name) for name in NAMES})
    evaluate(settings, options)


def evaluate(settings: Relearning, options: Any) -> None:
    """Check everything, do what is not done, and show what came out."""
    from veneer.experiments.begin import device_of
    from veneer.experiments.relearn.prepare import prepare
    from veneer.experiments.relearn.result import conclude
    from veneer.report.relearn_page import write_relearning_page

    if options.jobs < 1:
        raise InputError("jobs", options.jobs, "1 or more")
    began, device = time.monotonic(), device_of(options.device)
    prepared = prepare(settings, options.out, device, options.jobs, options.like)
    for line in prepared.told:
        say(line)
    try:
        if not prepared.same:
            _work(prepared.run, device, options)
    except InputError:
        if prepared.fresh:
            prepared.run.withdraw()
        raise
    outcome = conclude(prepared.run, prepared.same, options.utility_loss)
    page = write_relearning_page(prepared.run, outcome)
    if not tell("relearn", {**outcome.plain(), "run": str(prepared.run.path)}):
        _show(outcome, prepared.run)
        say(duration(time.monotonic() - began), "dim")
        following(page=page)
    limit = options.fail_if_revived_within
    if limit is not None and outcome.revived_within(limit):
        sys.exit(1)


def _work(run: Any, device: Any, options: Any) -> None:
    from veneer.experiments.relearn.work import work

    deadline = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    do_trials(run, device, options.jobs, work, deadline)


def _show(outcome: Any, run: Any) -> None:
    from veneer.experiments.relearn.result import rows

    table = Table(
        title="skill, in percent of before's: taught (T), held out (V), retain", title_justify="left"
    )
    for name in ("model", "attack", "T", "V", "retain", "updates to half on V"):
        table.add_column(name, justify="left" if name in ("model", "attack") else "right", overflow="fold")
    for row in rows(run):
        table.add_row(*row)
    console.print(table)
    strength = "" if outcome.strength == "none" else f" Evidence: {outcome.strength}."
    console.print(styled((outcome.headline, "bold"), strength))
    for reason in outcome.reasons:
        console.print(f"• {reason}")
    if outcome.worst is not None:
        own = outcome.worst
        within = "" if own.retain is None else f" within {100 * outcome.utility_loss:.0f} points of retain"
        console.print(f"• Worst case{within}, selected on T: {own.recipe}; V {100 * own.held:.0f} %.")
    for need in outcome.needed:
        console.print(f"it would take {need}")
