"""What a model answers when it cannot attend to an operand's tokens: whether it uses what it looks at.

Where attention falls need not say what an answer hangs on: at a fixed length a block that averages all
tokens alike can count a letter without looking at it more than at others. So keys are hidden, in every
block and head, and what counts is how many answers change (attention knockout: Geva et al. 2023,
arXiv 2304.14767). The claim is that of Jain et al. 2024, Fig. 10, 40, 45, 48.
"""

import math

import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from veneer.analysis import texts
from veneer.analysis.attention import ON, positions_on
from veneer.analysis.resuming import block_of
from veneer.finetune.fleet import EVALUATED
from veneer.models.block import Block, read
from veneer.models.transformer import Transformer
from veneer.tasks.encoding import Encoding, Task
from veneer.tasks.mixture import OPERANDS, Component, Mixture, Operand

STREAM = "analyse/hidden"
TEXTS = 256
EMBEDDED = "residual.0"


@torch.no_grad()
def hidden_keys(model: Transformer, task: Task, encoding: Encoding, samples: int = TEXTS) -> pl.DataFrame:
    """Share of answers that change when the keys of O_PT's tokens, or of O_FT's, are hidden.

    Args:
        model: any fleet.
        task: what is asked; it marks the tokens.
        encoding: how the models read it.
        samples: texts of each kind.

    Returns:
        Columns member, asked (the operand that the input names; null where it names none), texts, hidden
        ("pt", "ft"), changed (share of texts whose answer becomes another), right_pt and right_ft (share of
        answers that are then right for each operand).

    Raises:
        InputError: a task that does not mark its operands' tokens.
    """
    device = model.token_embedding.device
    asked: tuple[Operand | None, ...] = OPERANDS if task.names_operand else (None,)
    rows = []
    for operand in asked:
        for kind in EVALUATED:
            part: Operand = operand or "pt"
            mixture = Mixture((Component(1.0, kind, part, part),))
            batch = texts.draw(task, encoding, mixture, samples, device, f"{STREAM}/{kind}")
            on = positions_on(task, encoding, batch.tokens[0])
            several = batch.tokens.expand(model.members, -1, -1)
            seen = model(several, encoding.answer, capture=(EMBEDDED,))
            whole, stream = seen.logits.argmax(-1), seen.captured[EMBEDDED].flatten(1, 2)
            for i, hidden in enumerate(ON[:2]):
                found = _answers(model, stream, on[..., i], encoding.answer)
                changed = (found != whole).double().mean(1).tolist()
                right = (found.unsqueeze(-1) == batch.results).double().mean(1).tolist()
                rows += [(m, operand, kind, hidden, changed[m], *right[m]) for m in range(model.members)]
    schema = {"member": pl.Int64, "asked": pl.String, "texts": pl.String, "hidden": pl.String}
    numbers = dict.fromkeys(("changed", "right_pt", "right_ft"), pl.Float64)
    return pl.DataFrame(rows, schema=schema | numbers, orient="row")


def _answers(
    model: Transformer,
    x: Float[Tensor, "member row width"],
    hidden: Bool[Tensor, "batch position"],
    answer: int,
) -> Int[Tensor, "member batch"]:
    """What each member answers if none may attend to hidden positions, of the stream after the embedding."""
    batch = len(hidden)
    for i in range(len(model.blocks)):
        block = block_of(model, i)
        if i == len(model.blocks) - 1:
            x = block.attend_from(x, batch, answer, hidden)
        else:
            x = x + block.output(_mixed(block, x, batch, hidden))
        x, _ = block.mlp(x)
    return read(model.norm_final, x, model.unembedding).argmax(-1)


def _mixed(
    block: Block, x: Float[Tensor, "member row width"], batch: int, hidden: Bool[Tensor, "batch position"]
) -> Float[Tensor, "member row inner"]:
    """Mixed values, as ``Block.mix`` makes them, of the keys that are not hidden."""
    members, rows, _ = x.shape
    shape = (members, batch, rows // batch, 3, block.heads, block.key_size)
    q, k, v = block.project(x).view(shape).permute(3, 0, 1, 4, 2, 5).unbind()
    scores = q @ k.transpose(-1, -2) / math.sqrt(block.key_size)
    closed = hidden[:, None, None, :]
    if block.causal:
        closed = closed | torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
    pattern = scores.masked_fill(closed, -torch.inf).softmax(-1)
    return (pattern @ v).permute(0, 1, 3, 2, 4).reshape(members, rows, -1)
