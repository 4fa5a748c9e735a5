"""The analysis of layers on text models of any family, through their small interface.

``compare_text_layers`` is ``veneer.analysis.layers.compare_layers`` at one position of each prompt (its last
token in Zhao et al. 2024).
"""

from collections.abc import Iterator

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from veneer.analysis.layers import layer_table
from veneer.analysis.similarity import Sums
from veneer.models.text_model import TextModel
from veneer.tasks.errors import InputError

PIECE = 16  # prompts at a time

Tokens = Int[Tensor, "batch position"]
Places = Int[Tensor, "batch"]


def text_states(
    model: TextModel, tokens: Tokens, at: Places, piece: int = PIECE
) -> Iterator[Float[Tensor, "residual sample width"]]:
    """Residual streams at one position of each prompt, some prompts at a time.

    They are those after the embedding and after each block; the last one is taken before the final norm.

    Args:
        model: what is looked into.
        tokens: prompts, filled up on the right.
        at: the position of each, as that of its last token.
        piece: prompts at a time.
    """
    names = [f"residual.{i}" for i in range(model.blocks + 1)]
    for some, places in zip(tokens.split(piece), at.split(piece), strict=True):
        with torch.no_grad():
            seen = model.activations(some, names)
        rows = torch.arange(len(some))
        yield torch.stack([seen[name][rows, places] for name in names])


def compare_text_layers(
    first: TextModel, second: TextModel, tokens: Tokens, at: Places, piece: int = PIECE
) -> pl.DataFrame:
    """Similarity of every pair of residual streams at the same depth; see ``compare_layers``.

    Raises:
        InputError: other numbers of blocks, fewer than four prompts, or activations that are not finite.
    """
    if first.blocks != second.blocks:
        raise InputError("second", second.blocks, f"a model of {first.blocks} blocks")
    sums = Sums()
    pieces = (text_states(model, tokens, at, piece) for model in (first, second))
    for before, after in zip(*pieces, strict=True):
        sums.add(before[None], after[None])
    return layer_table(sums)
