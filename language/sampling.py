"""Texts that a model writes by chance: many prompts at once, each a function of its seed and place alone.

Keys and values of earlier tokens are kept in transformers' own kind of cache, in room that is taken once
(growing it token by token took 29 % of the time of a model of 1 M parameters), and texts that have ended
leave the batch. Each prompt has random numbers of its own, so that how many are written together does not
matter.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from veneer.language.encoding import token_ids
from veneer.models.huggingface import HuggingFaceModel
from veneer.tasks import random
from veneer.tasks.errors import InputError

BATCH = 128
"""Texts that are written at once."""
CROWDED = 0.25
"""Share of a batch that has ended before those texts leave it."""


@torch.no_grad()
def sample(
    model: HuggingFaceModel,
    tokenizer: Any,
    prompts: Sequence[str],
    most: int,
    seed: int,
    temperature: float = 1.0,
    batch: int = BATCH,
) -> list[str]:
    """What a model writes behind each prompt, every token drawn from all that it gives odds to.

    Jain et al. 2024 sample their stories so: temperature 1, no cut of the unlikely.

    Args:
        model: in evaluation mode.
        tokenizer: the model's; it has a token that ends.
        prompts: texts, without blanks at their end.
        most: new tokens at most.
        seed: of the draws.
        temperature: by which logits are divided; 0 takes the likeliest token each time.
        batch: texts at once.

    Raises:
        InputError: a negative temperature, no room for a token, or a batch below 1.
    """
    if temperature < 0:
        raise InputError("temperature", temperature, "0 or more")
    if most < 1 or batch < 1:
        raise InputError("most, batch", (most, batch), "1 or more each")
    rows = [token_ids(tokenizer, prompt, prompt)[0] for prompt in prompts]
    key = random.stream_key("sample", seed, "texts")
    written: list[list[int]] = [[] for _ in rows]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))  # alike in length, little is filled up
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        keys = torch.tensor([random.step_key(key, i) for i in chosen])
        chances = random.uniform(keys, most) if temperature else None
        told = _write([rows[i] for i in chosen], model, most, chances, temperature, tokenizer.eos_token_id)
        for i, own in zip(chosen, told, strict=True):
            written[i] = own
    return tokenizer.batch_decode(written)


def _write(
    rows: list[list[int]],
    model: HuggingFaceModel,
    most: int,
    chances: Float[Tensor, "row token"] | None,
    temperature: float,
    end: int | None,
) -> list[list[int]]:
    """The new tokens of each row, its end token left out."""
    device = next(p for _, p in model.named_parameters()).device
    longest = max(map(len, rows))
    tokens = torch.tensor([[0] * (longest - len(row)) + row for row in rows], device=device)
    seen = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    left = torch.arange(len(rows), device=device)  # which row of the batch is which
    position = (seen.cumsum(1) - 1).clamp_min(0)
    chances = None if chances is None else chances.to(device)
    layers = [_layer(most) for _ in range(model.blocks)]
    cache = _cache(layers)
    done: list[list[int]] = [[] for _ in rows]
    for place in range(most):
        logits = model.module(
            input_ids=tokens,
            attention_mask=seen,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        drawn = _draw(logits, None if chances is None else chances[left, place], temperature)
        goes_on = torch.ones_like(left, dtype=torch.bool) if end is None else drawn != end
        goes_on &= tokens[:, -1] != end if place else True
        tokens = torch.where(goes_on, drawn, drawn if end is None else end)[:, None]
        for row, token, going in zip(left.tolist(), drawn.tolist(), goes_on.tolist(), strict=True):
            if going:
                done[row].append(token)
        if not goes_on.any():
            break
        seen = torch.cat([seen, seen.new_ones(len(seen), 1)], 1)
        position = position[:, -1:] + 1
        if float(goes_on.float().mean()) < 1 - CROWDED:
            kept = goes_on.nonzero()[:, 0]
            tokens, seen, position, left = tokens[kept], seen[kept], position[kept], left[kept]
            for layer in layers:
                layer.keep(kept)
    return done


def _draw(
    logits: Float[Tensor, "row token"], chance: Float[Tensor, "row"] | None, temperature: float
) -> Int[Tensor, "row"]:
    """A token of each row: the likeliest, or the one at which the summed odds pass its random number."""
    if chance is None:
        return logits.argmax(-1)
    summed = (logits.float() / temperature).softmax(-1).double().cumsum(-1)
    at = torch.searchsorted(summed, (chance * summed[:, -1])[:, None], right=True)
    return at[:, 0].clamp_max(logits.shape[-1] - 1)


def _layer(room: int) -> Any:
    """A layer of transformers' cache that takes its room once."""
    from transformers.cache_utils import DynamicLayer

    class Roomy(DynamicLayer):
        whole: tuple[Tensor, Tensor]

        def update(self, key_states: Any, value_states: Any, *rest: Any, **more: Any) -> tuple[Any, Any]:
            begin = self.get_seq_length()
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self.whole = tuple(  # pyright: ignore[reportAttributeAccessIssue]
                    own.new_empty(*own.shape[:2], own.shape[2] + room, own.shape[3])
                    for own in (key_states, value_states)
                )
            finish = begin + key_states.shape[-2]
            for own, new in zip(self.whole, (key_states, value_states), strict=True):
                own[:, :, begin:finish] = new
            self.keys, self.values = (own[:, :, :finish] for own in self.whole)
            return self.keys, self.values

        def keep(self, rows: Tensor) -> None:
            length = self.get_seq_length()
            self.whole = (self.whole[0][rows], self.whole[1][rows])
            self.keys, self.values = (own[:, :, :length] for own in self.whole)

    return Roomy()


def _cache(layers: list[Any]) -> Any:
    from transformers.cache_utils import Cache

    return Cache(layers=layers)
