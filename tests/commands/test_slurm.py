"""A job array's file: every task is a driver of the same folder, and together they train each cell once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from veneer.commands import main as cli
from veneer.commands.slurm import job
from veneer.experiments.store import Run

ROOT = Path(__file__).parent.parent.parent
WORDS = [
    *("counter", "--batch", "4,8", "--length", "4", "--lr", "0.01", "--c-tr", "1", "--reft-rates", "none"),
    *(
        "--iterations",
        "20",
        "--evaluation-samples",
        "20",
        "--no-controls",
        "--no-third-operand",
        "--seeds",
        "1",
    ),
]
SBATCH = """\
#!/usr/bin/env bash
# As Slurm does it: reads the array from the file, and runs every task at once.
last=$(sed -n 's/^#SBATCH --array=0-//p' "$1")
for task in $(seq 0 "$last"); do SLURM_ARRAY_TASK_ID=$task bash "$1" & done
wait
"""


def test_the_file_repeats_the_command_without_itself(tmp_path: Path) -> None:
    text = job(["counter", "--batch", "4,8"], tmp_path / "my sweep", 3)
    assert "#SBATCH --array=0-2" in text
    assert text.splitlines()[-1] == f"veneer sweep counter --batch 4,8 --out '{tmp_path}/my sweep'"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--slurm", "0", "--out", "s"), "slurm = 0"),
        (("--slurm", "2", "--out", "."), "out = '.'"),
        (("--slurm", "2", "--out", "s", "--dry-run"), "slurm = 2"),
    ],
)
def test_no_task_no_name_or_a_dry_run_is_refused_and_writes_nothing(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["sweep", *WORDS, *words])
    error = capsys.readouterr().err
    assert (ended.value.code, error.count("\n")) == (2, 1) and said in error
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_tasks_of_the_array_train_every_cell_once(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli.main(["sweep", *WORDS, "--slurm", "2", "--out", "s", "--fleet", "1"])
    assert [path.name for path in tmp_path.iterdir() if path != cache] == ["s.sbatch"]
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "sbatch").write_text(SBATCH)
    (tools / "veneer").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m veneer "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    surroundings = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sbatch", "s.sbatch"], env=surroundings, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    run = Run.read(tmp_path / "s")
    assert len(run.finished()) == 2
    assert run.metrics()["batch"].unique().sort().to_list() == [4, 8]
