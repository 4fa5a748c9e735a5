"""The page of a run of decisions: what the insides say, then the counterparts of Lin's Figures 2 to 5.

One file that loads nothing and needs no script. What is compared is of the seeds whose two trained arms
decide equally well; pictures of single models are of the first of these.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from veneer.analysis.revival import Estimate
from veneer.experiments.cddm.evidence import MATCHED, Measured
from veneer.experiments.cddm.prompts import TOKENS
from veneer.experiments.cddm.result import Comparison, rows
from veneer.experiments.cddm.settings import NAMES, Arm
from veneer.experiments.cddm.store import DecisionsRun
from veneer.language.cddm import COHERENCES, FEATURES, SIDES, trials
from veneer.report.colours import ATTACKS
from veneer.report.drawing import bars, cells, scatter
from veneer.report.line_chart import PERCENT, Line, chart
from veneer.report.plain_page import rendered, write_page

ARM_COLOURS: dict[Arm, str] = {
    "pretrained": ATTACKS[6],
    "fine-tuned": ATTACKS[0],
    "scratch": ATTACKS[1],
    "shuffled": ATTACKS[3],
}
TRAINED: tuple[Arm, ...] = ("fine-tuned", "scratch", "shuffled")
BESIDE: tuple[Arm, ...] = ("fine-tuned", "scratch")
COLOURED = ("context", "choice", "motion", "color")
"""Variables by which the picture of last tokens is coloured."""
CLASSES: dict[str, tuple[str, ...]] = {
    "context": FEATURES,
    "choice": SIDES,
    "motion": SIDES,
    "color": SIDES,
    "congruence": ("incongruent", "congruent"),
    "coherence": tuple(map(str, COHERENCES)),
    "token": TOKENS,
}
WORDS = {"yes": "unchanged", "no": "rewritten", "void": "undecided", "not decided": "undecided"}
"""Answers as the style sheet's kinds."""


def write_decisions_page(run: DecisionsRun, comparisons: Sequence[Comparison]) -> Path:
    """Write ``report.html`` into the run's folder, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    return write_page(run.path, render(run, comparisons))


def render(run: DecisionsRun, comparisons: Sequence[Comparison]) -> str:
    """The page as text."""
    measured, settings, inputs = Measured(run), run.settings, run.inputs()
    matched = measured.matched()
    seed = matched[0] if matched else 0
    example = next(trials(1, templates=settings.templates))
    values: dict[str, Any] = dict(
        comparisons=comparisons,
        words=WORDS,
        settings=asdict(settings),
        rows=rows(run),
        matched=matched,
        lacking=[f"“{NAMES[arm]}”" for arm in BESIDE if arm not in settings.arms],
        margin=round(100 * MATCHED),
        example=(example.prompt, example.answer.strip()),
        curves=Markup(_curves(measured)),
        legend=[(ARM_COLOURS[arm], NAMES[arm]) for arm in TRAINED],
        ablations=[own for how in ("zero", "mean") if (own := _ablations(measured, how))],
        likeness=_likeness(measured),
        units=_units(measured),
        one_unit=[(NAMES[arm], Markup(own)) for arm in BESIDE if (own := _one_unit(measured, arm, seed))],
        pictures=_pictures(measured, seed),
        silhouettes=_silhouettes(measured),
        unstable=_unstable(measured),
        maps=[(NAMES[arm], own) for arm in BESIDE if (own := _maps(measured, arm, seed))],
        looks=_looks(measured),
        seed=seed,
        hashes=[(file, sha) for files in inputs["models"].values() for file, sha in files.items()],
        environment=inputs["environment"],
        unfinished=len(run.pending()) if (run.path / "trials").exists() else 0,
        trials=len(run.trials()),
    )
    return rendered("cddm.html.jinja", values, told=told)


def told(measured: Estimate, digits: int = 2, scale: float = 1.0) -> str:
    """A mean with its interval."""
    if measured.value is None:
        return "–"
    shown = f"{round(scale * measured.value, digits) + 0.0:,.{digits}f}"
    if measured.low is None or measured.high is None:
        return shown
    low, high = (f"{scale * end:,.{digits}f}" for end in (measured.low, measured.high))
    return f"{shown} ({low} to {high})"


def _curves(measured: Measured) -> str:
    """Accuracy over updates, a line for each arm and seed."""
    lines = []
    for arm in TRAINED:
        own = measured.curves.filter(pl.col("arm") == arm).sort("seed", "step")
        for _, curve in own.group_by("seed", maintain_order=True):
            lines.append(Line(curve.select("step", "accuracy").rows(), ARM_COLOURS[arm], 2))
    return chart(lines, PERCENT, "Accuracy on held-out numbers, in percent, over updates")


def _ablations(measured: Measured, how: str) -> dict[str, Any] | None:
    """Points of accuracy that each head costs, mean over seeds, and nats that it costs ordinary texts."""
    grids: list[tuple[str, list[list[tuple[str, float]]]]] = []
    for arm in TRAINED:
        own = measured.of("ablation", arm)
        if own.is_empty():
            continue
        rows_of = own.filter(kind="head", how=how)
        if rows_of.is_empty():
            return None
        if kept := measured.matched(arm if arm != "fine-tuned" else "scratch"):
            rows_of = rows_of.filter(pl.col("seed").is_in(kept))
        grids.append((f"{NAMES[arm]}, points", _grid(rows_of, "accuracy_lost", 100, "{:.0f}")))
    generic = measured.of("generic", "pretrained")
    heads = generic if generic.is_empty() else generic.filter(kind="head", how=how)
    if not heads.is_empty():
        grids.append(("Ordinary texts before fine-tuning, nats", _grid(heads, "loss_gained", 1, "{:.2f}")))
    return {"how": how, "grids": grids} if grids else None


def _grid(table: pl.DataFrame, effect: str, scale: float, form: str) -> list[list[tuple[str, float]]]:
    """By block and head: the number as text, and its share of the largest."""
    means = table.group_by("block", "head").agg(pl.col(effect).mean()).sort("block", "head")
    most = max([*(abs(own) for own in means[effect]), 1e-9])
    found = []
    for _, own in means.group_by("block", maintain_order=True):
        found.append(
            [(form.format(scale * value + 0.0), 100 * max(0.0, value) / most) for value in own[effect]]
        )
    return found


def _likeness(measured: Measured) -> list[tuple[str, list[str]]]:
    """CKA with the pretrained model by residual stream, mean over seeds."""
    found = []
    for arm in TRAINED:
        own = measured.of("similarity", arm)
        if not own.is_empty():
            means = own.group_by("residual").agg(pl.col("cka").mean()).sort("residual")
            shown = ["–" if value is None else f"{value:.2f}" for value in means["cka"]]
            found.append((NAMES[arm], shown))
    return found


def _units(measured: Measured) -> list[tuple[str, list[str], str]]:
    """Of the units at the last token, the percent that tell each variable, and that tell two or more."""
    found = []
    for arm in NAMES:
        own = measured.of("units", arm)
        if own.is_empty():
            continue
        shares = dict(own.group_by("variable").agg(pl.col("significant").mean()).iter_rows())
        mixed = list(measured.mixed(arm).values())
        several = f"{100 * sum(mixed) / len(mixed):.0f}"
        found.append((NAMES[arm], [f"{100 * shares[name]:.0f}" for name in _variables()], several))
    return found


def _variables() -> list[str]:
    return [name for name in CLASSES if name != "token"]


def _one_unit(measured: Measured, arm: Arm, seed: int) -> str:
    """Accuracy of reading the choice from one unit at each token."""
    own = measured.of("one-unit", arm, seed)
    if own.is_empty():
        return ""
    rows_of = own.filter(variable="choice").select("token", "accuracy", "deviation", "shuffled").rows()
    ordered = sorted(rows_of, key=lambda row: TOKENS.index(row[0]))
    return bars(ordered, f"{NAMES[arm]}: the choice read from one unit, by token, in percent")


def _pictures(measured: Measured, seed: int) -> list[dict[str, Any]]:
    """States on a plane: by token, and at the last token by variable, of the last way that was asked for."""
    ways = measured.settings.embeddings
    if not ways:
        return []
    found = []
    for variable in ("token", *COLOURED):
        picture = "all tokens" if variable == "token" else "last token"
        drawn = []
        for arm in ("pretrained", *BESIDE):
            own = measured.of("points", arm, 0 if arm == "pretrained" else seed)  # pyright: ignore[reportArgumentType]
            if own.is_empty():
                continue
            shown = own.filter(picture=picture, way=ways[-1]).select("x", "y", variable).rows()
            name = NAMES[arm]  # pyright: ignore[reportArgumentType]
            drawn.append((name, Markup(scatter(shown, f"{name}, by {variable}"))))
        legend = [(ATTACKS[i % len(ATTACKS)], name) for i, name in enumerate(CLASSES[variable])]
        if drawn:
            found.append({"variable": variable, "drawn": drawn, "legend": legend, "way": ways[-1]})
    return found


def _silhouettes(measured: Measured) -> list[tuple[str, list[str]]]:
    """Silhouettes of each variable in all units of the last stream, mean over seeds."""
    found = []
    for arm in NAMES:
        own = measured.of("silhouettes", arm)
        if own.is_empty():
            continue
        last = own.filter(way="all units").filter(pl.col("layer") == pl.col("layer").max())
        means = dict(last.group_by("variable").agg(pl.col("separation").mean()).iter_rows())
        found.append((NAMES[arm], [f"{round(means[name], 2) + 0.0:.2f}" for name in _variables()]))
    return found


def _unstable(measured: Measured) -> list[str]:
    """Pictures whose neighbours depend on the seed more than on the data."""
    table = measured.table("silhouettes")
    if "stable" not in table.columns:
        return []
    rows_of = table.filter(~pl.col("stable")).select("arm", "seed", "picture", "way").unique().sort(pl.all())
    return [f"{NAMES[arm]}, seed {seed}: {picture} by {way}" for arm, seed, picture, way in rows_of.rows()]


def _maps(measured: Measured, arm: Arm, seed: int) -> list[tuple[str, Markup]]:
    """Attention of the heads whose ablation costs most, averaged over prompts."""
    own = measured.of("maps", arm, seed)
    found = []
    if own.is_empty():
        return found
    names = dict(
        [*own.select("query", "query_token").iter_rows(), *own.select("key", "key_token").iter_rows()]
    )
    labels = [names.get(place, "") for place in range(max(names) + 1)]
    for (block, head), rows_of in own.group_by("block", "head", maintain_order=True):
        name = f"block {block}, head {head}"
        drawn = cells(rows_of.select("query", "key", "weight").rows(), labels, f"{NAMES[arm]}, {name}")
        found.append((name, Markup(drawn)))
    return found


def _looks(measured: Measured) -> list[tuple[str, str, list[str]]]:
    """Of each block's costliest head, the last token's attention by role, over an even share, in points."""
    found = []
    for arm in BESIDE:
        blocks = measured.of("ablation", arm)
        for block in [] if blocks.is_empty() else range(blocks["block"].n_unique()):
            shares = [measured.looks_at(arm, role, block) for role in ("context", "relevant", "irrelevant")]
            means = [100 * sum(own.values()) / len(own) if own else 0.0 for own in shares]
            found.append((NAMES[arm], str(block), [f"{own:+.0f}" for own in means]))
    return found
