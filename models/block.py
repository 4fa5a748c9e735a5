"""One block of the Transformer: attention and an MLP, for all members of a fleet at once."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from veneer.models.config import TransformerConfig


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
