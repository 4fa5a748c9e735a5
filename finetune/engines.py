"""Engines: where fleets train. In this process, in several on one machine, or on a Ray cluster.

An engine maps fleets to results and owns no science: ``drive`` hands it fleets whose parents are
finished, and the work itself stores what came out. Results go from the workers to the run's folder,
whole or not at all, so that neither a worker's death nor the driver's loses anything finished.
"""

import heapq
import pickle
import signal
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from veneer.finetune.cell import Cell, Fleet
from veneer.finetune.methods import load_method
from veneer.finetune.processor import cores, settle
from veneer.finetune.workers import end_with_driver, worker_context
from veneer.tasks.errors import InputError

ATTEMPTS = 4  # how often a fleet is begun whose workers die
PAUSE = 0.5  # seconds between two looks at what is in training


@dataclass(frozen=True)
class Outcome:
    """How a fleet's work ended.

    Attributes:
        kind: "trained" just now, "found" (finished before), "busy" (another driver trains it) or
            "died" (its worker did, each time it was begun).
        notice: what a reader should know, or nothing.
    """

    kind: Literal["trained", "found", "busy", "died"]
    notice: str = ""


@runtime_checkable
class Work(Protocol):
    """What is done with a fleet, here or in a worker; it stores the results itself."""

    @property
    def methods(self) -> tuple[str, ...]: ...  # to be loaded before fleets can be unpacked

    def __call__(self, fleet: Fleet) -> Outcome: ...


@runtime_checkable
class Engine(Protocol):
    """Somewhere fleets train.

    Attributes:
        slots: fleets that can be in its hands at once.
    """

    slots: int

    def start(self, work: Work) -> None: ...

    def submit(self, fleet: Fleet) -> None: ...

    def collect(self, seconds: float) -> list[tuple[Fleet, Outcome]]: ...  # ended since; waits so long

    def close(self) -> None: ...


class InProcess:
    """One fleet after another, in this process."""

    slots = 1

    def start(self, work: Work) -> None:
        """Take the work."""
        self._work, self._fleets = work, []

    def submit(self, fleet: Fleet) -> None:
        """Put a fleet in line."""
        self._fleets.append(fleet)

    def collect(self, seconds: float) -> list[tuple[Fleet, Outcome]]:
        """Do what is in line."""
        fleets, self._fleets = self._fleets, []
        return [(fleet, self._work(fleet)) for fleet in fleets]

    def close(self) -> None:
        """Nothing is held."""


_work: Work  # a worker process's own


def _begin(threads: int, methods: tuple[str, ...], packed: bytes) -> None:
    """A worker's beginning: its share of the cores, what methods need, and an end with its driver's."""
    global _work
    settle(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the driver, which ends its workers
    for method in methods:
        load_method(method)
    _work = pickle.loads(packed)
    end_with_driver()


def _do(fleet: Fleet) -> Outcome:
    return _work(fleet)


class Processes:
    """Several worker processes on this machine, each with its share of the cores.

    Every worker is a pool of its own, so that one that dies (killed, or out of memory) takes no other
    with it; its fleet is begun again, from its checkpoint.

    Args:
        jobs: number of processes.

    Raises:
        InputError: fewer than one.
    """

    def __init__(self, jobs: int) -> None:
        if jobs < 1:
            raise InputError("jobs", jobs, "1 or more")
        self.slots = jobs
        self._pools: list[ProcessPoolExecutor] = []
        self._at_work: dict[Future[Outcome], tuple[int, Fleet]] = {}
        self._deaths: dict[str, int] = {}

    def start(self, work: Work) -> None:
        """Start the workers."""
        # As bytes: of tensors each would be a file that the worker inherits, of which there may be 256.
        self._methods, self._packed = work.methods, pickle.dumps(work)
        self._pools = [self._pool() for _ in range(self.slots)]

    def _pool(self) -> ProcessPoolExecutor:
        threads = max(1, cores() // self.slots)
        return ProcessPoolExecutor(1, worker_context(), _begin, (threads, self._methods, self._packed))

    def submit(self, fleet: Fleet) -> None:
        """Give a fleet to a worker that has none."""
        taken = {place for place, _ in self._at_work.values()}
        place = next(i for i in range(self.slots) if i not in taken)
        try:
            future = self._pools[place].submit(_do, fleet)
        except BrokenProcessPool:  # it died between two fleets
            self._pools[place] = self._pool()
            future = self._pools[place].submit(_do, fleet)
        self._at_work[future] = (place, fleet)

    def collect(self, seconds: float) -> list[tuple[Fleet, Outcome]]:
        """What workers ended; a fleet whose worker died is given to a new one."""
        ended = []
        for future in wait(self._at_work, seconds, FIRST_COMPLETED).done:
            place, fleet = self._at_work.pop(future)
            try:
                ended.append((fleet, future.result()))
            except BrokenProcessPool:
                self._pools[place].shutdown(wait=False)
                self._pools[place] = self._pool()
                self._deaths[fleet.id] = self._deaths.get(fleet.id, 0) + 1
                if self._deaths[fleet.id] < ATTEMPTS:
                    self.submit(fleet)
                else:
                    ended.append((fleet, Outcome("died", f"its worker died {ATTEMPTS} times")))
        return ended

    def close(self) -> None:
        """End the workers; what they train goes on from its checkpoints another time."""
        for pool in self._pools:
            for process in list((pool._processes or {}).values()):  # there is no public way to them
                process.kill()
            pool.shutdown(wait=True, cancel_futures=True)
        self._pools, self._at_work = [], {}


def _on_ray(methods: tuple[str, ...], packed: list[Any], threads: int) -> Outcome:
    """One fleet as a Ray task; what is packed is unpacked only when the methods are there."""
    import ray

    settle(threads)
    for method in methods:
        load_method(method)
    work, fleet = ray.get(packed)
    return work(fleet)


class OnRay:
    """A Ray cluster: each fleet is a task with its own needs, which Ray places and tries again.

    The run's folder must be one that all nodes see.

    Args:
        address: of a running cluster ("auto", "HOST:6379", "ray://HOST:10001"); None starts one here.
        jobs: fleets at a time on a cluster started here.
        cpus: of each fleet.
        gpus: of each fleet.

    Raises:
        InputError: Ray is not installed, or no cluster answers at the address.
    """

    def __init__(
        self,
        address: str | None = None,
        jobs: int = 2,
        cpus: int = 1,
        gpus: float = 0.0,
    ) -> None:
        if jobs < 1:
            raise InputError("jobs", jobs, "1 or more")
        self._ray = _connected(address, jobs * cpus)
        have = self._ray.cluster_resources()
        places = have.get("GPU", 0) / gpus if gpus else have.get("CPU", 1) / cpus
        self.slots = max(1, int(2 * places))  # enough in line that no node waits for the driver
        self._needs = {"num_cpus": cpus, "num_gpus": gpus}
        self._cpus = cpus
        self._at_work: dict[Any, Fleet] = {}

    def start(self, work: Work) -> None:
        """Put the work where every node can fetch it once."""
        self._methods, self._packed = work.methods, self._ray.put(work)
        options = {**self._needs, "max_retries": ATTEMPTS - 1}
        self._task = self._ray.remote(**options)(_on_ray)

    def submit(self, fleet: Fleet) -> None:
        """A task for a fleet."""
        packed = [self._packed, self._ray.put(fleet)]
        self._at_work[self._task.remote(self._methods, packed, self._cpus)] = fleet

    def collect(self, seconds: float) -> list[tuple[Fleet, Outcome]]:
        """What tasks ended; Ray has begun those whose workers or nodes died as often as it may."""
        ended, errors = [], self._ray.exceptions
        done, _ = self._ray.wait(list(self._at_work), num_returns=1, timeout=seconds)
        for reference in done:
            fleet = self._at_work.pop(reference)
            try:
                ended.append((fleet, self._ray.get(reference)))
            except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError) as error:
                ended.append((fleet, Outcome("died", str(error).strip().splitlines()[0])))
            except errors.RayTaskError as error:
                raise error.cause if isinstance(error.cause, Exception) else error from None
        return ended

    def close(self) -> None:
        """Give up what runs, and leave the cluster."""
        for reference in self._at_work:
            self._ray.cancel(reference, force=True)
        self._at_work = {}
        self._ray.shutdown()


def _connected(address: str | None, cpus: int) -> Any:
    """Ray, with a cluster behind it."""
    try:
        import ray
    except ImportError as error:
        valid = "in-process or processes, or ray after: pip install 'veneer[ray]'"
        raise InputError("engine", "ray", valid, "Ray is not installed") from error
    if address is not None and ":" in address:
        _check_answers(address)
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "ignore_reinit_error": True}
    try:
        if address is None:
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        problem = str(error).strip().splitlines()[0]
        raise InputError("address", address, "the address of a running Ray cluster", problem) from error
    return ray


def _check_answers(address: str) -> None:
    """Refuse an address where nothing listens at once; Ray itself would try for minutes."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    valid = "the address of a running Ray cluster"
    if not port.isdecimal():
        raise InputError("address", address, f"{valid}, as HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise InputError("address", address, valid, f"nothing answers there ({error})") from error


@dataclass
class _Line:
    """Fleets that wait, in the plan's order, and are ready when their parents are finished."""

    fleets: Sequence[Fleet]
    ready: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        owner = {cell.id: i for i, fleet in enumerate(self.fleets) for cell in fleet.cells}
        self.children: dict[int, list[int]] = {}
        self.missing = []
        for i, fleet in enumerate(self.fleets):
            parents = {owner[cell.start.id] for cell in fleet.cells if isinstance(cell.start, Cell)}
            for parent in parents:
                self.children.setdefault(parent, []).append(i)
            self.missing.append(len(parents))
        self.place = {fleet.id: i for i, fleet in enumerate(self.fleets)}
        self.ready = [i for i, missing in enumerate(self.missing) if not missing]

    def next(self) -> Fleet:
        return self.fleets[heapq.heappop(self.ready)]

    def finished(self, fleet: Fleet) -> None:
        for child in self.children.get(self.place[fleet.id], []):
            self.missing[child] -= 1
            if not self.missing[child]:
                heapq.heappush(self.ready, child)

    def busy(self, fleet: Fleet) -> None:
        self.held.append(self.place[fleet.id])

    def come_back(self) -> None:
        """Put what another driver held in line again."""
        for place in self.held:
            heapq.heappush(self.ready, place)
        self.held = []


def drive(
    engine: Engine,
    work: Work,
    fleets: Sequence[Fleet],
    ended: Callable[[Fleet, Outcome], None],
    look: Callable[[list[Fleet]], None] = lambda fleets: None,
    pause: float = PAUSE,
) -> list[Fleet]:
    """Have an engine do the work of all fleets, parents before children.

    A fleet that another driver holds is left for later, and looked at again when nothing else is left.

    Args:
        engine: where.
        work: what is done with each.
        fleets: the plan.
        ended: told of each fleet that is finished or given up.
        look: called between times with the fleets in the engine's hands.
        pause: seconds between two looks.

    Returns:
        The fleets whose workers died; what starts from them was not begun.
    """
    line, at_work, died = _Line(fleets), {}, []
    engine.start(work)
    try:
        while line.ready or at_work or line.held:
            while line.ready and len(at_work) < engine.slots:
                fleet = line.next()
                engine.submit(fleet)
                at_work[fleet.id] = fleet
            if not at_work:
                time.sleep(pause)
                line.come_back()
                continue
            for fleet, outcome in engine.collect(pause):
                del at_work[fleet.id]
                if outcome.kind == "busy":
                    line.busy(fleet)
                    continue
                died += [fleet] if outcome.kind == "died" else []
                if outcome.kind != "died":
                    line.finished(fleet)
                ended(fleet, outcome)
            look(list(at_work.values()))
    finally:
        engine.close()
    return died
