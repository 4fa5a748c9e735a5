"""The one Transformer: compiled (Tracr) models and GPTs are two configurations of it.

Every parameter has a leading member axis: a module holds a *fleet* of models of one shape that
run in the same batched matrix products, and a single model is a fleet of one. Weights act from
the right, ``y = x @ weight + bias``, as in Haiku and GPT-2. Compiled models follow Tracr's
``tracr.transformer`` (no norm, ReLU, free key size); GPTs follow minGPT / GPT-2 (pre-LN, GELU).
"""

import copy
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from veneer.models.copies import with_parameters
from veneer.models.display import table
from veneer.tasks.errors import InputError


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of one member.

    Attributes:
        vocabulary: number of token ids.
        classes: number of output classes (1 for a numerical output).
        positions: longest sequence, special tokens included.
        width: size of the residual stream.
        blocks: number of blocks (one attention layer and one two-layer MLP each).
        heads: attention heads per block.
        key_size: size of one head's queries, keys and values.
        mlp_width: hidden size of the MLP.
        causal: whether a position sees only itself and earlier ones.
        normalization: "none" (Tracr) or "pre" (LayerNorm before each layer and at the end).
        activation: "relu" (Tracr) or "gelu" (the tanh form of GPT-2 and minGPT).
        unembedding: "fixed" (Tracr's projection on the output directions, which its model does not
            hold as a parameter) or "trained".
    """

    vocabulary: int
    classes: int
    positions: int
    width: int
    blocks: int
    heads: int
    key_size: int
    mlp_width: int
    causal: bool = False
    normalization: Literal["none", "pre"] = "none"
    activation: Literal["relu", "gelu"] = "relu"
    unembedding: Literal["fixed", "trained"] = "fixed"

    @staticmethod
    def gpt(vocabulary: int, positions: int, width: int, blocks: int, heads: int) -> "TransformerConfig":
        """A GPT of minGPT's proportions: key size width / heads, MLP four times the width."""
        return TransformerConfig(
            vocabulary=vocabulary,
            classes=vocabulary,
            positions=positions,
            width=width,
            blocks=blocks,
            heads=heads,
            key_size=width // heads,
            mlp_width=4 * width,
            causal=True,
            normalization="pre",
            activation="gelu",
            unembedding="trained",
        )


@dataclass(frozen=True)
class Output:
    """What a forward pass gives.

    Attributes:
        logits: for every position, or for the answer position alone where one was given.
        captured: the activations asked for, by name (see ``Transformer.forward``).
    """

    logits: Float[Tensor, "member batch *position classes"]
    captured: dict[str, Tensor] = field(default_factory=dict)


class Linear(nn.Module):
    """Affine map of each member: [member, row, inputs] to [member, row, outputs]."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(members, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(members, outputs))

    def forward(self, x: Float[Tensor, "member row inputs"]) -> Float[Tensor, "member row outputs"]:
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight)


class LayerNorm(nn.Module):
    """LayerNorm over the width with each member's own scale and offset."""

    def __init__(self, members: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, width))
        self.bias = nn.Parameter(torch.zeros(members, width))

    def forward(self, x: Float[Tensor, "member row width"]) -> Float[Tensor, "member row width"]:
        if x.shape[0] == 1:
            return F.layer_norm(x, x.shape[-1:], self.weight[0], self.bias[0])
        normalized = F.layer_norm(x, x.shape[-1:])
        return torch.addcmul(self.bias.unsqueeze(1), normalized, self.weight.unsqueeze(1))


def read(
    norm: nn.Module,
    x: Float[Tensor, "member row width"],
    weight: Float[Tensor, "member width outputs"],
    bias: Float[Tensor, "member 1 outputs"] | None = None,
) -> Float[Tensor, "member row outputs"]:
    """``norm(x) @ weight + bias``.

    A fleet's LayerNorms scale and shift each member by its own numbers, which takes a pass over all
    rows; so these move over to the weights, which are few.
    """
    if isinstance(norm, LayerNorm) and len(x) > 1:
        offset = norm.bias.unsqueeze(1) @ weight
        bias = offset if bias is None else bias + offset
        weight = norm.weight.unsqueeze(-1) * weight
        x = F.layer_norm(x, x.shape[-1:])
    else:
        x = norm(x)
    return x @ weight if bias is None else torch.baddbmm(bias, x, weight)


class Block(nn.Module):
    """One attention layer and one two-layer MLP, each added to the residual stream."""

    def __init__(self, config: TransformerConfig, members: int) -> None:
        super().__init__()
        inner = config.heads * config.key_size
        self.query = Linear(members, config.width, inner)
        self.key = Linear(members, config.width, inner)
        self.value = Linear(members, config.width, inner)
        self.output = Linear(members, inner, config.width)
        self.mlp_in = Linear(members, config.width, config.mlp_width)
        self.mlp_out = Linear(members, config.mlp_width, config.width)
        normed = config.normalization == "pre"
        self.norm_attention = LayerNorm(members, config.width) if normed else nn.Identity()
        self.norm_mlp = LayerNorm(members, config.width) if normed else nn.Identity()
        self.heads, self.key_size, self.causal = config.heads, config.key_size, config.causal
        self.relu = config.activation == "relu"

    def mlp(
        self, x: Float[Tensor, "member row width"]
    ) -> tuple[Float[Tensor, "member row width"], Float[Tensor, "member row hidden"]]:
        """The residual stream after the MLP, and the MLP's hidden activations."""
        hidden = read(self.norm_mlp, x, self.mlp_in.weight, self.mlp_in.bias.unsqueeze(1))
        hidden = F.relu(hidden) if self.relu else F.gelu(hidden, approximate="tanh")
        return x + self.mlp_out(hidden), hidden

    def projection(
        self,
    ) -> tuple[Float[Tensor, "member width three_inner"], Float[Tensor, "member 1 three_inner"]]:
        """Weight and bias of queries, keys and values side by side: one product instead of three."""
        layers = (self.query, self.key, self.value)
        weight = torch.cat([layer.weight for layer in layers], dim=-1)
        return weight, torch.cat([layer.bias for layer in layers], dim=-1).unsqueeze(1)

    def project(self, x: Float[Tensor, "member row width"]) -> Float[Tensor, "member row three_inner"]:
        """Queries, keys and values of every row, side by side."""
        weight, bias = self.projection()
        return read(self.norm_attention, x, weight, bias)

    def mix(
        self, projected: Float[Tensor, "member row three_inner"], batch: int, want_pattern: bool
    ) -> tuple[Float[Tensor, "member row inner"], Tensor | None]:
        """Attention proper: mixed values of every position, and the pattern if it is wanted.

        The pattern is [member, batch, head, query position, key position].
        """
        members, rows, _ = projected.shape
        shape = (members * batch, rows // batch, 3, self.heads, self.key_size)
        q, k, v = projected.view(shape).permute(2, 0, 3, 1, 4).unbind()
        if not want_pattern:
            mixed = _attention(q, k, v, causal=self.causal)
            return mixed.transpose(1, 2).reshape(members, rows, -1), None
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.key_size)
        if self.causal:
            hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(hidden, -torch.inf)
        pattern = scores.softmax(-1)
        mixed = (pattern @ v).transpose(1, 2).reshape(members, rows, -1)
        return mixed, pattern.view(members, batch, *pattern.shape[1:])

    def attend_from(
        self,
        x: Float[Tensor, "member row width"],
        batch: int,
        position: int,
        hidden: Bool[Tensor, "batch position"] | None = None,
    ) -> Float[Tensor, "member batch width"]:
        """The residual stream after attention at one position only, without making keys or values.

        Hidden positions get no attention.

        A key enters only as q . (W_K x + b_K) and a value only as a weighted mean, so W_K moves over
        to the query and W_V behind the mean; q . b_K is the same for all keys and leaves the
        softmax unchanged. Cost per row: two inner products with the residual stream.
        """
        members, width = x.shape[0], x.shape[-1]
        split = (members, -1, self.heads, self.key_size)
        residual = x.view(members, batch, -1, width)[:, :, position]
        seen = self.norm_attention(x).view(members, batch, -1, width)
        query = self.query(seen[:, :, position]).view(split)
        key_weight, value_weight = (w.view(split) for w in (self.key.weight, self.value.weight))
        if self.causal:
            seen = seen[:, :, : position + 1]
        pulled = torch.einsum("ebhk,edhk->ebhd", query, key_weight) / math.sqrt(self.key_size)
        scores = pulled @ seen.transpose(-1, -2)
        if hidden is not None:
            scores = scores.masked_fill(hidden[:, None, : scores.shape[-1]], -torch.inf)
        pattern = scores.softmax(-1)
        mean = pattern @ seen  # [member, batch, head, width]
        mixed = torch.einsum("ebhd,edhk->ebhk", mean, value_weight).flatten(2)
        return residual + self.output(mixed + self.value.bias.unsqueeze(1))


def _attention(
    query: Float[Tensor, "map head query size"],
    key: Float[Tensor, "map head key size"],
    value: Float[Tensor, "map head key size"],
    *,
    causal: bool,
) -> Float[Tensor, "map head query size"]:
    """Fused attention; on a CPU in float32, for its backward pass in bfloat16 takes 20 times as long."""
    if query.dtype != torch.bfloat16 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal)
    with torch.autocast("cpu", enabled=False):
        query, key, value = query.float(), key.float(), value.float()
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal).to(torch.bfloat16)


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
