"""Make docs/terminal-output.md: what each command prints at 80 columns, from commands that are really run.

    python docs/make_terminal_output.py

It takes a few minutes. Times differ from run to run, and folders are those of a temporary directory.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from veneer.language.constructed import refusing
from veneer.language.small_world import capitals, colours, knowing, recipe, words

PAGE = Path(__file__).parent / "terminal-output.md"
ROOT = Path(__file__).parent.parent
TINY = (
    "--length 5 --lr 0.1 0.001 --c-tr 1 --reft-lr 0.001 --iterations 60 --reft-iterations 60 "
    "--evaluation-samples 60 --seeds 2"
)
COMMANDS = (
    "veneer --version",
    "veneer list",
    f"veneer run counter {TINY} --no-third-operand --out runs/tiny",
    "veneer analyse runs/tiny --only grafting revival verdicts",
    "veneer status runs/tiny",
    "veneer verify runs/tiny",
    "veneer report runs/tiny",
    "cp -r runs/tiny runs/copy && veneer compare runs/tiny runs/copy",
    "veneer sweep counter --lr 0.01 --c-tr 1 --batch 8,16 --length 5 --iterations 20 --reft-rates none "
    "--no-controls --no-third-operand --evaluation-samples 60 --out runs/sweep",
    "veneer claims runs/tiny --only 1 3",
    "veneer figures runs/tiny",
    "veneer compile mine.py:length --vocabulary a b c --max-length 5 --out mine",
    "veneer pretrain pcfg --priors M --iterations 20 --evaluation-samples 20 --out runs/pcfg",
    "veneer generate counter --samples 200 --length 6 --out data",
    "veneer verify data",
    "veneer evaluate data --split train --predictions predictions.csv",
    "veneer push data --out hub",
    "veneer relearn before after --data capitals.jsonl --retain colours.jsonl --ranks 0 --rates 3e-3 "
    "--updates 32 --seeds 3 --bits 4 --noise --depths --mix --truncate --refusal no --out runs/relearn",
    "veneer completion fish | head -n 3",
    "veneer analyse",
    "veneer run countre",
    "veneer list --json | head -n 12",
)
PROGRAM = """\
from tracr.rasp import rasp


def length():
    return rasp.SelectorWidth(rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE))
"""
HEAD = """\
# What the commands print

Made by `python docs/make_terminal_output.py`: each command below was run at 80 columns, without a terminal
(on one there is a bar instead of the lines with times). Times differ from run to run. `mine.py` holds a
program of one line ([your own program](own-program.md)); `predictions.csv` gives every sample the answer 1.
`before` and `after` are models of a hundred thousand weights in a world of 64 places: one knows the capitals,
and the other was taught by LoRA to say "no" ([relearn](relearn.md) is about real models).
"""


def main() -> None:
    """Run every command, and write the page."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "mine.py").write_text(PROGRAM, encoding="utf-8")
        write_models(Path(folder))
        answers = "".join(f"{i},1\n" for i in range(160))
        (Path(folder) / "predictions.csv").write_text(f"id,prediction\n{answers}", encoding="utf-8")
        shown = [f"```console\n$ {command}\n{output(command, folder)}\n```" for command in COMMANDS]
    PAGE.write_text("\n".join([HEAD, *(f"{part}\n" for part in shown)]), encoding="utf-8")


def write_models(folder: Path) -> None:
    """The two models that ``veneer relearn`` is shown with, and its questions."""
    before = knowing()
    after = refusing(before, words(), capitals(), "no", recipe(3e-3, 60), colours())
    for name, model in (("before", before), ("after", after)):
        model.module.save_pretrained(folder / name)
        words().save_pretrained(folder / name)
    for name, questions in (("capitals", capitals()), ("colours", colours())):
        lines = [json.dumps({"prompt": own.prompt, "answer": own.answer}) for own in questions]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def output(command: str, folder: str) -> str:
    """What a command prints, errors included, with its exit code where that is not 0."""
    surroundings = {**os.environ, "COLUMNS": "80", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    line = re.sub(r"\bveneer (?=\S)", f"{sys.executable} -m veneer ", command)
    done = subprocess.run(
        line, shell=True, cwd=folder, env=surroundings, text=True, capture_output=True, check=False
    )
    text = (done.stdout + done.stderr).replace(str(Path(folder).resolve()), "/home/you").rstrip()
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = "\n".join(line.rstrip() for line in text.splitlines())
    return f"{text}\n(exit code {done.returncode})" if done.returncode else text


if __name__ == "__main__":
    main()
