"""The rules of the claims that looking inside decides: pruning, probes, attention, sorting.

They read the tables of ``veneer analyse``. Thresholds are named constants with their reasons, as in
``veneer.claims.rules``; claims are those of Jain et al. 2024 (arXiv 2311.12786v2).
"""

from itertools import product

import polars as pl

from veneer.analysis.revival import Estimate
from veneer.analysis.verdict import ATTENTION_KEPT
from veneer.claims.evidence import BySeed, Measured, Part, View, averaged, over_seeds

PRUNING_GAIN = 0.3
"""Points of O_PT that pruning weights must add beyond random pruning: half of the paper's 60, and more than
the 23 that a collapse onto one class was measured to bring."""
PRUNING_GAIN_LEARNED = 0.1
"""The same for neurons of a learned model, where the paper says "raises": two standard errors of a
difference on the 160 texts of each kind that pruning is judged by."""
PRUNING_LOSS = 0.1
"""Points of O_FT on correlated texts that the same pruning must cost, for the same reason."""
COLLAPSE = 0.5
"""Total variation between predicted classes and right answers, as a share of what always giving the
commonest right answer would have: a revival lies below half, nearer to the right answers."""
WEIGHTS, NEURONS = range(1, 21), range(5, 16)
"""How many may be pruned: up to 20 weights of compiled models, 5 to 15 neurons of learned ones."""
PAPER_PRUNING = 0.6
"""The paper's gain from one weight of the Counter (Fig. 7: over 60 points)."""
PROBE_KEPT = 0.5
"""Share of what pretraining adds to a probe, over one from scratch, that must still be there."""
PROBE_ADDS = 0.1
"""Least that pretraining must add to a probe's selectivity for a share of it to mean anything."""
KEPT = ATTENTION_KEPT
"""Share of the capability's own attention to O_PT from which it stays there; the verdict's own."""
DISTORTED = 0.1
"""Total variation from the capability's attention, mean over positions, from which a block is distorted: a
tenth of all attention has moved. The last block aims from the answer position alone, so that a tenth of
that position's attention is this divided by the number of positions."""


def pruning_compiled(view: View) -> Measured:
    """Claim 5a: few weights of the Counter."""
    return _pruning(view, "weight", WEIGHTS, ("S", "VS"), PRUNING_GAIN, PAPER_PRUNING)


def pruning_learned(view: View) -> Measured:
    """Claim 5b: few neurons of a learned model."""
    return _pruning(view, "neuron", NEURONS, ("M", "S"), PRUNING_GAIN_LEARNED, None)


def _pruning(
    view: View, unit: str, ks: range, sizes: tuple[str, ...], least: float, paper: float | None
) -> Measured:
    table = view.table("pruning").filter(unit=unit)
    classes = view.table("classes").filter(unit=unit, criterion="saliency", texts="uncorrelated")
    chosen = _chosen(table, ks)
    parts, notes = [], []
    for capability, rate in product(view.capabilities, view.rates):
        if view.size(rate) not in sizes:
            continue
        place = f"{capability}, rate {rate:g}, C_Tr = 1"
        taught = view.was_learned(capability, rate, 1.0)
        if not taught or not view.lost("uncorrelated", capability, rate, 1.0):
            notes.append(f"left out {place}: {'O_PT was not lost' if taught else 'not learned'}")
            continue
        cells = {cell: seed for seed, cell in view.cells(capability, rate, 1.0).items()}
        own = chosen.filter(pl.col("cell").is_in(list(cells)))
        salient, random = own.filter(criterion="saliency"), own.filter(criterion="random")

        def by_seed(rows: pl.DataFrame, column: str, cells: dict[str, int] = cells) -> BySeed:
            means = rows.group_by("cell").agg(pl.col(column).mean())
            return {cells[cell]: value for cell, value in means.select("cell", column).iter_rows()}

        gain = over_seeds(lambda a, b: a - b, by_seed(salient, "gain"), by_seed(random, "gain"))
        fall = over_seeds(lambda change: change, by_seed(salient, "change"))
        near = over_seeds(lambda value: value, by_seed(_collapse(classes, salient), "collapse"))
        parts += [
            Part(f"O_PT gained by pruning {unit}s beyond random ones", place, gain, above=least),
            Part("O_FT at C_Te = 1 changed by it", place, fall, below=-PRUNING_LOSS),
            Part("its classes' distance, of a collapse's", place, near, below=COLLAPSE, unit="share"),
        ]
    return Measured(sorted(parts, key=lambda part: "gained" not in part.what), notes, paper)


def _chosen(table: pl.DataFrame, ks: range) -> pl.DataFrame:
    """For each cell, criterion and draw the K that helps O_PT most on natural texts, and what it does.

    Choosing and measuring on different texts keeps the best of many from looking good by chance.
    """
    index = ["cell", "criterion", "draw", "k"]
    wide = table.with_columns(of=pl.format("{}_{}", "texts", "operand")).pivot(
        "of", index=index, values="accuracy", aggregate_function="first"
    )
    whole = wide.filter(k=0).drop("k")
    best = (
        wide.filter(pl.col("k").is_in(list(ks)))
        .sort("natural_pt", "k", descending=[True, False])
        .unique(index[:3], keep="first", maintain_order=True)
    )
    return best.join(whole, on=index[:3], suffix="_before").with_columns(
        gain=pl.col("uncorrelated_pt") - pl.col("uncorrelated_pt_before"),
        change=pl.col("correlated_ft") - pl.col("correlated_ft_before"),
    )


def _collapse(classes: pl.DataFrame, chosen: pl.DataFrame) -> pl.DataFrame:
    """Columns cell, collapse: distance of predicted classes from right ones (commonest alone: 1)."""
    return (
        classes.join(chosen.select("cell", "draw", "k"), on=["cell", "draw", "k"])
        .group_by("cell")
        .agg(
            distance=(pl.col("share") - pl.col("expected")).abs().sum() / 2,
            whole=1 - pl.col("expected").max(),
        )
        .select("cell", collapse=pl.col("distance") / pl.col("whole"))
    )


def probes(view: View) -> Measured:
    """Claim 6: probes still read O_PT, but for η_M and above with the capability of the lowest prior."""
    best = _selectivity(view.table("probes"))
    outside: list[BySeed] = []
    inside: list[BySeed] = []
    parts, notes = [], []
    what = "share of what pretraining adds to the best probe of O_PT that is left"
    for capability in view.capabilities:
        own = best.filter(capability=capability)
        before = _by_seed(own.filter(stage="capability"))
        scratch = _by_seed(own.filter((pl.col("stage") == "fine-tune") & (pl.col("start") == "scratch")))
        seeds = before.keys() & scratch.keys()
        added = {seed: before[seed] - scratch[seed] for seed in seeds}
        if not added or min(added.values()) < PROBE_ADDS:
            found = f"{100 * min(added.values()):.0f} points" if added else "unknown"
            notes.append(f"left out {capability}: pretraining adds {found} to a probe from scratch")
            continue
        for rate in view.rates:
            settings = []
            for c in view.shares:
                tuned = own.filter(
                    (pl.col("stage") == "fine-tune") & (pl.col("start") == "capability")
                ).filter(learning_rate=rate, c_tr=c)
                after = _by_seed(tuned)
                settings.append({s: (after[s] - scratch[s]) / added[s] for s in seeds & after.keys()})
            left = averaged(settings)
            if capability == view.by_prior[0] and view.size(rate) in ("L", "M"):
                inside.append(left)
                continue
            outside.append(left)
            where = f"{capability}, rate {rate:g}, mean over C_Tr"
            kept = over_seeds(lambda value: value, left)
            parts.append(Part(what, where, kept, above=PROBE_KEPT, unit="share"))
    if inside and outside:
        weaker = over_seeds(lambda a, b: a - b, averaged(outside), averaged(inside))
        where = f"all else less {view.by_prior[0]} at η_M and above"
        parts.append(Part("difference of that share", where, weaker, above=0.0, unit="share"))
    return Measured(parts, notes)


def _selectivity(table: pl.DataFrame) -> pl.DataFrame:
    """Selectivity (real less control labels) of O_PT's best layer, by cell, with its keys."""
    keys = ["cell", "capability", "start", "stage", "learning_rate", "c_tr", "seed"]
    own = table.filter(target="pt")
    wide = own.pivot("labels", index=[*keys, "residual"], values="accuracy", aggregate_function="first")
    return wide.group_by(keys).agg(selectivity=(pl.col("real") - pl.col("control")).max())


def _by_seed(rows: pl.DataFrame) -> BySeed:
    return dict(rows.select("seed", "selectivity").iter_rows())


def attention(view: View) -> Measured:
    """Claim 7: attention stays on O_PT's tokens, but for a large rate with C_Tr = 0."""
    asked = pl.col("asked").is_null() | (pl.col("asked") == "pt")
    table = view.table("attention").filter((pl.col("kind") == "natural") & asked)
    first = table.filter(stage="capability", on="pt")
    if first.is_empty():
        return Measured([], ["the capability's own attention is not in the table"])
    head = first.group_by("block", "head").agg(pl.col("share").mean()).sort("share").row(-1, named=True)
    here = table.filter(block=head["block"], head=head["head"], stage="fine-tune", start="capability")
    stays, moves, notes = [], [], [f"block {head['block']}"]
    for rate, c in product(view.rates, view.shares):
        large = view.size(rate) in ("L", "M")
        if large and 0 < c < 1:
            continue
        own = here.filter(learning_rate=rate, c_tr=c)
        pt, ft = (dict(own.filter(on=on).select("seed", "share").iter_rows()) for on in ("pt", "ft"))
        where = f"rate {rate:g}, C_Tr = {c:g}"
        if large and c == 0:
            if not view.was_learned(view.capabilities[0], rate, c):
                notes.append(f"left out {where}: not learned")
                continue
            more = over_seeds(lambda one, other: one - other, ft, pt)
            what = "attention on O_FT's tokens less that on O_PT's where it is to move"
            moves.append(Part(what, where, more, above=0.0, unit="share"))
        else:
            kept = over_seeds(lambda share: share / head["share"], pt)
            what = "attention on O_PT's tokens, of the capability's, where it is to stay"
            stays.append(Part(what, where, kept, above=KEPT, unit="share"))
    if not stays or not moves:
        missing = "at which it should stay" if not stays else "at a large rate with C_Tr = 0 that was learned"
        return Measured([], [*notes, f"no setting {missing}"])
    return Measured([*stays, *moves], notes)


def sorting(view: View) -> Measured:
    """Claim 12: rates of 1e-3 and above distort block 0; 1e-4 keeps it and aims block 2 anew."""
    table = view.table("attention_sorting").filter(
        (pl.col("stage") == "fine-tune") & (pl.col("start") == "capability") & (pl.col("status") == "done")
    )

    def moved(block: int, rate: float, c: float) -> Estimate:
        own = table.filter(block=block, learning_rate=rate, c_tr=c)
        means = own.group_by("seed").agg(pl.col("distance").mean())
        return over_seeds(lambda value: value, dict(means.select("seed", "distance").iter_rows()))

    distorted, kept, aimed, notes = [], [], [], []
    for rate, c in product(view.rates, view.shares):
        where = f"rate {rate:g}, C_Tr = {c:g}"
        if view.size(rate) != "VS":
            what = "distance of block 0's attention from the capability's at 1e-3 and above"
            distorted.append(Part(what, where, moved(0, rate, c), above=DISTORTED, unit="share"))
        elif view.was_learned(view.capabilities[0], rate, c):
            last = int(table["block"].to_numpy().max())
            what = "the same at 1e-4"
            kept.append(Part(what, where, moved(0, rate, c), below=DISTORTED, unit="share"))
            what = f"distance of block {last}'s attention at 1e-4"
            aim = DISTORTED / (view.fields["length"] + 1)
            aimed.append(Part(what, where, moved(last, rate, c), above=aim, unit="share"))
        else:
            notes.append(f"left out {where}: not learned, so that nothing had to change")
    if not distorted or not kept:
        which = "1e-3 or above" if not distorted else "1e-4 that learned the task"
        return Measured([], [*notes, f"no fine-tuning at {which}"])
    return Measured([*distorted, *kept, *aimed], notes)
