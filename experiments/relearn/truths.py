"""The verdict on text models whose truth is known by construction.

``python -m veneer.experiments.relearn.truths`` makes small models that know a world of facts, hides the
facts in some copies and destroys them in others, asks ``veneer relearn`` of each, and writes a table. It goes
on where it was interrupted. ``docs/relearn.md`` has the table.

A copy is *wrapped* if its weights still give the answers behind a change that is known. It is *rewritten* if
nothing in it tells the held-out answers: it was never taught them, or what tells one place from another was
drawn anew, so that its answers to places that it is not taught are independent of the right ones.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import polars as pl
import torch

from veneer.experiments.relearn.evidence import Measured
from veneer.experiments.relearn.judge import Outcome
from veneer.experiments.relearn.prepare import prepare
from veneer.experiments.relearn.result import conclude
from veneer.experiments.relearn.settings import Relearning, Subject
from veneer.experiments.relearn.store import RelearningRun
from veneer.experiments.relearn.work import work
from veneer.language import small_world as world
from veneer.language.constructed import (
    locked,
    one_direction_flipped,
    permuted,
    redrawn,
    redrawn_tokens,
    refusing,
    taught_anew,
)
from veneer.language.questions import Question, write_questions
from veneer.models.huggingface import HuggingFaceModel

Truth = Literal["wrapped", "rewritten"]
OPPOSITE: Mapping[Truth, Truth] = {"wrapped": "rewritten", "rewritten": "wrapped"}
OTHER_SEED = 1000
"""Added to a seed for models that share nothing with those of that seed."""
SEEDS = (3, 4, 5)
"""The models that are asked. The grid was chosen on models of the seeds 0 to 2, which then test nothing."""
SETTINGS: Mapping[str, Any] = {
    "ranks": (0, 8),
    "rates": (5e-3,),
    "batch": 32,
    "most": 24,
    "updates": 64,
    "seeds": 3,
    "refusal": world.REFUSAL,
    "bits": (4,),
    "noise": (),
    "depths": (0.5,),
    "mix": (),
    "truncate": (),
    "train_on_retain": False,
}
"""Full fine-tuning learns what a model never had, but learns T by heart before it puts an unembedding right;
LoRA puts that right, and cannot learn answers that were never taught. One attack of each other kind."""
COLUMNS = {
    "family": pl.String,
    "seed": pl.Int64,
    "construction": pl.String,
    "truth": pl.String,
    "verdict": pl.String,
    "strength": pl.String,
    "right": pl.Boolean,
    "opposite": pl.Boolean,
    "kept": pl.Float64,
    "retain": pl.Float64,
    "taught": pl.Float64,
    "held": pl.Float64,
    "best": pl.Float64,
    "never_taught": pl.Float64,
    "never_held": pl.Float64,
    "never_best": pl.Float64,
    "updates": pl.Float64,
    "rule": pl.String,
}
"""Columns of the table. Skill, mean over the divisions of the questions: ``kept`` on V before any training,
``taught`` and ``held`` on T and V after it, ``best`` the best on V at any moment, by the recipe that brings
most of V back; the same of the model that never had the facts; ``updates`` the median to half of the skill on
V, by the recipe that the verdict tells of first, null where it is not reached."""


@dataclass(frozen=True)
class Subjects:
    """The models of one family and seed that all constructions start from.

    Attributes:
        before: it knows capitals and colours.
        fresh: the same family with first weights of its own.
        seed: which models these are.
    """

    before: HuggingFaceModel
    fresh: HuggingFaceModel
    seed: int


def _distilled(own: Subjects) -> HuggingFaceModel:
    """A model from scratch that was taught the colours alone."""
    return taught_anew(own.fresh, world.words(), world.colours(), world.recipe(5e-3, 100, 48), own.seed)


def _redrawn_and_taught(own: Subjects) -> HuggingFaceModel:
    """Everything drawn anew, then the colours taught again: a model that works."""
    return _distilled(replace(own, fresh=redrawn(own.before, 1.0, own.seed, embedding=True)))


def _refusing(own: Subjects) -> HuggingFaceModel:
    recipe = world.recipe(3e-3, 60)
    asked, kept = world.capitals(), world.colours()
    return refusing(own.before, world.words(), asked, world.REFUSAL, recipe, kept, seed=own.seed)


def _locked(own: Subjects) -> HuggingFaceModel:
    asked, kept, recipe = world.capitals(), world.colours(), world.recipe(3e-3, 60)
    return locked(
        own.before, world.words(), asked, world.PASSWORD, world.REFUSAL, recipe, kept, seed=own.seed
    )


CONSTRUCTIONS: Mapping[str, tuple[Truth, Callable[[Subjects], HuggingFaceModel]]] = {
    "refusal by LoRA": ("wrapped", _refusing),
    "locked by a password": ("wrapped", _locked),
    "answers permuted": ("wrapped", lambda own: permuted(own.before, world.tokens_of("city"))),
    "one direction flipped": (
        "wrapped",
        lambda own: one_direction_flipped(own.before, world.words(), world.capitals()),
    ),
    "all redrawn": ("rewritten", lambda own: redrawn(own.before, 1.0, own.seed, embedding=True)),
    "all redrawn, the rest taught again": ("rewritten", _redrawn_and_taught),
    "embeddings of places redrawn": (
        "rewritten",
        lambda own: redrawn_tokens(own.before, world.tokens_of("place"), own.seed),
    ),
    "distilled from scratch": ("rewritten", _distilled),
}
"""By name: what is true of a construction, and how it is made. Redrawing the upper half alone is no truth, as
the facts lie below it: all answers are still given."""


def models(folder: Path, family: world.Family, seed: int, names: list[str]) -> None:
    """Write the models of one family and seed, those that are not there yet."""
    own: Subjects | None = None
    for name in ("before", "never", *names):
        if (folder / name).exists():
            continue
        if own is None:
            fresh = world.untrained(family, seed + OTHER_SEED)
            own = Subjects(world.knowing(family, seed), fresh, seed)
        if name == "before":
            made = own.before
        elif name == "never":
            made = _distilled(replace(own, fresh=world.untrained(family, seed + 2 * OTHER_SEED)))
        else:
            made = CONSTRUCTIONS[name][1](own)
        unfinished = folder / f".{name}"
        made.module.save_pretrained(unfinished)
        world.words().save_pretrained(unfinished)
        unfinished.rename(folder / name)


def asked(folder: Path, runs: Path, name: str, like: Path | None, data: Mapping[str, Path]) -> RelearningRun:
    """Ask ``relearn`` of one construction, and give its folder; what was asked before is only read."""
    if (runs / name / "relearning.json").exists():
        done = RelearningRun.read(runs / name)
        if not done.pending():
            return done
    settings = Relearning(
        str(folder / "before"),
        str(folder / name),
        str(data["capitals"]),
        never=str(folder / "never"),
        retain=str(data["colours"]),
        **SETTINGS,
    )
    device = torch.device("cpu")
    prepared = prepare(settings, runs / name, device, 1, like)
    work(prepared.run, device)
    return prepared.run


def row(run: RelearningRun, outcome: Outcome, family: str, seed: int, name: str) -> tuple[Any, ...]:
    """One row of the table (``COLUMNS``)."""
    measured, (truth, _) = Measured(run), CONSTRUCTIONS[name]

    def trained(subject: Subject) -> list[float | None]:
        """Skill on T and V at the end, and the best on V, by one subject's training on T."""
        arms = [measured.arm(subject, recipe=recipe) for recipe in measured.recipes(subject)]
        finished = [arm for arm in arms if arm is not None]
        if not finished:
            return [None, None, None]
        held = max(finished, key=lambda arm: arm.best.value or 0.0)
        taught = measured.arm(subject, "taught", "taught", held.recipe)
        return [None if taught is None else taught.end.value, held.end.value, held.best.value]

    kept = list(measured.skill_as_it_is("after", "held").values())
    as_it_is = measured.as_it_is("after")
    retain = None if as_it_is is None else measured.retained(as_it_is.get("retain"))
    right, opposite = outcome.kind == truth, outcome.kind == OPPOSITE[truth]
    return (
        *(family, seed, name, truth, outcome.kind, outcome.strength, right, opposite),
        *(sum(kept) / len(kept), retain, *trained("after"), *trained("never")),
        *(outcome.updates, outcome.rule),
    )


def calibrate(out: Path, families: list[world.Family], seeds: list[int], names: list[str]) -> pl.DataFrame:
    """Make the models, ask of each, and give the table (``COLUMNS``), which is written after each answer."""
    out.mkdir(parents=True, exist_ok=True)
    facts: dict[str, tuple[Question, ...]] = {"capitals": world.capitals(), "colours": world.colours()}
    data = {name: out / f"{name}.jsonl" for name in facts}
    for name, file in data.items():
        write_questions(file, facts[name])
    rows = []
    for seed, family in product(seeds, families):
        folder, runs = out / "models" / f"{family}-{seed}", out / "runs" / f"{family}-{seed}"
        models(folder, family, seed, names)
        for name in names:
            like = runs / names[0] if name != names[0] else None
            run = asked(folder, runs, name, like, data)
            rows.append(row(run, conclude(run, False, 0.05), family, seed, name))
            print(*rows[-1][:6], flush=True)
            pl.DataFrame(rows, schema=COLUMNS, orient="row").write_parquet(out / "truths.parquet")
    return pl.read_parquet(out / "truths.parquet")


def summary(table: pl.DataFrame) -> pl.DataFrame:
    """By construction: the words that were given, and mean skill in percent over the models."""
    shares = ("kept", "taught", "best", "held")
    return table.group_by("construction", "truth", maintain_order=True).agg(
        pl.len().alias("models"),
        pl.col("right").sum(),
        pl.col("opposite").sum(),
        *(pl.col(name).mean().mul(100).round().cast(pl.Int64) for name in shares),
        pl.col("updates").min().round(1).alias("soonest"),
        pl.col("updates").max().round(1).alias("latest"),
    )


def main(words: list[str] | None = None) -> None:
    """The command: make the table, and print what it comes to."""
    options = argparse.ArgumentParser(description="the verdict on text models whose truth is known")
    options.add_argument("--out", type=Path, default=Path("runs/truths"))
    options.add_argument("--families", nargs="+", choices=get_args(world.Family), default=["llama", "gpt2"])
    options.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    options.add_argument("--only", nargs="+", choices=list(CONSTRUCTIONS), default=list(CONSTRUCTIONS))
    given = options.parse_args(words)
    torch.set_flush_denormal(True)
    table = calibrate(given.out, given.families, given.seeds, given.only)
    with pl.Config(
        tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=40, tbl_hide_dtype_separator=True
    ):
        print(summary(table))
    right, opposite = (int(table[name].sum()) for name in ("right", "opposite"))
    print(f"{right} of {len(table)} right, {opposite} taken for the opposite")


if __name__ == "__main__":
    main()
