"""Several who ask for one folder at once get one result, and whoever is killed leaves nobody behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.tiny import CPU
from veneer.experiments.named import PcfgPretraining
from veneer.experiments.pretrain import PretrainingRun
from veneer.suites.dataset import generate
from veneer.suites.named import Suite, write_suite
from veneer.suites.plan import Plan, Split
from veneer.suites.sources import make

ROOT = Path(__file__).parent.parent.parent
TASK = {
    "task": "counter",
    "about": "Counter.",
    "letters": "abcd",
    "length": 12,
    "min_length": None,
    "q": 1,
    "pairs": [["a", "b"]],
}
PRETRAINING = PcfgPretraining(
    priors=("M",),
    window=8,
    count_last=4,
    occurrence=1,
    token_back=2,
    width=8,
    blocks=1,
    heads=2,
    iterations=4,
    batch=4,
    evaluation_samples=5,
)


def at_once(work: Callable[[], object], times: int = 3) -> None:
    """Do the same in several threads, whose locks on a file are as apart as those of processes."""
    failures: list[BaseException] = []

    def tried() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=tried) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_three_who_generate_one_dataset_get_it(tmp_path: Path) -> None:
    plan = Plan("d", TASK, (Split("train", 200), Split("test", 50)))
    at_once(lambda: generate(plan, make, tmp_path / "together"))
    generate(plan, make, tmp_path / "alone")
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "together"]


def test_two_who_generate_one_suite_get_it(tmp_path: Path) -> None:
    suite = Suite("Two.", tuple(Plan(name, TASK, (Split("only", 40),)) for name in ("one", "two")))

    def write(out: Path) -> None:
        write_suite("mine", suite, out, "veneer generate suite mine", ("parquet",), 1, lambda count: None)

    at_once(lambda: write(tmp_path / "together"), 2)
    write(tmp_path / "alone")
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "together"]


def test_three_who_pretrain_in_one_folder_get_the_models_of_one(tmp_path: Path) -> None:
    trained: list[int] = []

    def pretrain() -> None:
        torch.set_num_threads(1)
        PretrainingRun(PRETRAINING, tmp_path / "together", "veneer pretrain").execute(CPU, trained.append)

    at_once(pretrain)
    assert len(trained) == PRETRAINING.iterations, "one trains, the others wait"
    PretrainingRun(PRETRAINING, tmp_path / "alone", "veneer pretrain").execute(CPU, lambda step: None)
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "together"]


def veneer(*words: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "veneer", *map(str, words)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, **quiet)  # pyright: ignore


def group(leader: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[3]) == leader:
            found.append(int(status.parent.name))
    return found


def until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.2)
    return condition()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to find processes in")
def test_workers_of_a_killed_generate_end_and_the_same_command_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "data"
    words = ["generate", "counter", "--samples", 400_000, "--jobs", 2, "--out", out]
    driver = veneer(*words)
    assert until(lambda: len(group(driver.pid)) >= 3, 60), "two workers and their driver"
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert until(lambda: not [pid for pid in group(driver.pid)], 30), group(driver.pid)
    assert not out.exists()
    assert veneer(*words).wait(240) == 0 and (out / "dataset.json").exists()


@pytest.mark.slow
def test_three_processes_that_pretrain_in_one_folder_all_end_well(tmp_path: Path) -> None:
    words = "--window 8 --count-last 4 --occurrence 1 --token-back 2 --width 8 --heads 2 --blocks 1"
    words += " --iterations 40 --batch 4 --evaluation-samples 5 --priors M --device cpu"
    asked = ["pretrain", "pcfg", *words.split(), "--out", tmp_path / "run"]
    assert [process.wait(200) for process in [veneer(*asked) for _ in range(3)]] == [0, 0, 0]
