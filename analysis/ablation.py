"""What a model loses with a part: heads, MLPs and blocks taken out one at a time (after Lin 2024, Fig. 4).

A part's *contribution* is what it writes to the residual stream. Zero ablation takes it away; mean ablation
puts its mean over texts and positions in its place, which stays closer to what later layers have met. Both
are edits of weights (rows of an output matrix set to zero, the mean added to its bias), so all ablations of a
model are members of one fleet and run at once. A layer's own output bias belongs to no head and stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from veneer.analysis.activations import captured
from veneer.models.block import Block
from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError

How = Literal["zero", "mean"]
HOWS: tuple[How, ...] = get_args(How)
AT_ONCE = 32  # ablated models in one fleet
PIECE = 256  # texts at a time


@dataclass(frozen=True)
class Part:
    """What is taken out.

    Attributes:
        kind: "head", "mlp", or "block" (its attention and its MLP).
        block: counted from 0.
        head: of a head, counted from 0; else None.
    """

    kind: Literal["head", "mlp", "block"]
    block: int
    head: int | None = None


def parts(model: Transformer) -> list[Part]:
    """Every head, MLP and block of a model, by block."""
    config = model.config
    return [
        part
        for block in range(config.blocks)
        for part in (
            *(Part("head", block, head) for head in range(config.heads)),
            Part("mlp", block),
            Part("block", block),
        )
    ]


def ablation_effects(
    model: Transformer,
    tokens: Int[Tensor, "batch position"],
    labels: Int[Tensor, "batch"],
    answer: int,
    how: How = "zero",
    chosen: Sequence[Part] | None = None,
) -> pl.DataFrame:
    """Accuracy and logit difference without each part.

    Args:
        model: a fleet of one.
        tokens: texts; the means of mean ablation are taken over them too.
        labels: the right class of each.
        answer: the position at which it is read.
        how: zero or mean ablation.
        chosen: the parts; None takes all.

    Returns:
        A row per part: kind, block, head; ``accuracy``; ``accuracy_lost`` (whole model less ablated);
        ``difference`` (logit of the right class less the highest other, mean over texts) and
        ``difference_lost``.

    Raises:
        InputError: a fleet of several, a way to ablate or a part that does not exist.
    """
    if model.members != 1:
        raise InputError("members", model.members, "1; model.member(i) takes one out")
    if how not in HOWS:
        raise InputError("how", how, " or ".join(HOWS))
    wanted = parts(model) if chosen is None else list(chosen)
    for part in wanted:
        _check(part, model)
    means = _mean_contributions(model, tokens) if how == "mean" else None
    measured = [_measure(model, tokens, labels, answer)]
    for start in range(0, len(wanted), AT_ONCE):
        some = wanted[start : start + AT_ONCE]
        measured.append(_measure(_without(model, some, means), tokens, labels, answer))
    (accuracy, difference), found = measured[0][:, 0].tolist(), torch.cat(measured[1:], 1)
    return pl.DataFrame(
        {
            "kind": [part.kind for part in wanted],
            "block": [part.block for part in wanted],
            "head": [part.head for part in wanted],
            "accuracy": found[0].numpy(),
            "accuracy_lost": (accuracy - found[0]).numpy(),
            "difference": found[1].numpy(),
            "difference_lost": (difference - found[1]).numpy(),
        },
        schema_overrides={"head": pl.Int64},
    )


def depth_centroid(table: pl.DataFrame, kind: str = "head", effect: str = "accuracy_lost") -> float | None:
    """Where in depth a model depends on parts of a kind: 0 is the first block, 1 the last.

    The mean of the blocks' depths, weighted by what their parts cost; a part that costs nothing, or less than
    nothing, has no weight. One number for each seed gives an interval over seeds.

    Returns:
        None where no part costs anything, or there is one block only.
    """
    rows = table.filter(pl.col("kind") == kind)
    weight, depth = rows[effect].clip(0).to_numpy(), rows["block"].to_numpy()
    last = table["block"].max()
    if not isinstance(last, int) or last == 0 or not weight.sum() > 0:
        return None
    return float((weight * depth).sum() / weight.sum() / last)


@torch.no_grad()
def _measure(
    model: Transformer, tokens: Int[Tensor, "batch position"], labels: Int[Tensor, "batch"], answer: int
) -> Float[Tensor, "2 member"]:
    """Accuracy and mean logit difference of every member."""
    right, difference = torch.zeros(2, model.members, dtype=torch.float64)
    for some, wanted in zip(tokens.split(PIECE), labels.split(PIECE), strict=True):
        logits = model(some.expand(model.members, -1, -1), answer=answer).logits.double()
        place = wanted.expand(model.members, -1).unsqueeze(-1)
        own = logits.take_along_dim(place, -1).squeeze(-1)
        other = logits.scatter(-1, place, -torch.inf).amax(-1)
        right += (logits.argmax(-1) == wanted).sum(-1)
        difference += (own - other).sum(-1)
    return torch.stack([right, difference]) / len(tokens)


@torch.no_grad()
def _without(model: Transformer, some: Sequence[Part], means: "_Means | None") -> Transformer:
    """A fleet whose i-th member lacks the i-th part."""
    fleet = model.select([0] * len(some))
    size = model.config.key_size
    for member, part in enumerate(some):
        block = fleet.blocks[part.block]
        assert isinstance(block, Block)
        if part.kind == "head":
            assert part.head is not None
            block.output.weight[member, part.head * size : (part.head + 1) * size] = 0
            if means is not None:
                block.output.bias[member] += means.heads[part.block, part.head]
        if part.kind == "block":
            block.output.weight[member], block.output.bias[member] = 0, 0
            if means is not None:
                block.output.bias[member] = means.attention[part.block]
        if part.kind in ("mlp", "block"):
            block.mlp_out.weight[member], block.mlp_out.bias[member] = 0, 0
            if means is not None:
                block.mlp_out.bias[member] = means.mlps[part.block]
    return fleet


@dataclass(frozen=True)
class _Means:
    """Mean contributions over texts and positions."""

    heads: Float[Tensor, "block head width"]
    attention: Float[Tensor, "block width"]  # all heads and the bias
    mlps: Float[Tensor, "block width"]


@torch.no_grad()
def _mean_contributions(model: Transformer, tokens: Int[Tensor, "batch position"]) -> _Means:
    config = model.config
    names = [f"{kind}.{i}" for kind in ("residual", "attention", "mlp") for i in range(config.blocks)]
    mixed = torch.zeros(config.blocks, config.heads, config.key_size, dtype=torch.float64)
    hidden = torch.zeros(config.blocks, config.mlp_width, dtype=torch.float64)
    for piece in captured(model, tokens, names):
        for i, block in enumerate(model.blocks):
            assert isinstance(block, Block)
            stream = piece[f"residual.{i}"]
            values = block.project(stream.flatten(1, 2)).chunk(3, -1)[2]
            values = values.view(*stream.shape[:3], config.heads, config.key_size)
            mixed[i] += torch.einsum("ebhqk,ebkhs->hs", piece[f"attention.{i}"], values)
            hidden[i] += piece[f"mlp.{i}"].sum((0, 1, 2), dtype=torch.float64)
    places = tokens.numel()
    heads, attention, mlps = [], [], []
    for i, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        output = block.output.weight[0].double().view(config.heads, config.key_size, config.width)
        heads.append(torch.einsum("hs,hsw->hw", mixed[i] / places, output))
        attention.append(heads[-1].sum(0) + block.output.bias[0])
        mlps.append(hidden[i] / places @ block.mlp_out.weight[0].double() + block.mlp_out.bias[0])
    return _Means(*(torch.stack(found).to(model.token_embedding) for found in (heads, attention, mlps)))


def _check(part: Part, model: Transformer) -> None:
    blocks, heads = model.config.blocks, model.config.heads
    if not 0 <= part.block < blocks:
        raise InputError("block", part.block, f"0 to {blocks - 1}")
    if part.kind == "head" and (part.head is None or not 0 <= part.head < heads):
        raise InputError("head", part.head, f"0 to {heads - 1}")
