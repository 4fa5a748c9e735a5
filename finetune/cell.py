"""Cells: one training of one model, as a value; and the plan that puts cells into fleets.

A cell says where its weights come from (a capability, or another cell), what is asked, and the
stage it goes through. Its content hash is its identity: equal cells are the same cell, so a
fine-tuning shared by several reFTs is trained once, and a finished cell is never run again.
"""

import gc
import hashlib
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

from veneer.finetune.fleet import Evaluation
from veneer.finetune.method import FullFineTuning, Method
from veneer.finetune.recipe import Recipe
from veneer.models.display import table
from veneer.tasks.encoding import Task
from veneer.tasks.mixture import Component, Mixture


@dataclass(frozen=True)
class Origin:
    """The weights a chain of cells starts from.

    Attributes:
        capability: content key of the capability.
        name: what reports call the capability: "compiled", or a pretrained model's name.
        noise: standard deviation of the Gaussian noise added to every weight.
        seed: seeds the noise, or the weights of a model that starts from scratch.
        start: "capability"; "scratch" (weights of the capability's shape, drawn as for pretraining);
            or the name of an alteration of the capability whose effect is known by construction.
    """

    capability: str
    name: str
    noise: float
    seed: int
    start: str = "capability"

    @property
    def canonical(self) -> str:
        """Canonical JSON, written out: every seed has its own, and a general encoder is slow."""
        capability, name, start = map(_canonical, (self.capability, self.name, self.start))
        return (
            f'{{"capability":{capability},"name":{name},"noise":{self.noise!r},'
            f'"seed":{self.seed},"start":{start}}}'
        )


@dataclass(frozen=True)
class Stage:
    """One stage of a protocol: what is trained on, and how.

    Attributes:
        name: "fine-tune", "reft", ...; stages of one name share their data stream.
        mixture: the training data.
        recipe: optimizer, rate and schedule.
        method: what moves, and down which loss.
    """

    name: str
    mixture: Mixture
    recipe: Recipe
    method: Method = field(default_factory=FullFineTuning)


@dataclass(frozen=True)
class Cell:
    """One stage of training of one model with one seed.

    Attributes:
        start: where its weights come from.
        task: what is asked.
        stage: how it is trained.
        evaluation: what is measured when.
        seed: seeds its training data.
    """

    start: "Origin | Cell"
    task: Task
    stage: Stage
    evaluation: Evaluation
    seed: int

    @cached_property
    def id(self) -> str:
        """Hash of the content, 16 hexadecimal digits.

        Parts that many cells share (task, stage, evaluation) enter by their own hashes, which are
        worked out once.
        """
        start = f'{{"cell":"{self.start.id}"}}' if isinstance(self.start, Cell) else self.start.canonical
        parts = f'"{self.task_id}","{_part(self.stage)}","{_times(self.evaluation)}"'
        return _digest(f"[{start},{parts},{self.seed}]")

    def describe(self) -> dict[str, Any]:
        """The content as plain data; a parent cell enters by its id."""
        return {
            "start": {"cell": self.start.id} if isinstance(self.start, Cell) else asdict(self.start),
            "task": {"type": type(self.task).__name__, **describe(self.task)},
            "stage": describe(self.stage),
            "evaluation": asdict(self.evaluation),
            "seed": self.seed,
            "task_id": self.task_id,
        }

    @property
    def task_id(self) -> str:
        """Hash of the task."""
        return _part(self.task)

    @property
    def origin(self) -> Origin:
        """The capability at the beginning of the chain."""
        return self.start.origin if isinstance(self.start, Cell) else self.start

    @property
    def depth(self) -> int:
        """Number of stages before this one."""
        return self.start.depth + 1 if isinstance(self.start, Cell) else 0

    def _repr_html_(self) -> str:
        recipe, origin = self.stage.recipe, self.origin
        begins = f"cell {self.start.id}" if isinstance(self.start, Cell) else f"{origin.name}, {origin.start}"
        rows = [
            ("starts from", begins),
            ("task", type(self.task).__name__),
            ("method", ", ".join(map(str, describe(self.stage.method).values()))),
            ("data", ", ".join(_words(part) for part in self.stage.mixture.components)),
            ("training", f"{recipe.optimizer} at {recipe.learning_rate:g}, {recipe.iterations:,} updates"),
            ("seed", self.seed),
        ]
        return table(f"Cell {self.id}: {self.stage.name}", rows)


def _words(part: Component) -> str:
    """A mixture's component: its share, kind, and which answer it teaches."""
    return f"{part.weight:.3g} {part.kind} (O_{part.label.upper()})"


def describe(value: Any) -> Any:
    """A value as plain data: dataclasses field by field, others as their own ``describe`` says."""
    if hasattr(value, "describe"):
        return value.describe()
    if is_dataclass(value):
        return {part.name: describe(getattr(value, part.name)) for part in fields(value)}
    return [describe(item) for item in value] if isinstance(value, tuple | list) else value


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def content_hash(content: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return _digest(_canonical(content))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _part(part: Any) -> str:
    """Hash of a part that many cells share; the part, which never changes, keeps it."""
    kept = vars(part)
    if "_content_hash" not in kept:
        kept["_content_hash"] = content_hash([type(part).__name__, describe(part)])
    return kept["_content_hash"]


def _group(stage: Stage) -> str:
    """Hash of what the stages of one fleet agree in; the stage keeps it."""
    kept = vars(stage)
    if "_group_hash" not in kept:
        recipe = replace(stage.recipe, learning_rate=1.0)
        kept["_group_hash"] = content_hash([stage.name, describe(recipe), stage.method.describe()])
    return kept["_group_hash"]


def _times(evaluation: Evaluation) -> str:
    """Hash of what is measured when; the evaluation keeps it."""
    kept = vars(evaluation)
    if "_content_hash" not in kept:
        kept["_content_hash"] = content_hash(asdict(evaluation))
    return kept["_content_hash"]


@dataclass(frozen=True)
class Fleet:
    """Cells that train together. Its identity is that of its cells, in order."""

    cells: tuple[Cell, ...]

    @cached_property
    def id(self) -> str:
        """Hash of the members' ids."""
        ids = ",".join(f'"{cell.id}"' for cell in self.cells)
        return _digest(f"[{ids}]")

    @property
    def steps(self) -> int:
        """Updates times members."""
        return self.cells[0].stage.recipe.iterations * len(self.cells)


@contextmanager
def permanent() -> Iterator[None]:
    """While many values are made that all stay: without the garbage collector.

    It finds nothing in a plan, but walks through all of it again and again.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@permanent()
def plan(cells: list[Cell], size: int, known: Collection[str] = ()) -> list[Fleet]:
    """Group cells into fleets of at most ``size``, parents before children.

    A deterministic function of the cells and the size. Cells of one fleet agree in everything but
    start, mixture, learning rate and seed; equal cells are planned once.

    Args:
        cells: what to plan; parents are added where they are missing.
        size: most cells of a fleet.
        known: ids of parents that are planned elsewhere.
    """
    unique = {cell.id: cell for cell in cells}
    for cell in list(unique.values()):
        parent = cell.start
        while isinstance(parent, Cell):
            if parent.id not in known:
                unique.setdefault(parent.id, parent)
            parent = parent.start
    groups: dict[tuple[int, tuple[str, ...]], list[Cell]] = {}
    for cell in unique.values():
        shared = (cell.task_id, _group(cell.stage), _times(cell.evaluation), cell.origin.capability)
        groups.setdefault((cell.depth, shared), []).append(cell)
    in_order = sorted(groups.items(), key=lambda item: item[0][0])
    return [fleet for _, members in in_order for fleet in _fleets(members, size)]


def _fleets(cells: list[Cell], size: int) -> Iterator[Fleet]:
    """Cells in order, in fleets as even as can be: five cells at size four are fleets of three and two."""
    count = -(-len(cells) // size)
    bounds = [round(i * len(cells) / count) for i in range(count + 1)]
    return (Fleet(tuple(cells[a:b])) for a, b in pairwise(bounds))
