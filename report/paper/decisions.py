"""Figures of a run of decisions for print: counterparts of Figures 2 to 5 of Lin (2024).

Drawn from the run's tables, as SVG and PDF: embedding (Fig. 2), decoding (Fig. 3), ablation (Fig. 4) and
attention (Fig. 5). Ablation is the mean over the seeds whose arms decide equally well; the others are of the
first of these.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from veneer.experiments.cddm.evidence import Measured
from veneer.experiments.cddm.prompts import TOKENS
from veneer.experiments.cddm.settings import NAMES, Arm
from veneer.experiments.cddm.store import DecisionsRun
from veneer.report.colours import ATTACKS, ROLES
from veneer.report.paper.figures import COMMON, STYLES, written
from veneer.tasks.errors import InputError
from veneer.tasks.extras import need

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARMS: tuple[Arm, ...] = ("fine-tuned", "scratch")
COLOURED = ("token", "context", "choice", "motion", "color")
FIGURES = ("embedding", "decoding", "ablation", "attention")


def decision_figures(run: DecisionsRun, style: str, out: str | os.PathLike[str]) -> list[Path]:
    """Write every figure that the run has tables for.

    Args:
        run: with looks that are done.
        style: as of ``veneer.report.paper.figures.figures``.
        out: folder, made if it is not there.

    Raises:
        InputError: a style that does not exist, a run that has not been looked into, files that cannot be
            written.
    """
    need("figures")
    import matplotlib as mpl

    if style not in STYLES:
        raise InputError("style", style, " or ".join(STYLES))
    measured = Measured(run)
    if not measured.seeds("fine-tuned"):
        raise InputError("run", str(run.path), "a run with a fine-tuned model that has been looked into")
    settings: dict[Any, Any] = {key: value for key, value in STYLES[style].items() if key != "panel"}
    paths: list[Path] = []
    settings["axes.grid"] = False
    with mpl.rc_context(COMMON | settings):
        for title, figure in _drawn(measured, STYLES[style]["panel"]):
            paths += written(figure, Path(out), title)
    return paths


def _drawn(measured: Measured, size: tuple[float, float]) -> Iterator[tuple[str, "Figure"]]:
    matched = measured.matched()
    seed = matched[0] if matched else 0
    if measured.settings.embeddings:
        yield "embedding", embedding(measured, seed, size)
    yield "decoding", decoding(measured, seed, size)
    yield "ablation", ablation(measured, matched or measured.seeds("fine-tuned"), size)
    yield "attention", attention(measured, seed, size)


def _panels(rows: int, columns: int, size: tuple[float, float]) -> tuple["Figure", np.ndarray]:
    from matplotlib import pyplot as plt

    width, height = size
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * width, rows * height), squeeze=False, layout="constrained"
    )
    plt.close(figure)
    return figure, axes


def embedding(measured: Measured, seed: int, size: tuple[float, float]) -> "Figure":
    """Last-layer states on a plane, by token and by variable (Fig. 2)."""
    figure, axes = _panels(len(ARMS), len(COLOURED), size)
    way = measured.settings.embeddings[-1]
    for line, arm in zip(axes, ARMS, strict=True):
        own = measured.of("points", arm, seed).filter(way=way)
        for panel, variable in zip(line, COLOURED, strict=True):
            rows = own.filter(picture="all tokens" if variable == "token" else "last token")
            colours = [ATTACKS[kind % len(ATTACKS)] for kind in rows[variable]]
            panel.scatter(rows["x"], rows["y"], c=colours, s=2, linewidths=0)
            panel.set(xticks=[], yticks=[], title=variable if arm == ARMS[0] else "")
        line[0].set_ylabel(NAMES[arm].replace(" and ", "\nand "))
    return figure


def decoding(measured: Measured, seed: int, size: tuple[float, float]) -> "Figure":
    """What can be read from one unit at each token, with shuffled labels (Fig. 3)."""
    figure, axes = _panels(len(ARMS), 4, size)
    for line, arm in zip(axes, ARMS, strict=True):
        own = measured.of("one-unit", arm, seed)
        for panel, variable in zip(line, COLOURED[1:], strict=True):
            rows = {row["token"]: row for row in own.filter(variable=variable).to_dicts()}
            places = range(len(TOKENS))
            values = [rows[token]["accuracy"] if token in rows else np.nan for token in TOKENS]
            spread = [rows[token]["deviation"] if token in rows else 0.0 for token in TOKENS]
            chance = [rows[token]["shuffled"] if token in rows else np.nan for token in TOKENS]
            panel.bar(places, values, yerr=spread, color=ROLES["old"], width=0.7)
            panel.plot(places, chance, color=ROLES["new"], linestyle="--")
            panel.set(ylim=(0, 1), xticks=list(places), title=variable if arm == ARMS[0] else "")
            panel.set_xticklabels(TOKENS if arm == ARMS[-1] else [], rotation=90)
        line[0].set_ylabel(NAMES[arm].replace(" and ", "\nand "))
    return figure


def ablation(measured: Measured, seeds: list[int], size: tuple[float, float]) -> "Figure":
    """Share of right decisions without each head (Fig. 4)."""
    figure, axes = _panels(1, len(ARMS), size)
    for panel, arm in zip(axes[0], ARMS, strict=True):
        own = measured.of("ablation", arm).filter(kind="head", how="zero").filter(pl.col("seed").is_in(seeds))
        means = own.group_by("block", "head").agg(pl.col("accuracy").mean()).sort("block", "head")
        grid = means["accuracy"].to_numpy().reshape(means["block"].n_unique(), -1)
        image = panel.imshow(grid, vmin=0.5, vmax=1.0, cmap="viridis", origin="lower", aspect="auto")
        panel.set(title=NAMES[arm], xlabel="head", ylabel="block")
        panel.set(xticks=range(grid.shape[1]), yticks=range(grid.shape[0]))
    figure.colorbar(image, ax=axes, label="share right")
    return figure


def attention(measured: Measured, seed: int, size: tuple[float, float]) -> "Figure":
    """Attention averaged over prompts, of the heads whose ablation costs most (Fig. 5)."""
    width, height = size
    own = measured.of("maps", "fine-tuned", seed)
    heads = own.select("block", "head").unique(maintain_order=True).rows()
    figure, axes = _panels(1, max(1, len(heads)), (width * 1.4, height * 1.8))
    names = dict(
        [*own.select("query", "query_token").iter_rows(), *own.select("key", "key_token").iter_rows()]
    )
    for panel, (block, head) in zip(axes[0], heads, strict=False):
        grid = np.zeros((len(names), len(names)))
        for query, key, weight in (
            own.filter(block=block, head=head).select("query", "key", "weight").iter_rows()
        ):
            grid[key, query] = weight
        panel.imshow(grid, vmin=0, cmap="Purples", aspect="auto")
        labels = [names[place] for place in sorted(names)]
        panel.set(title=f"block {block}, head {head}", xticks=range(len(labels)), yticks=range(len(labels)))
        panel.set_xticklabels(labels, rotation=90, fontsize=3)
        panel.set_yticklabels(labels, fontsize=3)
        panel.set(xlabel="destination")
    axes[0][0].set_ylabel("source")
    return figure
