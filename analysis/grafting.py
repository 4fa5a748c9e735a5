"""Grafting: give a fine-tuned model's components back their earlier values, and the reverse.

If fine-tuning wraps a capability, few weights hold the wrapper: putting those back ("back") brings the
old capability back, and putting them into the model before fine-tuning ("forward") is enough to hide
it. Grafting one component after the other maps where the wrapper sits, without any gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from veneer.analysis.surgery import (
    READS,
    WRITES,
    Layout,
    Part,
    accuracy_rows,
    check_alike,
    check_finite,
    score,
)
from veneer.finetune.fleet import evaluation_sets
from veneer.models.transformer import Transformer
from veneer.tasks.encoding import Encoding, Task
from veneer.tasks.errors import InputError

Direction = Literal["back", "forward"]
ATTENTION = ("query", "key", "value", "output")
MLP = ("mlp_in", "mlp_out")


@dataclass(frozen=True)
class Grafting:
    """What to graft, and on what to judge it.

    Attributes:
        directions: "back" puts earlier values into the fine-tuned model, "forward" the reverse.
        singles: how many of the weights that moved most to graft one at a time.
        ks: how many of them to graft together, each at least 1; None takes 1, 2, 5, 10, ... . All of
            them, which makes the other model, are always grafted too.
        samples: texts of each kind to judge by (the first of those that fine-tuning is judged by).
    """

    directions: tuple[Direction, ...] = ("back", "forward")
    singles: int = 20
    ks: tuple[int, ...] | None = None
    samples: int = 160


@dataclass(frozen=True)
class Component:
    """Weights that are grafted together.

    Attributes:
        level: "none", "weight", "weights", "matrix", "head", "attention", "mlp", "block", "embedding",
            "norm" or "unembedding".
        name: such as "blocks.1.mlp_in"; a matrix includes its bias.
        block: the block it is in, if any.
        k: number of weights.
        addresses: where they are (see ``veneer.analysis.surgery``).
    """

    level: str
    name: str
    block: int | None
    addresses: Int[Tensor, "_"]

    @property
    def k(self) -> int:
        """How many weights."""
        return len(self.addresses)


def components(model: Transformer) -> list[Component]:
    """All parts of a model: matrices, heads, attention layers, MLPs, blocks, embeddings, norms.

    A head is its columns of query, key and value with their biases, and its rows of the output matrix,
    whose bias belongs to no head.
    """
    layout = Layout.of(model)
    found = []
    for name in dict.fromkeys(part.component for part in layout.parts):
        parts = [part for part in layout.parts if part.component == name]
        found.append(_joined(_level(parts[0]), name, parts))
    for block in range(model.config.blocks):
        parts = [part for part in layout.parts if part.block == block]
        groups = {"attention": ATTENTION, "mlp": MLP}
        for level, matrices in groups.items():
            members = [part for part in parts if part.matrix in matrices]
            found.append(_joined(level, f"blocks.{block}.{level}", members))
        found.append(_joined("block", f"blocks.{block}", parts))
        for head in range(model.config.heads):
            addresses = _head(parts, head, model.config.key_size)
            found.append(Component("head", f"blocks.{block}.head.{head}", block, addresses))
    device = model.token_embedding.device
    return [Component(c.level, c.name, c.block, c.addresses.to(device)) for c in found]


def _level(part: Part) -> str:
    for level in ("embedding", "norm"):
        if level in part.matrix and part.matrix != "unembedding":
            return level
    return "unembedding" if part.matrix == "unembedding" else "matrix"


def _joined(level: str, name: str, parts: list[Part]) -> Component:
    return Component(level, name, parts[0].block, torch.cat([part.addresses() for part in parts]))


def _head(parts: list[Part], head: int, key_size: int) -> Int[Tensor, "_"]:
    own = slice(head * key_size, (head + 1) * key_size)
    pieces = [part.addresses(columns=own) for part in parts if part.matrix in ("query", "key", "value")]
    pieces += [part.addresses(rows=own) for part in parts if part.name.endswith("output.weight")]
    return torch.cat(pieces)


def graft(
    before: Transformer, after: Transformer, task: Task, encoding: Encoding, settings: Grafting | None = None
) -> pl.DataFrame:
    """Accuracy after grafting each component, and each set of the weights that moved most.

    Args:
        before: models as fine-tuning found them; one for each member, or a single one for all.
        after: the fine-tuned models.
        task: what is asked.
        encoding: how the models read it.
        settings: what to graft.

    Returns:
        member, direction, level, name, block, k, texts, operand, accuracy, change: change is the
        accuracy less that of the model grafted into, whose own rows have level "none".

    Raises:
        InputError: models of different shapes, a member that diverged, a K out of range.
    """
    settings = settings or Grafting()
    before = check_alike(before, after)
    layout = Layout.of(after)
    ks = _ladder(settings, layout.size)
    sets = evaluation_sets(task, encoding, settings.samples, after.token_embedding.device)
    rows = []
    for member in range(after.members):
        pair = {"back": (after, before), "forward": (before, after)}
        parts = [*_moved_most(before.member(member), after.member(member), settings.singles, ks)]
        parts += components(after)
        for direction in settings.directions:
            base, donor = (model.member(member) for model in pair[direction])
            edits = [part.addresses for part in parts]
            scored = score(base, layout.flatten(donor), edits, sets, encoding.answer)
            keys: list[dict[str, object]] = [
                {
                    "member": member,
                    "direction": direction,
                    "level": part.level,
                    "name": part.name,
                    "block": part.block,
                    "k": part.k,
                }
                for part in parts
            ]
            rows += _with_change(accuracy_rows(keys, scored))
    return pl.DataFrame(rows, schema_overrides={"block": pl.Int64}, infer_schema_length=None)


def _ladder(settings: Grafting, size: int) -> list[int]:
    if not 0 <= settings.singles <= size:
        raise InputError("singles", settings.singles, f"0 to {size}, the model's weights")
    if settings.samples < 1:
        raise InputError("samples", settings.samples, "1 or more")
    unknown = [d for d in settings.directions if d not in ("back", "forward")]
    if unknown or not settings.directions:
        raise InputError("directions", settings.directions, "back, forward or both")
    steps = [m * 10**e for e in range(len(str(size))) for m in (1, 2, 5)]
    ks = settings.ks if settings.ks is not None else tuple(k for k in steps if k < size)
    if not all(1 <= k <= size for k in ks):
        raise InputError("ks", ks, f"numbers from 1 to {size}, the model's weights")
    return sorted({*ks, size})


def _moved_most(before: Transformer, after: Transformer, singles: int, ks: Sequence[int]) -> list[Component]:
    """Nothing; the weights that moved most, one at a time; and the first K of them together."""
    layout = Layout.of(after)
    moved = (layout.flatten(after) - layout.flatten(before)).abs()[0]
    order = moved.argsort(descending=True, stable=True)
    parts = [Component("none", "nothing", None, order[:0])]
    for address in order[:singles]:
        index = int(address)
        part = layout.find(index)[0]
        parts.append(Component("weight", layout.name(index), part.block, address.unsqueeze(0)))
    return parts + [Component("weights", "moved most", None, order[:k]) for k in ks]


def _with_change(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Accuracy less that without grafting, whose rows come first."""
    start = {(r["texts"], r["operand"]): r["accuracy"] for r in rows if r["level"] == "none"}
    changes = [float(r["accuracy"]) - float(start[r["texts"], r["operand"]]) for r in rows]  # pyright: ignore[reportArgumentType]
    return [{**row, "change": change} for row, change in zip(rows, changes, strict=True)]


def movement(before: Transformer, after: Transformer, reference: Transformer | None = None) -> pl.DataFrame:
    """How far fine-tuning moved each matrix, and how much of that lies in the weights of the circuit.

    Args:
        before: models as fine-tuning found them; one for each member, or a single one for all.
        after: the fine-tuned models.
        reference: the compiled model without noise, a fleet of one: its weights other than zero are
            the circuit's. Where there is none, ``used`` and ``change_in_used`` are null.

    Returns:
        member, name, block, weights, squared_change, share_of_change (of all of the model's), used
        (share of its weights that the circuit uses), change_in_used (share of its squared change in
        those; null if it did not change). The rows with name "all" are for the whole model.

    Raises:
        InputError: models of different shapes, a member that diverged.
    """
    before = check_alike(before, after)
    layout = Layout.of(after)
    change = (layout.flatten(after).double() - layout.flatten(before).double()).square()
    used = None if reference is None else _used(reference, after)
    names = list(dict.fromkeys(part.component for part in layout.parts))
    rows = []
    for name in ["all", *names]:
        parts = [part for part in layout.parts if name in ("all", part.component)]
        own = torch.cat([part.addresses(device=change.device) for part in parts])
        for member in range(after.members):
            moved = float(change[member, own].sum())
            row = {"member": member, "name": name, "block": parts[0].block if name != "all" else None}
            row |= {"weights": len(own), "squared_change": moved}
            row |= {"share_of_change": _share(moved, float(change[member].sum()))}
            if used is not None:
                inside = float(change[member, own[used[own]]].sum())
                row |= {"used": float(used[own].double().mean()), "change_in_used": _share(inside, moved)}
            rows.append(row)
    table = pl.DataFrame(rows, schema_overrides={"block": pl.Int64}, infer_schema_length=None)
    if used is None:
        table = table.with_columns(used=None, change_in_used=None)
    return table.with_columns(pl.col("share_of_change", "used", "change_in_used").cast(pl.Float64))


def directions(
    before: Transformer, after: Transformer, reference: Transformer, residual_labels: Sequence[str]
) -> pl.DataFrame:
    """Which directions of the residual stream the compiled circuit uses, and which fine-tuning touched.

    Args:
        before: models as fine-tuning found them; one for each member, or a single one for all.
        after: the fine-tuned models.
        reference: the compiled model without noise, a fleet of one.
        residual_labels: the directions' names, in order.

    Returns:
        member, direction, label, access ("read": by queries, keys, values, MLPs and the unembedding;
        "write": by attention, MLPs and embeddings), used (number of the circuit's weights there),
        squared_change, share_of_change (of the whole model's squared change).

    Raises:
        InputError: models of different shapes, labels that do not fit, a member that diverged.
    """
    before = check_alike(before, after)
    width = after.config.width
    if len(residual_labels) != width:
        raise InputError("residual_labels", f"{len(residual_labels)} labels", f"{width}, one per direction")
    layout = Layout.of(after)
    change = (layout.flatten(after).double() - layout.flatten(before).double()).square()
    used = _used(reference, after).double().unsqueeze(0)
    rows = []
    for access in ("read", "write"):
        moved, circuit = (_by_direction(layout, values, access) for values in (change, used))
        for member in range(after.members):
            total = float(change[member].sum())
            for i, label in enumerate(residual_labels):
                row = {"member": member, "direction": i, "label": label, "access": access}
                row |= {"used": int(circuit[0, i]), "squared_change": float(moved[member, i])}
                rows.append(row | {"share_of_change": _share(float(moved[member, i]), total)})
    table = pl.DataFrame(rows, infer_schema_length=None)
    return table.with_columns(pl.col("share_of_change").cast(pl.Float64))


def _by_direction(
    layout: Layout, values: Float[Tensor, "member weight"], access: str
) -> Float[Tensor, "member width"]:
    """Sums over the weights that read, or write, each direction."""
    if access == "read":
        readers = [p for p in layout.parts if p.matrix in READS and p.has_units]
        return torch.stack([p.of(values).sum(2) for p in readers]).sum(0)
    return torch.stack([p.of(values).sum(1) for p in layout.parts if p.matrix in WRITES]).sum(0)


def _used(reference: Transformer, model: Transformer) -> Bool[Tensor, "weight"]:
    """Which weights are not zero in the model without noise."""
    check_finite("reference", reference)
    if reference.config != model.config or reference.members != 1:
        given = f"{reference.members} members of {reference.config}"
        raise InputError("reference", given, f"one model of the shape {model.config}")
    return Layout.of(reference).flatten(reference)[0].to(model.token_embedding.device) != 0


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
