"""Whatever trains the fleets, the tables are the same; a worker that dies takes nothing with it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from polars.testing import assert_frame_equal

from tests.tiny import CPU, EXPERIMENT, Quiet
from veneer.experiments.cells import Prepared, prepare
from veneer.experiments.run import execute
from veneer.experiments.status import fleet_progress, status, verify
from veneer.experiments.store import Run
from veneer.finetune import engines
from veneer.finetune.cell import Cell, Fleet
from veneer.finetune.engines import InProcess, OnRay, Outcome, Processes, drive
from veneer.tasks.errors import InputError


def run_of(prepared: Prepared, path: Path, size: int = 1) -> tuple[Run, list[Fleet]]:
    run = Run.open(path, "quick", EXPERIMENT)
    return run, run.plan(prepared.cells, size)


@pytest.fixture(scope="module")
def alone(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run, fleets = run_of(prepared, tmp_path_factory.mktemp("alone") / "run")
    torch.set_num_threads(1)
    execute(prepared, run, CPU, fleets, Quiet())
    return run


class Scripted:
    """An engine of the tests: fleets end in the order they came, as a script says."""

    def __init__(self, slots: int, script: Callable[[Fleet, int], str]) -> None:
        self.slots, self.script, self.line, self.begun = slots, script, list[Fleet](), list[str]()

    def start(self, work: object) -> None: ...

    def submit(self, fleet: Fleet) -> None:
        self.line.append(fleet)
        self.begun.append(fleet.id)
        assert len(self.line) <= self.slots

    def collect(self, seconds: float) -> list[tuple[Fleet, Outcome]]:
        fleet = self.line.pop(0)
        return [(fleet, Outcome(self.script(fleet, self.begun.count(fleet.id))))]  # pyright: ignore

    def close(self) -> None: ...


class Idle:
    methods = ()

    def __call__(self, fleet: Fleet) -> Outcome:
        return Outcome("trained")


def test_children_are_begun_after_their_parents(prepared: Prepared, tmp_path: Path) -> None:
    _, fleets = run_of(prepared, tmp_path / "run")
    engine, ended = Scripted(3, lambda fleet, time: "trained"), set[str]()
    order = []

    def told(fleet: Fleet, outcome: Outcome) -> None:
        parents = {c.start.id for c in fleet.cells if isinstance(c.start, Cell)}
        assert parents <= ended
        ended.update(cell.id for cell in fleet.cells)
        order.append(fleet.id)

    assert drive(engine, Idle(), fleets, told) == []
    assert sorted(order) == sorted(fleet.id for fleet in fleets)


def test_a_held_fleet_is_come_back_to_and_a_dead_one_ends_its_branch(
    prepared: Prepared, tmp_path: Path
) -> None:
    _, fleets = run_of(prepared, tmp_path / "run")
    first, second, child_of_first, child_of_second = fleets

    def script(fleet: Fleet, time: int) -> str:
        if fleet is first:
            return "busy" if time < 3 else "found"
        return "died" if fleet is second else "trained"

    engine, told = Scripted(2, script), []
    died = drive(engine, Idle(), fleets, lambda f, o: told.append((f.id, o.kind)), pause=0.0)
    assert died == [second]
    assert told == [(second.id, "died"), (first.id, "found"), (child_of_first.id, "trained")]
    assert child_of_second.id not in engine.begun


@contextmanager
def killing_one(
    run: Run, fleets: list[Fleet], victims: Callable[[int], list[int]] = lambda worker: [worker]
) -> Iterator[list[int]]:
    """Kill one worker process as soon as a fleet is in training, or whatever else falls with it."""
    killed, stop = list[int](), threading.Event()

    def kill() -> None:
        while not stop.is_set() and not killed:
            for found in filter(None, (fleet_progress(run, fleet.id) for fleet in fleets)):
                for process in victims(found.process) if found.process and not killed else []:
                    os.kill(process, signal.SIGKILL)
                    killed.append(process)
            time.sleep(0.002)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        stop.set()
        killer.join()


def test_processes_give_the_tables_of_one_process(prepared: Prepared, alone: Run, tmp_path: Path) -> None:
    """And a worker killed in training is replaced; its fleet goes on from its checkpoint."""
    run, fleets = run_of(prepared, tmp_path / "run")
    with killing_one(run, fleets) as killed:
        assert execute(prepared, run, CPU, fleets, Quiet(), -1.0, Processes(2)) == []
    assert killed
    assert_frame_equal(run.metrics(), alone.metrics(), check_exact=True)
    assert status(run).done == len(prepared.cells)
    assert not multiprocessing.active_children()


def test_a_fleet_whose_workers_always_die_is_given_up(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "ATTEMPTS", 1)
    long = replace(EXPERIMENT, learning_rates=(1e-2,), iterations=1_000_000)
    ready = prepare(long)
    run = Run.open(tmp_path / "run", "quick", long)
    fleets = run.plan(ready.cells, 1)
    with killing_one(run, fleets):
        given_up = execute(ready, run, CPU, fleets, Quiet(), engine=Processes(1))
    assert given_up == fleets[:1]  # and its child was not begun
    assert list(status(run).failed) == [fleets[0].id]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ray_gives_the_tables_of_one_process_though_a_worker_is_killed(
    prepared: Prepared, alone: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install veneer[ray])")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent.parent))
    run, fleets = run_of(prepared, tmp_path / "run")
    with killing_one(run, fleets) as killed:
        assert execute(prepared, run, CPU, fleets, Quiet(), -1.0, OnRay(jobs=2)) == []
    assert killed
    assert not ray.is_initialized()
    assert_frame_equal(run.metrics(), alone.metrics(), check_exact=True)


def processes_below(parent: int) -> list[int]:
    """A process and its children."""
    found = [parent]
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            fields = file.read_text().rpartition(")")[2].split()
            found += [int(file.parent.name)] if int(fields[1]) == parent else []
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="a node's processes are found in /proc")
def test_a_sweep_goes_on_though_a_whole_node_of_its_ray_cluster_is_killed(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second node's raylet and workers are killed while one of them trains, some cells being finished."""
    pytest.importorskip("ray", reason="Ray is not installed (pip install veneer[ray])")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent.parent))
    twice = replace(EXPERIMENT, seeds=2)
    ready = prepare(twice)
    runs = [Run.open(tmp_path / name, "quick", twice) for name in ("undisturbed", "disturbed")]
    undisturbed, run = runs
    execute(ready, undisturbed, CPU, undisturbed.plan(ready.cells, 1), Quiet())
    fleets, written = run.plan(ready.cells, 1), dict[Path, int]()

    def node_of(worker: int) -> list[int]:
        processes = processes_below(raylet)
        if worker not in processes or not run.finished():
            return []
        written.update({file: file.stat().st_mtime_ns for file in run.path.glob("cells/[0-9a-f]*/*")})
        return processes

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        raylet = cluster.add_node(num_cpus=1).all_processes["raylet"][0].process.pid
        engine = OnRay(cluster.address)
        with killing_one(run, fleets, node_of) as killed:
            assert execute(ready, run, CPU, fleets, Quiet(), -1.0, engine) == []
    finally:
        cluster.shutdown()
    assert len(killed) >= 2
    assert 0 < len({file.parent for file in written}) < len(ready.cells)
    assert {file: file.stat().st_mtime_ns for file in written} == written
    assert verify(run) == []
    assert_frame_equal(run.metrics(), undisturbed.metrics(), check_exact=True)


@pytest.mark.parametrize(
    "error", [("WorkerCrashedError",), ("OutOfMemoryError", "full"), ("NodeDiedError", "its node is dead")]
)
def test_a_fleet_whose_workers_or_nodes_always_die_on_ray_is_given_up_alone(
    prepared: Prepared, error: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once Ray's own attempts are used up; the other fleets are trained."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install veneer[ray])")
    _, fleets = run_of(prepared, tmp_path / "run")

    def get(task: int) -> Outcome:
        if task == 0:
            raise getattr(ray.exceptions, error[0])(*error[1:])
        return Outcome("trained")

    tasks = iter(range(len(fleets)))
    submitting = SimpleNamespace(remote=lambda *_: next(tasks))
    cluster = SimpleNamespace(
        exceptions=ray.exceptions,
        cluster_resources=lambda: {"CPU": 1.0},
        put=lambda value: value,
        remote=lambda **_: lambda function: submitting,
        wait=lambda tasks, **_: (tasks[:1], tasks[1:]),
        get=get,
        cancel=lambda *_, **__: None,
        shutdown=lambda: None,
    )
    monkeypatch.setattr(engines, "_connected", lambda *_: cluster)
    told = dict[str, str]()
    died = drive(OnRay(), Idle(), fleets, lambda fleet, outcome: told.update({fleet.id: outcome.kind}))
    assert died == fleets[:1]
    assert list(told.values()) == ["died", "trained", "trained"]  # its child is not begun


def test_an_address_without_a_cluster_is_refused() -> None:
    pytest.importorskip("ray", reason="Ray is not installed (pip install veneer[ray])")
    with pytest.raises(InputError) as refused:
        OnRay("127.0.0.1:1")
    assert (refused.value.field, refused.value.value) == ("address", "127.0.0.1:1")


def test_ray_that_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match="Ray is not installed"):
        OnRay()


class Heavy(Idle):
    """Work that holds more tensors than a forked server takes files: a run of seven pretrained models."""

    def __init__(self) -> None:
        self.tensors = [torch.zeros(2) for _ in range(300)]


def test_workers_take_any_number_of_models() -> None:
    script = """
from veneer.finetune.workers import start_server, worker_context
start_server()
from tests.experiments.test_engines import Heavy, Outcome, Processes
from veneer.finetune.cell import Fleet
engine = Processes(1)
engine.start(Heavy())
engine.submit(Fleet(()))
print(worker_context().get_start_method(), engine.collect(60.0)[0][1] == Outcome("trained"))
engine.close()
"""
    root, command = Path(__file__).parents[2], [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["forkserver" if sys.platform == "linux" else "spawn", "True"], done.stderr


def test_fewer_than_one_process_is_refused() -> None:
    with pytest.raises(InputError, match="jobs"):
        Processes(0)


def test_the_engine_of_one_process_does_the_work_in_order(prepared: Prepared, tmp_path: Path) -> None:
    _, fleets = run_of(prepared, tmp_path / "run")
    engine = InProcess()
    engine.start(Idle())
    engine.submit(fleets[0])
    assert engine.collect(0.0) == [(fleets[0], Outcome("trained"))]
