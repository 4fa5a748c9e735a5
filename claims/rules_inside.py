"""The rules of the claims that looking inside decides: pruning, probes, attention, sorting.

They read the tables of ``veneer analyse``. Thresholds are named constants with their reasons, as in
``veneer.claims.rules``; claims are those of Jain et al. 2024 (arXiv 2311.12786v2).
"""

from functools import partial
from itertools import product

import polars as pl

from veneer.analysis.revival import Estimate
from veneer.claims.evidence import BySeed, Measured, Part, averaged, over_seeds
from veneer.claims.view import NotAnalysed, View

PRUNING_GAIN = 0.3
"""Points of O_PT that zeroing weights must add beyond what the same search adds to an operand that the
model never had: half of the paper's 60, and more than the 23 that a collapse onto one class was measured to
bring."""
PRUNING_GAIN_LEARNED = 0.1
"""The same for neurons of a learned model, where the paper says "raises": two standard errors of a
difference on the 160 texts of each kind that the search is judged by are 11 points at most."""
PRUNING_LOSS = 0.1
"""Points of O_FT on correlated texts that the same zeroing must cost, for the same reason."""
NEARER = "its classes' distance, of a collapse's"
COLLAPSE = 0.5
"""Total variation between predicted classes and right answers, as a share of what always giving the
commonest right answer would have: a revival lies below half, nearer to the right answers."""
INHIBITORS = range(1, 101)
"""How many neurons may be zeroed to lift an inhibitor: up to 100 (Fig. 86, 88)."""
PAPER_PRUNING = 0.6
"""The paper's gain from one weight of the Counter (App. G: over 60 points; the axis of its Fig. 59, which is
accuracy, ends at 60, so that 60 may be what the accuracy came to)."""
USES = 0.1
"""Share of answers, more, that must change when the keys of one operand's tokens are hidden and not the
other's: twice the standard error of a difference on 256 texts is 9 points at most."""
PROBE_KEPT = 0.5
"""Share of what pretraining adds to a probe, over one from scratch, that must still be there."""
PROBE_ADDS = 0.1
"""Least that pretraining must add to a probe's selectivity for a share of it to mean anything."""
DISTORTED = 0.1
"""Total variation from the capability's attention, mean over positions, from which a block is distorted: a
tenth of all attention has moved. The last block aims from the answer position alone, so that a tenth of
that position's attention is this divided by the number of positions."""


def pruning_compiled(view: View) -> Measured:
    """Claim 5a: few weights of the Counter, searched by trying them."""
    settings = [
        (name, rate) for name in view.capabilities for rate in view.rates if view.size(rate) in ("M", "S")
    ]
    return _searched(view, "weight", settings, PRUNING_GAIN, PAPER_PRUNING)


def pruning_learned(view: View) -> Measured:
    """Claim 5b: few neurons of the model whose pretraining asked least for O_FT."""
    settings = [(view.by_prior[0], rate) for rate in view.rates if view.size(rate) in ("M", "S")]
    return _searched(view, "neuron", settings, PRUNING_GAIN_LEARNED, None)


def _searched(
    view: View, unit: str, settings: list[tuple[str, float]], least: float, paper: float | None
) -> Measured:
    """What the search for few weights or neurons finds with C_Tr = 1, beside the null search."""
    table = view.table("pruning").filter(unit=unit)
    own = _most(table.filter(criterion="search"), "pt")
    null = _most(table.filter(criterion="null search"), "other")
    if own.is_empty():
        raise NotAnalysed(f"{view.path} has no search: veneer analyse {view.path} --only pruning")
    classes = view.table("classes").filter(unit=unit, criterion="search", texts="uncorrelated")
    near = _collapse(classes, own)
    parts, notes = [], []
    for capability, rate in settings:
        place = f"{capability}, rate {rate:g}, C_Tr = 1"
        taught = view.was_learned(capability, rate, 1.0)
        if not taught or not view.lost("uncorrelated", capability, rate, 1.0):
            notes.append(f"left out {place}: {'O_PT was not lost' if taught else 'not learned'}")
            continue
        cells = view.cells(capability, rate, 1.0)
        gained, other = _of(own, cells, "gain"), _of(null, cells, "gain")
        beyond = over_seeds(lambda a, b: a - max(0.0, b), gained, other)
        fall = over_seeds(lambda change: change, _of(own, cells, "change"))
        collapse = over_seeds(lambda value: value, _of(near, cells, "collapse"))
        part = partial(Part, where=place, setting=(rate, 1.0))
        parts += [
            part(f"O_PT gained by few {unit}s beyond the null search", effect=beyond, above=least),
            part("O_FT at C_Te = 1 changed by it", effect=fall, below=-PRUNING_LOSS),
            part(NEARER, effect=collapse, below=COLLAPSE, unit="share"),
        ]
    return Measured(sorted(parts, key=lambda part: "gained" not in part.what), notes, paper)


def _most(table: pl.DataFrame, operand: str) -> pl.DataFrame:
    """What each search found: cell, draw, k, gain (its operand, C_Te = 0), change (O_FT, C_Te = 1)."""
    at = [("uncorrelated", operand, "gain"), ("correlated", "ft", "change")]
    whole, ends = table.filter(k=0), table.filter(pl.col("k") == pl.col("k").max().over("cell"))
    found = ends.select("cell", "draw", "k").unique()
    for texts, of, name in at:
        before, after = (
            part.filter(texts=texts, operand=of).select("cell", pl.col("accuracy").alias(label))
            for part, label in ((whole, "before"), (ends, "after"))
        )
        both = before.join(after, on="cell").select("cell", (pl.col("after") - pl.col("before")).alias(name))
        found = found.join(both, on="cell")
    return found


def _of(rows: pl.DataFrame, cells: dict[int, str], column: str) -> BySeed:
    """A column by seed."""
    values = dict(rows.select("cell", column).iter_rows())
    return {seed: values[cell] for seed, cell in cells.items() if cell in values}


def inhibitor(view: View) -> Measured:
    """Claim 13: after η_L with C_Tr = 0 a strongly relevant capability is brought back in part by pruning."""
    capability = view.by_prior[-1]
    table = view.table("pruning").filter(unit="neuron")
    classes = view.table("classes").filter(unit="neuron", criterion="saliency", texts="uncorrelated")
    chosen = _chosen(table.filter(pl.col("criterion").is_in(["saliency", "random"])), INHIBITORS)
    parts, notes = [], []
    for rate in view.rates:
        place = f"{capability}, rate {rate:g}, C_Tr = 0"
        if view.size(rate) != "L":
            continue
        if not view.was_learned(capability, rate, 0.0) or not view.lost(
            "uncorrelated", capability, rate, 0.0
        ):
            notes.append(f"left out {place}: not learned, or O_PT was not lost")
            continue
        cells = {cell: seed for seed, cell in view.cells(capability, rate, 0.0).items()}
        own = chosen.filter(pl.col("cell").is_in(list(cells)))
        salient, random = own.filter(criterion="saliency"), own.filter(criterion="random")

        def by_seed(rows: pl.DataFrame, column: str, cells: dict[str, int] = cells) -> BySeed:
            means = rows.group_by("cell").agg(pl.col(column).mean())
            return {cells[cell]: value for cell, value in means.select("cell", column).iter_rows()}

        gain = over_seeds(lambda a, b: a - b, by_seed(salient, "gain"), by_seed(random, "gain"))
        near = over_seeds(lambda value: value, by_seed(_collapse(classes, salient), "collapse"))
        what = "O_PT gained by pruning up to 100 neurons beyond random ones"
        part = partial(Part, where=place, setting=(rate, 0.0))
        parts.append(part(what, effect=gain, above=PRUNING_GAIN_LEARNED))
        parts.append(part(NEARER, effect=near, below=COLLAPSE, unit="share"))
    if not parts and not notes:
        notes.append("the run has no rate of η_L with C_Tr = 0")
    return Measured(sorted(parts, key=lambda part: "gained" not in part.what), notes)


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
    """Claim 7: what the answer hangs on, by how many answers change when keys are hidden."""
    table = view.table("attention_hidden").filter(
        (pl.col("texts") == "natural") & (pl.col("stage") == "fine-tune") & (pl.col("start") == "capability")
    )
    stays, moves, both, notes = [], [], [], []
    for rate, c in product(view.rates, view.shares):
        size, where = view.size(rate), f"rate {rate:g}, C_Tr = {c:g}"
        if size in ("L", "M") and 0 < c < 1:
            continue
        own = table.filter(learning_rate=rate, c_tr=c)
        pt, ft = (dict(own.filter(hidden=on).select("seed", "changed").iter_rows()) for on in ("pt", "ft"))
        if not view.was_learned(view.capabilities[0], rate, c):
            notes.append(f"left out {where}: not learned")
            continue
        part = partial(Part, where=where, above=USES, unit="share", setting=(rate, c))
        if c == 1 or size in ("S", "VS"):
            what = "answers that hang on O_PT's keys less those on O_FT's, where they are to stay"
            stays.append(part(what, effect=over_seeds(lambda a, b: a - b, pt, ft)))
        elif size == "L":
            what = "answers that hang on O_FT's keys less those on O_PT's, after η_L with C_Tr = 0"
            moves.append(part(what, effect=over_seeds(lambda a, b: b - a, pt, ft)))
        else:
            for on, values in (("O_PT", pt), ("O_FT", ft)):
                what = f"answers that hang on {on}'s keys after η_M with C_Tr = 0"
                both.append(part(what, effect=over_seeds(lambda a: a, values)))
    if not stays or not (moves or both):
        missing = "at which it should stay" if not stays else "at a large rate with C_Tr = 0 that was learned"
        return Measured([], [*notes, f"no setting {missing}"])
    return Measured([*stays, *moves, *both], notes)


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
        part = partial(Part, where=where, unit="share", setting=(rate, c))
        if view.size(rate) != "VS":
            what = "distance of block 0's attention from the capability's at 1e-3 and above"
            distorted.append(part(what, effect=moved(0, rate, c), above=DISTORTED))
        elif view.was_learned(view.capabilities[0], rate, c):
            last = int(table["block"].to_numpy().max())
            kept.append(part("the same at 1e-4", effect=moved(0, rate, c), below=DISTORTED))
            aim = DISTORTED / (view.fields["length"] + 1)
            what = f"distance of block {last}'s attention at 1e-4"
            aimed.append(part(what, effect=moved(last, rate, c), above=aim))
        else:
            notes.append(f"left out {where}: not learned, so that nothing had to change")
    if not distorted or not kept:
        which = "1e-3 or above" if not distorted else "1e-4 that learned the task"
        return Measured([], [*notes, f"no fine-tuning at {which}"])
    return Measured([*distorted, *kept, *aimed], notes)
