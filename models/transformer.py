"""The one Transformer: compiled (Tracr) models and GPTs are two configurations of it.

Every parameter has a leading member axis: a module holds a *fleet* of models of one shape that
run in the same batched matrix products, and a single model is a fleet of one. Weights act from
the right, ``y = x @ weight + bias``, as in Haiku and GPT-2. Compiled models follow Tracr's
``tracr.transformer`` (no norm, ReLU, free key size); GPTs follow minGPT / GPT-2 (pre-LN, GELU).
"""

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from veneer.models.block import Block, LayerNorm, read
from veneer.models.config import TransformerConfig
from veneer.models.copies import with_parameters
from veneer.models.display import table
from veneer.tasks.errors import InputError


@dataclass(frozen=True)
class Output:
    """What a forward pass gives.

    Attributes:
        logits: for every position, or for the answer position alone where one was given.
        captured: the activations asked for, by name (see ``Transformer.forward``).
    """

    logits: Float[Tensor, "member batch *position classes"]
    captured: dict[str, Tensor] = field(default_factory=dict)


def check_tokens(tokens: Tensor, members: int, positions: int) -> None:
    """Whether tokens have the shape that a fleet reads; their values are not looked at.

    Args:
        tokens: what is given.
        members: of the fleet.
        positions: longest text.

    Raises:
        InputError: another number of axes or members, a text that is too long or empty, or no integers.
    """
    shape = tuple(tokens.shape)
    valid = f"token ids [member, batch, position] with {members} members and at most {positions} positions"
    problem = ""
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        problem = f"they are {str(tokens.dtype).removeprefix('torch.')}, not whole numbers"
    elif len(shape) != 3:
        problem = f"they have {len(shape)} axes; tokens[None] adds the axis of members to a batch"
    elif shape[0] != members:
        problem = f"they are for {shape[0]} members"
    elif not 1 <= shape[2] <= positions:
        problem = f"they have {shape[2]} positions"
    if problem:
        raise InputError("tokens", list(shape), valid, problem)


class Transformer(nn.Module):
    """A fleet of Transformers of one shape. All parameters start at zero (norm scales at one)."""

    def __init__(self, config: TransformerConfig, members: int = 1) -> None:
        super().__init__()
        self.config, self.members = config, members
        self.token_embedding = nn.Parameter(torch.zeros(members, config.vocabulary, config.width))
        self.position_embedding = nn.Parameter(torch.zeros(members, config.positions, config.width))
        self.blocks = nn.ModuleList(Block(config, members) for _ in range(config.blocks))
        normed = config.normalization == "pre"
        self.norm_final = LayerNorm(members, config.width) if normed else nn.Identity()
        unembedding = torch.zeros(members, config.width, config.classes)
        self.unembedding = nn.Parameter(unembedding, requires_grad=config.unembedding == "trained")

    def forward(
        self,
        tokens: Int[Tensor, "member batch position"],
        answer: int | None = None,
        capture: Collection[str] = (),
    ) -> Output:
        """Logits, for all positions or at one.

        Args:
            tokens: token ids; every member has its own batch.
            answer: evaluate the output at this position only; the last block then does no work
                for the others. Same logits, up to rounding.
            capture: activations to return besides, out of ``residual.I`` ([member, batch,
                position, width]; I = 0 after the embedding, i after block i), ``attention.I``
                ([member, batch, head, query, key]) and ``mlp.I`` ([member, batch, position,
                hidden]) with I a block counted from 0. Costs nothing when empty.

        Raises:
            InputError: tokens of another shape, an answer position outside them, or a capture that
                this model does not have.
        """
        check_tokens(tokens, self.members, self.config.positions)
        _, batch, length = tokens.shape
        if answer is not None and not 0 <= answer < length:
            raise InputError("answer", answer, f"a position of the input, 0 to {length - 1}")
        if unknown := sorted(set(capture) - set(self.captures)):
            raise InputError(
                "capture", unknown[0], ", ".join(self.captures), "this model has no such activation"
            )
        captured: dict[str, Tensor] = {}

        def keep(name: str, value: Tensor) -> None:
            if name in capture:
                captured[name] = value.unflatten(1, (batch, -1)) if value.ndim == 3 else value

        one_hot = self._one_hot(tokens)
        positions = self.position_embedding[:, :length]
        x = (one_hot @ self.token_embedding).unflatten(1, (batch, length)) + positions.unsqueeze(1)
        x = x.flatten(1, 2)
        keep("residual.0", x)
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            if answer is not None and not capture and i == len(self.blocks) - 1:
                x = block.attend_from(x, batch, answer)
            else:
                distinct = i == 0 and self.config.normalization == "none"
                projected = (
                    self._project_embedding(one_hot, positions, batch) if distinct else block.project(x)
                )
                mixed, pattern = block.mix(projected, batch, f"attention.{i}" in capture)
                if pattern is not None:
                    captured[f"attention.{i}"] = pattern
                x = x + block.output(mixed)
            x, hidden = block.mlp(x)
            keep(f"mlp.{i}", hidden)
            keep(f"residual.{i + 1}", x)
        if answer is not None:
            x = x.unflatten(1, (batch, -1))
            x = x[:, :, 0 if x.shape[2] == 1 else answer]
            return Output(read(self.norm_final, x, self.unembedding), captured)
        return Output(read(self.norm_final, x, self.unembedding).unflatten(1, (batch, -1)), captured)

    @property
    def captures(self) -> tuple[str, ...]:
        """The names of all activations that ``forward`` can return."""
        blocks = range(self.config.blocks)
        return (
            *(f"residual.{i}" for i in range(self.config.blocks + 1)),
            *(f"attention.{i}" for i in blocks),
            *(f"mlp.{i}" for i in blocks),
        )

    def _one_hot(
        self, tokens: Int[Tensor, "member batch position"]
    ) -> Float[Tensor, "member row vocabulary"]:
        """Tokens as rows of 0 and 1, so that looking up is a batched product (and deterministic)."""
        rows = tokens.flatten(1).unsqueeze(-1)
        ids = torch.arange(self.config.vocabulary, device=tokens.device)
        return (rows == ids).to(self.token_embedding.dtype)

    def _project_embedding(
        self, one_hot: Tensor, positions: Float[Tensor, "member position width"], batch: int
    ) -> Float[Tensor, "member row three_inner"]:
        """Block 0's queries, keys and values where no norm stands before it.

        The input is (token row + position row), so it is enough to project the vocabulary and the
        positions and to add: vocabulary + position rows instead of batch * position.
        """
        block = self.blocks[0]
        assert isinstance(block, Block)
        weight, bias = block.projection()
        by_token = one_hot @ (self.token_embedding @ weight)
        by_position = torch.baddbmm(bias, positions, weight)
        both = by_token.unflatten(1, (batch, -1)) + by_position.unsqueeze(1)
        return both.flatten(1, 2)

    def member(self, index: int) -> "Transformer":
        """One member as a fleet of one, its parameters copied."""
        return self.select([index])

    def select(self, indices: list[int]) -> "Transformer":
        """A new fleet of copies of the members named (an index may repeat)."""
        rows = torch.tensor(indices, device=self.token_embedding.device)
        parts = {name: own.detach().index_select(0, rows) for name, own in self.named_parameters()}
        return fleet_of(self.config, parts)

    def views(self) -> "list[Transformer]":
        """Each member as a fleet of one that shares its parameters' memory, whatever a method added."""
        alone: list[Transformer] = [copy.deepcopy(self) for _ in range(self.members)]
        for i, own in enumerate(alone):
            own.members = 1
            for mine, whole in zip(own.parameters(), self.parameters(), strict=True):
                mine.data = whole.data[i : i + 1]
                mine.requires_grad_(whole.requires_grad)
        return alone

    @staticmethod
    def gather(models: "list[Transformer]") -> "Transformer":
        """One fleet of all members of several fleets of equal configuration, in order."""
        configs = {model.config for model in models}
        if len(configs) != 1:
            raise ValueError(f"a fleet holds models of one shape, got {sorted(map(str, configs))}")
        like = models[0].token_embedding
        parts = [dict(model.named_parameters()) for model in models]
        joined = {name: torch.cat([own[name].detach().to(like) for own in parts]) for name in parts[0]}
        return fleet_of(models[0].config, joined)

    @property
    def parameter_count(self) -> int:
        """Number of trained parameters of one member."""
        return sum(p[0].numel() for p in self.parameters() if p.requires_grad)

    def __repr__(self) -> str:
        c = self.config
        kind = "causal" if c.causal else "bidirectional"
        return (
            f"Transformer({self.members} members of {self.parameter_count:,} parameters: {c.blocks} blocks, "
            f"width {c.width}, {c.heads} heads of {c.key_size}, MLP {c.mlp_width}, {kind}, "
            f"norm {c.normalization}, {c.activation}, {c.positions} positions)"
        )

    def _repr_html_(self) -> str:
        rows = [(name.replace("_", " "), value) for name, value in vars(self.config).items()]
        members = "1 model" if self.members == 1 else f"{self.members} models of one shape"
        title = f"Transformer: {members}, {self.parameter_count:,} parameters each"
        return table(title.removesuffix(" each") if self.members == 1 else title, rows)


@cache
def _shape(config: TransformerConfig, members: int) -> Transformer:
    with torch.device("meta"):
        return Transformer(config, members)


def fleet_of(config: TransformerConfig, values: Mapping[str, Tensor]) -> Transformer:
    """A fleet with these parameters, by name, whose memory it shares; their first axis is the member."""
    return with_parameters(_shape(config, len(values["token_embedding"])), values)
