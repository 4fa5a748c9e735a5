"""The command line: a short table of commands, each a module of its own beside this one.

Bad input prints one line and exits with 2; where code of the user's own failed, its frames follow. A
command's module is imported when it is called.
"""

import logging
import os
import sys
from importlib import import_module

from veneer import __version__
from veneer.commands import manners
from veneer.commands.options import known
from veneer.tasks.errors import InputError

OVERVIEW = """\
veneer: is a capability rewritten by fine-tuning, or only wrapped?

  veneer list                    the experiments, and what each costs
  veneer run NAME                run one: --preset quick (default), standard or paper
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
  veneer push WHAT --out DIR     lay out a dataset or models as a hub's repository
  veneer relearn BEFORE AFTER    is a capability gone from a language model, or soon back?

Each command explains its options with --help. Start with: veneer run counter

Every command takes --quiet (results only), --log-level LEVEL, and, where it tells something,
--json (print JSON instead of tables) or --json FILE.json (write it too).
VENEER_RUNS is the folder for runs (default: runs), VENEER_CACHE the one for compiled models.
veneer --version; veneer completion bash|zsh|fish for the shell.
"""

COMMANDS = (
    "list",
    "run",
    "analyse",
    "claims",
    "sweep",
    "status",
    "compare",
    "compile",
    "report",
    "figures",
    "pretrain",
    "generate",
    "verify",
    "evaluate",
    "push",
    "relearn",
    "completion",
)


def main(argv: list[str] | None = None) -> None:
    """Entry point of ``veneer``; exits with 2 on bad input and 130 when interrupted."""
    words = sys.argv[1:] if argv is None else argv
    _make_writable()
    try:
        _command(words)
        sys.stdout.flush()
    except InputError as error:
        sys.exit(_refuse(str(error), error.frames))
    except BrokenPipeError:  # the reader of a pipe has seen enough
        _leave_stdout()
        sys.exit(1)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except OSError as error:  # the machine's affair: no room, no permission, a name that is too long
        logging.getLogger(__name__).debug("refused by the system", exc_info=True)
        place = f" = {error.filename!r}" if error.filename is not None else ""
        code = _refuse(f"file{place}: {error.strerror or error}; valid: what this machine can read and write")
        _leave_stdout()
        sys.exit(code)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        sys.exit(_refuse(f"memory: {str(error) or 'none is left'}; valid: smaller sizes"))


def _command(words: list[str]) -> None:
    """Do what a command line says."""
    if words[:1] == ["--version"]:
        print(f"veneer {__version__}")
        return
    for word in words:
        if strange := [c for c in word if ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000]:
            problem = f"it has {strange[0]!r} in it"
            raise InputError("argument", word, "text in UTF-8 without control characters", problem)
    words, asked = manners.take(words)
    if not words or words[0] in ("-h", "--help"):
        print(OVERVIEW, end="")
        return
    name = known("command", words[0], COMMANDS)
    manners.behave(asked, name)
    import_module(f"veneer.commands.{name}").command(words[1:])


def _make_writable() -> None:
    """Let every text be printed: what the terminal has no sign for becomes a question mark."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever called
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure") and (stream.encoding or "").lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="replace")


def _leave_stdout() -> None:
    """Nothing more can be written there, and Python shall not try at its end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # it has no handle, as in a test
        return


def _is_out_of_memory(error: BaseException) -> bool:
    words = str(error)
    return isinstance(error, MemoryError) or "out of memory" in words or "can't allocate memory" in words


def _refuse(message: str, frames: str = "") -> int:
    print(f"veneer: {manners.harmless(' '.join(message.split()))}", file=sys.stderr)
    if frames:
        print(frames, file=sys.stderr)
    return 2
