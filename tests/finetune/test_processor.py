"""Work fitted to a processor: subnormals are zero while it lasts, and bits depend on nothing but the cell."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.tiny import CPU, EXPERIMENT, Quiet
from veneer.experiments.cells import Prepared
from veneer.experiments.estimate import engine_for, fleet_size, least_bytes
from veneer.experiments.run import execute, fleet_job
from veneer.experiments.store import Run
from veneer.finetune import processor
from veneer.finetune.cell import Cell, Fleet, plan
from veneer.finetune.engines import InProcess, Processes
from veneer.finetune.processor import (
    can_flush_subnormals,
    cores,
    fitted,
    flushes_subnormals,
    has_bfloat16,
    in_processes,
    is_small,
    threads_for,
)
from veneer.finetune.trainer import train
from veneer.tasks.errors import InputError

FLUSHING = pytest.mark.skipif(not can_flush_subnormals(), reason="this processor cannot flush subnormals")
TINY = 2.0**-130


@FLUSHING
def test_subnormals_are_zero_within_and_are_back_after() -> None:
    with fitted():
        assert flushes_subnormals()
        assert torch.full((1000,), TINY).mul(1.5).count_nonzero() == 0
    assert not flushes_subnormals()
    assert torch.full((1000,), TINY).mul(1.5).count_nonzero() == 1000


@FLUSHING
def test_the_flag_is_put_back_when_work_fails() -> None:
    with pytest.raises(KeyboardInterrupt), fitted():
        raise KeyboardInterrupt
    assert not flushes_subnormals()


@FLUSHING
def test_a_fleet_trains_with_subnormals_flushed_on_one_thread(prepared: Prepared) -> None:
    job = fleet_job(prepared, None, Fleet((prepared.cells[0],)), CPU)
    seen = []
    job.progress = lambda step: seen.append((flushes_subnormals(), torch.get_num_threads()))
    train(job)
    assert set(seen) == {(True, 1)}
    assert not flushes_subnormals()


def first_stages(prepared: Prepared) -> list[Cell]:
    """Eight cells of one kind."""
    first = prepared.cells[0]
    return [replace(first, seed=seed) for seed in range(8)]


def test_a_members_bits_are_those_of_any_fleet(prepared: Prepared) -> None:
    found: dict[str, list[torch.Tensor]] = {}
    for size in (1, 3, 8):
        for fleet in plan(first_stages(prepared), size):
            trained = train(fleet_job(prepared, None, fleet, CPU))
            for i, cell in enumerate(fleet.cells):
                weights = [parameter[i].flatten() for parameter in trained.model.parameters()]
                own = torch.cat([*weights, trained.loss[:, i].flatten(), trained.train_loss[1:, i]])
                found.setdefault(cell.id, []).append(own)
    assert len(found) == 8
    for alone, *others in found.values():
        assert all(torch.equal(alone, other) for other in others)


def bits_of(run: Run) -> dict[str, bytes]:
    """Every finished cell's weights and curves, by id."""
    names = ("model.safetensors", "metrics.parquet")
    return {i: b"".join((run.cell_path(i) / name).read_bytes() for name in names) for i in run.finished()}


@pytest.mark.slow
def test_processes_of_single_models_give_the_bits_of_one_fleet_in_this_process(
    prepared: Prepared, tmp_path: Path
) -> None:
    runs = []
    for name, size, engine in (("one", 1, Processes(2)), ("four", 4, InProcess())):
        run = Run.open(tmp_path / name, "quick", EXPERIMENT)
        assert execute(prepared, run, CPU, run.plan(prepared.cells, size), Quiet(), engine=engine) == []
        runs.append(run)
    one, four = map(bits_of, runs)
    assert len(one) == len(prepared.cells)
    assert one == four


def test_large_models_have_all_threads_and_small_ones_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert (is_small(30_000), threads_for(30_000)) == (True, 1)
    assert (is_small(2_700_000), threads_for(2_700_000)) == (False, 8)


def test_cores_are_within_what_the_process_and_its_container_may_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processor.os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    monkeypatch.setattr(processor, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert cores() == 16
    (tmp_path / "cpu.max").write_text("400000 100000\n")
    assert cores() == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert cores() == 2
    (tmp_path / "cpu.max").write_text("max 100000\n")
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert cores() == 16


def test_processes_are_chosen_for_many_updates_of_small_models_only(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleets = plan(prepared.cells, 1)
    monkeypatch.setattr("veneer.experiments.estimate.cores", lambda: 2)
    assert isinstance(engine_for(prepared, fleets, set(), CPU, None), InProcess)  # done before they start
    monkeypatch.setattr("veneer.experiments.estimate.PROCESSES_PAY", 0)
    chosen = engine_for(prepared, fleets, set(), CPU, None)
    assert isinstance(chosen, Processes)
    assert chosen.slots == 2
    finished = {cell.id for fleet in fleets[1:] for cell in fleet.cells}
    assert isinstance(engine_for(prepared, fleets, finished, CPU, None), InProcess)  # one fleet is left
    assert isinstance(engine_for(prepared, fleets, set(), torch.device("cuda"), 2), InProcess)
    monkeypatch.setattr("veneer.experiments.estimate.is_small", lambda parameters: False)
    assert isinstance(engine_for(prepared, fleets, set(), CPU, None), InProcess)


@pytest.mark.parametrize(
    ("line", "has"),
    [
        ("flags\t\t: fpu avx2 avx512f amx_bf16", True),
        ("flags\t\t: fpu avx2 avx512_bf16", True),
        ("Features\t: fp asimd bf16", True),
        ("flags\t\t: fpu avx2 avx512f", False),
        ("model name\t: bf16", False),
    ],
)
def test_a_processor_has_bfloat16_if_it_says_so(
    line: str, has: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    monkeypatch.setattr(processor, "PROCESSORS", tmp_path / "cpuinfo")
    assert has_bfloat16() == has


def test_a_fleet_is_as_large_as_cache_and_cores_ask(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = Prepared(prepared.sources, [replace(prepared.cells[0], seed=seed) for seed in range(256)])
    monkeypatch.setattr("veneer.experiments.estimate.cores", lambda: 2)
    tiny = fleet_size(many, CPU)
    assert 4 < tiny <= 64
    monkeypatch.setattr("veneer.experiments.estimate.FLEET_NUMBERS", 1)  # as if they were large
    assert fleet_size(many, CPU) == 4
    monkeypatch.setattr("veneer.experiments.estimate.cores", lambda: 128)
    assert fleet_size(many, CPU) == 2


def test_on_a_gpu_a_fleet_is_as_large_as_it_has_room_for(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = least_bytes(prepared, Fleet((prepared.cells[0],)))
    gpu = torch.device("cuda")
    for memory, size in ((10**15, 256), (40 * alone, 10), (1, 1)):
        monkeypatch.setattr("veneer.experiments.estimate.memory_of", lambda device, held=memory: held)
        assert fleet_size(replace(prepared, cells=prepared.cells[:1]), gpu) == size


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_worker_processes_give_results_in_order_on_one_thread_each() -> None:
    with in_processes(2) as begin:
        waiting = [begin(pow, 2, i) for i in range(5)]
        threads = begin(torch.get_num_threads)
        assert [wait() for wait in waiting] == [1, 2, 4, 8, 16]
        assert threads() == 1


@pytest.mark.slow
def test_a_worker_that_is_killed_is_one_line() -> None:
    with pytest.raises(InputError, match="was killed"), in_processes(2) as begin:
        begin(_killed)()


def test_without_worker_processes_work_is_done_when_it_is_asked_for() -> None:
    done = []
    with in_processes(1) as begin:
        wait = begin(done.append, 1)
        assert done == []
        wait()
        assert done == [1]
