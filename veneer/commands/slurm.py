"""``veneer sweep --slurm N``: one file that makes N tasks of a job array drive the same sweep together.

Every task runs the same command in the same folder. A fleet that one task has in hand is locked; the others
take what is left, and one that is killed leaves its fleet to the next. So there is no scheduler of our own.
"""

import shlex
from pathlib import Path

from veneer.tasks.errors import InputError


def write_job(words: list[str], out: Path, tasks: int) -> Path:
    """Write the job array's file beside the sweep's folder.

    Args:
        words: the command line after ``veneer sweep``.
        out: the sweep's folder.
        tasks: how many drivers.

    Returns:
        ``OUT.sbatch``.

    Raises:
        InputError: no task, a folder without a name, or a file that cannot be written.
    """
    if tasks < 1:
        raise InputError("slurm", tasks, "1 task or more")
    if out.name in ("", ".."):
        raise InputError("out", str(out), "a folder with a name: the job array's file lies beside it")
    file = out.with_name(f"{out.name}.sbatch")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(job(_without(words), out, tasks), encoding="utf-8")
    except OSError as error:
        raise InputError("out", str(file), "a file that can be written", str(error)) from error
    return file


def job(words: list[str], out: Path, tasks: int) -> str:
    """The file's text."""
    if not any(word.partition("=")[0] == "--out" for word in words):
        words = [*words, "--out", str(out)]
    return f"""#!/usr/bin/env bash
#SBATCH --job-name=veneer-{shlex.quote(out.name)}
#SBATCH --array=0-{tasks - 1}
#SBATCH --output={shlex.quote(str(out))}.%A_%a.log
# Add what your cluster asks for: --partition, --time, --gres=gpu:1 and the like.
# Every task drives the same folder; sending this in again goes on with what is left.
set -euo pipefail
cd {shlex.quote(str(Path.cwd()))}
veneer sweep {shlex.join(words)}
"""


def _without(words: list[str]) -> list[str]:
    """The words without ``--slurm`` and its number."""
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word == "--slurm":
            skip = True
        elif not word.startswith("--slurm="):
            kept.append(word)
    return kept
