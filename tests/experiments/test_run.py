"""A run comes to the same end however often it is killed, and its folder never holds half a cell."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from safetensors.torch import load_file

from tests.tiny import CPU, EXPERIMENT, Quiet, interrupted_at
from veneer.experiments import store
from veneer.experiments.cells import Prepared, prepare
from veneer.experiments.run import execute
from veneer.experiments.store import Run
from veneer.finetune.cell import Fleet
from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def original(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Run.open(tmp_path_factory.mktemp("finished") / "run", "quick", EXPERIMENT)
    execute(prepared, run, CPU, run.plan(prepared.cells, 4), Quiet())
    return run.path


@pytest.fixture
def finished(original: Path, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(original, tmp_path / "run")))


def assert_same_results(one: Path, other: Path) -> None:
    """Weights, attention and metrics of all cells, bit for bit."""
    names = [sorted(cell.name for cell in (path / "cells").glob("[0-9a-f]*")) for path in (one, other)]
    assert names[0] == names[1]
    assert names[0]
    for name in names[0]:
        for file in ("model.safetensors", "attention.safetensors"):
            ours, theirs = (load_file(path / "cells" / name / file) for path in (one, other))
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        tables = [pl.read_parquet(path / "cells" / name / "metrics.parquet") for path in (one, other)]
        assert_frame_equal(*tables, check_exact=True)
        assert len({(path / "cells" / name / "cell.json").read_text() for path in (one, other)}) == 1


def start(out: Path, options: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "veneer", "run", "counter", "--out", str(out), *options]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def until_training(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if ": from fleet " in line:
            return
    if process.wait() == 0:  # all was finished before
        return
    pytest.fail(f"no training began: {''.join(said)}")


def survives(kills: int, options: list[str], folder: Path) -> int:
    """Run once without a break and once killed at seeded moments; how many kills hit."""
    whole, broken = folder / "whole", folder / "broken"
    process = start(whole, options)
    until_training(process)
    began = time.monotonic()
    process.communicate()
    assert process.returncode == 0
    seconds, moment, hit = time.monotonic() - began, Random(17), 0
    for _ in range(kills):
        process = start(broken, options)
        until_training(process)
        time.sleep(moment.random() * seconds / kills)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        hit += process.returncode == -signal.SIGKILL
    process = start(broken, options)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert_same_results(whole, broken)
    assert not any((broken / "fleets").iterdir())
    return hit


SMALL = ["--length", "6", "--iterations", "60", "--reft-iterations", "30", "--evaluation-samples", "50"]
SMALL += ["--checkpoint-seconds", "0", "--no-controls"]


def test_a_run_killed_twice_ends_as_one_that_was_not(cache: Path, tmp_path: Path) -> None:
    few = ["--learning-rates", "0.01", "0.001", "--c-tr", "1.0", "--reft-rates", "0.001"]
    assert survives(2, [*SMALL, *few], tmp_path) >= 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_killed_twenty_times_ends_as_one_that_was_not(cache: Path, tmp_path: Path) -> None:
    assert survives(24, SMALL, tmp_path) >= 20


@pytest.mark.parametrize("updates", [13, 24, 40])
def test_a_run_interrupted_at_any_stage_ends_as_one_that_was_not(
    prepared: Prepared, finished: Run, updates: int, tmp_path: Path
) -> None:
    broken = Run.open(tmp_path / "broken", "quick", EXPERIMENT)
    with pytest.raises(KeyboardInterrupt):
        execute(
            prepared,
            broken,
            CPU,
            broken.plan(prepared.cells, 4),
            interrupted_at(updates),
            checkpoint_seconds=-1.0,
        )
    rest = Quiet()
    again = Run.open(tmp_path / "broken", "quick", EXPERIMENT)
    execute(prepared, again, CPU, again.plan(prepared.cells, 4), rest)
    assert rest.calls == 12 + 10 - -(-updates // 2) + 1  # fleets of two; only the last update is lost
    assert_same_results(finished.path, broken.path)


def test_a_finished_run_is_not_run_again(prepared: Prepared, finished: Run) -> None:
    before = {
        file: file.stat().st_mtime_ns for file in (finished.path / "cells").rglob("*") if file.is_file()
    }
    again = Quiet()
    execute(prepared, finished, CPU, finished.plan(prepared.cells, 4), again)
    assert (again.trained, again.skips) == (0, len(prepared.cells))
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_a_finished_run_writes_its_environment_only_where_that_is_lost(
    prepared: Prepared, finished: Run, tmp_path: Path
) -> None:
    shutil.copytree(finished.path, tmp_path / "copy")
    run = Run(tmp_path / "copy")
    file = run.path / "environment.json"
    execute(prepared, run, CPU, run.plan(prepared.cells, 4), Quiet())
    assert file.read_bytes() == (finished.path / "environment.json").read_bytes(), "it names who trained"
    for damage in (file.unlink, lambda: file.write_text("{")):
        damage()
        execute(prepared, run, CPU, run.plan(prepared.cells, 4), Quiet())
        assert json.loads(file.read_text())["device"] == "cpu"


def test_the_fleets_size_does_not_change_the_cells(prepared: Prepared, finished: Run, tmp_path: Path) -> None:
    """Only the rounding of batched products may differ."""
    alone = Run.open(tmp_path / "alone", "quick", EXPERIMENT)
    execute(prepared, alone, CPU, alone.plan(prepared.cells, 1), Quiet())
    ours, theirs = (run.metrics().filter(pl.col("measure") == "loss") for run in (finished, alone))
    assert_frame_equal(ours, theirs, rel_tol=1e-3)


@pytest.mark.parametrize(
    "file", ["model.safetensors", "metrics.parquet", "attention.safetensors", "cell.json"]
)
@pytest.mark.parametrize("damage", ["truncated", "deleted", "flipped"])
def test_a_damaged_cell_is_seen_and_made_again(
    prepared: Prepared, finished: Run, file: str, damage: str
) -> None:
    cell = prepared.cells[0]
    path = finished.cell_path(cell.id) / file
    content = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif file != "cell.json":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    else:
        path.write_bytes(content.replace(b'"files"', b'"filed"'))
    assert not finished.has(cell)
    assert all(finished.has(other) for other in prepared.cells[1:])
    execute(prepared, finished, CPU, finished.plan(prepared.cells, 4), Quiet())
    assert finished.has(cell)
    assert path.read_bytes() == content


class Crash(Exception):
    """Ends a process in the middle of writing."""


@pytest.mark.parametrize("writer", ["save_checkpoint", "save_file", "checksum", "os.rename"])
def test_a_crash_while_a_cell_is_written_leaves_no_cell(
    prepared: Prepared, tmp_path: Path, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.open(tmp_path / "run", "quick", EXPERIMENT)

    def crash(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        # What a killed process does not do either: tidy up.
        patch.setattr(store.shutil, "rmtree", lambda *_, **__: None)
        patch.setattr(f"veneer.experiments.store.{writer}", crash)
        with pytest.raises(Crash):
            execute(prepared, run, CPU, run.plan(prepared.cells, 4), Quiet())
    assert not any(run.has(cell) for cell in prepared.cells)
    assert run.cells() == []
    assert len(list((run.path / "cells").iterdir())) == 1  # what was half written
    ready = Fleet(tuple(prepared.cells[0::2]))
    half = run.checkpoint_path(ready).with_suffix(".safetensors.1.tmp")
    half.parent.mkdir(exist_ok=True)
    half.write_bytes(b"half")
    execute(prepared, run, CPU, run.plan(prepared.cells, 4), Quiet())
    assert all(run.has(cell) for cell in prepared.cells)
    assert sorted(path.name for path in (run.path / "cells").iterdir()) == sorted(
        c.id for c in prepared.cells
    )
    assert not any((run.path / "fleets").glob("*"))


def test_a_crash_between_the_cells_of_a_fleet_keeps_the_first(
    prepared: Prepared, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.open(tmp_path / "broken", "quick", EXPERIMENT)
    write, written = Run.write_cell, []

    def once(self: Run, *arguments: object) -> None:
        if written:
            raise Crash
        write(self, *arguments)  # pyright: ignore[reportArgumentType]
        written.append(arguments[0])

    with monkeypatch.context() as patch:
        patch.setattr(Run, "write_cell", once)
        with pytest.raises(Crash):
            execute(prepared, run, CPU, run.plan(prepared.cells, 4), Quiet(), checkpoint_seconds=-1.0)
    assert [cell["id"] for cell in run.cells()] == [written[0].id]
    rest = Quiet()
    execute(prepared, run, CPU, run.plan(prepared.cells, 4), rest)
    assert rest.trained == 2 * 10  # the first fleet was trained to its end; the reFTs were not
    assert_same_results(finished.path, run.path)
    assert not any((run.path / "fleets").iterdir())


def test_a_child_of_a_diverged_cell_is_not_trained(cache: Path, tmp_path: Path) -> None:
    wild = replace(EXPERIMENT, learning_rates=(1e30, 1e-3))
    run = Run.open(tmp_path / "wild", "quick", wild)
    ready = prepare(wild)
    execute(ready, run, CPU, run.plan(ready.cells, 4), Quiet())
    status = {(c["stage"]["name"], c["stage"]["recipe"]["learning_rate"]): c["status"] for c in run.cells()}
    assert status.pop(("fine-tune", 1e30)).startswith("diverged at step ")
    assert status == {("fine-tune", 1e-3): "done", ("reft", 1e-3): "done"}
    again = Quiet()
    execute(ready, run, CPU, run.plan(ready.cells, 4), again)
    assert again.trained == 0


def test_a_run_goes_on_in_its_own_folder_only(finished: Run, tmp_path: Path) -> None:
    assert Run.open(finished.path, "quick", EXPERIMENT).path == finished.path
    before = (finished.path / "experiment.json").read_bytes()
    for other, named in (
        (replace(EXPERIMENT, q=2), "q: 1 -> 2"),
        (replace(EXPERIMENT, learning_rates=(1e-2,)), "learning_rates: [0.01, 0.001] -> [0.01]"),
        (replace(EXPERIMENT, clip=None), "clip: 1.0 -> None"),
    ):
        with pytest.raises(InputError) as refused:
            Run.open(finished.path, "quick", other)
        assert refused.value.field == "out"
        assert named in refused.value.problem
        assert refused.value.problem.count("->") == 1
    assert (finished.path / "experiment.json").read_bytes() == before


def test_a_run_from_before_there_was_a_first_seed_is_read_and_goes_on(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", "quick", EXPERIMENT, command="as it was")
    file = run.path / "experiment.json"
    older = json.loads(file.read_text())
    del older["fields"]["first_seed"], older["seal"]
    store.write_sealed(file, older)
    before = file.read_bytes()
    assert Run.read(run.path).experiment["fields"]["first_seed"] == 0
    assert Run.open(run.path, "quick", EXPERIMENT, command="another").path == run.path
    assert file.read_bytes() == before, "the same experiment keeps its command"
    Run.open(run.path, "quick", replace(EXPERIMENT, seeds=2))
    assert Run.read(run.path).experiment["fields"]["seeds"] == 2
    with pytest.raises(InputError, match="first_seed: 0 -> 3"):
        Run.open(run.path, "quick", replace(EXPERIMENT, first_seed=3))


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError) as refused:
        Run.open(tmp_path, "quick", EXPERIMENT)
    assert refused.value.value == str(tmp_path)
    with pytest.raises(InputError):
        Run.open(tmp_path / "thesis.tex", "quick", EXPERIMENT)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_of_another_experiment_is_refused(tmp_path: Path) -> None:
    store.write_json(tmp_path / "experiment.json", {"name": "max-identifier", "fields": {}})
    with pytest.raises(InputError, match="max-identifier"):
        Run.open(tmp_path, "quick", EXPERIMENT)


@pytest.mark.parametrize("content", ['{"name": "cou', "", "[]"])
def test_a_damaged_experiment_file_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "experiment.json").write_text(content)
    with pytest.raises(InputError, match=r"experiment\.json"):
        Run.open(tmp_path, "quick", EXPERIMENT)


def test_a_folder_that_is_no_run_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        Run.read(tmp_path / "nowhere")


def test_the_folder_says_what_was_run(prepared: Prepared, finished: Run) -> None:
    described = json.loads((finished.path / "experiment.json").read_text())
    assert (described["name"], described["preset"]) == ("counter", "quick")
    assert described["fields"]["reft_rates"] == [1e-3]
    planned = json.loads((finished.path / "plan.json").read_text())["fleets"]
    assert sorted(c for fleet in planned for c in fleet["cells"]) == sorted(c.id for c in prepared.cells)
    assert json.loads((finished.path / "environment.json").read_text())["device"] == "cpu"
    capability = json.loads((finished.path / "capabilities/compiled-seed-0/accuracy.json").read_text())
    assert capability["accuracy"]["without_noise"]["natural"]["pt"] > 0.99
    metrics = finished.metrics()
    assert metrics.filter(pl.col("stage") == "reft")["parent"].unique().sort().to_list() == sorted(
        cell.id for cell in prepared.cells if cell.depth == 0
    )
    assert metrics["value"].is_nan().sum() == len(prepared.cells)  # training loss before any training


def test_preparing_the_run_leaves_the_capability_where_it_is(
    prepared: Prepared, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise is made on the CPU: a run that goes on must start its cells from the same weights."""
    moved: list[Transformer] = []
    monkeypatch.setattr(Transformer, "to", lambda self, *_: moved.append(self) or self)
    (finished.path / "capabilities/compiled-seed-0/accuracy.json").unlink()
    execute(prepared, finished, CPU, finished.plan(prepared.cells, 4), Quiet())
    assert moved
    (source,) = prepared.sources.values()
    assert all(model is not source.model for model in moved)
