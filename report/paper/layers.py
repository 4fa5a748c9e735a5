"""Counterparts of the figures of Zhao, Ziser & Cohen 2024, drawn from the tables of a run of layers.

fig2-distributions: similarity over tasks by layer. fig3-clusters: the same by cluster. fig4-planes: prompts
on a plane by layer. fig5-dimensions. fig6-difficulty: correlations. fig7-unseen: tasks that were held out.
Figure 1 of the paper is a sketch.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from jaxtyping import Float

from veneer.experiments.layers.difficulty import by_layer
from veneer.experiments.layers.evidence import FEWEST_TASKS, Measured
from veneer.experiments.layers.result import rows_of
from veneer.experiments.layers.settings import Pair
from veneer.experiments.layers.store import LayersRun
from veneer.report.colours import ATTACKS
from veneer.report.paper.figures import COMMON, STYLES, written
from veneer.tasks.errors import InputError
from veneer.tasks.extras import need

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: dict[Pair, str] = {
    "base": ATTACKS[0],
    "multi-task": ATTACKS[1],
    "ceiling": ATTACKS[2],
    "floor": ATTACKS[6],
}
DASHES: dict[Pair, str] = {"ceiling": "--", "floor": ":"}
NAMED: dict[Pair, str] = {"base": "base", "multi-task": "multi-task", "ceiling": "ceiling", "floor": "floor"}
SHIFTS: dict[Pair, float] = {"base": -0.18, "multi-task": 0.18}
Size = tuple[float, float]


def layer_figures(run: LayersRun, style: str, out: str | os.PathLike[str]) -> list[Path]:
    """Write every figure that the run has tables for, as SVG and PDF.

    Raises:
        InputError: a style that does not exist, a run in which no task was learned, or files that cannot be
            written.
    """
    need("figures")
    import matplotlib as mpl

    if style not in STYLES:
        raise InputError("style", style, " or ".join(STYLES))
    measured = Measured(run)
    if not measured.kept() or not measured.seeds:
        raise InputError("run", str(run.path), "a run in which tasks were learned and compared")
    settings: dict[Any, Any] = {key: value for key, value in STYLES[style].items() if key != "panel"}
    paths: list[Path] = []
    with mpl.rc_context(COMMON | settings):
        for name, figure in _drawn(run, measured, STYLES[style]["panel"]):
            paths += written(figure, Path(out), name)
    return paths


def _drawn(run: LayersRun, measured: Measured, size: Size) -> Iterator[tuple[str, "Figure"]]:
    tasks, unseen = measured.kept(), measured.kept(True)
    yield "fig2-distributions", distributions(measured, [("", tasks)], size)
    clusters = run.lessons.clusters
    named = [
        (name, [task for task in tasks if clusters[task] == name])
        for name in dict.fromkeys(clusters[task] for task in tasks)
    ]
    yield "fig3-clusters", distributions(measured, named, size)
    pictures = run.pictures()
    if not pictures.is_empty():
        yield "fig4-planes", planes(pictures, size)
    yield "fig5-dimensions", dimensions(measured, tasks, size)
    if len(tasks) >= 4:
        yield "fig6-difficulty", difficulty(measured, tasks, size)
    if unseen:
        yield "fig7-unseen", distributions(measured, [("held out", unseen)], size)


def distributions(measured: Measured, groups: Sequence[tuple[str, Sequence[str]]], size: Size) -> "Figure":
    """Box plots of base and multi-task model over tasks by layer, with the medians of ceiling and floor.

    Of too few tasks for a spread there is the median alone.
    """
    figure, panels = _panels(len(groups), (1.6 * size[0], 1.3 * size[1]))
    layers = np.array(measured.layers)
    for axes, (name, tasks) in zip(panels, groups, strict=True):
        for pair, shift in SHIFTS.items():
            own = measured.by_task(pair, tasks)
            if len(tasks) < FEWEST_TASKS:
                axes.plot(layers, np.nanmedian(own, 0), color=COLOURS[pair], label=NAMED[pair])
            else:
                _boxes(axes, own, layers + shift, COLOURS[pair])
                axes.plot([], [], color=COLOURS[pair], linewidth=4, label=NAMED[pair])
        for pair in DASHES:
            own = measured.by_task(pair, tasks)
            if np.isfinite(own).any():
                middle = np.nanmedian(own, 0)
                axes.plot(layers, middle, DASHES[pair], color=COLOURS[pair], label=NAMED[pair])
        axes.set_title(name)
        axes.set_xlabel("after block")
        axes.set_xticks(layers[:: max(1, len(layers) // 8)])
    panels[0].set_ylabel("unbiased CKA")
    panels[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _boxes(
    axes: Any, values: Float[np.ndarray, "task layer"], places: Float[np.ndarray, "layer"], colour: str
) -> None:
    """A box of the tasks at each layer."""
    parts: Any = axes.boxplot(
        [column[np.isfinite(column)] for column in values.T],
        positions=places,
        widths=0.3,
        whis=(0, 100),
        patch_artist=True,
        manage_ticks=False,
        medianprops={"color": "black"},
    )
    for box in parts["boxes"]:
        box.set_facecolor(colour)


def planes(pictures: pl.DataFrame, size: Size) -> "Figure":
    """Prompts on a plane, coloured by cluster: first, middle and last layer of both models."""
    layers = sorted(pictures["layer"].unique().to_list())
    shown = list(dict.fromkeys((layers[0], layers[(len(layers) - 1) // 2], layers[-1])))
    models = ("base", "multi-task")
    figure, panels = _panels(len(models) * len(shown), (size[0], size[0]), len(shown))
    names = list(dict.fromkeys(pictures["cluster"].to_list()))
    places = ((model, layer) for model in models for layer in shown)
    for axes, (model, layer) in zip(panels, places, strict=True):
        for i, name in enumerate(names):
            own = pictures.filter(
                pl.col("model") == model, pl.col("layer") == layer, pl.col("cluster") == name
            )
            marker, colour = "os^Dvph"[i % 7], ATTACKS[i % len(ATTACKS)]
            axes.scatter(own["x"], own["y"], s=4, marker=marker, color=colour, label=name)
        axes.set_title(f"{model}, after block {layer}")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(visible=False)
    panels[len(shown) - 1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def dimensions(measured: Measured, tasks: Sequence[str], size: Size) -> "Figure":
    """Dimensions for 99 % of the variance, mean over tasks and seeds, by layer."""
    figure, (axes,) = _panels(1, (1.4 * size[0], 1.3 * size[1]))
    rows = rows_of(measured, tuple(tasks))
    pairs: tuple[Pair, ...] = ("base", "multi-task")
    for i, pair in enumerate(pairs):
        values = [row.dimensions[i] for row in rows]
        axes.plot([row.layer for row in rows], values, "o-", color=COLOURS[pair], label=NAMED[pair])
    axes.set_xlabel("after block")
    axes.set_ylabel("dimensions, 99 %")
    axes.legend()
    return figure


def difficulty(measured: Measured, tasks: Sequence[str], size: Size) -> "Figure":
    """Correlation over tasks of similarity with difficulty and size, by layer."""
    found = by_layer(measured, tasks)
    names = list(found["base"])
    figure, panels = _panels(len(names), (1.2 * size[0], 1.2 * size[1]))
    pairs: tuple[Pair, ...] = ("base", "multi-task")
    for axes, name in zip(panels, names, strict=True):
        for pair in pairs:
            values = [np.nan if value is None else value for value in found[pair][name]]
            axes.plot(measured.layers, values, "o-", color=COLOURS[pair], label=NAMED[pair])
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set_ylim(-1, 1)
        axes.set_title(name)
        axes.set_xlabel("after block")
    panels[0].set_ylabel("Pearson's r")
    panels[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _panels(count: int, size: Size, columns: int = 3) -> tuple["Figure", list["Axes"]]:
    """A figure with so many panels of one size, and no others."""
    from matplotlib.figure import Figure

    across = min(columns, count)
    down = -(-count // across)
    figure = Figure((across * size[0] + 1.2, down * size[1] + 0.3), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).flatten()
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, list(grid[:count])
