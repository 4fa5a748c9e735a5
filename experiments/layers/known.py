"""The control of a run of layers on written capabilities: what similarity says where the truth is known.

A block is changed and nothing else (``experiments/known_layers.py``); the first block after which similarity
is lower than in sham changes is held against it. And constructed wrappers are compared with rewrites.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl

from veneer.experiments.known_layers import capabilities, known_layers, separation
from veneer.experiments.known_layers import located as counted

SHAMS = 5
"""Other draws of the noise that give the ceiling of a written capability."""


@dataclass(frozen=True)
class Located:
    """How often similarity names the block of one kind of change, over capabilities, seeds and blocks.

    Attributes:
        change: what was done to the block.
        models: changed models.
        right: models in which the block is named rightly.
        wrong: models in which another is.
        unseen: models in which nothing is seen.
        accuracy: share of answers that the change left as they were.
    """

    change: str
    models: int
    right: int
    wrong: int
    unseen: int
    accuracy: float


def known(seeds: int) -> dict[str, Any]:
    """The table of ``known_layers`` on every written capability, as plain rows."""
    rows = [
        {"capability": name, **row}
        for name, (source, task) in capabilities().items()
        for row in known_layers(source, task, seeds, SHAMS).to_dicts()
    ]
    return {"rows": rows}


def located(table: pl.DataFrame) -> list[Located]:
    """At the answer's position, by the biased estimator as in the paper, by kind of change."""
    own = counted(table.filter(pl.col("view") == "answer", pl.col("similarity") == "cka"))
    summed = own.group_by("change", maintain_order=True).agg(
        pl.col("models", "right", "wrong", "unseen").sum(), pl.col("accuracy").mean()
    )
    return [Located(**row) for row in summed.to_dicts()]


def told_known(table: pl.DataFrame) -> str:
    """The finding in two sentences."""
    found = located(table)
    right, models = sum(own.right for own in found), sum(own.models for own in found)
    seen = table.filter(pl.col("view") == "answer", pl.col("similarity") == "cka")
    shares = [separation(own) for _, own in seen.group_by("capability", maintain_order=True)]
    told = " and ".join(f"{100 * share:.0f} %" for share in shares)
    blind = seen.filter(pl.col("block").is_null(), pl.col("truth") == "wrapped", pl.col("lowest") > 0.99)
    kinds = blind["change"].n_unique()
    return (
        f"Where one block was changed, similarity names it in {right} of {models} models. A wrapper is more "
        f"like its original than a rewrite in {told} of pairs (50 % is chance), and {kinds} kinds of "
        "wrappers leave every layer at a similarity above 0.99."
    )
