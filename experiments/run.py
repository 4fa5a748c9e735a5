"""Run an experiment: train what is not finished of its fleets, on any engine, and store each cell."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Protocol, runtime_checkable

import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from veneer.analysis.evidence import revival_threshold
from veneer.experiments.cells import Prepared
from veneer.experiments.maps import TOGETHER, stored_maps
from veneer.experiments.origins import Source
from veneer.experiments.shapes import ACCURACY, CELL
from veneer.experiments.status import Reporter, capability_damage, fleet_progress, give_up
from veneer.experiments.store import Run
from veneer.experiments.tables import metrics_table
from veneer.experiments.tracking import Curves, Live
from veneer.finetune.cell import Cell, Fleet, Origin
from veneer.finetune.checkpoint import load_state
from veneer.finetune.engines import Engine, InProcess, Outcome, drive
from veneer.finetune.fleet import EVALUATED, FleetJob, Member, evaluate, evaluation_batch, evaluation_sets
from veneer.finetune.processor import fitted, is_small, threads_for
from veneer.finetune.trainer import Trained, train
from veneer.models.files import checksum, later, read_json, together, write_bytes, write_sealed
from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import OPERANDS, baseline

CAPABILITY_TEXTS = 500  # texts of each kind on which a capability is scored as it starts
ROOM = "a folder that can be written and has room; the same command goes on from there"


@runtime_checkable
class Progress(Protocol):
    """Is told how training goes."""

    def fleet(self, fleet: Fleet, index: int, fleets: int) -> None: ...

    def updates(self, count: int) -> None: ...

    def skipped(self, cells: int, updates: int) -> None: ...

    def notice(self, text: str) -> None: ...


class Silent:
    """Is told how training goes, and says nothing."""

    def fleet(self, fleet: Fleet, index: int, fleets: int) -> None: ...

    def updates(self, count: int) -> None: ...

    def skipped(self, cells: int, updates: int) -> None: ...

    def notice(self, text: str) -> None: ...


def execute(
    prepared: Prepared,
    run: Run,
    device: torch.device,
    fleets: list[Fleet],
    progress: Progress,
    checkpoint_seconds: float = 30.0,
    engine: Engine | None = None,
    methods: tuple[str, ...] = (),
    curves: Curves | None = None,
) -> list[Fleet]:
    """Train every cell that is not finished; what is finished is left alone.

    Args:
        prepared: the experiment.
        run: where results go.
        device: where to train.
        fleets: the run's plan (``Run.plan``), parents before children.
        progress: told of fleets and updates.
        checkpoint_seconds: least time between two checkpoints of a fleet in training.
        engine: what trains the fleets; one after another in this process if there is none.
        methods: methods that are written in files, which workers have to load.
        curves: hands accuracies on to trackers while models train; None tracks nothing.

    Returns:
        The fleets that were given up because their workers died, again and again.

    Raises:
        InputError: the folder cannot be written, or is full.
    """
    engine = engine or InProcess()
    watch = _Watch(run, fleets, progress, curves)
    tell = watch.tell if isinstance(engine, InProcess) else None
    work = FleetWork(
        prepared.sources, run.path, str(device), checkpoint_seconds, methods, tell, curves is not None
    )
    try:
        largest = max(source.model.parameter_count for source in prepared.sources.values())
        with run.setup():
            # Of a finished run it would name who only looks. The files themselves are checked by each fleet.
            done = all((run.cell_path(cell.id) / "cell.json").exists() for cell in prepared.cells)
            if not done or not run.knows_environment:
                run.write_environment(device)
            begun = {cell.origin for cell in prepared.cells}
            with fitted(threads_for(largest)), together(len(begun)):
                _write_baselines(prepared, run, device)
                _write_capabilities(prepared, run, device)
        for sentence in not_had(prepared, run):
            progress.notice(sentence)
        given_up = drive(engine, work, fleets, watch.ended, watch.look)
        if not given_up:
            run.consolidate()
    except (OSError, SafetensorError, pl.exceptions.ComputeError) as error:
        raise InputError("out", str(run.path), ROOM, str(error)) from error
    return given_up


class _Watch:
    """Follows the fleets in training, from here or by what their workers write, and tells progress."""

    def __init__(self, run: Run, fleets: list[Fleet], progress: Progress, curves: Curves | None) -> None:
        self._run, self._progress, self._curves = run, progress, curves
        self._place = {fleet.id: i for i, fleet in enumerate(fleets)}
        self._counted: dict[str, int] = {}

    def tell(self, fleet: Fleet, step: int, restored: int) -> None:
        """Count a fleet's updates up to a step, of which some were restored."""
        if fleet.id not in self._counted:
            self._progress.fleet(fleet, self._place[fleet.id], len(self._place))
            self._counted[fleet.id] = restored
            if restored:
                self._progress.skipped(0, restored * len(fleet.cells))
        more = step - self._counted[fleet.id]
        if self._curves is not None:
            self._curves.look(fleet)
        if more > 0:  # a fleet begun again repeats updates that are counted
            self._counted[fleet.id] = step
            self._progress.updates(more * len(fleet.cells))

    def look(self, fleets: list[Fleet]) -> None:
        """Read what workers say of theirs."""
        for fleet in fleets:
            found = fleet_progress(self._run, fleet.id)
            if found is not None and not found.failed:
                self.tell(fleet, found.step, found.restored)

    def ended(self, fleet: Fleet, outcome: Outcome) -> None:
        """Count what is left of a fleet that is finished, or say that it was given up."""
        if outcome.notice:
            self._progress.notice(outcome.notice)
        if outcome.kind == "died":
            give_up(self._run, fleet, outcome.notice)
            return
        steps = fleet.cells[0].stage.recipe.iterations
        if outcome.kind == "trained":
            self.tell(fleet, steps, 0)
        else:
            left = steps - self._counted.get(fleet.id, 0)
            self._progress.skipped(len(fleet.cells), left * len(fleet.cells))
        self._counted.pop(fleet.id, None)
        if self._curves is not None:
            self._curves.ended(fleet)


@dataclass(frozen=True)
class FleetWork:
    """What an engine does with a fleet: train it unless it is finished or held, and store its cells.

    Attributes:
        sources: the capabilities, by key.
        path: the run's folder.
        device: where to train.
        checkpoint_seconds: least time between two checkpoints.
        methods: methods written in files, as ``load_method`` takes them.
        tell: told of a fleet's step and its restored updates, in this process only.
        live: whether to write accuracies down while training, for trackers.
    """

    sources: dict[str, Source]
    path: Path
    device: str
    checkpoint_seconds: float
    methods: tuple[str, ...] = ()
    tell: Callable[[Fleet, int, int], None] | None = None
    live: bool = False

    def __call__(self, fleet: Fleet) -> Outcome:
        """Train a fleet whose parents are finished."""
        run = Run(self.path)
        with run.lease(fleet.id) as held:
            if not held:
                return Outcome("busy")
            ready = Fleet(tuple(cell for cell in fleet.cells if _can_start(cell, run)))
            if all(run.has(cell) for cell in ready.cells):
                outcome = Outcome("found")
            else:
                outcome = Outcome("trained", self._train(run, fleet, ready))
            run.drop_checkpoint(ready)
            run.drop_checkpoint(fleet)
            return outcome

    def _train(self, run: Run, planned: Fleet, fleet: Fleet) -> str:
        """Train the cells that can start; what a reader should know of it, or nothing."""
        restored, notice = _restored(run, fleet)
        report = Reporter(run, planned, restored)

        def advance(step: int) -> None:
            report(step)
            if self.tell is not None:
                self.tell(planned, step, restored)

        advance(restored)
        device = torch.device(self.device)
        prepared = Prepared(self.sources, list(fleet.cells))
        job = fleet_job(prepared, run, fleet, device)
        job.checkpoint, job.checkpoint_seconds = run.checkpoint_path(fleet), self.checkpoint_seconds
        job.progress = advance
        if self.live:
            job.told = Live(run, planned, fleet)
        trained = train(job)
        with fitted(threads_for(trained.model.parameter_count)):
            _store(trained, job, fleet, run)
        return notice


def _store(trained: Trained, job: FleetJob, fleet: Fleet, run: Run) -> None:
    """Write the cells of a trained fleet that are not there."""
    maps = stored_maps(job.task, job.encoding, trained.model)
    with together(len(fleet.cells)):  # until it ends, the fleet's checkpoint is there to go on from
        for i, cell in enumerate(fleet.cells):
            if run.has(cell):
                continue
            curves = (trained.accuracy[:, i], trained.loss[:, i], trained.train_loss[:, i])
            table = metrics_table(trained.steps, *curves, EVALUATED)
            model = trained.model.member(i).to("cpu")
            run.write_cell(cell, model, table, maps[i], int(trained.diverged_at[i]))


def _can_start(cell: Cell, run: Run) -> bool:
    """Whether the cell's parent, if it has one, did not diverge."""
    if not isinstance(cell.start, Cell):
        return True
    return read_json(run.cell_path(cell.start.id) / "cell.json", CELL)["status"] == "done"


def _restored(run: Run, fleet: Fleet) -> tuple[int, str]:
    """Updates that a fleet's checkpoint holds; a damaged one is removed, with a notice."""
    path = run.checkpoint_path(fleet)
    if not path.exists():
        return 0, ""
    try:
        return int(load_state(path)["step"]), ""
    except (InputError, KeyError):
        path.unlink()
        return 0, f"the checkpoint {path} was damaged: its fleet was trained from the beginning"


def fleet_job(prepared: Prepared, run: Run | None, fleet: Fleet, device: torch.device) -> FleetJob:
    """A fleet's training, from where its cells start; without a run, from the chains' beginnings."""
    cells = fleet.cells
    starts: list[Transformer] = []
    for stored, alike in groupby(cells, key=lambda cell: run is not None and isinstance(cell.start, Cell)):
        if stored and run is not None:
            starts += [run.load_model(cell.start) for cell in alike if isinstance(cell.start, Cell)]
        else:
            starts.append(prepared.starts([cell.origin for cell in alike]))
    return FleetJob(
        model=Transformer.gather(starts).to(device),
        members=[Member(c.stage.mixture, c.stage.recipe.learning_rate, c.seed) for c in cells],
        recipe=cells[0].stage.recipe,
        task=cells[0].task,
        encoding=prepared.encoding(cells[0]),
        method=cells[0].stage.method,
        stream=cells[0].stage.name,
        evaluation=cells[0].evaluation,
        compile=cells[0].stage.recipe.compile,
    )


def _is_first(cell: Cell) -> bool:
    """Whether a cell trains a capability as it is; a later one may ask for an operand that it never had."""
    return not isinstance(cell.start, Cell) and cell.start.start == "capability"


def not_had(prepared: Prepared, run: Run) -> list[str]:
    """On which texts a capability has less than half of O_PT's skill before fine-tuning, a sentence each.

    Of what was not there to begin with, nothing can be said to be lost or brought back.
    """
    firsts = {(c.origin.name, c.task_id, c.origin.capability): c for c in prepared.cells if _is_first(c)}
    sentences = []
    for (name, asked, key), cell in firsts.items():
        if prepared.sources[key].only is not None:
            name = f"{name} of seed {cell.origin.seed}"
        sweep = bool(run.experiment.get("axes"))
        folder = run.capability_path(cell.origin, asked if sweep else "")
        measured = read_json(folder / "accuracy.json")["accuracy"]["as_started"]
        for kind, baselines in run.baselines(asked).items():
            right, guess = measured[kind]["pt"], baselines["majority"]["pt"]
            if right < revival_threshold(guess):
                sentences.append(
                    f"before fine-tuning {name} has less than half of O_PT's skill on {kind} texts: "
                    f"{right:.0%}, where the commonest answer is right on {guess:.0%}; read it against that"
                )
    return sentences


def _write_capabilities(prepared: Prepared, run: Run, device: torch.device) -> None:
    """Each capability as its cells start from it, with its attention and its measured accuracy."""
    sweep = bool(run.experiment.get("axes"))
    first = {(c.origin, c.task_id if sweep else ""): c for c in reversed(prepared.cells) if _is_first(c)}
    missing: dict[tuple[str, str], list[tuple[Path, Cell]]] = {}
    for (origin, asked), cell in first.items():
        folder = run.capability_path(origin, asked)
        if not _holds(folder, origin):
            missing.setdefault((origin.capability, cell.task_id), []).append((folder, cell))
    for (capability, _), alike in missing.items():
        source, cell = prepared.sources[capability], alike[0][1]
        clean = source.model.member(0).to(device)
        sets = evaluation_sets(cell.task, prepared.encoding(cell), CAPABILITY_TEXTS, device)
        answer = prepared.encoding(cell).answer
        (without_noise,) = evaluate(clean, sets, answer)[0].tolist()
        together = TOGETHER if is_small(source.model.parameter_count) else 1
        for i in range(0, len(alike), together):
            part = alike[i : i + together]
            begun = prepared.starts([cell.origin for _, cell in part])
            fleet, starts = begun.to(device), [begun.member(i) for i in range(len(part))]
            maps = stored_maps(cell.task, prepared.encoding(cell), fleet)
            right = evaluate(fleet, sets, answer)[0].tolist()
            for (folder, own), model, seen, accuracy in zip(part, starts, maps, right, strict=True):
                measured = {"without_noise": without_noise} if own.origin.noise else {}
                _write_capability(
                    source, own.origin, folder, model, seen, {**measured, "as_started": accuracy}
                )


def _write_capability(
    source: Source,
    origin: Origin,
    folder: Path,
    model: Transformer,
    maps: dict[str, Tensor],
    measured: dict[str, list[list[float]]],
) -> None:
    """One of them; ``measured`` is accuracy by name, kind of text and operand."""
    with later():  # what is lost with the power does not fit its checksum below, and is made again
        source.save(folder, model)
        attention = save({k: v.contiguous() for k, v in maps.items()})
        write_bytes(folder / "attention.safetensors", attention)
    accuracy = {
        name: {
            kind: dict(zip(OPERANDS, pair, strict=True)) for kind, pair in zip(EVALUATED, kinds, strict=True)
        }
        for name, kinds in measured.items()
    }
    about = folder / "accuracy.json"
    content = {"origin": asdict(origin), "texts": CAPABILITY_TEXTS, "accuracy": accuracy}
    files = {file.name: checksum(file) for file in sorted(folder.glob("[!.]*.[js]*")) if file != about}
    write_sealed(about, {**content, "about": source.describe(), "files": files})


def _holds(folder: Path, origin: Origin) -> bool:
    """Whether a capability's folder is whole and of this origin: files of one name may differ."""
    if capability_damage(folder):
        return False
    return read_json(folder / "accuracy.json", ACCURACY)["origin"] == asdict(origin)


def _write_baselines(prepared: Prepared, run: Run, device: torch.device) -> None:
    """What can be had on each evaluation set without reading it, and by the shortcut alone."""
    content = {}
    for cell in {cell.task_id: cell for cell in reversed(prepared.cells)}.values():
        encoding, answers, texts = prepared.encoding(cell), cell.task.answers, {}
        inverse = torch.full((max(encoding.classes) + 1,), -1)
        inverse[torch.tensor(encoding.classes)] = torch.arange(len(encoding.classes))
        for kind in EVALUATED:
            batch = evaluation_batch(cell.task, encoding, kind, cell.evaluation.samples, device)
            found = baseline(inverse[batch.results[0].cpu()], cell.task.q)
            texts[kind] = {**asdict(found), "answer": {o: answers[found.answer[o]] for o in OPERANDS}}
        content[cell.task_id] = {"samples": cell.evaluation.samples, "texts": texts}
    write_sealed(run.path / "baselines.json", content)
