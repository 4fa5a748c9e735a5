"""Probes for every feature of a story, as Jain et al. 2024 (App. F, Fig. 35 to 38) take them.

The model reads the story alone, without its instruction. The features of a probe are the residual stream's
mean over the last ten positions of the story, after the embedding and after each block; there is one binary
probe a feature. (The paper trains them on 128 stories at a time; here logistic regression is solved.) A
probe's floor is the commoner answer's share, and its twin is fitted on permuted labels.
"""

from collections.abc import Sequence
from typing import Any

import polars as pl
import torch
from jaxtyping import Float, Int
from torch import Tensor

from veneer.analysis.probing import ProbeData, ProbeSettings, fit
from veneer.language.stories.features import FEATURES
from veneer.language.stories.form import Record
from veneer.models.text_model import TextModel
from veneer.tasks import random

LAST = 10
"""Positions over which the stream is averaged."""
BATCH = 32
PROBES = {
    "residual": pl.Int64,
    "feature": pl.String,
    "accuracy": pl.Float64,
    "control": pl.Float64,
    "majority": pl.Float64,
    "texts": pl.Int64,
}
"""Columns of ``probe_stories``: ``residual`` 0 after the embedding, I after block I - 1; ``accuracy`` on
stories that the probe was not fitted on, ``control`` with permuted labels, ``majority`` of the commoner
answer."""


@torch.no_grad()
def story_states(
    model: TextModel, tokenizer: Any, records: Sequence[Record]
) -> Float[Tensor, "residual story width"]:
    """Residual streams, each the mean over the last positions of a story that is read alone."""
    device = next(p for _, p in model.named_parameters()).device
    names = [f"residual.{i}" for i in range(model.blocks + 1)]
    found = []
    for start in range(0, len(records), BATCH):
        rows = [tokenizer(f"\n\n{own.story}")["input_ids"] for own in records[start : start + BATCH]]
        longest = max(map(len, rows))
        tokens = torch.tensor([[*row, *([row[0]] * (longest - len(row)))] for row in rows], device=device)
        seen = model.activations(tokens, names)
        ends = torch.tensor([len(row) for row in rows], device=device)
        place = torch.arange(longest, device=device)
        inside = (place < ends[:, None]) & (place >= (ends - LAST).clamp_min(1)[:, None])
        weight = inside / inside.sum(1, keepdim=True)
        found.append(torch.stack([torch.einsum("bp,bpw->bw", weight, seen[name]) for name in names]))
    return torch.cat(found, 1).cpu()


def probe_stories(
    model: TextModel, tokenizer: Any, train: Sequence[Record], test: Sequence[Record], seed: int
) -> pl.DataFrame:
    """Fit a probe for every feature on every residual stream (``PROBES``).

    Args:
        model: what is looked into.
        tokenizer: the model's.
        train: stories that probes are fitted on.
        test: others, on which they are measured.
        seed: permutes the labels of the control.
    """
    seen, unseen = (
        ProbeData(story_states(model, tokenizer, records), labels_of(records, name, seed))
        for name, records in (("train", train), ("test", test))
    )
    accuracies, _ = fit(seen, unseen, ProbeSettings())
    commonest = seen.labels.double().mean(-1) > 0.5
    majority = (unseen.labels == commonest[:, None]).double().mean(-1)
    count = len(FEATURES)
    rows = [
        (
            residual,
            feature,
            float(accuracies[residual, i, 1]),
            float(accuracies[residual, count + i, 1]),
            float(majority[i]),
            len(test),
        )
        for residual in range(len(accuracies))
        for i, feature in enumerate(FEATURES)
    ]
    return pl.DataFrame(rows, PROBES, orient="row")


def labels_of(records: Sequence[Record], name: str, seed: int) -> Int[Tensor, "set story"]:
    """For each feature whether a story has it, then the same permuted over the stories."""
    right = torch.tensor([[int(feature in own.features) for own in records] for feature in FEATURES])
    key = torch.tensor(random.stream_key("story-probes", seed, name))
    order = random.shuffled_order(key, 1, len(records))[0]
    return torch.cat([right, right[:, order]])
