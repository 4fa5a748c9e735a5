"""``veneer generate``, ``verify`` and ``evaluate``: options, and what is printed."""

import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console

from tasks.errors import InputError
from veneer.dataset_request import DatasetOptions, formats_of, plan_of, task_options_of

USAGE = """\
usage: veneer generate TASK --samples N --out DIR [options]
       veneer generate FILE.py:FUNCTION --vocabulary a b c --max-length 10 --samples N --out DIR [options]
       veneer generate suite paper|shortcut-ladder --out DIR [options]
tasks: counter, max-identifier, pcfg-c, pcfg-cc, pcfg-i, pcfg-ic, pcfg-t, or a RASP program of your own
veneer generate TASK --help lists the options
"""
Parse = Callable[..., Any]
console = Console()


@dataclass(frozen=True)
class SuiteOptions:
    """Several datasets at once, each in a folder of its own."""

    out: Path
    """New or empty folder."""
    samples: int | None = None
    """Samples of a split (default: paper 2,000; shortcut-ladder 10,000, a fifth of it for tests)."""
    seed: int = 0
    """Chooses the texts."""
    format: str = "parquet"
    """parquet, jsonl, or both as parquet,jsonl."""
    jobs: int = 1
    """Processes; the files are the same for any number."""


@dataclass(frozen=True)
class VerifyOptions:
    """Check files, schema, ids, labels, overlap and statistics; exits with 1 if something is wrong."""

    sample: int = 10_000
    """In how many rows to recompute the answers from the text."""
    program: tuple[str, ...] = ()
    """FILE.py:FUNCTION of the program (and of the second) that labelled the dataset. It is run."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Score predictions of any model: accuracy with and without the correlation, shortcut reliance."""

    predictions: Path
    """Parquet, CSV or JSON lines with the columns id and prediction, one row for every sample."""
    split: str | None = None
    """The split they are for (default: the only one, or test)."""
    out: Path | None = None
    """Write the scores to this JSON file too."""
    json: bool = False
    """Print JSON instead of a table."""


def generate(words: list[str], parse: Parse) -> None:
    """``veneer generate``."""
    if not words or words[0].startswith("-"):
        print(USAGE, end="")
        if words[:1] not in (["-h"], ["--help"]):
            sys.exit(2)
        return
    if words[0] == "suite":
        _generate_suite(words[1:], parse)
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
    from tasks.dataset import generate as make_dataset

    with _Progress(plan.samples) as progress:
        made = make_dataset(plan, make, options.dataset.out, options.dataset.jobs, progress)
    console.print(
        f"wrote {made}: {plan.samples:,} samples; its README.md is the dataset card", highlight=False
    )


def _command(words: Sequence[str]) -> str:
    """The command as the card shows it: without the folders and the number of processes."""
    kept, skip = [], False
    for word in words:
        if skip or word in ("--out", "--jobs"):
            skip = not skip
        elif not word.startswith(("--out=", "--jobs=")):
            kept.append(Path(word).name if re.fullmatch(r".+\.py:\w+", word) else word)
    return f"veneer {shlex.join(kept)} --out DIR"


def _generate_suite(words: list[str], parse: Parse) -> None:
    from veneer.dataset_suites import SUITES, write_suite

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
    console.print(f"wrote {options.out}: {len(suite.plans)} datasets", highlight=False)


class _Progress:
    """A bar on a terminal, nothing elsewhere."""

    def __init__(self, samples: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("samples", total=samples)

    def __enter__(self) -> Callable[[int], None]:
        self._bar.start()
        return lambda samples: self._bar.update(self._task, advance=samples)

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()


def verify(words: list[str], parse: Parse) -> None:
    """``veneer verify``: exits with 1 if problems were found."""
    folder, rest = _folder(words, "verify", VerifyOptions, parse)
    options = parse(VerifyOptions, rest, "veneer verify DIR")
    if options.sample < 1:
        raise InputError("sample", options.sample, "1 or more rows")
    from tasks.dataset_verify import read_manifest, verify
    from veneer.dataset_suites import members
    from veneer.datasets import relabel

    problems = 0
    for dataset in members(folder):
        task = read_manifest(dataset)["plan"]["task"]
        again = relabel(task, options.program)
        found = verify(dataset, again, options.sample)
        for problem in found:
            print(f"{dataset}: {problem}")
        problems += len(found)
        if again is None:
            print(f"{dataset}: labels not recomputed; name the program with --program")
        if not found:
            print(f"{dataset}: as described: files, schema, ids, labels, overlap, statistics")
    if problems:
        sys.exit(1)


def evaluate(words: list[str], parse: Parse) -> None:
    """``veneer evaluate``."""
    folder, rest = _folder(words, "evaluate", EvaluateOptions, parse)
    options = parse(EvaluateOptions, rest, "veneer evaluate DIR")
    from tasks.dataset import write_text
    from tasks.dataset_scores import evaluate

    scores = evaluate(folder, options.predictions, options.split)
    text = json.dumps(asdict(scores), indent=1)
    if options.out is not None:
        try:
            write_text(options.out, text + "\n")
        except OSError as error:
            raise InputError("out", str(options.out), "a file that can be written", str(error)) from error
    if options.json:
        print(text)
    else:
        _show(scores)


def _folder(words: list[str], command: str, options: type, parse: Parse) -> tuple[Path, list[str]]:
    if not words or words[0] in ("-h", "--help"):
        parse(options, ["--help"], f"veneer {command} DIR")
    if words[0].startswith("-"):
        raise InputError("DIR", words[0], "the dataset's folder as the first argument")
    return Path(words[0]), words[1:]


def _show(scores: Any) -> None:
    from rich.table import Table

    table = Table(title=f"{scores.dataset}, split {scores.split}")
    for name in ("on", "samples", "accuracy", "95 % interval"):
        table.add_column(name, justify="left" if name == "on" else "right")
    parts = {name: getattr(scores, name) for name in ("correlated", "uncorrelated", "equal")}
    rows = {"all": scores.accuracy, **parts, **{f"label {label}": s for label, s in scores.labels.items()}}
    for name, share in rows.items():
        if share.samples:
            table.add_row(
                name, f"{share.samples:,}", f"{share.value:.2%}", f"{share.low:.2%} to {share.high:.2%}"
            )
    console.print(table)
    shortcut = (
        "" if scores.shortcut is None else f"; of the shortcut (O_PT's answer + q): {scores.shortcut:.2%}"
    )
    console.print(f"accuracy of the commonest label: {scores.majority:.2%}{shortcut}", highlight=False)
    if scores.reliance is not None:
        r = scores.reliance
        console.print(
            f"shortcut reliance: {r.index:+.3f} (95 % {r.low:+.3f} to {r.high:+.3f}): the shortcut's answer "
            f"on {r.given.value:.2%} of {r.given.samples:,} uncorrelated samples, {r.chance:.2%} by chance",
            highlight=False,
        )
