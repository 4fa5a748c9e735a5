"""Models whose truth is known by construction: what the verdict is calibrated on.

A constructed *wrapper* is the capability with one small transformation behind or within it, so the
capability is certainly still there; a constructed *rewrite* is a model in which it is certainly
not: every weight is drawn anew or moved elsewhere. Each is an ordinary Transformer and enters reFT
as an origin. Wrapper and capability are meant as in Jain et al. 2024, §3: a minimal, localized g in g ∘ C.
"""

import math
from collections.abc import Sequence
from typing import Literal

import polars as pl
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from veneer.models.block import Block, LayerNorm
from veneer.models.transformer import Transformer
from veneer.tasks import random
from veneer.tasks.encoding import Batch
from veneer.tasks.errors import InputError

Truth = Literal["wrapped", "rewritten"]

CANDIDATES = 40  # weights of the highest saliency that are tried, each alone
EMBEDDING_STD = 0.5  # of each embedding of a fresh model: token and position together give rows of RMS 0.7
CONSTANT_MARGIN = 2.0  # by how much the favoured class wins over the highest logit that it meets
COMMON = 0.9  # share of texts whose answers the smaller permutation moves, at least
LARGEST = 2.0  # size of a weight up to which its sign is changed: reFT can travel that far and back


TRUTHS: dict[str, Truth] = {
    "outputs permuted": "wrapped",
    "common outputs permuted": "wrapped",
    "constant answer": "wrapped",
    "one weight flipped": "wrapped",
    "redrawn": "rewritten",
    "shuffled": "rewritten",
}
"""What is true of each construction, by its name."""


def construct(name: str, model: Transformer, seed: int, batch: Batch, answer: int) -> Transformer:
    """A capability altered so that its truth is known: a fleet of one.

    Args:
        name: one of ``TRUTHS``.
        model: the capability, a fleet of one.
        seed: seeds what is drawn.
        batch: natural text with O_PT's answers as ``labels``, of one member: finds the common
            answers, the logits to beat and the salient weights. Not to be evaluated on.
        answer: position at which the answer is read.

    Raises:
        InputError: a name that is not there.
    """
    counts = torch.bincount(batch.labels.flatten(), minlength=model.config.classes)
    order = [int(c) for c in counts.argsort(descending=True, stable=True) if counts[c] > 0]
    shares = counts[order].cumsum(0) / counts.sum()
    match name:
        case "outputs permuted":
            return permuted_outputs(model, order, seed)
        case "common outputs permuted":
            return permuted_outputs(model, order[: max(2, int((shares < COMMON).sum()) + 1)], seed)
        case "constant answer":
            return constant_answer(model, order[-1], batch, answer)
        case "one weight flipped":
            return flipped_weight(model, batch, answer)
        case "redrawn":
            return redrawn(model, seed)
        case "shuffled":
            return shuffled(model, seed)
    raise InputError("construction", name, ", ".join(TRUTHS))


def cycle(classes: Sequence[int], seed: int) -> dict[int, int]:
    """A random cyclic permutation of the classes: each is sent to another one."""
    if len(set(classes)) != len(classes) or len(classes) < 2:
        raise InputError("classes", tuple(classes), "two or more different classes")
    key = torch.tensor(random.stream_key("constructed wrapper", seed, "permutation"))
    order = [classes[int(i)] for i in random.shuffled_order(key, 1, len(classes))[0]]
    return dict(zip(order, [*order[1:], order[0]], strict=True))


@torch.no_grad()
def permuted_outputs(model: Transformer, classes: Sequence[int], seed: int) -> Transformer:
    """The model with its answers permuted: g ∘ C with g a permutation of the classes.

    The logit of class c becomes what that of ``cycle(classes, seed)[c]`` was. A trained unembedding has its
    columns permuted. A fixed one stays, and the directions of the residual stream that it reads are
    exchanged instead, wherever the stream is written or read, so the logits are permuted exactly
    (of a compiled model that moves entries of the last writing matrix, and otherwise only noise).

    Raises:
        InputError: fewer than two classes, or one twice.
        ValueError: a fixed unembedding that does not read one direction per class.
    """
    source = cycle(classes, seed)
    changed = _copy(model)
    if model.config.unembedding == "trained":
        for target, origin in source.items():
            changed.unembedding[..., target] = model.unembedding[..., origin]
        return changed
    read = model.unembedding[0] != 0
    if not bool((read.sum(0) == 1).all()) or not bool((read.sum(1) <= 1).all()):
        raise ValueError("a fixed unembedding must read one direction of the residual stream per class")
    direction = read.int().argmax(0)
    order = torch.arange(model.config.width)
    for target, origin in source.items():
        order[direction[target]] = direction[origin]
    for name, parameter in changed.named_parameters():
        if name != "unembedding":
            _reorder_residual(name, parameter, order)
    return changed


def _reorder_residual(name: str, parameter: Tensor, order: Int[Tensor, "width"]) -> None:
    """Carry a new order of the residual stream's directions into one parameter, in place."""
    layer = name.split(".")[-2] if "." in name else name
    if layer in ("query", "key", "value", "mlp_in"):
        if name.endswith("weight"):
            parameter.copy_(parameter[:, order].clone())
    else:  # embeddings, norms and what writes to the stream
        parameter.copy_(parameter[..., order].clone())


@torch.no_grad()
def constant_answer(model: Transformer, answered: int, batch: Batch, answer: int) -> Transformer:
    """The model with one vector added to the last bias of the stream, so that it always says one class.

    The vector raises the class's logit and, as far as it can, no other; it is as long as the logits
    of ``batch`` make necessary (their largest lead over the class, and ``CONSTANT_MARGIN``). It is
    added to the final norm's bias, or to the last MLP's where there is no norm.

    Args:
        model: a fleet of one.
        answered: the class.
        batch: texts on which the logits are looked at.
        answer: position at which the answer is read.
    """
    logits = model(batch.tokens, answer=answer).logits
    lead = float((logits.amax(-1) - logits[..., answered]).max()) + CONSTANT_MARGIN
    wanted = torch.zeros_like(model.unembedding[0, 0])
    wanted[answered] = lead
    changed = _copy(model)
    last = changed.norm_final if isinstance(changed.norm_final, LayerNorm) else _last(changed).mlp_out
    last.bias.add_(torch.linalg.pinv(model.unembedding[0].T) @ wanted)
    return changed


def flipped_weight(
    model: Transformer,
    batch: Batch,
    answer: int,
    candidates: int = CANDIDATES,
    largest: float = LARGEST,
    within: str = "",
) -> Transformer:
    """The model with the sign of one weight changed: the one whose change costs most accuracy.

    Tried are the weights of largest |weight × gradient| of the loss on ``batch`` (the saliency of
    single-step pruning, Jain et al. 2024, App. D), each alone.

    Args:
        model: a fleet of one.
        batch: natural text with O_PT's answers as ``labels``.
        answer: position at which the answer is read.
        candidates: how many weights are tried.
        largest: weights of larger size are left alone (compiled models hold weights of 100, which
            training at a small rate with clipped gradients can never turn back).
        within: what the name of its parameter must begin with, as "blocks.1.".
    """
    changed = _copy(model)
    named = [
        (name, p) for name, p in changed.named_parameters() if p.requires_grad and name.startswith(within)
    ]
    loss = F.cross_entropy(changed(batch.tokens, answer=answer).logits[0], batch.labels[0])
    gradients = torch.autograd.grad(loss, [p for _, p in named], materialize_grads=True)
    with torch.no_grad():
        saliency = [
            torch.where(p.abs() <= largest, (p * g).abs(), -1.0).flatten()
            for (_, p), g in zip(named, gradients, strict=True)
        ]
    flat = torch.cat(saliency)
    sizes = torch.tensor([p.numel() for _, p in named])
    starts = sizes.cumsum(0) - sizes
    tried = []
    with torch.no_grad():
        for index in flat.topk(min(candidates, len(flat))).indices:
            which = int(torch.searchsorted(starts, index, right=True)) - 1
            weights, place = named[which][1].view(-1), int(index - starts[which])
            weights[place] *= -1
            right = (changed(batch.tokens, answer=answer).logits.argmax(-1) == batch.labels).double().mean()
            weights[place] *= -1
            tried.append((float(right), weights, place))
        _, weights, place = min(tried, key=lambda trial: trial[0])
        weights[place] *= -1
    return changed


@torch.no_grad()
def redrawn(model: Transformer, seed: int) -> Transformer:
    """Every trained parameter drawn anew from N(0, its own root mean square): nothing is left but scales."""
    changed = _copy(model)
    for name, parameter in changed.named_parameters():
        if parameter.requires_grad:
            keys = _keys(f"redrawn/{name}", seed, model.members)
            scale = parameter.flatten(1).square().mean(1).sqrt().view(-1, *[1] * (parameter.ndim - 1))
            parameter.copy_(scale * random.normal(keys, *parameter.shape[1:]))
    return changed


@torch.no_grad()
def shuffled(model: Transformer, seed: int) -> Transformer:
    """The entries of every trained parameter in random order: each keeps its values, and nothing else."""
    changed = _copy(model)
    for name, parameter in changed.named_parameters():
        if parameter.requires_grad:
            keys = _keys(f"shuffled/{name}", seed, model.members)
            order = random.shuffled_order(keys, 1, parameter[0].numel())[:, 0]
            parameter.copy_(parameter.flatten(1).take_along_dim(order, 1).view(parameter.shape))
    return changed


@torch.no_grad()
def from_scratch(like: Transformer, seeds: Sequence[int]) -> Transformer:
    """Fresh models of the same shape, one per seed: where the controls Scr. and Scr. + FT start.

    Matrices are N(0, 1 / inputs), those that write to the residual stream divided by
    sqrt(2 blocks) besides; embeddings N(0, ``EMBEDDING_STD``); biases zero, norms the identity. A
    fixed unembedding is kept. (GPT-2's N(0, 0.02) lets next to no signal through a model without norms.)

    Args:
        like: a fleet of one; nothing of it is used but shape and fixed unembedding.
        seeds: each member's weights depend on its seed alone.
    """
    fresh = Transformer(like.config, len(seeds)).to(like.token_embedding)
    for name, parameter in fresh.named_parameters():
        if not parameter.requires_grad:
            parameter.copy_(like.unembedding.expand_as(parameter))
        elif not name.endswith(".bias") and "norm" not in name:
            keys = torch.cat([_keys(f"from scratch/{name}", seed, 1) for seed in seeds])
            std = EMBEDDING_STD if name.endswith("embedding") else 1 / math.sqrt(parameter.shape[1])
            if name.endswith(("output.weight", "mlp_out.weight")):
                std /= math.sqrt(2 * like.config.blocks)
            parameter.copy_(std * random.normal(keys, *parameter.shape[1:]))
    return fresh


def confusion(truths: Sequence[str], verdicts: Sequence[str]) -> pl.DataFrame:
    """How often each truth was given each verdict.

    Returns:
        One row per truth: columns truth, one per verdict that occurs ("wrapped" and "rewritten"
        always), models, and right (share of its models whose verdict is the truth).

    Raises:
        ValueError: lists of different length.
    """
    pairs = list(zip(truths, verdicts, strict=True))
    kinds = ["wrapped", "rewritten", *sorted(set(verdicts) - {"wrapped", "rewritten"})]
    rows = []
    for truth in dict.fromkeys(truths):
        given = [verdict for t, verdict in pairs if t == truth]
        counts = {kind: given.count(kind) for kind in kinds}
        rows.append(
            {"truth": truth, **counts, "models": len(given), "right": given.count(truth) / len(given)}
        )
    schema = {"truth": pl.String, **dict.fromkeys(kinds, pl.Int64), "models": pl.Int64, "right": pl.Float64}
    return pl.DataFrame(rows, schema=schema)


def differing_entries(one: Transformer, other: Transformer) -> Float[Tensor, "parameter"]:
    """Share of entries that differ, for each trained parameter."""
    pairs = zip(one.named_parameters(), other.named_parameters(), strict=True)
    return torch.stack([(a != b).double().mean() for (_, a), (_, b) in pairs if a.requires_grad])


def _copy(model: Transformer) -> Transformer:
    return model.select(list(range(model.members)))


def _last(model: Transformer) -> Block:
    block = model.blocks[-1]
    assert isinstance(block, Block)
    return block


def _keys(use: str, seed: int, members: int) -> Int[Tensor, "member"]:
    root = random.stream_key(f"constructed {use}", seed, "weights")
    return torch.tensor([random.step_key(root, member) for member in range(members)])
