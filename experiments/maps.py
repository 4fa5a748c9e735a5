"""Where models look, as a run keeps it beside their weights: attention averaged over a few texts."""

import torch
from torch import Tensor

from veneer.analysis.attention import attention_maps
from veneer.finetune.fleet import evaluation_batch
from veneer.finetune.processor import is_small
from veneer.models.transformer import Transformer
from veneer.tasks.encoding import Encoding, Task
from veneer.tasks.errors import InputError

MAP_TEXTS = 64  # texts over which attention is averaged
WHOLE_MAPS = 128  # positions up to which whole attention maps are kept
TOGETHER = 8  # small models that are looked into at once


def stored_maps(task: Task, encoding: Encoding, model: Transformer) -> list[dict[str, Tensor]]:
    """What is kept of where each member looks (see ``veneer.analysis.attention.attention_maps``).

    Of texts longer than WHOLE_MAPS positions, ``example`` and ``mean`` keep the answer position's row
    alone: [block, head, 1, key]. A model whose activations are not finite has maps of NaN.
    """
    together = TOGETHER if is_small(model.parameter_count) else 1
    found: list[dict[str, Tensor]] = []
    for start in range(0, model.members, together):
        own = range(start, min(start + together, model.members))
        found += _maps(task, encoding, model.select(list(own)))
    return found


def _maps(task: Task, encoding: Encoding, model: Transformer) -> list[dict[str, Tensor]]:
    try:
        found = attention_maps(model, task, encoding, MAP_TEXTS)
    except InputError:
        if model.members == 1:
            return [_no_maps(task, encoding, model)]
        return [maps for i in range(model.members) for maps in _maps(task, encoding, model.member(i))]
    for maps in found:
        if maps["example"].shape[-1] > WHOLE_MAPS:
            answer = encoding.answer % maps["example"].shape[-1]
            for name in ("example", "mean"):
                maps[name] = maps[name][:, :, answer : answer + 1]
            maps["mlp"] = maps["mlp"][answer : answer + 1]
    return found


def _no_maps(task: Task, encoding: Encoding, model: Transformer) -> dict[str, Tensor]:
    tokens = evaluation_batch(task, encoding, "natural", 1, model.token_embedding.device).tokens[0, 0].cpu()
    heads, size = (model.config.blocks, model.config.heads), len(tokens)
    rows = size if size <= WHOLE_MAPS else 1
    return {
        "example": torch.full((*heads, rows, size), torch.nan),
        "example_tokens": tokens,
        "mean": torch.full((*heads, rows, size), torch.nan),
        "by_token": torch.full((*heads, model.config.vocabulary), torch.nan),
    }
