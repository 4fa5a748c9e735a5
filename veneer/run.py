"""Run an experiment: plan its cells into fleets, train what is not finished, store each cell."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from finetune.cell import Cell, Fleet
from finetune.fleet import EVALUATED, FleetJob, Member, evaluate, evaluation_batch, evaluation_sets
from finetune.trainer import train
from models.transformer import Transformer
from tasks.encoding import Encoding, Task
from tasks.mixture import OPERANDS, baseline
from veneer.cells import Prepared
from veneer.store import Run, metrics_table, read_json, write_json

MAP_TEXTS = 256  # texts over which attention is averaged
CAPABILITY_TEXTS = 2000  # texts of each kind on which a capability is scored as it starts


class Progress(Protocol):
    """Is told how training goes."""

    def fleet(self, fleet: Fleet, index: int, fleets: int) -> None: ...

    def updates(self, count: int) -> None: ...

    def skipped(self, cells: int, updates: int) -> None: ...


def fleet_size(device: torch.device) -> int:
    """Members per fleet: few on a CPU, where more fall out of its cache; many on a GPU."""
    return 64 if device.type == "cuda" else 4


def execute(
    prepared: Prepared,
    run: Run,
    device: torch.device,
    fleets: list[Fleet],
    progress: Progress,
    checkpoint_seconds: float = 30.0,
) -> None:
    """Train every cell that is not finished; what is finished is left alone.

    Args:
        prepared: the experiment.
        run: where results go.
        device: where to train.
        fleets: the run's plan (``Run.plan``), parents before children.
        progress: told of fleets and updates.
        checkpoint_seconds: least time between two checkpoints of a fleet in training.
    """
    run.write_environment(device)
    _write_baselines(prepared, run, device)
    _write_capabilities(prepared, run, device)
    for index, fleet in enumerate(fleets):
        ready = Fleet(tuple(cell for cell in fleet.cells if _can_start(cell, run)))
        progress.fleet(fleet, index, len(fleets))
        if all(run.has(cell) for cell in ready.cells):
            progress.skipped(len(fleet.cells), fleet.steps)
        else:
            _train_fleet(prepared, run, ready, device, checkpoint_seconds, progress.updates)
        run.drop_checkpoint(ready)


def _can_start(cell: Cell, run: Run) -> bool:
    """Whether the cell's parent, if it has one, did not diverge."""
    if not isinstance(cell.start, Cell):
        return True
    return read_json(run.cell_path(cell.start.id) / "cell.json")["status"] == "done"


def _train_fleet(
    prepared: Prepared,
    run: Run,
    fleet: Fleet,
    device: torch.device,
    checkpoint_seconds: float,
    updates: Callable[[int], None],
) -> None:
    cells = fleet.cells
    starts = [
        run.load_model(c.start) if isinstance(c.start, Cell) else prepared.start(c.start) for c in cells
    ]
    done = 0

    def advance(step: int) -> None:
        nonlocal done
        updates((step - done) * len(cells))
        done = step

    job = FleetJob(
        model=Transformer.gather(starts).to(device),
        members=[Member(c.stage.mixture, c.stage.recipe.learning_rate, c.seed) for c in cells],
        recipe=cells[0].stage.recipe,
        task=cells[0].task,
        encoding=prepared.encoding(cells[0]),
        method=cells[0].stage.method,
        stream=cells[0].stage.name,
        evaluation=cells[0].evaluation,
        checkpoint=run.checkpoint_path(fleet),
        checkpoint_seconds=checkpoint_seconds,
        progress=advance,
    )
    trained = train(job)
    for i, cell in enumerate(cells):
        if run.has(cell):
            continue
        model = trained.model.member(i)
        table = metrics_table(
            trained.steps, trained.accuracy[:, i], trained.loss[:, i], trained.train_loss[:, i], EVALUATED
        )
        maps = attention_maps(cell.task, job.encoding, model)
        run.write_cell(cell, model.to("cpu"), table, maps, int(trained.diverged_at[i]))


@torch.no_grad()
def attention_maps(task: Task, encoding: Encoding, model: Transformer) -> dict[str, Float[Tensor, "..."]]:
    """Where a model looks, on natural evaluation texts.

    Returns:
        ``example``: [block, head, query, key] on the first text; ``example_tokens``: its token ids;
        ``mean``: the same averaged over MAP_TEXTS texts; ``by_token``: [block, head, token id], the
        share of the attention of the answer position that falls on each token, averaged over them.
    """
    device = model.token_embedding.device
    tokens = evaluation_batch(task, encoding, "natural", MAP_TEXTS, device).tokens
    blocks = range(model.config.blocks)
    captured = model(tokens, capture=[f"attention.{i}" for i in blocks]).captured
    maps = torch.stack([captured[f"attention.{i}"][0] for i in blocks])  # [block, text, head, query, key]
    from_answer = maps[..., encoding.answer, :]
    one_hot = torch.nn.functional.one_hot(tokens[0], model.config.vocabulary).to(maps.dtype)
    by_token = torch.einsum("bthk,tkv->bhv", from_answer, one_hot) / len(one_hot)
    return {
        "example": maps[:, 0].cpu(),
        "example_tokens": tokens[0, 0].cpu(),
        "mean": maps.mean(1).cpu(),
        "by_token": by_token.cpu(),
    }


def _write_capabilities(prepared: Prepared, run: Run, device: torch.device) -> None:
    """Each capability as its cells start from it, with its attention and its measured accuracy."""
    first = {c.origin: c for c in reversed(prepared.cells) if c.origin.start == "capability"}
    for origin, cell in first.items():
        folder = run.capability_path(origin)
        if (folder / "accuracy.json").exists():
            continue
        source, encoding = prepared.sources[origin.capability], prepared.encoding(cell)
        started = prepared.start(origin)
        source.save(folder, started)
        started = started.to(device)
        maps = attention_maps(cell.task, encoding, started)
        save_file({k: v.contiguous() for k, v in maps.items()}, folder / "attention.safetensors")
        sets = evaluation_sets(cell.task, encoding, CAPABILITY_TEXTS, device)
        measured = {
            name: dict(zip(EVALUATED, evaluate(model, sets, encoding.answer)[0][0].tolist(), strict=True))
            for name, model in (("without_noise", source.model.member(0).to(device)), ("as_started", started))
        }
        accuracy = {
            name: {kind: dict(zip(OPERANDS, pair, strict=True)) for kind, pair in kinds.items()}
            for name, kinds in measured.items()
        }
        content = {"origin": asdict(origin), "texts": CAPABILITY_TEXTS, "accuracy": accuracy}
        write_json(folder / "accuracy.json", {**content, "about": source.describe()})


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
    write_json(run.path / "baselines.json", content)
