"""Loss and gradient of written models, worked out by hand: what autograd does, in a third of the operations.

A written model's products are so small that most of an update's time is what PyTorch does around them. So
its one kind of block (Tracr's: no norm, ReLU, every position sees all) is differentiated here once and for
all. Activations stand with their features first and all rows of a batch last, [member, feature, row]:
widths such as 41 fill no vector register, rows do. The last block is worked out at the answer alone, as
``Block.attend_from`` does. Gradients are the same as autograd's but for rounding; a member's numbers do not
depend on the fleet around it.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from veneer.models.block import Block, Linear
from veneer.models.transformer import Transformer

Columns = Float[Tensor, "member _feature _row"]
"""Activations, features first; a row is a position of a text, or a text."""
Gradients = dict[str, Tensor]


def can_work_out(model: Transformer) -> bool:
    """Whether a model is of the kind differentiated here, with all of it trained but the unembedding."""
    config = model.config
    written = config.normalization == "none" and config.activation == "relu" and not config.causal
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    return written and trained == {name for name, _ in model.named_parameters()} - {"unembedding"}


@torch.no_grad()
def cross_entropy_gradient(
    model: Transformer,
    tokens: Int[Tensor, "member text position"],
    labels: Int[Tensor, "member text"],
    answer: int,
) -> tuple[Float[Tensor, "member"], Float[Tensor, "member parameter"]]:
    """Each member's mean cross-entropy at the answer, and its gradient in the order of trained parameters.

    Args:
        model: a fleet for which ``can_work_out`` holds.
        tokens: token ids, each member's own.
        labels: the right classes.
        answer: position at which answers are read.
    """
    texts = tokens.shape[1]
    found: Gradients = {}
    blocks = [block for block in model.blocks if isinstance(block, Block)]
    embedding = _Embedding.of(model, tokens)
    x = embedding.residual()
    layers = []
    for i, block in enumerate(blocks[:-1]):
        projected = embedding.projected(block) if i == 0 else _projected(block, x)
        attention, x = _Attention.forward(block, x, projected, texts)
        mlp, x = _MLP.forward(block, x)
        layers.append((attention, mlp))
    reading, at_answer = _Reading.forward(blocks[-1], x, texts, answer)
    last, at_answer = _MLP.forward(blocks[-1], at_answer)
    loss, gradient = _loss(model.unembedding, at_answer, labels)
    name = f"blocks.{len(blocks) - 1}"
    gradient = reading.backward(name, last.backward(name, gradient, found), found)
    for i in range(len(layers) - 1, -1, -1):
        attention, mlp = layers[i]
        gradient = mlp.backward(f"blocks.{i}", gradient, found)
        projected = attention.backward(f"blocks.{i}", gradient, found)
        if i == 0:
            embedding.backward_projected(blocks[0], projected, found)
        else:
            gradient = _backward_projected(f"blocks.{i}", blocks[i], attention.x, projected, gradient, found)
    embedding.backward(gradient, found)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return loss, torch.cat([found[name].flatten(1) for name in trained], 1)


def _affine(layer: Linear, x: Columns) -> Columns:
    return torch.baddbmm(layer.bias.unsqueeze(2), layer.weight.mT, x)


def _onto(x: Columns, layer: Linear, inner: Columns) -> Columns:
    """The residual stream with what a layer makes of its inner activations added."""
    return (x + layer.bias.unsqueeze(2)).baddbmm_(layer.weight.mT, inner)


def _softmax_gradient(
    gradient: Float[Tensor, "map _query key"], pattern: Float[Tensor, "map _query key"]
) -> Float[Tensor, "map _query key"]:
    """The gradient of scores, of that of their softmax, which is used up."""
    gradient.mul_(pattern)
    return gradient.addcmul_(pattern, gradient.sum(-1, keepdim=True), value=-1)


def _backward_affine(name: str, x: Columns, gradient: Columns, found: Gradients) -> None:
    """A layer's gradients, of its input and of its output's gradient."""
    found[f"{name}.weight"] = torch.bmm(x, gradient.mT)
    found[f"{name}.bias"] = gradient.sum(2)


def _loss(
    unembedding: Float[Tensor, "member width classes"], x: Columns, labels: Int[Tensor, "member text"]
) -> tuple[Float[Tensor, "member"], Columns]:
    """Mean cross-entropy, and its gradient after the last block."""
    logarithm = torch.bmm(unembedding.mT, x).log_softmax(1)
    right = labels.unsqueeze(1)
    loss = -logarithm.gather(1, right).squeeze(1).mean(1)
    error = logarithm.exp_().scatter_add_(1, right, logarithm.new_full((), -1.0).expand(right.shape))
    return loss, torch.bmm(unembedding, error).div_(labels.shape[1])


@dataclass(frozen=True)
class _MLP:
    """An MLP, what it read and its hidden activations."""

    block: Block
    x: Columns
    hidden: Columns

    @staticmethod
    def forward(block: Block, x: Columns) -> "tuple[_MLP, Columns]":
        """It, and the residual stream after it."""
        hidden = _affine(block.mlp_in, x).relu_()
        return _MLP(block, x, hidden), _onto(x, block.mlp_out, hidden)

    def backward(self, name: str, gradient: Columns, found: Gradients) -> Columns:
        """The gradient before it, of that after it, which is used up."""
        _backward_affine(f"{name}.mlp_out", self.hidden, gradient, found)
        hidden = torch.bmm(self.block.mlp_out.weight, gradient)
        hidden = torch.ops.aten.threshold_backward(hidden, self.hidden, 0)
        _backward_affine(f"{name}.mlp_in", self.x, hidden, found)
        return gradient.baddbmm_(self.block.mlp_in.weight, hidden)


@dataclass(frozen=True)
class _Embedding:
    """Tokens and positions; the first block's queries, keys and values are made of these few rows alone."""

    tokens: Float[Tensor, "member vocabulary width"]
    positions: Float[Tensor, "member position width"]
    one_hot: Float[Tensor, "member vocabulary row"]
    whole: int

    @staticmethod
    def of(model: Transformer, tokens: Int[Tensor, "member text position"]) -> "_Embedding":
        """For a batch."""
        ids = torch.arange(model.config.vocabulary, device=tokens.device).unsqueeze(1)
        one_hot = (tokens.flatten(1).unsqueeze(1) == ids).to(model.token_embedding.dtype)
        positions = model.position_embedding[:, : tokens.shape[2]]
        return _Embedding(model.token_embedding, positions, one_hot, model.config.positions)

    def _spread(
        self,
        by_token: Float[Tensor, "member vocabulary feature"],
        by_position: Float[Tensor, "member position feature"],
    ) -> Columns:
        """What every row has from its token and from its position."""
        length = by_position.shape[1]
        rows = torch.bmm(by_token.mT, self.one_hot).unflatten(2, (-1, length))
        return rows.add_(by_position.mT.unsqueeze(2)).flatten(2)

    def _collect(
        self, gradient: Columns
    ) -> tuple[Float[Tensor, "member vocabulary feature"], Float[Tensor, "member position feature"]]:
        """The gradients of ``_spread``'s arguments."""
        by_position = gradient.unflatten(2, (-1, self.positions.shape[1])).sum(2).mT
        return torch.bmm(self.one_hot, gradient.mT), by_position

    def residual(self) -> Columns:
        """The residual stream before the first block."""
        return self._spread(self.tokens, self.positions)

    def projected(self, block: Block) -> Columns:
        """The first block's queries, keys and values."""
        weight, bias = block.projection()
        return self._spread(torch.bmm(self.tokens, weight), torch.baddbmm(bias, self.positions, weight))

    def backward_projected(self, block: Block, gradient: Columns, found: Gradients) -> None:
        """The gradients of the first block's projections, and their part of the embedding's."""
        by_token, by_position = self._collect(gradient)
        weight, _ = block.projection()
        change = torch.bmm(self.tokens.mT, by_token) + torch.bmm(self.positions.mT, by_position)
        _split("blocks.0", change, by_position.sum(1), found)
        found["token_embedding"] = torch.bmm(by_token, weight.mT)
        found["position_embedding"] = torch.bmm(by_position, weight.mT)

    def backward(self, gradient: Columns, found: Gradients) -> None:
        """The embedding's gradients."""
        by_token, by_position = self._collect(gradient)
        for name, own in (("token_embedding", by_token), ("position_embedding", by_position)):
            found[name] = found[name] + own if name in found else own
        missing = self.whole - self.positions.shape[1]
        if missing:
            padded = torch.nn.functional.pad(found["position_embedding"], (0, 0, 0, missing))
            found["position_embedding"] = padded


def _projected(block: Block, x: Columns) -> Columns:
    """Queries, keys and values, one below the other."""
    weight, bias = block.projection()
    return torch.baddbmm(bias.mT, weight.mT, x)


def _backward_projected(
    name: str, block: Block, x: Columns, projected: Columns, gradient: Columns, found: Gradients
) -> Columns:
    """The gradient of the residual stream, of those of the projections and of the later stream (used up)."""
    weight, _ = block.projection()
    _split(name, torch.bmm(x, projected.mT), projected.sum(2), found)
    return gradient.baddbmm_(weight, projected)


def _split(
    name: str,
    weight: Float[Tensor, "member width three_inner"],
    bias: Float[Tensor, "member three_inner"],
    found: Gradients,
) -> None:
    for part, w, b in zip(("query", "key", "value"), weight.chunk(3, -1), bias.chunk(3, -1), strict=True):
        found[f"{name}.{part}.weight"], found[f"{name}.{part}.bias"] = w, b


@dataclass(frozen=True)
class _Attention:
    """Attention at all positions: what it read, and what the backward pass needs of it.

    Queries, keys and values have an entry for each text and head, texts of all members in order.
    """

    block: Block
    x: Columns
    query: Float[Tensor, "map key_size position"]
    key: Float[Tensor, "map key_size position"]
    value: Float[Tensor, "map key_size position"]
    pattern: Float[Tensor, "map position position"]
    mixed: Columns

    @staticmethod
    def forward(block: Block, x: Columns, projected: Columns, texts: int) -> "tuple[_Attention, Columns]":
        """It, and the residual stream after it."""
        members, heads = len(x), block.heads
        rows = projected.view(members, 3, heads, block.key_size, texts, -1)
        query, key, value = rows.permute(1, 0, 4, 2, 3, 5).flatten(1, 3).unbind()
        scores = torch.bmm(query.mT, key).mul_(1 / math.sqrt(block.key_size))
        pattern = scores.softmax(-1)
        mixed = torch.bmm(value, pattern.mT).view(members, texts, heads, block.key_size, -1)
        mixed = mixed.permute(0, 2, 3, 1, 4).reshape(members, -1, x.shape[2])
        return _Attention(block, x, query, key, value, pattern, mixed), _onto(x, block.output, mixed)

    def backward(self, name: str, gradient: Columns, found: Gradients) -> Columns:
        """The gradient of queries, keys and values, one below the other, of the stream's after it."""
        _backward_affine(f"{name}.output", self.mixed, gradient, found)
        members, inner, rows = self.mixed.shape
        heads, length = self.block.heads, self.pattern.shape[-1]
        mixed = torch.bmm(self.block.output.weight, gradient).view(members, heads, -1, rows // length, length)
        mixed = mixed.permute(0, 3, 1, 2, 4).reshape(self.value.shape)
        shares = torch.bmm(mixed.mT, self.value)
        scores = _softmax_gradient(shares, self.pattern).mul_(1 / math.sqrt(self.block.key_size))
        three = torch.stack(
            (torch.bmm(self.key, scores.mT), torch.bmm(self.query, scores), torch.bmm(mixed, self.pattern))
        )
        three = three.view(3, members, rows // length, heads, -1, length)
        return three.permute(1, 0, 3, 4, 2, 5).reshape(members, 3 * inner, rows)


@dataclass(frozen=True)
class _Reading:
    """The last block's attention at the answer, without keys or values (see ``Block.attend_from``).

    ``seen`` is the residual stream by text, [text, width, position]; ``pulled`` and ``mean`` are [text, head,
    width], ``pattern`` [text, head, position], texts of all members in order.
    """

    block: Block
    at_answer: Columns
    answer: int
    seen: Float[Tensor, "text width position"]
    query: Columns
    pulled: Float[Tensor, "text head width"]
    pattern: Float[Tensor, "text head position"]
    mean: Float[Tensor, "text head width"]
    mixed: Columns

    @staticmethod
    def forward(block: Block, x: Columns, texts: int, answer: int) -> "tuple[_Reading, Columns]":
        """It, and the residual stream after it, at the answer."""
        members, heads, size = len(x), block.heads, block.key_size
        by_text = x.unflatten(2, (texts, -1))
        at_answer = by_text[..., answer].contiguous()
        seen = by_text.transpose(1, 2).flatten(0, 1)
        query = _affine(block.query, at_answer)
        scale = 1 / math.sqrt(size)
        pulled = _by_text(_per_head(block.key.weight, heads, query.mul(scale), transposed=False), heads)
        pattern = torch.bmm(pulled, seen).softmax(-1)
        mean = torch.bmm(pattern, seen.mT)
        mixed = _per_head(block.value.weight, heads, _by_head(mean, members), transposed=True)
        mixed = mixed.add_(block.value.bias.unsqueeze(2))
        found = _Reading(block, at_answer, answer, seen, query, pulled, pattern, mean, mixed)
        return found, _onto(at_answer, block.output, mixed)

    def backward(self, name: str, gradient: Columns, found: Gradients) -> Columns:
        """The gradient of the stream at all positions, of that at the answer."""
        block, heads, (members, width, texts) = self.block, self.block.heads, gradient.shape
        scale = 1 / math.sqrt(block.key_size)
        _backward_affine(f"{name}.output", self.mixed, gradient, found)
        mixed = torch.bmm(block.output.weight, gradient)
        found[f"{name}.value.bias"] = mixed.sum(2)
        found[f"{name}.value.weight"] = _outer(_by_head(self.mean, members), mixed, heads)
        mean = _by_text(_per_head(block.value.weight, heads, mixed, transposed=False), heads)
        scores = _softmax_gradient(torch.bmm(mean, self.seen), self.pattern)
        pulled = _by_head(torch.bmm(scores, self.seen.mT), members)
        found[f"{name}.key.weight"] = _outer(pulled, self.query, heads).mul_(scale)
        found[f"{name}.key.bias"] = torch.zeros_like(block.key.bias)  # shifts all scores of a query alike
        query = _per_head(block.key.weight, heads, pulled, transposed=True).mul_(scale)
        _backward_affine(f"{name}.query", self.at_answer, query, found)
        seen = torch.bmm(torch.cat((mean, self.pulled), 1).mT, torch.cat((self.pattern, scores), 1))
        seen = seen.view(members, texts, width, -1)
        at_answer = gradient.baddbmm_(block.query.weight, query)
        seen[..., self.answer] += at_answer.transpose(1, 2)
        return seen.transpose(1, 2).flatten(2)


def _by_text(x: Columns, heads: int) -> Float[Tensor, "text head width"]:
    """[member, (head, width), text] as each text's own heads."""
    return x.unflatten(1, (heads, -1)).permute(0, 3, 1, 2).flatten(0, 1)


def _by_head(x: Float[Tensor, "text head width"], members: int) -> Columns:
    """The way back from ``_by_text``."""
    return x.unflatten(0, (members, -1)).permute(0, 2, 3, 1).flatten(1, 2)


def _per_head(
    weight: Float[Tensor, "member width inner"], heads: int, x: Columns, *, transposed: bool
) -> Columns:
    """Each head's part of a matrix, or its transpose, times the head's rows of ``x``."""
    own = weight.unflatten(2, (heads, -1)).transpose(1, 2).flatten(0, 1)
    parts = x.unflatten(1, (heads, -1)).flatten(0, 1)
    return torch.bmm(own.mT if transposed else own, parts).unflatten(0, (-1, heads)).flatten(1, 2)


def _outer(x: Columns, gradient: Columns, heads: int) -> Float[Tensor, "member width inner"]:
    """The gradient of a matrix that each head has a part of: its input times its output's gradient."""
    own, above = (value.unflatten(1, (heads, -1)).flatten(0, 1) for value in (x, gradient))
    return torch.bmm(own, above.mT).unflatten(0, (-1, heads)).transpose(1, 2).flatten(2)
