"""Pruning in one step: zero the weights, or neurons, that most hide the old capability (App. D).

Zeroing a weight w changes a loss L by about -w * dL/dw. With L the loss on the capability to revive,
O_PT, the weights to zero are therefore those with the largest w * dL/dw: the wrapper's, if there is one.
Random and magnitude pruning at the same K, and the histogram of predicted classes, tell a revival from
what any damage does and from a collapse onto one common class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from veneer.analysis.surgery import (
    READS,
    WRITES,
    Layout,
    Part,
    Scored,
    accuracy_rows,
    check_finite,
    class_shares,
    score,
)
from veneer.analysis.texts import draw
from veneer.finetune.fleet import EVALUATED, evaluation_sets
from veneer.models.transformer import Transformer
from veneer.tasks import random
from veneer.tasks.encoding import Batch, Encoding, Task, at_least_float32
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import pretraining

Unit = Literal["weight", "neuron"]
Criterion = Literal["saliency", "magnitude", "random", "search", "null search"]
"""The last two are those of ``veneer.analysis.search``, in tables of the same shape."""
STREAM = "analyse/prune"


@dataclass(frozen=True)
class Pruning:
    """What to prune, and on what to judge it.

    Attributes:
        ks: how many weights or neurons to zero, each in 1 to the number of neurons.
        units: single weights (the paper's choice for compiled models) or neurons (for learned ones).
        draws: how often to draw the random control.
        gradient_texts: natural texts that ask for O_PT, over which the gradient is averaged.
        samples: texts of each kind to judge by (the first of those that fine-tuning is judged by).
        seed: of the gradient's texts and of the random control.
    """

    ks: tuple[int, ...] = (1, 2, 3, 5, 10, 15, 20, 50, 100)
    units: tuple[Unit, ...] = ("weight", "neuron")
    draws: int = 3
    gradient_texts: int = 512
    samples: int = 160
    seed: int = 0


@dataclass(frozen=True)
class Pruned:
    """Tables of a pruning, long format.

    Attributes:
        accuracy: member, unit, criterion, draw, k, texts, operand, accuracy. Rows with k = 0 are the
            model as it is.
        pruned: member, unit, criterion, draw, rank (from 1), name, matrix, block, row, column, value,
            score, row_label, column_label. A neuron has no row, and its value is its column's
            Euclidean norm; score is what the criterion ranks by (null for random).
        classes: member, unit, criterion, draw, k, texts, class, share, expected: share of predictions,
            and of O_PT's right answers, that are this class. Where the input names the operand, it
            names O_PT here. Classes of neither kind are left out.
    """

    accuracy: pl.DataFrame
    pruned: pl.DataFrame
    classes: pl.DataFrame


@dataclass(frozen=True)
class Order:
    """What one criterion prunes from one member, first things first.

    Attributes:
        unit: weights or neurons.
        criterion: what orders them.
        draw: which random draw.
        chosen: addresses of weights, or indices into ``Layout.neurons``.
        scores: what the criterion ranks by.
    """

    unit: Unit
    criterion: Criterion
    draw: int
    chosen: list[int]
    scores: list[float | None]


def saliency(model: Transformer, batch: Batch, answer: int) -> Float[Tensor, "member weight"]:
    """Weight times gradient of the mean cross-entropy with the batch's labels, for every trained weight.

    Positive where zeroing the weight lowers the loss, to first order.

    Args:
        model: any fleet; every member has its own gradient, since their losses are added up.
        batch: texts of one member, put to all; labels are what is to be revived.
        answer: position at which answers are read.
    """
    layout = Layout.of(model)
    parameters = dict(model.named_parameters())
    was_trained = {name: parameter.requires_grad for name, parameter in parameters.items()}
    trained = [parameters[part.name].requires_grad_(True) for part in layout.parts]
    with torch.enable_grad():
        tokens = batch.tokens.expand(model.members, -1, -1)
        logits = at_least_float32(model(tokens, answer=answer).logits)
        labels = batch.labels.expand(model.members, -1).flatten()
        loss = F.cross_entropy(logits.flatten(0, 1), labels, reduction="sum") / batch.labels.shape[1]
        # The last block's key biases are not computed with: they shift all scores of a query alike.
        gradients = torch.autograd.grad(loss, trained, materialize_grads=True)
    for name, parameter in parameters.items():
        parameter.requires_grad_(was_trained[name])
    return layout.flatten(model) * torch.cat([g.flatten(1) for g in gradients], 1)


def per_neuron(layout: Layout, scores: Float[Tensor, "member weight"]) -> Float[Tensor, "member neuron"]:
    """Scores summed over the weights into each output unit, in the order of ``Layout.neurons``."""
    return torch.cat([part.of(scores).sum(1) for part in layout.parts if part.has_units], 1)


def prune(
    model: Transformer,
    task: Task,
    encoding: Encoding,
    settings: Pruning | None = None,
    residual_labels: Sequence[str] = (),
) -> Pruned:
    """Prune every member by saliency, and as controls by magnitude and at random.

    The magnitude control zeroes the *largest* |w| (for neurons, the largest norm): the smallest, which
    pruning for size removes, would change next to nothing, while the control should ask whether large
    damage of any kind does what saliency does. The random control draws the same weights for all members.
    A neuron is a column of a weight matrix without its bias (see ``Layout.neurons``).

    Args:
        model: fine-tuned models.
        task: what is asked.
        encoding: how the models read it.
        settings: what to prune.
        residual_labels: names of the residual stream's directions, as compiled models have.

    Raises:
        InputError: a K or count out of range, labels that do not fit, a member that diverged.
    """
    settings = settings or Pruning()
    layout = Layout.of(model)
    _check(model, layout, settings, residual_labels)
    device = model.token_embedding.device
    texts = draw(task, encoding, pretraining(), settings.gradient_texts, device, STREAM, settings.seed)
    salience = saliency(model, texts, encoding.answer)
    sets = evaluation_sets(task, encoding, settings.samples, device)
    expected = torch.cat([class_shares(sets[k][0].results[..., 0], model.config.classes) for k in EVALUATED])
    zero = torch.zeros(1, layout.size, device=device, dtype=model.token_embedding.dtype)
    accuracy, pruned, classes = [], [], []
    for member in range(model.members):
        alone = model.member(member)
        weights = layout.flatten(alone)
        orders = [
            order
            for unit in settings.units
            for order in _orders(unit, layout, weights, salience[member : member + 1], task, settings)
        ]
        scored = score(alone, zero, _edits(orders, layout, settings.ks, device), sets, encoding.answer)
        keys = [
            {"member": member, "unit": order.unit, "criterion": order.criterion, "draw": order.draw, "k": k}
            for order in orders
            for k in (0, *settings.ks)
        ]
        accuracy += accuracy_rows(keys, _repeat_whole(scored, len(orders), len(settings.ks)))
        classes += class_rows(keys, _repeat_whole(scored, len(orders), len(settings.ks)), expected)
        for order in orders:
            pruned += pruned_rows(member, order, layout, weights, residual_labels)
    return Pruned(pl.DataFrame(accuracy), pl.DataFrame(pruned, schema=PRUNED), pl.DataFrame(classes))


def _check(model: Transformer, layout: Layout, settings: Pruning, residual_labels: Sequence[str]) -> None:
    check_finite("model", model)
    most = len(layout.neurons)
    if not settings.ks or not all(1 <= k <= most for k in settings.ks):
        raise InputError("ks", settings.ks, f"numbers from 1 to {most}, the model's neurons")
    for field in ("draws", "gradient_texts", "samples"):
        if getattr(settings, field) < 1:
            raise InputError(field, getattr(settings, field), "1 or more")
    if residual_labels and len(residual_labels) != model.config.width:
        given = f"{len(residual_labels)} labels"
        raise InputError("residual_labels", given, f"{model.config.width} labels, one per direction, or none")


def _orders(
    unit: Unit,
    layout: Layout,
    weights: Float[Tensor, "1 weight"],
    salience: Float[Tensor, "1 weight"],
    task: Task,
    settings: Pruning,
) -> list[Order]:
    """One by saliency, one by magnitude, and the random draws."""
    magnitude = weights.abs()
    if unit == "neuron":
        salience, magnitude = per_neuron(layout, salience), per_neuron(layout, weights.square()).sqrt()
    most = max(settings.ks)
    orders = []
    ranked: tuple[tuple[Criterion, Tensor], ...] = (("saliency", salience), ("magnitude", magnitude))
    for criterion, scores in ranked:
        values, chosen = scores[0].double().topk(most)
        orders.append(Order(unit, criterion, 0, chosen.tolist(), values.tolist()))
    root = random.stream_key(task.name, settings.seed, f"{STREAM}/random/{unit}")
    for index in range(settings.draws):
        key = torch.tensor(random.step_key(root, index), device=weights.device)
        chosen = random.bits(key, salience.shape[1]).topk(most).indices
        orders.append(Order(unit, "random", index, chosen.tolist(), [None] * most))
    return orders


def _edits(
    orders: list[Order], layout: Layout, ks: tuple[int, ...], device: torch.device
) -> list[Int[Tensor, "_"]]:
    """The addresses to zero: none at all, then by order and K."""
    nothing = torch.zeros(0, dtype=torch.int64, device=device)
    return [
        nothing,
        *(addresses(order.unit, order.chosen[:k], layout, device) for order in orders for k in ks),
    ]


def addresses(unit: Unit, chosen: Sequence[int], layout: Layout, device: torch.device) -> Int[Tensor, "_"]:
    """The weights of these weights or neurons (indices into ``Layout.neurons``)."""
    if unit == "weight" or not chosen:
        return torch.tensor(list(chosen), device=device, dtype=torch.int64)
    columns = [layout.neurons[i] for i in chosen]
    return torch.cat([part.addresses(columns=slice(c, c + 1), device=device) for part, c in columns])


def _repeat_whole(scored: Scored, orders: int, ks: int) -> Scored:
    """The model as it is in front of every order's edits."""
    index = [i for o in range(orders) for i in (0, *range(1 + o * ks, 1 + (o + 1) * ks))]
    return Scored(scored.accuracy[index], scored.predicted[index])


def class_rows(
    keys: list[dict[str, object]], scored: Scored, expected: Float[Tensor, "kind classes"]
) -> list[dict[str, object]]:
    """A row per edit, kind of text and class that is predicted or right."""
    wanted = expected.tolist()
    return [
        {**key, "texts": kind, "class": index, "share": share, "expected": wanted[i][index]}
        for key, predicted in zip(keys, scored.predicted.tolist(), strict=True)
        for i, kind in enumerate(EVALUATED)
        for index, share in enumerate(predicted[i])
        if share or wanted[i][index]
    ]


PRUNED = {
    "member": pl.Int64,
    "unit": pl.String,
    "criterion": pl.String,
    "draw": pl.Int64,
    "rank": pl.Int64,
    "name": pl.String,
    "matrix": pl.String,
    "block": pl.Int64,
    "row": pl.Int64,
    "column": pl.Int64,
    "value": pl.Float64,
    "score": pl.Float64,
    "row_label": pl.String,
    "column_label": pl.String,
}


def pruned_rows(
    member: int,
    order: Order,
    layout: Layout,
    weights: Float[Tensor, "1 weight"],
    residual_labels: Sequence[str],
) -> list[dict[str, object]]:
    """What an order prunes, a row each: see ``Pruned``."""
    neurons = layout.neurons
    rows = []
    for rank, (index, scored) in enumerate(zip(order.chosen, order.scores, strict=True), 1):
        if order.unit == "weight":
            part, row, column = layout.find(index)
            value, name = float(weights[0, index]), layout.name(index)
        else:
            (part, column), row = neurons[index], None
            value, name = float(part.of(weights)[0, :, column].norm()), f"{part.name}[:, {column}]"
        labels = weight_labels(part, row, column, residual_labels)
        place = (name, part.matrix, part.block, row, column, value, scored, *labels)
        described = (member, order.unit, order.criterion, order.draw, rank, *place)
        rows.append(dict(zip(PRUNED, described, strict=True)))
    return rows


def weight_labels(
    part: Part, row: int | None, column: int, residual_labels: Sequence[str]
) -> tuple[str | None, str | None]:
    """The residual directions that a weight reads (its row) and writes (its column), where it does."""
    if not residual_labels:
        return None, None
    reads = row is not None and part.matrix in READS and not part.name.endswith(".bias")
    writes = part.matrix in WRITES or part.matrix.startswith("norm")
    return residual_labels[row] if reads and row is not None else None, (
        residual_labels[column] if writes else None
    )
