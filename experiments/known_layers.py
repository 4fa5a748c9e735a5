"""Can layer similarity be trusted? The question put to models in which the changed block is known.

``python -m veneer.experiments.known_layers`` asks it of the two written capabilities and prints the tables of
``docs/layers.md``: does CKA find the block where a constructed change sits, and does it tell a wrapper from a
rewrite? Nothing is trained. ``known_layers`` takes any capability.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch

from veneer.analysis import texts
from veneer.analysis.constructed import TRUTHS, construct
from veneer.analysis.layers import CHANGES, changed_block, compare_layers, localized
from veneer.compiled.capabilities import counter, max_identifier
from veneer.compiled.exactness import add_noise
from veneer.experiments.origins import Source, Written
from veneer.models.transformer import Transformer
from veneer.tasks.counter import Counter
from veneer.tasks.encoding import Batch, Encoding, Task
from veneer.tasks.max_identifier import MaxIdentifier
from veneer.tasks.mixture import pretraining

SHAMS = 20  # other draws of the same noise: the lowest of their similarities is the ceiling
SEEN = 256  # texts that changes are fitted to
TEXTS = {"answer": 1024, "everywhere": 128}  # compared; everywhere, each position of them is a sample
LEARNED_NOISE = 1e-3  # a learned model has no noise of its own; its weights are about 0.1
SIMILARITIES = ("cka", "unbiased")


def known_layers(source: Source, task: Task, seeds: int = 3, shams: int = SHAMS) -> pl.DataFrame:
    """Every change of every block, and the constructed models of the verdict, each with its original.

    Args:
        source: the capability.
        task: what it is asked.
        seeds: of the noise of the original and of what is drawn for a change.
        shams: how many other draws of the noise give the ceiling.

    Returns:
        A row per seed, change, block (null where a change is in no one block), view ("answer" position or
        "everywhere") and similarity ("cka" or "unbiased"): ``found``, the block that ``changed_block``
        names (null for none); ``lowest``, the lowest similarity over residual streams; ``last``, the last;
        ``accuracy`` of the changed model on what the original answers; ``truth``, "wrapped" or "rewritten".
    """
    encoding = source.encoding(task)
    rows = []
    for seed in range(seeds):
        noise = source.noise or LEARNED_NOISE
        original = add_noise(source.model, noise, [seed])
        seen = _answered(original, task, encoding, "construct", seed, SEEN)
        batch = _answered(original, task, encoding, "evaluate", seed, TEXTS["answer"])
        changes = list(_changed(original, seen, encoding.answer, seed))
        right = [_accuracy(changed, batch, encoding.answer) for *_, changed in changes]
        others = add_noise(source.model.select([0] * shams), noise, range(1000, 1000 + shams))
        for view, count in TEXTS.items():
            answer, tokens = encoding.answer if view == "answer" else None, batch.tokens[0, :count]
            ceiling = compare_layers(original, others, tokens, answer)
            for (change, block, truth, changed), accuracy in zip(changes, right, strict=True):
                table = compare_layers(original, changed, tokens, answer)
                about = {"seed": seed, "change": change, "block": block, "truth": truth, "view": view}
                about["accuracy"] = accuracy
                rows += [{**about, **_read(table, ceiling, kind)} for kind in SIMILARITIES]
    return pl.DataFrame(rows, infer_schema_length=None)


def separation(lowest: pl.DataFrame) -> float:
    """How often a wrapper is more like its original than a rewrite (0.5 is chance; ties count half)."""
    wrapped, rewritten = (
        lowest.filter(pl.col("truth") == truth)["lowest"].to_numpy() for truth in ("wrapped", "rewritten")
    )
    difference = wrapped[:, None] - rewritten[None]
    return float(np.mean(np.where(difference == 0, 0.5, difference > 0)))


def _changed(
    original: Transformer, seen: Batch, answer: int, seed: int
) -> Iterator[tuple[str, int | None, str, Transformer]]:
    for change in CHANGES:
        truth = "rewritten" if change == "block redrawn" else "wrapped"
        for block in range(original.config.blocks):
            yield change, block, truth, localized(change, original, block, seed, seen, answer)
    for name, truth in TRUTHS.items():
        yield name, None, truth, construct(name, original, seed, seen, answer)


def _read(table: pl.DataFrame, ceiling: pl.DataFrame, kind: str) -> dict[str, Any]:
    # A stream that is constant in every sham has no ceiling; nothing can be read there.
    least = ceiling.group_by("residual").agg(pl.col(kind).min()).sort("residual")[kind].fill_null(-1.0)
    values = table[kind].to_list()
    known = [value for value in values if value is not None]
    found = changed_block(values, least.to_list())
    return {"similarity": kind, "found": found, "lowest": min(known), "last": values[-1]}


@torch.no_grad()
def _answered(
    model: Transformer, task: Task, encoding: Encoding, stream: str, seed: int, count: int
) -> Batch:
    """Natural texts, labelled with what the model answers."""
    batch = texts.draw(task, encoding, pretraining(), count, torch.device("cpu"), f"layers/{stream}", seed)
    return replace(batch, labels=model(batch.tokens, answer=encoding.answer).logits.argmax(-1))


@torch.no_grad()
def _accuracy(model: Transformer, batch: Batch, answer: int) -> float:
    return float((model(batch.tokens, answer=answer).logits.argmax(-1) == batch.labels).double().mean())


def capabilities() -> dict[str, tuple[Source, Task]]:
    """The quick Counter and Max-identifier."""
    found: dict[str, tuple[Source, Task]] = {}
    for name, capability, task in (
        ("counter", counter("a", "abcdefghi", 16), Counter("abcdefghi", 16)),
        ("max-identifier", max_identifier(3, "abcdefgh", 6), MaxIdentifier("abcdefgh", 6, 3, 4)),
    ):
        assert capability.calibration is not None
        found[name] = Written(capability, capability.calibration.noise_std), task
    return found


def located(table: pl.DataFrame) -> pl.DataFrame:
    """How often the block of a change in one block is named rightly, wrongly, or not seen."""
    return (
        table.filter(pl.col("block").is_not_null())
        .group_by("capability", "view", "similarity", "change", maintain_order=True)
        .agg(
            models=pl.len(),
            right=(pl.col("found") == pl.col("block")).fill_null(False).sum(),
            wrong=(pl.col("found") != pl.col("block")).fill_null(False).sum(),
            unseen=pl.col("found").is_null().sum(),
            accuracy=pl.col("accuracy").mean(),
        )
    )


def similarities(table: pl.DataFrame) -> pl.DataFrame:
    """Lowest similarities of each kind of change over its models, and the accuracy that it leaves."""
    keys = ("capability", "view", "similarity", "truth", "change")
    return table.group_by(*keys, maintain_order=True).agg(
        least=pl.col("lowest").min(),
        median=pl.col("lowest").median(),
        most=pl.col("lowest").max(),
        accuracy=pl.col("accuracy").median(),
    )


def main() -> None:
    """Measure all capabilities and print the tables."""
    tables = [
        known_layers(source, task).with_columns(capability=pl.lit(name))
        for name, (source, task) in capabilities().items()
    ]
    table = pl.concat(tables, how="vertical_relaxed")
    with pl.Config(tbl_rows=-1, tbl_cols=-1, fmt_str_lengths=40, tbl_hide_dataframe_shape=True):
        print(located(table))
        print(similarities(table))
    for (name, view, kind), rows in table.group_by("capability", "view", "similarity", maintain_order=True):
        print(f"{name}, {view}, {kind}: a wrapper is more alike than a rewrite in {separation(rows):.0%}")


if __name__ == "__main__":
    main()
