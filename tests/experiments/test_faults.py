"""What goes wrong on real machines: full disks, damaged files, jumping clocks, two drivers at once.

After each fault the run goes on, nothing finished is trained again, and the final table is that of a
run in which nothing went wrong. (Killed drivers: ``test_run``; killed workers: ``test_engines``.)
"""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from tests.tiny import CPU, EXPERIMENT, UPDATES, Quiet, interrupted_at
from veneer.experiments import status as status_of_run
from veneer.experiments.cells import Prepared
from veneer.experiments.maps import stored_maps
from veneer.experiments.run import execute, fleet_job
from veneer.experiments.status import status, verify
from veneer.experiments.store import Run
from veneer.finetune.cell import Fleet
from veneer.tasks.errors import InputError


@pytest.fixture(scope="module")
def undisturbed(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    torch.set_num_threads(1)
    run = Run.open(tmp_path_factory.mktemp("undisturbed") / "run", "quick", EXPERIMENT)
    execute(prepared, run, CPU, run.plan(prepared.cells, 2), Quiet())
    return run.metrics()


def go_on(prepared: Prepared, path: Path, said: Quiet, checkpoint_seconds: float = -1.0) -> Run:
    run = Run.open(path, "quick", EXPERIMENT)
    execute(prepared, run, CPU, run.plan(prepared.cells, 2), said, checkpoint_seconds)
    return run


FULL = OSError(errno.ENOSPC, "No space left on device")
READ_ONLY = OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize("fault", [FULL, READ_ONLY], ids=["full", "read-only"])
@pytest.mark.parametrize(("call", "moment"), [("rename", 0), ("rename", 3), ("replace", 0), ("replace", 7)])
def test_a_disk_that_is_full_or_read_only_ends_the_run_in_one_line_and_loses_nothing(
    prepared: Prepared,
    undisturbed: pl.DataFrame,
    call: str,
    moment: int,
    fault: OSError,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The moment-th time that a cell (rename) or another file (replace) is put in place, it fails."""
    run = Run.open(tmp_path / "run", "quick", EXPERIMENT)
    fleets, real, calls = run.plan(prepared.cells, 2), getattr(os, call), 0

    def full(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls > moment:
            raise fault
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(InputError, match=fault.strerror):
            execute(prepared, run, CPU, fleets, Quiet(), -1.0)
    kept = run.finished()
    assert len(kept) == (moment if call == "rename" else 0)
    times = {cell: (run.cell_path(cell) / "cell.json").stat().st_mtime_ns for cell in kept}
    again = go_on(prepared, tmp_path / "run", Quiet())
    assert_frame_equal(again.metrics(), undisturbed, check_exact=True)
    assert times == {cell: (again.cell_path(cell) / "cell.json").stat().st_mtime_ns for cell in kept}
    assert not [file for file in again.path.rglob("*.tmp")]


@pytest.mark.parametrize("most", [1_000, 12_000, 40_000])
def test_files_that_the_system_does_not_let_grow_end_the_run_in_one_line(
    prepared: Prepared, undisturbed: pl.DataFrame, most: int, tmp_path: Path
) -> None:
    """The operating system's own refusal, in the middle of a file, through every library that writes."""
    resource = pytest.importorskip("resource", reason="limits on files are POSIX")
    run = Run.open(tmp_path / "run", "quick", EXPERIMENT)
    fleets = run.plan(prepared.cells, 2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        with pytest.raises(InputError, match="File too large") as refused:
            execute(prepared, run, CPU, fleets, Quiet(), -1.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert refused.value.field == "out"
    assert run.finished() == []
    again = go_on(prepared, tmp_path / "run", Quiet())
    assert_frame_equal(again.metrics(), undisturbed, check_exact=True)
    assert verify(again) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(InputError, match="Permission denied") as refused:
        Run.open(tmp_path / "run", "quick", EXPERIMENT)
    assert refused.value.field == "out"


@pytest.mark.parametrize("name", ["learning_rates", "c_tr"])
def test_a_run_without_rates_or_shares_is_refused(name: str, tmp_path: Path) -> None:
    """There is nothing in it that a page could show first."""
    run = Run.open(tmp_path / "run", "quick", EXPERIMENT)
    file = run.path / "experiment.json"
    content = json.loads(file.read_text())
    content["fields"][name] = []
    del content["seal"]  # as of a run that somebody made by hand
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"fields.{name} are empty"):
        Run.read(run.path)


@pytest.mark.parametrize("damage", ["half", "noise"])
def test_a_damaged_checkpoint_is_left_out_with_a_notice(
    prepared: Prepared, undisturbed: pl.DataFrame, damage: str, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        go_on(prepared, tmp_path / "run", interrupted_at(16))
    (file,) = (tmp_path / "run" / "fleets").glob("*.safetensors")
    content = file.read_bytes()
    file.write_bytes({"half": content[: len(content) // 2], "noise": b"\xff" * 999}[damage])
    said = Quiet()
    run = go_on(prepared, tmp_path / "run", said)
    assert said.trained == UPDATES
    assert "damaged" in said.notices[0]
    assert_frame_equal(run.metrics(), undisturbed, check_exact=True)


def test_what_was_restored_is_not_counted_as_trained(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        go_on(prepared, tmp_path / "run", interrupted_at(16))
    said = Quiet()
    go_on(prepared, tmp_path / "run", said)
    assert (said.restored, said.trained) == (14, UPDATES - 14)  # the update at work was lost


@pytest.mark.parametrize("file", ["metrics.parquet", "cells.parquet"])
def test_a_damaged_table_of_the_whole_run_is_made_again_or_done_without(
    prepared: Prepared, undisturbed: pl.DataFrame, file: str, tmp_path: Path
) -> None:
    run = go_on(prepared, tmp_path / "run", Quiet())
    (run.path / file).write_bytes(b"PAR1 not")
    assert_frame_equal(run.metrics(), undisturbed, check_exact=True)
    said = Quiet()
    assert verify(go_on(prepared, tmp_path / "run", said)) == []
    assert said.trained == 0


def test_a_damaged_parquet_file_of_a_cell_is_named_and_made_again(
    prepared: Prepared, undisturbed: pl.DataFrame, tmp_path: Path
) -> None:
    run = go_on(prepared, tmp_path / "run", Quiet())
    cell = prepared.cells[-1].id
    (run.cell_path(cell) / "metrics.parquet").write_bytes(b"PAR1")
    (run.path / "metrics.parquet").unlink()
    assert verify(run) == [f"cells/{cell}: metrics.parquet is damaged"]
    with pytest.raises(InputError, match="veneer verify"):
        run.metrics()
    again = go_on(prepared, tmp_path / "run", Quiet())
    assert verify(again) == []
    assert_frame_equal(again.metrics(), undisturbed, check_exact=True)


def test_nothing_depends_on_the_clock(
    prepared: Prepared, undisturbed: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = Random(3)
    monkeypatch.setattr(time, "time", lambda: moments.uniform(-1e10, 1e10))
    run = go_on(prepared, tmp_path / "run", Quiet())
    assert_frame_equal(run.metrics(), undisturbed, check_exact=True)


def test_two_drivers_in_one_folder_share_the_work(
    prepared: Prepared, undisturbed: pl.DataFrame, tmp_path: Path
) -> None:
    said, errors = (Quiet(), Quiet()), list[BaseException]()
    Run.open(tmp_path / "run", "quick", EXPERIMENT)

    def driver(progress: Quiet) -> None:
        try:
            run = Run.open(tmp_path / "run", "quick", EXPERIMENT)
            execute(prepared, run, CPU, run.plan(prepared.cells, 1), progress, -1.0)
        except BaseException as error:
            errors.append(error)

    drivers = [threading.Thread(target=driver, args=(progress,)) for progress in said]
    for thread in drivers:
        thread.start()
    for thread in drivers:
        thread.join()
    assert not errors
    assert said[0].trained + said[1].trained == UPDATES
    run = Run.read(tmp_path / "run")
    assert verify(run) == []
    keys = ["cell", "step", "measure", "texts", "operand"]
    assert_frame_equal(run.metrics().select(keys), undisturbed.select(keys))
    assert_frame_equal(run.metrics(), undisturbed, rel_tol=1e-3)  # fleets of one round otherwise


HOLD = """\
import sys, filelock
with filelock.FileLock(sys.argv[1]):
    print("held", flush=True)
    input()
"""


def test_a_lease_ends_with_its_process(prepared: Prepared, tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", "quick", EXPERIMENT)
    fleet = run.plan(prepared.cells, 2)[0].id
    with run.lease(fleet) as mine:
        assert mine
        with run.lease(fleet) as other:
            assert not other
    lock = str(run.path / "locks" / f"{fleet}.lock")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    holder = subprocess.Popen([sys.executable, "-c", HOLD, lock], **pipes)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert run.is_held(fleet)
    holder.kill()
    holder.communicate()
    assert not run.is_held(fleet)


def test_the_status_of_a_run_in_training(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_of_run, "EVERY", 0.0)
    seen = []

    def look(trained: int) -> None:
        seen.append(status(Run.read(tmp_path / "run")))
        if trained >= 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go_on(prepared, tmp_path / "run", Quiet(look))
    assert [found.updates for found in seen] == [(UPDATES, 2 * n) for n in range(1, 16)]
    assert all(len(found.running) == 1 and not found.interrupted for found in seen)
    assert (seen[0].done, seen[-1].done) == (0, 2)
    after = status(Run.read(tmp_path / "run"))
    assert not after.running
    assert [found.step for found in after.interrupted.values()] == [3]
    assert after.seconds_left is None


def test_a_long_texts_maps_keep_the_answers_row(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet((prepared.cells[0],))
    job = fleet_job(prepared, None, fleet, CPU)
    (whole,) = stored_maps(job.task, job.encoding, job.model)
    monkeypatch.setattr("veneer.experiments.maps.WHOLE_MAPS", 6)
    (rows,) = stored_maps(job.task, job.encoding, job.model)
    for name in ("example", "mean"):
        assert torch.equal(rows[name][:, :, 0], whole[name][:, :, job.encoding.answer])
    with torch.no_grad():
        job.model.token_embedding.fill_(torch.inf)
    (lost,) = stored_maps(job.task, job.encoding, job.model)
    assert {name: lost[name].shape for name in lost} == {name: rows[name].shape for name in lost}


def test_a_models_maps_are_the_same_bits_in_any_fleet_and_beside_one_that_is_lost(
    prepared: Prepared,
) -> None:
    job = fleet_job(prepared, None, Fleet((prepared.cells[0],)), CPU)
    fleet = job.model.select([0] * 11)
    with torch.no_grad():
        for parameter in fleet.parameters():
            parameter *= torch.linspace(0.9, 1.1, 11).view(-1, *[1] * (parameter.ndim - 1))
        fleet.token_embedding[2] = torch.nan
    for i, maps in enumerate(stored_maps(job.task, job.encoding, fleet)):
        (alone,) = stored_maps(job.task, job.encoding, fleet.member(i))
        assert maps.keys() == alone.keys()
        for name, value in maps.items():
            assert torch.equal(value.nan_to_num(7), alone[name].nan_to_num(7))
        assert maps["mean"].isnan().all() == (i == 2)
