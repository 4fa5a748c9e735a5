"""From a run's tables to verdicts: the evidence on each setting, for ``veneer.analysis.verdict``'s rule."""

from collections.abc import Iterable, Iterator
from typing import Any

import polars as pl

from veneer.analysis.evidence import Evidence
from veneer.analysis.revival import Estimate, estimate
from veneer.analysis.verdict import FEW_WEIGHTS, RULE_VERSION, Verdict, decide
from veneer.experiments.analysis_tables import read_analysis
from veneer.experiments.deciding import deciding_command
from veneer.experiments.returns import (
    IS_THIRD,
    KNOWN,
    equal,
    revival_curves,
    revivals_of,
    setting_columns,
    texts_of,
)
from veneer.experiments.store import Run

Found = tuple[dict[str, Any], str, Evidence]
"""A setting, the start that it is about ("capability", or a construction), and the evidence."""


def verdict_table(run: Run) -> pl.DataFrame:
    """The verdict on every setting, and on every constructed model of the run.

    Returns:
        Setting columns; start ("capability", or the construction); kind and strength
        (``veneer.analysis.verdict.Verdict``); leaning (a kind, or null); reasons and needed (lists of
        sentences; what decided comes first); decides (the command that would decide, with its minutes; empty
        where something is decided); seeds; kept (O_PT accuracy after fine-tuning), kept_low, kept_high;
        learned (O_FT accuracy on texts as trained on), learned_low, learned_high; and rule_version.

    Raises:
        InputError: the run has no finished cell.
    """
    metrics = run.metrics()
    return verdicts_on(run, metrics, evidence_of(run, metrics))


def verdicts_on(run: Run, metrics: pl.DataFrame, found: Iterable[Found]) -> pl.DataFrame:
    """The same, from evidence that was gathered before."""
    setting = setting_columns(metrics)
    rows = []
    for values, start, evidence in found:
        verdict = decide(evidence)
        decides = deciding_command(run, values, verdict, evidence.seeds) if start == "capability" else ""
        rows.append({**values, "start": start, **_plain(verdict, evidence), "decides": decides})
    schema: dict[str, Any] = {name: metrics.schema[name] for name in setting} | {"start": pl.String}
    texts = dict.fromkeys(("kind", "strength", "leaning", "decides", "rule_version"), pl.String)
    lists = {"reasons": pl.List(pl.String), "needed": pl.List(pl.String)}
    numbers = [f"{part}{end}" for part in ("kept", "learned") for end in ("", "_low", "_high")]
    schema |= {**texts, **lists, "seeds": pl.Int64, **dict.fromkeys(numbers, pl.Float64)}
    return pl.DataFrame(rows, schema=schema)


def _plain(verdict: Verdict, evidence: Evidence) -> dict[str, Any]:
    plain: dict[str, Any] = {"kind": verdict.kind, "strength": verdict.strength, "seeds": evidence.seeds}
    plain |= {"leaning": verdict.leaning, "rule_version": RULE_VERSION}
    plain |= {"reasons": list(verdict.reasons), "needed": list(verdict.needed)}
    for name in ("kept", "learned"):
        found: Estimate | None = getattr(evidence, name)
        ends = (None, None, None) if found is None else (found.value, found.low, found.high)
        plain |= {f"{name}{end}": value for end, value in zip(("", "_low", "_high"), ends, strict=True)}
    return plain


def evidence_of(run: Run, metrics: pl.DataFrame) -> Iterator[Found]:
    """The evidence on every setting and constructed model."""
    setting = setting_columns(metrics)
    curves, inside = revival_curves(metrics), _inside(run)
    final = metrics.filter(
        (pl.col("measure") == "accuracy") & (pl.col("step") == pl.col("step").max().over("cell"))
    )
    tuned = final.filter((pl.col("stage") == "fine-tune") & (pl.col("start") == "capability"))
    order = [name for name in ("fine_tuning_rate", "c_tr") if name in setting]
    by_rate = tuned.sort(order, descending=[n == "fine_tuning_rate" for n in order], maintain_order=True)
    for named, rows in by_rate.group_by(setting, maintain_order=True):
        values = dict(zip(setting, named, strict=True))
        own = curves.filter(pl.col("arm").is_in(["reft", "third"]), *equal(values))
        yield values, "capability", _tuned_evidence(run, values, rows, own, curves, inside)
    constructed = curves.filter(pl.col("start").str.contains(KNOWN))
    for (start,), rows in constructed.sort("start", descending=True).group_by(["start"], maintain_order=True):
        for named, same in rows.group_by(setting, maintain_order=True):
            values = dict(zip(setting, named, strict=True))
            yield values, str(start), _constructed_evidence(run, values, same, curves, inside)


def _tuned_evidence(
    run: Run,
    values: dict[str, Any],
    rows: pl.DataFrame,
    own: pl.DataFrame,
    curves: pl.DataFrame,
    inside: dict[str, pl.DataFrame],
) -> Evidence:
    majority = {kind: part["majority"] for kind, part in run.baselines(values["task"]).items()}
    guess, c_tr = majority["natural"]["pt"], values["c_tr"]
    done = rows.filter(pl.col("status") == "done")
    by_kind = {
        (texts, operand): part.sort("seed")["value"].to_list()
        for (texts, operand), part in done.group_by("texts", "operand")
    }
    pairs = zip(by_kind.get(("correlated", "ft"), []), by_kind.get(("uncorrelated", "ft"), []), strict=True)
    learned = [c_tr * one + (1 - c_tr) * other for one, other in pairs]
    kept = by_kind.get(("natural", "pt"), [])
    cells = done["cell"].unique().to_list()
    seeds = rows["seed"].n_unique()
    guess_ft = c_tr * majority["correlated"]["ft"] + (1 - c_tr) * majority["uncorrelated"]["ft"]
    # Where all training texts have one answer, being right says nothing about having learned; and a
    # method that only takes O_PT away is not asked for O_FT.
    method = run.method(values.get("method", run.experiment["fields"].get("method", "full")))
    told = learned and guess_ft < 1 and method.teaches
    localized = _localized(inside, cells)
    return Evidence(
        guess_pt=guess,
        kept=estimate(kept, 0.0, 1.0, texts_of(run, len(kept))) if kept else None,
        guess_ft=guess_ft if told else None,
        learned=estimate(learned, 0.0, 1.0, texts_of(run, len(learned))) if told else None,
        revivals=tuple(revivals_of(run, values, own, curves, guess, None)),
        diverged=seeds - done["seed"].n_unique(),
        seeds=seeds,
        unsearched="restored" not in localized,
        **localized,
        **_carried(inside, values, cells),
    )


def _constructed_evidence(
    run: Run,
    values: dict[str, Any],
    own: pl.DataFrame,
    curves: pl.DataFrame,
    inside: dict[str, pl.DataFrame],
) -> Evidence:
    guess = run.baselines(values["task"])["natural"]["majority"]["pt"]
    start, back = own["start"][0], own.filter(~IS_THIRD)
    first = back.filter((pl.col("step") == 0) & (pl.col("learning_rate") == back["learning_rate"].min()))
    localized = _localized(inside, _before_training(inside, values, start))
    return Evidence(
        guess_pt=guess,
        kept=estimate(first["value"].to_list(), 0.0, 1.0, texts_of(run, len(first))),
        revivals=tuple(revivals_of(run, values, own, curves, guess, start)),
        seeds=first["seed"].n_unique(),
        unsearched="restored" not in localized,
        **localized,
    )


def _before_training(inside: dict[str, pl.DataFrame], values: dict[str, Any], start: str) -> list[str]:
    """Constructed models as they start are in the tables under names of their own."""
    same = equal({name: values[name] for name in ("capability", "task")})
    tables = [
        inside[name].filter(pl.col("start") == start, *same) for name in ("grafting",) if name in inside
    ]
    return [cell for table in tables for cell in table["cell"].unique().to_list()]


def _inside(run: Run) -> dict[str, pl.DataFrame]:
    """The tables of ``veneer analyse`` that are there."""
    found = {name: read_analysis(run.path, name) for name in ("pruning", "grafting", "probes", "attention")}
    return {name: table for name, table in found.items() if table is not None}


def _localized(inside: dict[str, pl.DataFrame], cells: list[str]) -> dict[str, Any]:
    """What the best pruning or graft of few weights restores: the best of all, by the mean over seeds.

    A best of many is biased upwards, on texts that were also chosen on; the rule asks for half of
    the skill, which no chance of 80 texts gives.
    """
    tried = []
    if "grafting" in inside:
        table = inside["grafting"].filter(pl.col("cell").is_in(cells))
        size = table.select(pl.col("k").max()).item() if not table.is_empty() else 0
        back = table.filter(
            (pl.col("direction") == "back")
            & (pl.col("texts") == "natural")
            & (pl.col("operand") == "pt")
            & pl.col("level").is_in(["weight", "weights"])
            & (pl.col("k") <= FEW_WEIGHTS * size)
        )
        # The best single weight of each model, or its K that moved most.
        best = back.group_by("cell", "level", "k").agg(pl.col("accuracy").max()).sort("level", "k", "cell")
        tried += [
            (level, k, part, size) for (level, k), part in best.group_by("level", "k", maintain_order=True)
        ]
        if "pruning" in inside:
            pruned = inside["pruning"].filter(
                pl.col("cell").is_in(cells)
                & (pl.col("unit") == "weight")
                & (pl.col("texts") == "natural")
                & (pl.col("operand") == "pt")
            )
            scored = pruned.filter(
                pl.col("criterion") == "saliency", pl.col("k").is_between(1, FEW_WEIGHTS * size)
            )
            parts = scored.sort("k", "cell", maintain_order=True).group_by("k", maintain_order=True)
            tried += [("pruned", k, part, size) for (k,), part in parts]
            searched = pruned.filter(pl.col("criterion") == "search")
            found = searched.filter(pl.col("k") == pl.col("k").max().over("cell")).sort("cell")
            if size and not found.is_empty():
                tried.append(("searched", int(found["k"].to_numpy().max()), found, size))
    if not tried:
        return {}
    _, k, part, size = max(tried, key=lambda entry: entry[2]["accuracy"].mean())
    return {"restored": estimate(part["accuracy"].to_list(), 0.0, 1.0), "restored_share": k / size}


def _carried(inside: dict[str, pl.DataFrame], values: dict[str, Any], cells: list[str]) -> dict[str, Any]:
    """What probes and attention still carry, with the probes of models from scratch as control."""
    found: dict[str, Any] = {}
    if "probes" in inside:
        real = inside["probes"].filter((pl.col("target") == "pt") & (pl.col("labels") == "real"))
        same = equal({name: values[name] for name in ("capability", "task")})
        own = real.filter(pl.col("cell").is_in(cells))
        scratch = real.filter((pl.col("start") == "scratch") & (pl.col("stage") == "fine-tune"), *same)
        found["probe"] = _best_layer(own)
        found["probe_control"] = _best_layer(scratch)
    if "attention" in inside:
        found["attention"] = _attention_kept(inside["attention"], values, cells)
    return {name: value for name, value in found.items() if value is not None}


def _best_layer(probes: pl.DataFrame) -> Estimate | None:
    if probes.is_empty():
        return None
    best = probes.group_by("cell").agg(pl.col("accuracy").max()).sort("cell")
    return estimate(best["accuracy"].to_list(), 0.0, 1.0)


def _attention_kept(table: pl.DataFrame, values: dict[str, Any], cells: list[str]) -> Estimate | None:
    """Share of the capability's attention to O_PT that is left, in its head that looks there most."""
    asked = pl.col("asked").is_null() | (pl.col("asked") == "pt")
    on = table.filter((pl.col("kind") == "natural") & (pl.col("on") == "pt") & asked)
    first = on.filter(pl.col("stage") == "capability", *equal({n: values[n] for n in ("capability", "task")}))
    if first.is_empty():
        return None
    heads = first.group_by("block", "head").agg(pl.col("share").mean()).sort("share", "block", "head")
    head = heads.row(-1, named=True)
    here = (pl.col("block") == head["block"]) & (pl.col("head") == head["head"])
    own = on.filter(pl.col("cell").is_in(cells) & here).sort("cell")
    return estimate([share / head["share"] for share in own["share"].to_list()], 0.0) if len(own) else None


def known(table: pl.DataFrame) -> tuple[list[str], list[str]]:
    """Truths and verdicts of the constructed models among verdicts."""
    own = table.filter(pl.col("start").str.contains(KNOWN))
    return own["start"].str.split(":").list.first().to_list(), own["kind"].to_list()
