"""Fresh weights, as a pure function of a seed: for pretraining and for models trained from scratch."""

import math

import torch

from veneer.models.config import TransformerConfig
from veneer.models.transformer import Transformer
from veneer.tasks import random

STD = 0.02  # GPT-2's


def initialize(config: TransformerConfig, seeds: list[int]) -> Transformer:
    """A fleet of new models, one per seed, initialized as minGPT does.

    Matrices and embeddings are N(0, 0.02), those that write to the residual stream
    N(0, 0.02 / sqrt(2 blocks)); biases are zero, norms the identity. A member's weights depend on
    its seed alone.
    """
    model = Transformer(config, len(seeds))
    residual = STD / math.sqrt(2 * config.blocks)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".bias") or "norm" in name:
                continue
            keys = torch.tensor([random.stream_key(f"initial weights/{name}", s, "weights") for s in seeds])
            std = residual if name.endswith(("output.weight", "mlp_out.weight")) else STD
            parameter.copy_(std * random.normal(keys, *parameter.shape[1:]))
    return model
