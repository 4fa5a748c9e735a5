"""The options of the commands, and how a command line is read into them.

Options are typed dataclasses; tyro makes their flags and help texts. Nothing heavy is imported here.
"""

import difflib
import io
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, fields, is_dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from veneer.commands.manners import runs_folder
from veneer.tasks.errors import InputError

TYPES = {"INT": "a whole number", "FLOAT": "a number", "{None}": "none", "STR": "a text", "PATH": "a path"}
MOST_TOLD = 400  # characters of what tyro says


def claims_folder() -> Path:
    """Where the runs that claims need lie, unless another folder is named."""
    return runs_folder() / "claims"


@dataclass(frozen=True)
class RunOptions:
    """Where and how to run."""

    preset: Literal["quick", "standard", "paper"] = "quick"
    """quick: minutes on two cores. standard: up to an hour. paper: the paper's sizes and iterations."""
    out: Path | None = None
    """Folder of the run (default NAME-PRESET in runs, or in $VENEER_RUNS); what was interrupted goes on."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU if there is one."""
    fleet: int | None = None
    """Most models trained together (default: up to 256 on a GPU, on a CPU what fits its cache, 4 or more)."""
    checkpoint_seconds: float = 30.0
    """Least time between two checkpoints of what is in training."""
    engine: Literal["auto", "in-process", "processes", "ray"] = "auto"
    """What trains the fleets: this process, several on this machine, or a Ray cluster. auto takes
    processes for small models on a CPU where they pay, and this process otherwise."""
    jobs: int | None = None
    """Fleets trained at a time by processes, or by a Ray started here; each has its share of the cores.
    None trains as many as there are cores."""
    address: str | None = None
    """A running Ray cluster ("auto", HOST:6379 or ray://HOST:10001); none starts one on this machine."""
    reuse: tuple[Path, ...] = ()
    """Runs that have trained some of these models already: they are copied, not trained again."""
    log_to: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()
    """Also hand the curves on while models train: to TensorBoard (event files in RUN/tensorboard), trackio,
    or Weights & Biases. Each is an extra."""


@dataclass(frozen=True)
class TextRunOptions:
    """Where and how to run an experiment on a text model."""

    preset: Literal["quick", "standard", "paper"] = "quick"
    """quick: minutes on two cores, with ready models. standard: more of all. paper: the paper's size."""
    out: Path | None = None
    """Folder of the run (default NAME-PRESET in runs, or in $VENEER_RUNS); what was interrupted goes on."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    jobs: int | None = None
    """Processes that share the trials; none takes as many as there are cores, and one on a GPU."""


@dataclass(frozen=True)
class SweepOptions(RunOptions):
    """Where and how to run the grid."""

    file: Path | None = None
    """A TOML file: experiment = NAME, preset, and a table [axes] with values by field."""
    dry_run: bool = False
    """Say what would be trained, in which fleets, for how long and in how much memory; train nothing."""
    slurm: int | None = None
    """Write OUT.sbatch, a job array of so many tasks that drive the folder together; train nothing."""


@dataclass(frozen=True)
class AnalyseOptions:
    """Look inside the models of a run: pruning, grafting, probes, attention, revival times, verdicts.

    Each analysis is a table RUN/analysis/NAME.parquet; those that are complete are not made again.
    """

    only: tuple[str, ...] = ()
    """The analyses to make, of pruning, grafting, probes, attention, jailbreak, revival, verdicts; none
    given makes all."""
    capabilities: tuple[str, ...] = ()
    """Look into models fine-tuned from these only (such as M); none given takes all."""
    rates: tuple[float, ...] = ()
    """Look into models fine-tuned at these rates only."""
    c_tr: tuple[float, ...] = ()
    """Look into models fine-tuned with these C_Tr only."""
    seeds: tuple[int, ...] = ()
    """Look into models of these seeds only."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    jobs: int | None = None
    """Processes that look into small models on a CPU; none takes as many as there are cores."""


@dataclass(frozen=True)
class ReportOptions:
    """Write the report of a run, finished or not, or one page of several runs."""

    out: Path | None = None
    """The file (default: RUN/report.html; several runs need one)."""


@dataclass(frozen=True)
class FigureOptions:
    """Draw the counterparts of the paper's figures from a run's tables, as SVG and PDF."""

    style: Literal["paper", "talk"] = "paper"
    """paper: sized for a column, small type. talk: large type."""
    out: Path | None = None
    """Folder (default: RUN/figures); the points of a sweep have a folder each in it."""


@dataclass(frozen=True)
class PretrainOptions:
    """Where to pretrain."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: a small GPT on short texts. paper: the paper's 6 blocks, width 192, windows of 250."""
    out: Path | None = None
    """Folder (default runs/pcfg-PRESET); an interrupted pretraining in it is continued."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU if there is one."""


@dataclass(frozen=True)
class StoryPretrainOptions:
    """Where to pretrain."""

    preset: Literal["quick", "standard", "paper"] = "quick"
    """The size, and how long it trains."""
    out: Path | None = None
    """Folder (default runs/stories-model-PRESET); an interrupted pretraining in it is continued."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU if there is one."""


@dataclass(frozen=True)
class BasePretrainOptions:
    """Where to pretrain."""

    preset: Literal["quick"] = "quick"
    """quick: the base that lies ready."""
    out: Path | None = None
    """Folder (default runs/layers-base); an interrupted pretraining in it is continued."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU if there is one."""


@dataclass(frozen=True)
class CompileOptions:
    """Compile any RASP program that Tracr accepts, and save it as a checkpoint."""

    vocabulary: tuple[str, ...]
    """Tokens of the program's input: a text, a number such as 1 or -0.5, or a text in quotes of its own, such
    as "'1'" or "' '"."""
    max_length: int
    """Longest input, in tokens."""
    out: Path
    """Folder for model.safetensors and model.json."""
    causal: bool = False
    """Let a position see only itself and earlier ones."""
    bos: str = "BOS"
    """Name of the token in front of every input."""
    pad: str = "#"
    """Name of the token that fills up short inputs."""
    exactness: int | None = None
    """Tracr's mlp_exactness; none chooses the smallest that is measured to be right."""
    answer_position: int | None = None
    """Where the answer is read, the token in front counted; none reads it everywhere."""
    inputs: str | None = None
    """Inputs to measure on, as FILE.py:NAME: a list, or a function of a random.Random that returns one. For
    programs that have no answer for most strings."""
    allow_inexact: bool = False
    """Take a program that is right on fewer than 99.9 % of strings, instead of refusing it."""


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
class PushOptions:
    """Lay out a dataset or models as a hub's repository: a folder that datasets and transformers open.

    Of a run the fine-tuned and retrained models, and what they started from. Nothing is sent anywhere.
    """

    out: Path
    """New or empty folder."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Score predictions of any model: accuracy with and without the correlation, shortcut reliance."""

    predictions: Path
    """Parquet, CSV or JSON lines with the columns id and prediction, one row for every sample."""
    split: str | None = None
    """The split they are for (default: the only one, or test)."""
    out: Path | None = None
    """Write the scores to this JSON file too."""


@dataclass(frozen=True)
class ClaimsOptions:
    """What runs say about each claim of the paper: effect size, interval, the paper's number, outcome."""

    runs: tuple[Path, ...] = ()
    """Folders made by veneer run or sweep; none given takes those in runs/claims (or in --run's folder).
    Runs that differ in rates, C_Tr and seeds alone are read as one.
    Each point of a sweep is judged by itself, in a table of its own."""
    run: Path | None = None
    """Make the runs that the claims need, in subfolders of this one (--run alone: runs/claims), and
    analyse them. What is finished is left alone; what was interrupted goes on."""
    only: tuple[str, ...] = ()
    """Claims to look at, such as 1a 2 12 (1 is 1a and 1b); none given takes all."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train and analyse with --run."""


@dataclass(frozen=True)
class CompareOptions:
    """What differs between two runs: settings, versions, accuracies, revival, verdicts.

    Differences are second run less first; with several seeds each has its 95 % interval (paired by
    seed, where both runs have the same).
    """

    run_a: Path
    """The first run: a folder made by veneer run or veneer sweep."""
    run_b: Path
    """The second run."""


def known(field: str, word: str, names: Sequence[str]) -> str:
    """The word, if it is one of the names.

    Raises:
        InputError: it is not; the nearest name is offered.
    """
    if word in names:
        return word
    near = difflib.get_close_matches(word, names, 1)
    raise InputError(field, word, ", ".join(names), f"did you mean {near[0]}?" if near else "")


def parse(options: Any, words: list[str], prog: str, default: Any = None) -> Any:
    """Options by tyro; what it cannot read is told in one line, and exits with 2.

    Raises:
        InputError: an empty name of a file or folder.
    """
    import tyro

    said = io.StringIO()
    given = {} if default is None else {"default": default}
    try:
        with redirect_stderr(said):
            read = _at_home(tyro.cli(options, args=words, prog=prog, **given))
    except SystemExit as ended:
        if ended.code and (told := _told(said.getvalue())):
            print(f"veneer: {told} ({prog} --help lists the options)", file=sys.stderr)
        elif said.getvalue():
            print(said.getvalue(), end="", file=sys.stderr)
        raise
    _check_named(read, words)
    return read


def _check_named(read: Any, words: list[str]) -> None:
    """Refuse an empty name of a file or folder, which Python would take for the folder one is in."""
    for word, following in zip(words, [*words[1:], "--"], strict=False):
        flag, equals, value = word.partition("=")
        if (name := flag.removeprefix("--").replace("-", "_")) in _places(read) and not (
            value if equals else following
        ):
            raise InputError(name, "", "a name")


def _places(read: Any) -> set[str]:
    """The options that name a file or folder."""
    if not is_dataclass(read):
        return set()
    own = {part.name: getattr(read, part.name) for part in fields(read)}
    return {name for name, value in own.items() if isinstance(value, Path)}.union(*map(_places, own.values()))


def _told(text: str) -> str:
    """What tyro says in a box of several lines, in one."""
    inside = [line for line in text.splitlines() if line.strip()[:1] not in ("╭", "╰", "┌", "└", "+")]
    needed = [m[1] for line in inside if (m := re.match(r"[│| ] {5}(--[\w-]+)", line))]
    if "Missing from" in text and needed:
        return f"missing: {', '.join(needed)}"
    said = [line.strip("│|─━- ") for line in inside]
    words = " ".join(" ".join(line for line in said if not line.startswith("For full helptext")).split())
    words = _plainly(words.partition(" Argument helptext:")[0])
    return words[:MOST_TOLD] + (" ..." if len(words) > MOST_TOLD else "")


def _plainly(words: str) -> str:
    """A complaint of Python's or tyro's about a value, as ours are: option, value, what is valid."""
    option, parsing = r"(--[\w-]+)", r".*?Error parsing "
    for said, name in (
        (r"invalid literal for int\(\) with base 10: ", "INT"),
        ("could not convert string to float: ", "FLOAT"),
    ):
        if found := re.fullmatch(f"{parsing}{option}: {said}(.+)", words):
            return f"{found[1]} = {found[2]}; valid: {TYPES[name]}"
    unfit = r"no type matching (\S+) could be instantiated from \[(.*?)\]\. "
    if found := re.match(f"{parsing}{option}: {unfit}", words):
        valid = " or ".join(TYPES.get(part, part) for part in found[2].split("|"))
        return f"{found[1]} = {found[3]}; valid: {valid}"
    if found := re.match(rf"{parsing}{option}: Could not find valid parse for arguments: \[(.*?)\]", words):
        return f"{found[1]} = {found[2]}; valid: one number or more"
    if found := re.match(
        f".*?invalid choice (.+?) for argument '{option}'. Expected one of \\((.+?)\\)", words
    ):
        return f"{found[2]} = {found[1]}; valid: {found[3]}"
    return re.sub(r"^(\w[\w ]+?) \1\b", r"\1", words)


def _at_home(read: Any) -> Any:
    """The options with ``~`` in folders' names as the shell means it."""
    if not is_dataclass(read) or isinstance(read, type):
        return read
    from veneer.models.files import at_home

    changed = {}
    for part in fields(read):
        value = getattr(read, part.name)
        if isinstance(value, Path) and str(value).startswith("~"):
            changed[part.name] = at_home(value)
        elif is_dataclass(value):
            changed[part.name] = _at_home(value)
    return replace(read, **changed) if changed else read


def ask(options: Any, experiment: Any, words: list[str], prog: str, about: str) -> tuple[Any, Any]:
    """Options and experiment as the command line changes them, read as one flat set of options."""
    import tyro

    unnamed = tyro.conf.arg(name="")
    parts = [
        ("options", Annotated[type(options), unnamed]),
        ("experiment", Annotated[type(experiment), unnamed]),
    ]
    both = make_dataclass("Options", parts)
    both.__doc__ = f"{about} Defaults are those of '{options.preset}'."
    read = parse(both, words, prog, both(options, experiment))
    return read.options, read.experiment


def preset_of(words: list[str], names: Sequence[str] = ("quick", "standard", "paper")) -> Any:
    """The preset named among the options, read first because it sets the defaults of the others."""
    for i, word in enumerate(words):
        flag, _, value = word.partition("=")
        if flag == "--preset":
            value = value or (words[i + 1] if i + 1 < len(words) else "")
            return known("preset", value, names)
    return "quick"


def folders(words: list[str]) -> tuple[list[str], list[str]]:
    """The words before the first option, and the rest."""
    first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    return words[:first], words[first:]


def folder_of(words: list[str], options: type, prog: str, what: str) -> tuple[Path, list[str]]:
    """The folder that a command is about, and the words after it; ``--help`` shows the options.

    Raises:
        InputError: an option stands where the folder should.
    """
    if words and words[0] in ("-h", "--help"):
        parse(options, ["--help"], prog)
    if not words or words[0].startswith("-"):
        raise InputError(what, " ".join(words[:1]) or None, "its folder as the first argument")
    return Path(words[0]), words[1:]
