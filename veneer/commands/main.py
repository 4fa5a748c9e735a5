"""The command line: a short table of commands, each a module of its own beside this one.

Bad input prints one line and exits with 2. A command's module is imported when it is called.
"""

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
    "relearn",
    "completion",
)


def main(argv: list[str] | None = None) -> None:
    """Entry point of ``veneer``; exits with 2 on bad input and 130 when interrupted."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["--version"]:
        print(f"veneer {__version__}")
        return
    try:
        words, asked = manners.take(words)
        if not words or words[0] in ("-h", "--help"):
            print(OVERVIEW, end="")
            return
        name = known("command", words[0], COMMANDS)
        manners.behave(asked, name)
        import_module(f"veneer.commands.{name}").command(words[1:])
    except InputError as error:
        sys.exit(_refuse(str(error)))
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def _refuse(message: str) -> int:
    print(f"veneer: {' '.join(message.split())}", file=sys.stderr)
    return 2
