"""The shape of a Transformer."""

from dataclasses import dataclass
from typing import Literal


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
