"""``veneer generate``: a labelled dataset, or a suite of them."""

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import make_dataclass
from typing import Annotated

from veneer.commands.options import SuiteOptions, parse
from veneer.commands.progress import following, quoted
from veneer.commands.screen import Bar, BarColumn, MofNCompleteColumn, TimeRemainingColumn, console
from veneer.suites.request import DatasetOptions, formats_of, plan_of, task_options_of
from veneer.tasks.errors import InputError

USAGE = """\
usage: veneer generate TASK --samples N --out DIR [options]
       veneer generate FILE.py:FUNCTION --vocabulary a b c --max-length 10 --samples N --out DIR [options]
       veneer generate suite paper|shortcut-ladder --out DIR [options]
tasks: counter, max-identifier, pcfg-c, pcfg-cc, pcfg-i, pcfg-ic, pcfg-t, or a RASP program of your own
veneer generate TASK --help lists the options
"""


def command(words: list[str]) -> None:
    """``veneer generate``."""
    if not words or words[0].startswith("-"):
        print(USAGE, end="")
        if words[:1] not in (["-h"], ["--help"]):
            sys.exit(2)
        return
    if words[0] == "suite":
        _generate_suite(words[1:])
        return
    name, rest = words[0], words[1:]
    prog = f"veneer generate {name}"
    import tyro

    task_options = task_options_of(name)
    unnamed = tyro.conf.arg(name="")
    parts = [("dataset", Annotated[DatasetOptions, unnamed]), ("task", Annotated[task_options, unnamed])]
    Options = make_dataclass("Options", parts)
    Options.__doc__ = task_options.__doc__
    options = parse(Options, rest, prog)
    plan, make = plan_of(name, options.dataset, options.task, _command(["generate", *words]))
    from veneer.suites.dataset import generate as make_dataset

    with _Progress(plan.samples) as progress:
        made = make_dataset(plan, make, options.dataset.out, options.dataset.jobs, progress)
    console.print(f"wrote {made}: {plan.samples:,} samples; its README.md is the dataset card")
    following(f"veneer verify {quoted(made)}")


def _command(words: Sequence[str]) -> str:
    """The command as the card shows it: without the folders and the number of processes."""
    kept, skip = [], False
    for word in words:
        if skip or word in ("--out", "--jobs"):
            skip = not skip
        elif not word.startswith(("--out=", "--jobs=")):
            kept.append(word)
    return f"veneer {shlex.join(kept)} --out DIR"


def _generate_suite(words: list[str]) -> None:
    from veneer.suites.named import SUITES, write_suite

    if not words or words[0].startswith("-"):
        print(USAGE, end="")
        sys.exit(0 if words[:1] in (["-h"], ["--help"]) else 2)
    if words[0] not in SUITES:
        raise InputError("suite", words[0], ", ".join(SUITES))
    options = parse(SuiteOptions, words[1:], f"veneer generate suite {words[0]}")
    if options.samples is not None and options.samples < 1:
        raise InputError("samples", options.samples, "1 or more")
    suite = SUITES[words[0]](options.samples, options.seed)
    command = _command(["generate", "suite", *words])
    with _Progress(sum(plan.samples for plan in suite.plans)) as progress:
        write_suite(words[0], suite, options.out, command, formats_of(options.format), options.jobs, progress)
    console.print(f"wrote {options.out}: {len(suite.plans)} datasets")
    following(f"veneer verify {quoted(options.out)}")


class _Progress:
    """A bar on a terminal, nothing elsewhere."""

    def __init__(self, samples: int) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Bar(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("samples", total=samples)

    def __enter__(self) -> Callable[[int], None]:
        self._bar.start()
        return lambda samples: self._bar.update(self._task, advance=samples)

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()
