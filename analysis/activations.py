"""What fleets compute inside, captured in pieces of bounded size: residual streams and MLP activations.

All members see the same texts. Activation maps follow Jain et al. 2024 (Fig. 59 ff.): the hidden units of
an MLP by position, for single inputs and averaged over a set.
"""

from collections.abc import Collection, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError

Tokens = Int[Tensor, "batch position"]
MOST_NUMBERS = 1 << 24  # held by the captured activations of one piece


def captured(
    model: Transformer,
    tokens: Tokens,
    names: Collection[str],
    most: int = MOST_NUMBERS,
    position: int | None = None,
) -> Iterator[dict[str, Tensor]]:
    """Activations (see ``Transformer.forward``) of the texts in order, as many at a time as fit ``most``.

    With ``position``, those of residual streams and MLPs at that one alone.

    Raises:
        InputError: a member whose activations are not finite.
    """
    config, length = model.config, tokens.shape[-1]
    wanted = {"attention": config.heads * length, "mlp": config.mlp_width, "residual": config.width}
    per_position = sum(wanted[name.partition(".")[0]] for name in names)
    # A block at work holds its scores and a few streams besides what is kept.
    working = max(config.heads * length, config.mlp_width) + 4 * config.width
    size = max(1, most // (model.members * length * (per_position + working)))
    for part in tokens.split(size):
        with torch.no_grad():
            found = model(part.expand(model.members, -1, -1), capture=names).captured
        if position is not None:
            found = {name: value[:, :, position] for name, value in found.items()}
        for value in found.values():
            _refuse_diverged(value)
        yield found


def residuals(
    model: Transformer, tokens: Tokens, answer: int
) -> Float[Tensor, "member residual batch width"]:
    """The residual streams at one position: after the embedding and after each block.

    Raises:
        InputError: a member whose activations are not finite.
    """
    names = [f"residual.{i}" for i in range(model.config.blocks + 1)]
    pieces = captured(model, tokens, names, position=answer)
    return torch.cat([torch.stack([piece[name] for name in names], 1) for piece in pieces], 2)


def mlp_activations(
    model: Transformer, tokens: Tokens, block: int = 0
) -> Float[Tensor, "member batch position hidden"]:
    """A block's hidden MLP activations on single inputs (all are kept: give few).

    Raises:
        InputError: a block that does not exist, or a member whose activations are not finite.
    """
    return torch.cat([piece[f"mlp.{block}"] for piece in captured(model, tokens, [_mlp(model, block)])], 1)


def mean_mlp_activations(
    model: Transformer, tokens: Tokens, block: int = 0
) -> Float[Tensor, "member position hidden"]:
    """The same averaged over the texts.

    Raises:
        InputError: a block that does not exist, or a member whose activations are not finite.
    """
    name = _mlp(model, block)
    total = torch.zeros((), dtype=torch.float64)
    for piece in captured(model, tokens, [name]):
        total = total + piece[name].sum(1, dtype=torch.float64)
    return (total / len(tokens)).float()


def mlp_distance(
    before: Transformer, after: Transformer, tokens: Tokens, block: int = 0
) -> Float[Tensor, "member position"]:
    """How far a block's MLP activations moved, by position: |after - before| / |before|.

    Norms are over channels and texts together. ``before`` has as many members as ``after``, or one.

    Raises:
        InputError: a block that does not exist, or a member whose activations are not finite.
    """
    moved, size = torch.zeros(2, 1, dtype=torch.float64, device=tokens.device)
    for part in tokens.split(256):
        first, second = (mlp_activations(model, part, block).double() for model in (before, after))
        moved, size = moved + (second - first).square().sum((1, 3)), size + first.square().sum((1, 3))
    return (moved / size).sqrt().float()


def _mlp(model: Transformer, block: int) -> str:
    if not 0 <= block < model.config.blocks:
        raise InputError("block", block, f"0 to {model.config.blocks - 1}")
    return f"mlp.{block}"


def _refuse_diverged(value: Float[Tensor, "member batch *rest"]) -> None:
    finite = value.isfinite().flatten(1).all(1)
    if not finite.all():
        diverged = (~finite).nonzero().flatten().tolist()
        raise InputError("member", diverged, "members whose activations are finite", "these diverged")
