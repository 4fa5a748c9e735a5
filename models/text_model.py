"""One small interface through which analyses see any causal language model.

A text model gives logits, the activations asked for, and named parameters. Two adapters have it: ours around
the one Transformer (``OneTransformer``) and ``models/huggingface.py`` around the classes of the library
transformers. Names of activations are those of ``Transformer.forward``, without its member axis.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError


@dataclass(frozen=True)
class Seen:
    """What a forward pass of a text model gives.

    Attributes:
        logits: of every position.
        captured: the activations asked for: ``residual.I`` ([batch, position, width]; I = 0 after the
            embedding, I after block I - 1), ``attention.I`` ([batch, head, query, key]) and ``mlp.I``
            ([batch, position, hidden]: what the MLP's last matrix reads), I a block counted from 0.
    """

    logits: Float[Tensor, "batch position vocabulary"]
    captured: dict[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class TextModel(Protocol):
    """A causal language model as analyses see it.

    Sequences are filled up on the right: a position sees only earlier ones, so what stands behind it does
    not change it.
    """

    @property
    def module(self) -> nn.Module:
        """The module itself: to train it, to move it, to save it."""
        ...

    @property
    def blocks(self) -> int:
        """How many blocks it has."""
        ...

    @property
    def vocabulary(self) -> int:
        """How many token ids it knows."""
        ...

    def see(self, tokens: Int[Tensor, "batch position"], capture: Collection[str] = ()) -> Seen:
        """Logits of every position, and the activations named in ``capture``."""
        ...

    def activations(
        self, tokens: Int[Tensor, "batch position"], capture: Collection[str]
    ) -> dict[str, Tensor]:
        """The activations named in ``capture`` alone, as ``see`` gives them."""
        ...

    def logits_at(
        self,
        tokens: Int[Tensor, "batch position"],
        items: Int[Tensor, "row"],
        positions: Int[Tensor, "row"],
    ) -> Float[Tensor, "row vocabulary"]:
        """Logits of chosen places only: row r is item ``items[r]`` at position ``positions[r]``."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter by its name."""
        ...


class OneTransformer:
    """Our Transformer behind the interface: one causal member whose classes are its vocabulary.

    Raises:
        InputError: several members, a model that is not causal, or classes that are no tokens.
    """

    def __init__(self, model: Transformer) -> None:
        if model.members != 1:
            raise InputError("members", model.members, "1; model.member(i) takes one out")
        if not model.config.causal:
            raise InputError("causal", False, "a causal model: a text model sees earlier tokens only")
        if model.config.classes != model.config.vocabulary:
            valid = f"as many as tokens, {model.config.vocabulary}"
            raise InputError("classes", model.config.classes, valid)
        self.module = model

    @property
    def blocks(self) -> int:
        """How many blocks it has."""
        return self.module.config.blocks

    @property
    def vocabulary(self) -> int:
        """How many token ids it knows."""
        return self.module.config.vocabulary

    def see(self, tokens: Int[Tensor, "batch position"], capture: Collection[str] = ()) -> Seen:
        """Logits of every position, and the activations named in ``capture``.

        Raises:
            InputError: a name that is no activation of this model.
        """
        check_names(capture, self.blocks)
        output = self.module(tokens.unsqueeze(0), capture=capture)
        return Seen(output.logits[0], {name: value[0] for name, value in output.captured.items()})

    def activations(
        self, tokens: Int[Tensor, "batch position"], capture: Collection[str]
    ) -> dict[str, Tensor]:
        """The activations named in ``capture`` alone.

        Raises:
            InputError: as ``see``.
        """
        return self.see(tokens, capture).captured

    def logits_at(
        self,
        tokens: Int[Tensor, "batch position"],
        items: Int[Tensor, "row"],
        positions: Int[Tensor, "row"],
    ) -> Float[Tensor, "row vocabulary"]:
        """Logits of chosen places only."""
        return self.see(tokens).logits[items, positions]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter by its name, with its member axis of one."""
        return self.module.named_parameters()


def activation_names(blocks: int) -> tuple[str, ...]:
    """All activations that a model of so many blocks can be asked for."""
    residual = tuple(f"residual.{i}" for i in range(blocks + 1))
    return (*residual, *(f"{kind}.{i}" for kind in ("attention", "mlp") for i in range(blocks)))


def check_names(capture: Collection[str], blocks: int) -> None:
    """Refuse names of activations that there are not.

    Raises:
        InputError: naming the first of them.
    """
    known = activation_names(blocks)
    for name in capture:
        if name not in known:
            valid = f"residual.0 to residual.{blocks}, attention.I and mlp.I with I up to {blocks - 1}"
            raise InputError("capture", name, valid)


@torch.no_grad()
def largest_difference(one: TextModel, other: TextModel, tokens: Int[Tensor, "batch position"]) -> float:
    """How far the logits of two models lie apart at most, on the same tokens."""
    return float((one.see(tokens).logits - other.see(tokens).logits).abs().max())
