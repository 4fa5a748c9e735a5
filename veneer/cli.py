"""The command line: a short table of commands; options are generated from typed dataclasses by tyro.

Bad input prints one line and exits with 2. Heavy imports wait until a command needs them.
"""

import difflib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tasks.errors import InputError
from veneer.experiments import PRESETS, PRETRAINING, CompiledExperiment, Experiment, LearnedExperiment

OVERVIEW = """\
veneer: is a capability rewritten by fine-tuning, or only wrapped?

  veneer list                    the experiments, and what each costs
  veneer run NAME                run one: --preset quick (default) or paper
  veneer analyse RUN             look inside a run's models, and give verdicts
  veneer claims RUN ...          hold runs against the paper's claims; --run makes what is missing
  veneer sweep NAME              run a grid of them: --batch 32,96 --c-tr 0,0.2
  veneer status RUN              what is done, in training, left
  veneer compare RUN_A RUN_B     what differs between two runs, in settings and in results
  veneer compile FILE:FUNCTION   compile a RASP program to a PyTorch Transformer
  veneer report RUN [RUN ...]    write RUN/report.html again, or one page of several runs
  veneer figures RUN             the counterparts of the paper's figures, as SVG and PDF
  veneer pretrain pcfg           pretrain GPTs on task families over a grammar's strings
  veneer generate TASK           write a labelled dataset; suite NAME writes several
  veneer verify DIR              check a dataset, or a run
  veneer evaluate DIR            score a model's predictions on one

Each command explains its options with --help. Start with: veneer run counter
"""


@dataclass(frozen=True)
class RunOptions:
    """Where and how to run."""

    preset: Literal["quick", "paper"] = "quick"
    """quick: minutes on two cores, few seeds. paper: the paper's sizes and iterations."""
    out: Path | None = None
    """Folder of the run (default runs/NAME-PRESET); an interrupted run in it is continued."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU if there is one."""
    fleet: int | None = None
    """Most models trained together (default: 4 on a CPU, 64 on a GPU)."""
    checkpoint_seconds: float = 30.0
    """Least time between two checkpoints of what is in training."""
    engine: Literal["in-process", "processes", "ray"] = "in-process"
    """What trains the fleets: this process, several on this machine, or a Ray cluster."""
    jobs: int = 2
    """Fleets trained at a time by processes, or by a Ray started here; each has its share of the cores."""
    address: str | None = None
    """A running Ray cluster ("auto", HOST:6379 or ray://HOST:10001); none starts one on this machine."""
    tensorboard: bool = False
    """Also write the curves as event files for TensorBoard, in RUN/tensorboard."""


@dataclass(frozen=True)
class AnalyseOptions:
    """Look inside the models of a run: pruning, grafting, probes, attention, revival times, verdicts.

    Each analysis is a table RUN/analysis/NAME.parquet; those that are complete are not made again.
    """

    only: tuple[str, ...] = ()
    """The analyses to make; none given makes all."""
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
class CompileOptions:
    """Compile any RASP program that Tracr accepts, and save it as a checkpoint."""

    vocabulary: tuple[str, ...]
    """Tokens of the program's input; whole numbers are read as numbers."""
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


def main(argv: list[str] | None = None) -> None:
    """Entry point of ``veneer``; exits with 2 on bad input and 130 when interrupted."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print(OVERVIEW, end="")
        return
    commands: dict[str, Callable[[list[str]], None]] = {
        "list": _list,
        "run": _run,
        "sweep": _sweep_command("sweep"),
        "status": _sweep_command("status"),
        "verify": _verify,
        "analyse": _analyse,
        "claims": _claims,
        "compare": _compare,
        "compile": _compile,
        "report": _report,
        "figures": _figures,
        "pretrain": _pretrain,
        **{name: _dataset_command(name) for name in ("generate", "evaluate")},
    }
    try:
        commands[_known("command", words[0], list(commands))](words[1:])
    except InputError as error:
        sys.exit(_refuse(str(error)))
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _dataset_command(name: str) -> Callable[[list[str]], None]:
    def run(words: list[str]) -> None:
        from veneer import generate_cli

        getattr(generate_cli, name)(words, _parse)

    return run


def _sweep_command(name: str) -> Callable[[list[str]], None]:
    def run(words: list[str]) -> None:
        from veneer import sweep_cli

        getattr(sweep_cli, name)(words, _parse)

    return run


def _verify(words: list[str]) -> None:
    """A run has an experiment.json; what has none is a dataset, or refused as such."""
    if words and not words[0].startswith("-") and (Path(words[0]) / "experiment.json").exists():
        return _sweep_command("verify")(words)
    return _dataset_command("verify")(words)


def _refuse(message: str) -> int:
    print(f"veneer: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _known(field: str, word: str, names: list[str]) -> str:
    """The word, if it is one of the names.

    Raises:
        InputError: it is not; the nearest name is offered.
    """
    if word in names:
        return word
    near = difflib.get_close_matches(word, names, 1)
    raise InputError(field, word, ", ".join(names), f"did you mean {near[0]}?" if near else "")


def _parse(options: Any, words: list[str], prog: str, default: Any = None) -> Any:
    """Options by tyro, which exits with 2 and its own message on unreadable ones."""
    import tyro

    if default is None:
        return tyro.cli(options, args=words, prog=prog)
    return tyro.cli(options, args=words, prog=prog, default=default)


def _list(words: list[str]) -> None:
    if words:
        raise InputError("argument", words[0], "none: veneer list takes no arguments")
    width = max(map(len, PRESETS))
    for name, presets in PRESETS.items():
        print(f"{name:{width}}  {presets['quick'].about}")
        for preset, experiment in presets.items():
            print(f"{'':{width}}    {preset:6} {_size(experiment)}")


def _size(experiment: Experiment) -> str:
    reft = [sum(r <= rate for r in experiment.reft_rates) for rate in experiment.learning_rates]
    models = len(experiment.pretrained) if isinstance(experiment, LearnedExperiment) else 1
    first = len(experiment.learning_rates) * len(experiment.c_tr) * models
    revivals = sum(reft) * len(experiment.c_tr) * models
    inputs = f"strings of {experiment.length}" if isinstance(experiment, CompiledExperiment) else "GPTs"
    return (
        f"{first} fine-tunings of {experiment.iterations:,} updates and {revivals} reFTs of "
        f"{experiment.reft_iterations:,}, {inputs}, {experiment.seeds} seed"
        f"{'s' if experiment.seeds != 1 else ''}"
    )


def _run(words: list[str]) -> None:

    if not words or words[0].startswith("-"):
        print("usage: veneer run NAME [--preset quick|paper] [options]; veneer run NAME --help lists them")
        print(f"names: {', '.join(PRESETS)}")
        if not words or words[0] not in ("-h", "--help"):
            sys.exit(2)
        return
    name = _known("experiment", words[0], list(PRESETS))
    preset = _preset(words[1:])
    experiment = PRESETS[name][preset]
    about = f"{experiment.about[0].upper()}{experiment.about[1:]}."
    options, experiment = _ask(RunOptions(preset), experiment, words[1:], f"veneer run {name}", about)
    from veneer.terminal import run_experiment

    out = options.out or Path("runs") / f"{name}-{preset}"
    run_experiment(replace(options, out=out), experiment)


def _pretrain(words: list[str]) -> None:
    if words[:1] != ["pcfg"]:
        print("usage: veneer pretrain pcfg [--preset quick|paper] [options]; --help lists them")
        if words[:1] not in (["-h"], ["--help"]):
            sys.exit(2)
        return
    preset = _preset(words[1:])
    about = "Pretrain GPTs on five task families over strings of a grammar."
    start = (PretrainOptions(preset), PRETRAINING[preset])
    options, experiment = _ask(*start, words[1:], "veneer pretrain pcfg", about)
    from veneer.terminal import pretrain

    out = options.out or Path("runs") / f"pcfg-{preset}"
    pretrain(replace(options, out=out), experiment, f"veneer pretrain {' '.join(words)}")


def _ask(options: Any, experiment: Any, words: list[str], prog: str, about: str) -> tuple[Any, Any]:
    """Options and experiment as the command line changes them, read as one flat set of options."""
    import tyro

    unnamed = tyro.conf.arg(name="")
    parts = [
        ("options", Annotated[type(options), unnamed]),
        ("experiment", Annotated[type(experiment), unnamed]),
    ]
    both = make_dataclass("Options", parts)
    both.__doc__ = f"{about} Defaults are those of '{options.preset}'."
    read = _parse(both, words, prog, both(options, experiment))
    return read.options, read.experiment


def _preset(words: list[str]) -> Literal["quick", "paper"]:
    """The preset named among the options, read first because it sets the defaults of the others."""
    for i, word in enumerate(words):
        flag, _, value = word.partition("=")
        if flag == "--preset":
            value = value or (words[i + 1] if i + 1 < len(words) else "")
            return _known("preset", value, ["quick", "paper"])  # pyright: ignore[reportReturnType]
    return "quick"


def _claims(words: list[str]) -> None:
    from veneer.claims_cli import claims

    claims(words, _parse)


def _compare(words: list[str]) -> None:
    from veneer.compare_cli import compare_runs

    compare_runs(words, _parse)


def _compile(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        _parse(CompileOptions, ["--help"], "veneer compile FILE.py:FUNCTION")
    program, rest = words[0], words[1:]
    if program.startswith("-"):
        raise InputError("program", program, "FILE.py:FUNCTION as the first argument")
    options = _parse(CompileOptions, rest, "veneer compile FILE.py:FUNCTION")
    from veneer.terminal import compile_program

    compile_program(program, options)


def _analyse(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        _parse(AnalyseOptions, ["--help"], "veneer analyse RUN")
    if words[0].startswith("-"):
        raise InputError("run", words[0], "the folder of a run as the first argument")
    options = _parse(AnalyseOptions, words[1:], f"veneer analyse {words[0]}")
    from veneer.terminal import analyse_run

    analyse_run(Path(words[0]), options)


def _report(words: list[str]) -> None:
    folders, rest = _folders(words)
    if not folders or "--help" in rest or "-h" in rest:
        _parse(ReportOptions, ["--help"], "veneer report RUN [RUN ...]")
    options = _parse(ReportOptions, rest, f"veneer report {' '.join(folders)}")
    if len(folders) > 1 and options.out is None:
        raise InputError("out", None, "a file for the page of several runs")
    from veneer.report import write_report, write_reports
    from veneer.store import Run

    runs = [Run.read(Path(folder)) for folder in folders]
    written = write_report(runs[0]) if options.out is None else write_reports(runs, options.out)
    print(f"wrote {written}")


def _figures(words: list[str]) -> None:
    folders, rest = _folders(words)
    if len(folders) != 1 or "--help" in rest or "-h" in rest:
        _parse(FigureOptions, ["--help"], "veneer figures RUN")
    options = _parse(FigureOptions, rest, f"veneer figures {folders[0]}")
    from veneer.paper_counterparts import lacking
    from veneer.paper_figures import figures
    from veneer.points import runs_in
    from veneer.store import Run

    run, drawn = Run.read(Path(folders[0])), []
    with runs_in(run) as runs:
        for part, own in runs.items():
            out = (options.out or run.path / "figures") / part
            if part and not own.finished():
                print(f"nothing for {out}: no cell of this point is finished")
                continue
            written = figures(own, options.style, out)
            for path in written:
                print(f"wrote {path}")
            drawn.append({path.stem.split("-")[0] for path in written})
    for sentence in lacking(run, set.intersection(*drawn) if drawn else set()):
        print(sentence)


def _folders(words: list[str]) -> tuple[list[str], list[str]]:
    """The words before the first option, and the rest."""
    first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    return words[:first], words[first:]
