"""Two models compared layer by layer, and what a comparison says about where one of them was changed.

The similarity is linear CKA (``veneer.analysis.similarity``) of residual streams: after the embedding and
after each block, on the same texts, at the answer's position (Zhao et al. 2024 take the last token of the
prompt) or at all. ``localized`` makes models that were certainly changed in one block and nowhere else, so
that one can ask whether the similarity finds that block: ``changed_block`` is the reading put to the test.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from veneer.analysis.activations import captured
from veneer.analysis.constructed import cycle, flipped_weight, redrawn
from veneer.analysis.similarity import Sums, dimensions, effective_rank
from veneer.models.block import Block
from veneer.models.transformer import Transformer
from veneer.tasks import random
from veneer.tasks.encoding import Batch
from veneer.tasks.errors import InputError

PIECE = 256  # texts at a time
TRIED = 10  # weights of a block, of which the costliest is flipped

Change = Literal["weight flipped", "offset", "writing exchanged", "reading exchanged", "block redrawn"]
CHANGES: tuple[Change, ...] = get_args(Change)
"""The first four are small and leave every other weight alone: wrappers. The last rewrites its block."""


def compare_layers(
    first: Transformer, second: Transformer, tokens: Int[Tensor, "batch position"], answer: int | None
) -> pl.DataFrame:
    """Similarity of every pair of residual streams at the same depth.

    Args:
        first: a fleet with as many members as the second, or one.
        second: a fleet with as many blocks as the first.
        tokens: texts that both read.
        answer: the position compared; None takes every position of every text as a sample.

    Returns:
        A row per member of ``second`` and residual stream (0 after the embedding, i after block i): columns
        member, residual, cka, unbiased, samples; and dimensions, effective_rank of the second's stream.
        Null where a stream is constant.

    Raises:
        InputError: other numbers of blocks or members, fewer than four samples, or activations that are not
            finite.
    """
    if first.config.blocks != second.config.blocks:
        raise InputError("second", second.config.blocks, f"a model of {first.config.blocks} blocks")
    if first.members not in (1, second.members):
        raise InputError("first", first.members, f"1 member, or the second's {second.members}")
    sums = Sums()
    for part in tokens.split(PIECE):
        before, after = (_streams(model, part, answer) for model in (first, second))
        sums.add(before.expand(len(after), *before.shape[1:]), after)
    return layer_table(sums)


def layer_table(sums: Sums) -> pl.DataFrame:
    """The table of ``compare_layers`` from sums whose groups are members by residual streams."""
    variances = sums.spectrum("second")
    columns = {
        "cka": sums.cka(),
        "unbiased": sums.cka(unbiased=True),
        "dimensions": dimensions(variances),
        "effective_rank": effective_rank(variances),
    }
    members, residuals = columns["cka"].shape
    place = torch.cartesian_prod(torch.arange(members), torch.arange(residuals))
    table = pl.DataFrame({"member": place[:, 0].numpy(), "residual": place[:, 1].numpy()})
    numbers = [pl.Series(name, value.flatten().cpu().numpy()) for name, value in columns.items()]
    table = table.with_columns(*numbers, samples=pl.lit(sums.samples))
    return table.with_columns(pl.col(*columns).fill_nan(None))


def changed_block(similarity: Sequence[float | None], ceiling: Sequence[float]) -> int | None:
    """The block that a change sits in, as layers tell it: the first after which similarity is too low.

    Args:
        similarity: of each residual stream of the changed model with the original's; None where constant.
        ceiling: the lowest that sham changes gave there (another draw of the same noise, or a second seed
            of the same training): a change cannot be told from these.

    Returns:
        A block counted from 0; -1 where the embedding differs already; None where nothing is too low.
    """
    pairs = enumerate(zip(similarity, ceiling, strict=True))
    return next((i - 1 for i, (value, least) in pairs if value is not None and value < least), None)


def localized(
    change: Change, model: Transformer, block: int, seed: int, batch: Batch, answer: int
) -> Transformer:
    """A model changed in one block and nowhere else.

    Args:
        change: "weight flipped": the sign of the block's weight that costs most accuracy. "offset": a
            vector as long as the stream's deviation is added to what the block writes, in every text.
            "writing exchanged": the directions that it writes change places in a cycle. "reading
            exchanged": the same of those that it reads. "block redrawn": all its weights, at their scales.
        model: a fleet of one.
        block: counted from 0.
        seed: seeds what is drawn.
        batch: natural text with the model's answers as ``labels``.
        answer: the position at which the answer is read.

    Raises:
        InputError: a change or a block that does not exist.
    """
    if not 0 <= block < model.config.blocks:
        raise InputError("block", block, f"0 to {model.config.blocks - 1}")
    prefix = f"blocks.{block}."
    if change == "weight flipped":
        return flipped_weight(model, batch, answer, TRIED, within=prefix)
    changed = model.member(0)
    place = changed.blocks[block]
    assert isinstance(place, Block)
    with torch.no_grad():
        match change:
            case "offset":
                direction = _drawn(seed, model.config.width).to(place.mlp_out.bias)
                stream = _streams(model, batch.tokens[0], answer)[0, block + 1]
                length = stream.std(0, correction=0).norm()
                place.mlp_out.bias.add_(length * direction / direction.norm())
            case "writing exchanged":
                written = place.output.weight[0].abs().sum(0) + place.mlp_out.weight[0].abs().sum(0)
                order = _exchanged(written, seed)
                for layer in (place.output, place.mlp_out):
                    layer.weight.copy_(layer.weight[..., order].clone())
                    layer.bias.copy_(layer.bias[..., order].clone())
            case "reading exchanged":
                layers = (place.query, place.key, place.value, place.mlp_in)
                read = torch.stack([layer.weight[0].abs().sum(1) for layer in layers]).sum(0)
                order = _exchanged(read, seed)
                for layer in layers:
                    layer.weight.copy_(layer.weight[:, order].clone())
            case "block redrawn":
                fresh = dict(redrawn(model, seed).named_parameters())
                for name, parameter in changed.named_parameters():
                    if name.startswith(prefix):
                        parameter.copy_(fresh[name])
            case _:
                raise InputError("change", change, ", ".join(CHANGES))
    return changed


def _streams(
    model: Transformer, tokens: Int[Tensor, "batch position"], answer: int | None
) -> Float[Tensor, "member residual sample width"]:
    """Residual streams at one position, or with all positions as samples."""
    names = [f"residual.{i}" for i in range(model.config.blocks + 1)]
    where = slice(None) if answer is None else slice(answer, answer + 1)
    pieces = [
        torch.stack([piece[name][:, :, where].flatten(1, 2) for name in names], 1)
        for piece in captured(model, tokens, names)
    ]
    return torch.cat(pieces, 2)


def _exchanged(size: Float[Tensor, "width"], seed: int) -> Int[Tensor, "width"]:
    """A cycle through the directions that count: those with more than noise, a thousandth of the largest."""
    used = (size > 1e-3 * size.max()).nonzero().flatten().tolist()
    order = torch.arange(len(size))
    for target, source in cycle(used, seed).items():
        order[target] = source
    return order


def _drawn(seed: int, width: int) -> Float[Tensor, "width"]:
    key = torch.tensor([random.step_key(random.stream_key("localized change", seed, "offset"), 0)])
    return random.normal(key, width)[0]
