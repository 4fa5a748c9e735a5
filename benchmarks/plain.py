"""The plain alternative: one model, ``nn.Linear`` layers, all positions, a stock optimizer.

What a researcher would write without Veneer.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from veneer.models.config import TransformerConfig
from veneer.models.transformer import Transformer


class PlainBlock(nn.Module):
    """A block as in minGPT, with its own key size and optional norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        inner = config.heads * config.key_size
        self.query, self.key, self.value = (nn.Linear(config.width, inner) for _ in range(3))
        self.output = nn.Linear(inner, config.width)
        self.mlp_in = nn.Linear(config.width, config.mlp_width)
        self.mlp_out = nn.Linear(config.mlp_width, config.width)
        normed = config.normalization == "pre"
        self.norm_attention = nn.LayerNorm(config.width) if normed else nn.Identity()
        self.norm_mlp = nn.LayerNorm(config.width) if normed else nn.Identity()
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        """[batch, position, width] to the same."""
        c = self.config
        h = self.norm_attention(x)
        q, k, v = (
            layer(h).unflatten(-1, (c.heads, c.key_size)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(c.key_size)
        if c.causal:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(mask, -torch.inf)
        x = x + self.output((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        hidden = self.mlp_in(self.norm_mlp(x))
        hidden = F.relu(hidden) if c.activation == "relu" else F.gelu(hidden, approximate="tanh")
        return x + self.mlp_out(hidden)


class PlainTransformer(nn.Module):
    """One member of a fleet, copied into stock layers."""

    def __init__(self, fleet: Transformer, member: int = 0) -> None:
        super().__init__()
        c = fleet.config
        self.token_embedding = nn.Embedding(c.vocabulary, c.width)
        self.position_embedding = nn.Embedding(c.positions, c.width)
        self.blocks = nn.ModuleList(PlainBlock(c) for _ in range(c.blocks))
        self.norm_final = nn.LayerNorm(c.width) if c.normalization == "pre" else nn.Identity()
        self.unembedding = nn.Linear(c.width, c.classes, bias=False)
        self.unembedding.weight.requires_grad_(c.unembedding == "trained")
        state = {}
        for name, value in fleet.state_dict().items():
            own = value[member]
            if name.endswith("embedding"):
                name, own = f"{name}.weight", own.T if name == "unembedding" else own
            elif name.endswith(".weight") and own.ndim == 2:
                own = own.T
            state[name] = own
        self.load_state_dict(state)

    def forward(self, tokens: Tensor) -> Tensor:
        """[batch, position] to logits [batch, position, class]."""
        x = self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[-1]]
        for block in self.blocks:
            x = block(x)
        return self.unembedding(self.norm_final(x))


class GPTBlock(nn.Module):
    """A causal block as one writes it for speed: one projection for q, k and v, and fused attention."""

    def __init__(self, block: PlainBlock) -> None:
        super().__init__()
        layers = (block.query, block.key, block.value)
        self.qkv = nn.Linear(block.query.in_features, 3 * block.query.out_features)
        with torch.no_grad():
            self.qkv.weight.copy_(torch.cat([layer.weight for layer in layers]))
            self.qkv.bias.copy_(torch.cat([layer.bias for layer in layers]))
        self.output, self.mlp_in, self.mlp_out = block.output, block.mlp_in, block.mlp_out
        self.norm_attention, self.norm_mlp, self.heads = (
            block.norm_attention,
            block.norm_mlp,
            block.config.heads,
        )

    def forward(self, x: Tensor) -> Tensor:
        """[batch, position, width] to the same."""
        qkv = self.qkv(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(x)), approximate="tanh"))


class MinGPTBlock(GPTBlock):
    """The block as minGPT has it (its ``mingpt/model.py``), without dropout."""

    def forward(self, x: Tensor) -> Tensor:
        """[batch, position, width] to the same."""
        qkv = self.qkv(self.norm_attention(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind()
        scores = q @ k.transpose(-1, -2) / math.sqrt(k.shape[-1])
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
        mixed = scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v
        x = x + self.output(mixed.transpose(1, 2).flatten(2))
        h = self.mlp_in(self.norm_mlp(x))
        inner = math.sqrt(2 / math.pi) * (h + 0.044715 * torch.pow(h, 3.0))
        return x + self.mlp_out(0.5 * h * (1 + torch.tanh(inner)))


class PlainGPT(PlainTransformer):
    """The same for GPTs, with one of their blocks."""

    def __init__(self, fleet: Transformer, block: type[GPTBlock], member: int = 0) -> None:
        super().__init__(fleet, member)
        blocks = [plain for plain in self.blocks if isinstance(plain, PlainBlock)]
        self.blocks = nn.ModuleList(block(plain) for plain in blocks)
