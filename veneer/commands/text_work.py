"""``veneer run`` on text models: the trials of a folder, one model at a time, in one process or several."""

from typing import Any

from veneer.commands.manners import current
from veneer.commands.options import TextRunOptions
from veneer.commands.screen import Waiting, console
from veneer.tasks.errors import InputError


def done(settings: Any, options: TextRunOptions, prepare: Any, work: Any) -> Any:
    """Prepare a run and do all of its trials; what ``prepare`` gave.

    Args:
        settings: of the experiment.
        options: where and how to run.
        prepare: checks all, and opens the folder.
        work: does the trials, in this process or in one of several.

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
        say(line)
    try:
        do_trials(prepared.run, device, jobs, work)
    except InputError:
        if prepared.fresh:
            prepared.run.withdraw()
        raise
    return prepared


def say(text: str, style: str | None = None) -> None:
    """A line on the way to the result."""
    if not current().quiet:
        console.print(text, style=style)


def do_trials(run: Any, device: Any, jobs: int, work: Any, *deadline: float | None) -> None:
    """Do the trials, here or in several processes, and say what is being done.

    Args:
        run: the folder.
        device: where to compute.
        jobs: processes.
        work: does the trials.
        deadline: for a ``work`` that takes one, when to stop.
    """
    from veneer.experiments.trial_work import work_beside

    total, pending = len(run.trials()), len(run.pending())
    if pending < total:
        say(f"{total - pending} of {total} trials were done before")
    with Waiting(not current().quiet) as line:
        line.update(f"{pending} trials")

        def progress(told: str, step: int) -> None:
            left = len(run.pending())
            line.update(f"{total - left} of {total} trials done; {told}, {step} updates")
            if step == 0 and not console.is_terminal:
                say(f"{total - left}/{total} {told}")

        if jobs == 1 or pending == 0:
            work(run, device, progress, *deadline)
        else:
            work_beside(run, work, device, jobs, progress, *deadline)
