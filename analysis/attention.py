"""Attention maps as numbers: where models look, at which operand's tokens, and how far that moved.

The maps of Jain et al. 2024 (Fig. 10, 44, 48, 52) for whole fleets. All members see the same texts;
patterns are [..., query, key] and each row sums to 1. Sums run in float64 over pieces of bounded size.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import polars as pl
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from veneer.analysis import texts
from veneer.analysis.activations import Tokens, captured, mean_mlp_activations
from veneer.finetune.fleet import EVALUATED, evaluation_batch
from veneer.models.transformer import Transformer
from veneer.tasks.encoding import Encoding, MarkedTask, Task
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import OPERANDS, Component, Kind, Mixture, Operand

On = Literal["pt", "ft", "other"]
ON: tuple[On, ...] = get_args(On)
STREAM = "analyse/attention"
Patterns = Float[Tensor, "member block batch head query key"]


def attention(model: Transformer, tokens: Tokens) -> Patterns:
    """Patterns of single inputs, [member, block, text, head, query, key] (all are kept: give few).

    Raises:
        InputError: a member whose activations are not finite.
    """
    return torch.cat([_stacked(model, piece) for piece in captured(model, tokens, _names(model))], 2)


def mean_attention(model: Transformer, tokens: Tokens) -> Float[Tensor, "member block head query key"]:
    """Patterns averaged over texts.

    Raises:
        InputError: a member whose activations are not finite.
    """
    total = torch.zeros((), dtype=torch.float64)
    for piece in captured(model, tokens, _names(model)):
        total = total + torch.stack([piece[name].sum(1, dtype=torch.float64) for name in _names(model)], 1)
    return (total / len(tokens)).float()


def answer_attention(
    model: Transformer, tokens: Tokens, answer: int
) -> Float[Tensor, "member block batch head key"]:
    """Each text's row of the pattern at the answer position.

    Raises:
        InputError: a member whose activations are not finite.
    """
    pieces = captured(model, tokens, _names(model))
    names = _names(model)
    return torch.cat([torch.stack([piece[name][..., answer, :] for name in names], 1) for piece in pieces], 2)


@dataclass(frozen=True)
class OperandShares:
    """How much of the answer position's attention falls on each operand's tokens, by kind of text.

    Attributes:
        kinds: kinds of text.
        asked: the operands asked for; one entry where the input does not name the operand.
        share: mean attention on O_PT's tokens, on O_FT's, and on all others (BOS, prompt, ...).
        uniform: the same if all tokens that the answer position sees were attended to equally.
    """

    kinds: tuple[Kind, ...]
    asked: tuple[Operand | None, ...]
    share: Float[Tensor, "member asked kind block head 3"]
    uniform: Float[Tensor, "asked kind 3"]

    @property
    def enrichment(self) -> Float[Tensor, "member asked kind block head 3"]:
        """Share over uniform share; not a number where no text has such a token."""
        return self.share / self.uniform[:, :, None, None]

    def table(self) -> pl.DataFrame:
        """One row per number: member, asked, kind, block, head, on, share, uniform, enrichment."""
        size = self.share.shape
        expected = self.uniform[:, :, None, None].expand(size).flatten()
        where = torch.cartesian_prod(*(torch.arange(n) for n in size))
        kind, asked = pl.Series(self.kinds), pl.Series(self.asked, dtype=pl.String)
        columns = dict(zip(("member", "asked", "kind", "block", "head", "on"), where.unbind(1), strict=True))
        found = pl.DataFrame({name: column.numpy() for name, column in columns.items()})
        return found.with_columns(
            asked=asked.gather(found["asked"]),
            kind=kind.gather(found["kind"]),
            on=pl.Series(ON).gather(found["on"]),
            share=pl.Series(self.share.flatten().cpu().numpy()),
            uniform=pl.Series(expected.cpu().numpy()),
            enrichment=pl.Series(self.enrichment.flatten().cpu().numpy()),
        )


def operand_shares(
    model: Transformer,
    task: Task,
    encoding: Encoding,
    samples: int = 256,
    kinds: tuple[Kind, ...] = EVALUATED,
) -> OperandShares:
    """Attention from the answer position on the tokens that each operand's answer is read from.

    Which tokens these are, the task says (``MarkedTask.marks``). Texts have a stream of their own.

    Raises:
        InputError: a task that does not mark them, or a member whose activations are not finite.
    """
    asked: tuple[Operand | None, ...] = OPERANDS if task.names_operand else (None,)
    device = model.token_embedding.device
    shares, uniform = [], []
    for operand in asked:
        for kind in kinds:
            part: Operand = operand or "pt"
            mixture = Mixture((Component(1.0, kind, part, part),))
            stream = f"{STREAM}/{kind}"
            tokens = texts.draw(task, encoding, mixture, samples, device, stream).tokens[0]
            on = positions_on(task, encoding, tokens).double()
            row = answer_attention(model, tokens, encoding.answer).double()
            shares.append(torch.einsum("mbthk,tko->mbho", row, on) / samples)
            uniform.append(on[:, _seen(model, encoding.answer)].mean((0, 1)))
    shape = (len(asked), len(kinds))
    stacked = torch.stack(shares, 1).unflatten(1, shape).float()
    return OperandShares(kinds, asked, stacked, torch.stack(uniform).unflatten(0, shape).float())


def attention_distance(
    before: Transformer, after: Transformer, tokens: Tokens, query: int | None = None
) -> Float[Tensor, "member block head"]:
    """Total variation between two models' attention, averaged over texts: 0 (equal) to 1 (disjoint).

    Args:
        before: a fleet with as many members as ``after``, or with one that all are held against.
        after: the other fleet.
        tokens: texts, with their prefix.
        query: the position that attends; None averages over all.

    Raises:
        InputError: fleets that do not fit together, or a member whose activations are not finite.
    """
    shapes = [(m.config.blocks, m.config.heads, m.config.causal) for m in (before, after)]
    if shapes[0] != shapes[1] or before.members not in (1, after.members):
        raise InputError("before", repr(before), f"a fleet like {after!r}, or one member like it")
    queries = slice(None) if query is None else slice(query, query + 1)
    total = torch.zeros((), dtype=torch.float64)
    for part in tokens.split(_texts_at_once(after, tokens)):
        first, second = (attention(model, part)[..., queries, :].double() for model in (before, after))
        total = total + (second - first).abs().sum(-1).mean(-1).sum(2) / 2
    return (total / len(tokens)).float()


def sorting(
    model: Transformer, task: Task, encoding: Encoding, tokens: Tokens
) -> Float[Tensor, "member block head"]:
    """How far letters attend to the letters before them in the alphabet rather than to those behind.

    Of the attention that falls on other letters, over all texts and letters as queries, the share on
    letters that stand earlier in the task's vocabulary. Block 0 of the compiled Max-identifier, which
    sorts so, has 1; attention that does not tell letters apart has 1/2.

    Raises:
        InputError: a member whose activations are not finite.
    """
    prefix = len(encoding.prefix)
    letter = _task_tokens(encoding, tokens)
    padding = torch.tensor([token is None for token in task.vocabulary], device=tokens.device)[letter]
    pair = ~padding.unsqueeze(-1) & ~padding.unsqueeze(-2)
    earlier = pair & (letter.unsqueeze(-2) < letter.unsqueeze(-1))  # [text, query, key]
    later = pair & (letter.unsqueeze(-2) > letter.unsqueeze(-1))
    size = _texts_at_once(model, tokens)
    sums = torch.zeros(2, 1, 1, 1, dtype=torch.float64, device=tokens.device)
    for part, *masks in zip(tokens.split(size), earlier.split(size), later.split(size), strict=True):
        pattern = attention(model, part)[..., prefix:, prefix:].double()
        found = [torch.einsum("mbthqk,tqk->mbh", pattern, mask.double()) for mask in masks]
        sums = sums + torch.stack(found)
    return (sums[0] / sums.sum(0)).float()


def attention_maps(
    model: Transformer, task: Task, encoding: Encoding, samples: int = 256
) -> list[dict[str, Tensor]]:
    """What a report shows of each member, one dictionary of CPU tensors per member.

    Returns:
        ``example``: [block, head, query, key] on the first natural evaluation text;
        ``example_tokens``: its token ids; ``mean``: the same averaged over ``samples`` such texts;
        ``by_token``: [block, head, token id], the share of the answer position's attention that falls
        on each token, averaged over them; ``mlp``: [position, channel], block 0's MLP activations
        averaged over them. Of tasks that mark their operands' tokens also ``operand_share``: [asked,
        kind, block, head, 3] and ``operand_uniform``: [asked, kind, 3] (see ``OperandShares``).

    Raises:
        InputError: a member whose activations are not finite.
    """
    device = model.token_embedding.device
    tokens = evaluation_batch(task, encoding, "natural", samples, device).tokens[0]
    rows = answer_attention(model, tokens, encoding.answer)
    one_hot = torch.nn.functional.one_hot(tokens, model.config.vocabulary).to(rows.dtype)
    found = {
        "example": attention(model, tokens[:1])[:, :, 0],
        "mean": mean_attention(model, tokens),
        # One by one: a product's sums are in another order for another number of rows.
        "by_token": torch.stack([torch.einsum("bthk,tkv->bhv", own, one_hot) for own in rows]) / len(tokens),
        "mlp": mean_mlp_activations(model, tokens),
    }
    shared = {"example_tokens": tokens[0].cpu()}
    if isinstance(task, MarkedTask):
        shares = operand_shares(model, task, encoding, samples)
        found["operand_share"] = shares.share
        shared["operand_uniform"] = shares.uniform.cpu()
    return [
        {**{name: value[i].cpu() for name, value in found.items()}, **shared} for i in range(model.members)
    ]


def _names(model: Transformer) -> list[str]:
    return [f"attention.{i}" for i in range(model.config.blocks)]


def _stacked(model: Transformer, piece: dict[str, Tensor]) -> Patterns:
    return torch.stack([piece[name] for name in _names(model)], 1)


def _texts_at_once(model: Transformer, tokens: Tokens, most: int = 1 << 24) -> int:
    """Texts whose patterns in all blocks are kept together."""
    per_text = model.members * model.config.blocks * model.config.heads * tokens.shape[-1] ** 2
    return max(1, most // per_text)


def _seen(model: Transformer, position: int) -> slice:
    """The keys that a query at a position may attend to."""
    return slice(position + 1) if model.config.causal else slice(None)


def _task_tokens(encoding: Encoding, tokens: Tokens) -> Int[Tensor, "batch text"]:
    """The task's own indices of the tokens behind the prefix."""
    inverse = torch.full((max(encoding.tokens) + 1,), -1, device=tokens.device)
    inverse[torch.tensor(encoding.tokens, device=tokens.device)] = torch.arange(
        len(encoding.tokens), device=tokens.device
    )
    return inverse[tokens[:, len(encoding.prefix) :]]


def positions_on(task: Task, encoding: Encoding, tokens: Tokens) -> Bool[Tensor, "batch position 3"]:
    """Positions, prefix included, that hold O_PT's tokens, O_FT's, and neither's."""
    if not isinstance(task, MarkedTask):
        raise InputError("task", task.name, "one that marks its operands' tokens (a method marks)")
    marked = task.marks(_task_tokens(encoding, tokens))
    marked = torch.cat([torch.zeros_like(marked[:, : len(encoding.prefix)]), marked], 1)
    return torch.cat([marked, ~marked.any(-1, keepdim=True)], -1)
