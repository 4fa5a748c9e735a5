"""What a run of decisions measured, one number a seed: what a page shows and what claims are judged by.

Insides are compared of arms that decide equally well. A seed counts for a comparison with the arm from
scratch only where both end within ``MATCHED`` of each other and of the accuracy that was asked for; where
they do not, the comparison is void, and that is said.
"""

import math
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from veneer.analysis.ablation import How, depth_centroid
from veneer.analysis.decoding import mixed_selectivity
from veneer.analysis.revival import Estimate, estimate
from veneer.experiments.cddm.settings import NAMES, Arm
from veneer.experiments.cddm.store import DecisionsRun
from veneer.experiments.cddm.work import HELD_OUT

BySeed = dict[int, float]
MATCHED = 0.05
"""Most by which accuracies of arms that decide equally well differ: 512 decisions tell 95 % from 92 %."""
SIGNIFICANT = 2
"""Variables for which a unit of mixed selectivity is significant, or more."""


class Measured:
    """The measurements of a run, as far as they are there."""

    def __init__(self, run: DecisionsRun) -> None:
        self.run, self.settings = run, run.settings
        self._tables: dict[str, pl.DataFrame] = {}

    def table(self, name: str) -> pl.DataFrame:
        """A table of all looks, read once."""
        if name not in self._tables:
            self._tables[name] = self.run.table(name)
        return self._tables[name]

    @cached_property
    def curves(self) -> pl.DataFrame:
        """Accuracy while arms trained."""
        return self.run.accuracy()

    def of(self, name: str, arm: Arm, seed: int | None = None) -> pl.DataFrame:
        """The rows of an arm in a table; empty where nothing is measured."""
        table = self.table(name)
        if table.width <= 2:
            return table
        own = table.filter(pl.col("arm") == arm)
        return own if seed is None else own.filter(pl.col("seed") == seed)

    def seeds(self, arm: Arm) -> list[int]:
        """Seeds whose model has been looked into."""
        return sorted(self.of("final", arm)["seed"].unique().to_list())

    def accuracy(self, arm: Arm, asked: str = HELD_OUT, measure: str = "accuracy") -> BySeed:
        """Accuracy at the end, on decisions of a kind."""
        own = self.of("final", arm)
        if own.is_empty():
            return {}
        return dict(own.filter(pl.col("asked") == asked).select("seed", measure).iter_rows())

    def updates(self, arm: Arm) -> BySeed:
        """Updates that an arm trained for."""
        own = self.curves.filter(pl.col("arm") == arm)
        return {
            seed: float(step) for seed, step in own.group_by("seed").agg(pl.col("step").max()).iter_rows()
        }

    def reached(self, arm: Arm) -> dict[int, bool]:
        """Whether an arm got to the accuracy that was asked for."""
        own = self.curves.filter(pl.col("arm") == arm).group_by("seed").agg(pl.col("accuracy").max())
        return {seed: best >= self.settings.reach for seed, best in own.iter_rows()}

    def matched(self, other: Arm = "scratch") -> list[int]:
        """Seeds whose fine-tuned model decides as well as another arm of the same seed."""
        mine, theirs = self.accuracy("fine-tuned"), self.accuracy(other)
        least = self.settings.reach - MATCHED
        return [
            seed
            for seed in sorted(mine.keys() & theirs.keys())
            if min(mine[seed], theirs[seed]) >= least and abs(mine[seed] - theirs[seed]) <= MATCHED
        ]

    def without(self, arm: Arm, how: How) -> dict[int, pl.DataFrame]:
        """By seed, what an arm loses with each part; nothing of what has not been ablated in this way."""
        own = self.of("ablation", arm)
        if own.is_empty():
            return {}
        tables = {seed: own.filter(seed=seed, how=how) for seed in self.seeds(arm)}
        return {seed: table for seed, table in tables.items() if not table.is_empty()}

    def depth(self, arm: Arm, how: How = "zero", effect: str = "accuracy_lost") -> BySeed:
        """The depth centroid of what heads cost: 0 is the first block, 1 the last."""
        found = {}
        for seed, table in self.without(arm, how).items():
            if (depth := depth_centroid(table, "head", effect)) is not None:
                found[seed] = depth
        return found

    def first_share(self, arm: Arm, how: How = "zero") -> BySeed:
        """Of what all heads cost one by one, the share of the first block's."""
        found = {}
        for seed, table in self.without(arm, how).items():
            rows = table.filter(kind="head")
            lost = rows["accuracy_lost"].clip(0)
            if lost.sum() > 0:
                found[seed] = float(lost.filter(rows["block"] == 0).sum()) / float(lost.sum())
        return found

    def shared_heads(self, arm: Arm, how: How = "zero", effect: str = "accuracy_lost") -> BySeed:
        """Rank correlation over heads of what each costs the decisions, and the pretrained model's texts."""
        found = {}
        for seed, table in self.without(arm, how).items():
            generic = self.of("generic", "pretrained").filter(kind="head", how=how)
            both = table.filter(kind="head").join(generic, on=("block", "head"))
            if both.height > 2 and both[effect].n_unique() > 1:
                correlation: Any = spearmanr(both["loss_gained"], both[effect])
                found[seed] = float(correlation.statistic)
        return found

    def likeness(self, arm: Arm, later: bool) -> BySeed:
        """CKA with the pretrained model at the last token, mean over blocks of the later or earlier half."""
        own = self.of("similarity", arm)
        if own.is_empty():
            return {}
        last = own["residual"].max()
        assert isinstance(last, int)
        half = (
            pl.col("residual") > last / 2
            if later
            else (pl.col("residual") <= last / 2) & (pl.col("residual") > 0)
        )
        means = own.filter(half).drop_nulls("cka").group_by("seed").agg(pl.col("cka").mean())
        return dict(means.iter_rows())

    def telling_units(self, arm: Arm) -> BySeed:
        """Share of the units that tell a variable at the last token, mean over the variables."""
        own = self.of("units", arm)
        if own.is_empty():
            return {}
        return dict(own.group_by("seed").agg(pl.col("significant").mean()).iter_rows())

    def mixed(self, arm: Arm) -> BySeed:
        """Share of the units that tell several variables."""
        found = {}
        for seed in self.seeds(arm):
            own = self.of("units", arm, seed).select(
                "variable", "significant", unit=pl.concat_str("kind", "layer", "unit", separator="/")
            )
            counts = mixed_selectivity(own)
            several = counts.filter(pl.col("variables") >= SIGNIFICANT)["units"].sum()
            found[seed] = float(several) / float(counts["units"].sum())
        return found

    def separation(self, arm: Arm) -> BySeed:
        """Silhouette of a variable's classes in all units of the last stream, mean over the variables."""
        own = self.of("silhouettes", arm)
        if own.is_empty():
            return {}
        rows = own.filter(way="all units").filter(pl.col("layer") == pl.col("layer").max())
        return dict(rows.group_by("seed").agg(pl.col("separation").mean()).iter_rows())

    def language(self, arm: Arm) -> BySeed:
        """Loss on ordinary texts, in nats a token."""
        own = self.of("generic", arm)
        if own.is_empty():
            return {}
        return dict(own.filter(kind="whole", how="zero").select("seed", "loss").iter_rows())

    def looks_at(self, arm: Arm, role: str, block: int = 0) -> BySeed:
        """Of the head of a block that costs most, the last token's attention on a role over an even share."""
        found = {}
        for seed, table in self.without(arm, "zero").items():
            rows = table.filter(kind="head", block=block)
            head = rows.sort("accuracy_lost", "difference_lost", descending=True)["head"][0]
            own = self.of("attention", arm, seed).filter(block=block, head=head, role=role)
            found[seed] = float((own["share"] - own["expected"]).sum())
        return found

    def profile(self, arm: Arm) -> BySeed:
        """Correlation, over layers, tokens and variables, of what can be read with the pretrained model's."""
        keys = ["layer", "token", "variable"]
        before = self.of("decoding", "pretrained").select(*keys, before="accuracy")
        found = {}
        for seed in self.seeds(arm):
            both = self.of("decoding", arm, seed).join(before, on=keys)
            if both.height > 2:
                found[seed] = float(np.corrcoef(both["accuracy"], both["before"])[0, 1])
        return found


def over(
    values: BySeed, seeds: list[int] | None = None, least: float = -math.inf, most: float = math.inf
) -> Estimate:
    """Mean and interval over seeds; with ``seeds``, over these only; cut to what the quantity can be."""
    kept = [own for seed, own in values.items() if seeds is None or seed in seeds]
    return estimate(kept, least, most) if kept else Estimate(None, None, None, 0)


def less(one: BySeed, other: BySeed, seeds: list[int] | None = None) -> Estimate:
    """Mean and interval of a difference, paired by seed."""
    return over({seed: one[seed] - other[seed] for seed in one.keys() & other.keys()}, seeds)


def named(arm: Arm) -> str:
    """An arm as a reader calls it."""
    return NAMES[arm]
