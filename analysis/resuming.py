"""Edited models that are alike up to some layer: what comes before it is computed once for all of them.

An edit of single weights leaves everything alone that lies before the first weight it touches. So the
residual stream in front of that layer is that of the model without the edit, and an edited model only has
to go on from there. Layers are counted as *stages*: attention of block i is 2 i, its MLP 2 i + 1, and
reading the answer comes last. An edit of an embedding is at stage 0: nothing comes before.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from veneer.models.block import Block, read
from veneer.models.transformer import Transformer

OF_ATTENTION = ("norm_attention", "query", "key", "value", "output")
OF_MLP = ("norm_mlp", "mlp_in", "mlp_out")


def stage_of(block: int | None, matrix: str, blocks: int) -> int:
    """The stage that a parameter belongs to.

    Args:
        block: its block, if any.
        matrix: what it belongs to, such as "query" or "token_embedding".
        blocks: of the model.
    """
    if block is None:
        return 0 if matrix.endswith("_embedding") else 2 * blocks
    return 2 * block + (matrix in OF_MLP)


def first_stages(
    edits: Sequence[Int[Tensor, "_"]], starts: Int[Tensor, "part"], stages: Int[Tensor, "part"], last: int
) -> list[int]:
    """The earliest stage that each edit touches; ``last`` for an edit without addresses.

    Args:
        edits: addresses in the flat vector of weights.
        starts: where each parameter begins there, ascending.
        stages: the stage of each parameter.
        last: the stage of reading the answer.
    """
    found = []
    for edit in edits:
        parts = torch.bucketize(edit, starts, right=True) - 1
        found.append(int(stages[parts].min()) if len(edit) else last)
    return found


def stream_before(
    model: Transformer, tokens: Int[Tensor, "1 batch position"], answer: int, stage: int
) -> Float[Tensor, "1 row width"]:
    """The residual stream in front of a stage, of a fleet of one.

    Returns:
        A row for every position of every text; after the last block's attention, for the answer position
        of every text alone.
    """
    blocks, last = len(model.blocks), stage % 2 == 1 and stage // 2 == len(model.blocks) - 1
    if stage == 2 * blocks:
        x = model(tokens, capture=[f"residual.{blocks}"]).captured[f"residual.{blocks}"]
        return x[:, :, answer]
    x = model(tokens, capture=[f"residual.{stage // 2}"]).captured[f"residual.{stage // 2}"]
    if stage % 2 == 0:
        return x.flatten(1, 2)
    return _attended(model, x.flatten(1, 2), tokens.shape[1], answer if last else None, stage // 2)


def read_on(
    fleet: Transformer, x: Float[Tensor, "1 row width"], batch: int, answer: int, stage: int
) -> Float[Tensor, "member batch classes"]:
    """Logits at the answer position of models that are alike in front of a stage.

    Args:
        fleet: the models.
        x: the residual stream there (``stream_before``).
        batch: texts.
        answer: position at which answers are read.
        stage: the first in which the models may differ.
    """
    last = len(fleet.blocks) - 1
    x = x.expand(fleet.members, -1, -1)
    for i in range(stage // 2, len(fleet.blocks)):
        if 2 * i >= stage:
            x = _attended(fleet, x, batch, answer if i == last else None, i)
        x, _ = block_of(fleet, i).mlp(x)
    return read(fleet.norm_final, x, fleet.unembedding)


def _attended(model: Transformer, x: Tensor, batch: int, answer: int | None, i: int) -> Tensor:
    """The residual stream after a block's attention; with ``answer``, at that position alone."""
    block = block_of(model, i)
    if answer is not None:
        return block.attend_from(x, batch, answer)
    mixed, _ = block.mix(block.project(x), batch, want_pattern=False)
    return x + block.output(mixed)


def block_of(model: Transformer, i: int) -> Block:
    """A block by its number, with its type."""
    block = model.blocks[i]
    assert isinstance(block, Block)
    return block
