"""The page of a run of layers: the map of layers with its sentence, then what it rests on.

One file that loads nothing and needs no script: its charts are drawn as SVG.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from markupsafe import Markup

from veneer.experiments.layers.difficulty import by_layer
from veneer.experiments.layers.known import located, told_known
from veneer.experiments.layers.result import Result
from veneer.experiments.layers.settings import PAIRS, Pair
from veneer.experiments.layers.store import LayersRun
from veneer.report.colours import ATTACKS
from veneer.report.layer_chart import Layered, layer_chart, levels_of
from veneer.report.plain_page import rendered, write_page
from veneer.report.scatter import Cloud, scatter

LINES: dict[Pair, tuple[str, str, bool]] = {
    "base": (ATTACKS[0], "", True),
    "multi-task": (ATTACKS[1], "", True),
    "ceiling": (ATTACKS[2], "7 4", False),
    "floor": (ATTACKS[6], "2 4", False),
    "other task": (ATTACKS[3], "9 3 2 3", False),
}
"""Colour, dash and whether there is a band, of each pair that is drawn."""
SMALL: tuple[Pair, ...] = ("base", "multi-task", "ceiling", "floor")
"""Pairs in the small charts."""


def write_layers_page(run: LayersRun, result: Result) -> Path:
    """Write ``report.html`` into the run's folder, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    return write_page(run.path, render(run, result))


def render(run: LayersRun, result: Result) -> str:
    """The page as text."""
    inputs, known = run.inputs(), run.known()
    tasks, unseen = result.measured.kept(), result.measured.kept(True)
    values: dict[str, Any] = dict(
        sentence=result.sentence,
        learned=result.measured.learned,
        kept=len(tasks),
        seen=len(run.lessons.seen),
        rows=result.rows,
        pairs={pair: name for pair, name in PAIRS.items() if result.rows and pair in result.rows[0].medians},
        map=Markup(map_of(result, tasks, tuple(LINES))),
        legend=[(colour, PAIRS[pair], dash, pair) for pair, (colour, dash, _) in LINES.items()],
        clusters=_clusters(result),
        unseen=Markup(map_of(result, unseen, SMALL)),
        unseen_tasks=unseen,
        dimensions=Markup(_dimensions(result)),
        silhouettes=Markup(_silhouettes(run.separation())),
        pictures=_pictures(run.pictures()),
        way=run.pictures()["way"].first() if run.settings.mapped else "",
        cluster_colours=_cluster_colours(run),
        difficulty=_difficulty(result, tasks),
        known=[] if known is None else located(known),
        known_told="" if known is None else told_known(known),
        settings=asdict(run.settings),
        hashes=[(own, file, sha) for own, files in inputs["models"].items() for file, sha in files.items()],
        environment=inputs["environment"],
        unfinished=len(run.pending()),
        trials=len(run.trials()),
    )
    return rendered("layers.html.jinja", values)


def map_of(result: Result, tasks: Sequence[str], pairs: Sequence[Pair]) -> str:
    """Medians over tasks by layer, with quartiles around base and multi-task model; empty for no tasks."""
    measured = result.measured
    if not tasks or not measured.seeds:
        return ""
    lines = []
    for pair in pairs:
        own = measured.by_task(pair, tasks)
        if np.isnan(own).all():
            continue
        colour, dash, banded = LINES[pair]
        low, high = np.nanquantile(own, [0.25, 0.75], axis=0)
        band = list(zip(low.tolist(), high.tolist(), strict=True)) if banded and len(tasks) > 3 else []
        lines.append(Layered(np.nanmedian(own, 0).tolist(), colour, band, dash))
    found = result.sections.sections if result.sections else None
    shaded = (0, 0) if found is None else (found.transition + 1, found.refinement + 1)
    values = [value for line in lines for value in line.values if value is not None]
    values += [edge for line in lines for pair_of in line.band for edge in pair_of]
    return layer_chart(lines, levels_of(values, min(0.0, *values), 1.0), "Similarity by layer", shaded)


def _clusters(result: Result) -> list[tuple[str, str, Markup]]:
    """A chart for each cluster with its tasks."""
    clusters = result.measured.run.lessons.clusters
    found = []
    for cluster in dict.fromkeys(clusters.values()):
        tasks = [task for task in result.measured.kept() if clusters[task] == cluster]
        if drawn := map_of(result, tasks, SMALL):
            found.append((cluster, ", ".join(tasks), Markup(drawn)))
    return found


def _dimensions(result: Result) -> str:
    lines = [
        Layered([row.dimensions[i] for row in result.rows], LINES[pair][0])
        for i, pair in enumerate(("base", "multi-task"))
    ]
    values = [value for line in lines for value in line.values if value is not None]
    return layer_chart(lines, levels_of(values), "Dimensions by layer") if values else ""


def _silhouettes(table: pl.DataFrame) -> str:
    if table.is_empty():
        return ""
    lines = []
    for model in ("base", "multi-task"):
        own = table.filter(pl.col("model") == model).group_by("layer").agg(pl.col("silhouette").mean())
        if not own.is_empty():
            lines.append(Layered(own.sort("layer")["silhouette"].to_list(), LINES[model][0]))
    values = [value for line in lines for value in line.values if value is not None]
    return layer_chart(lines, levels_of(values), "Silhouettes of clusters by layer")


def _cluster_colours(run: LayersRun) -> list[tuple[str, str]]:
    names = dict.fromkeys(run.lessons.clusters[task] for task in run.lessons.seen)
    return [(name, ATTACKS[i % len(ATTACKS)]) for i, name in enumerate(names)]


def _pictures(table: pl.DataFrame) -> list[tuple[str, int, Markup]]:
    """Three layers of both models on a plane."""
    if table.is_empty():
        return []
    last = int(table["layer"].max())  # pyright: ignore[reportArgumentType]
    names = list(dict.fromkeys(table["cluster"].to_list()))
    found = []
    for model in ("base", "multi-task"):
        for layer in dict.fromkeys((1, (last + 1) // 2, last)):
            own = table.filter(pl.col("model") == model, pl.col("layer") == layer)
            if own.is_empty():
                continue
            clouds = [
                Cloud(
                    own.filter(pl.col("cluster") == name).select("x", "y").rows(),
                    ATTACKS[i % len(ATTACKS)],
                    i,
                )
                for i, name in enumerate(names)
            ]
            found.append((model, layer, Markup(scatter(clouds, f"{model}, layer {layer}"))))
    return found


def _difficulty(result: Result, tasks: Sequence[str]) -> list[tuple[str, str, list[str]]]:
    """Correlations over tasks, by model, measure and layer."""
    if len(tasks) < 4 or not result.measured.seeds:
        return []
    return [
        (model, name, ["–" if value is None else f"{value:.2f}" for value in values])
        for model, measures in by_layer(result.measured, tasks).items()
        for name, values in measures.items()
    ]
