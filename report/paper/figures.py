"""Figures of a run for print: matplotlib counterparts of the figures of Jain et al. 2024.

Drawn from the run's tables alone, as SVG and PDF, the same bytes each time. Here it is decided what is
drawn and in which style; the figures are functions from tables in ``veneer.report.paper.panels`` and
``veneer.report.paper.maps``.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from veneer.experiments.analysis_tables import read_analysis
from veneer.experiments.content import Content, ReadRun, read_content
from veneer.experiments.store import Run
from veneer.report.colours import ROLES
from veneer.report.paper.maps import attention
from veneer.report.paper.panels import Known, behaviour, jailbreak, probes, pruning, reft
from veneer.report.stored_task import learned, task_tokens
from veneer.tasks.errors import InputError
from veneer.tasks.extras import need

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLES: dict[str, dict[str, Any]] = {
    "paper": {"font.size": 8, "lines.linewidth": 1.2, "lines.markersize": 3, "panel": (1.75, 1.35)},
    "talk": {"font.size": 13, "lines.linewidth": 2.2, "lines.markersize": 5, "panel": (3.2, 2.4)},
}
COMMON: dict[Any, Any] = {
    "svg.hashsalt": "veneer",
    "mathtext.default": "regular",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": ROLES["grid"],
    "grid.linewidth": 0.5,
    "legend.frameon": False,
}


def figures(run: Run, style: str, out: str | os.PathLike[str]) -> list[Path]:
    """Write every figure that the run has tables for.

    One file per figure and capability, as NAME-CAPABILITY.svg and .pdf: behaviour (Fig. 5, 6), reft
    (Fig. 9, 27, 28), pruning (Fig. 7, 55), probes (Fig. 8), attention (Fig. 10, 44), jailbreak (Fig. 24).
    ``veneer.report.paper.counterparts`` says what those that are not drawn need.

    Args:
        run: a run with finished cells; pruning, probes and jailbreak need ``veneer analyse``.
        style: "paper" (8 points, one column of a page) or "talk" (13 points).
        out: folder, made if it is not there.

    Raises:
        InputError: a style that does not exist, a run without finished cells, or files that cannot be
            read or written.
    """
    need("figures")
    import matplotlib as mpl

    out = Path(out)
    if style not in STYLES:
        raise InputError("style", style, " or ".join(STYLES))
    run = ReadRun(run.path)
    content = read_content(run)
    settings: dict[Any, Any] = {key: value for key, value in STYLES[style].items() if key != "panel"}
    paths: list[Path] = []
    with mpl.rc_context(COMMON | settings):
        for name in content.names:
            for title, figure in _drawn(run, content, name, STYLES[style]["panel"]):
                paths += written(figure, out, f"{title}-{name}")
    return paths


def _drawn(
    run: Run, content: Content, name: str, size: tuple[float, float]
) -> Iterator[tuple[str, "Figure"]]:
    metrics = run.metrics().filter(pl.col("capability") == name)
    accuracy = metrics.filter(pl.col("measure") == "accuracy")
    tuned = accuracy.filter((pl.col("stage") == "fine-tune") & (pl.col("start") == "capability"))
    back = accuracy.filter(
        (pl.col("stage") == "reft") & (pl.col("texts") == "natural") & (pl.col("operand") == "pt")
    )
    known = _known(content, name)
    if not tuned.is_empty():
        yield "behaviour", behaviour(tuned, size, known)
    if not back.filter(pl.col("start") == "capability").is_empty():
        yield "reft", reft(back, size, known)
    for title, draw in (("pruning", pruning), ("probes", probes)):
        if title in content.analyses:
            own = content.analyses[title].filter(pl.col("capability") == name)
            if not own.is_empty():
                yield title, draw(own, size, learned(content.experiment), known)
    maps = attention(run, content, name, size)
    if maps is not None:
        yield "attention", maps
    asked = jailbreak_table(run)
    first = content.first_of(name)
    if asked is not None and first is not None:
        tokens = task_tokens(content.experiment, first.model)
        own = asked.filter((pl.col("capability") == name) & (pl.col("texts") == "natural"))
        if not own.filter(pl.col("stage") == "fine-tune").is_empty():
            yield "jailbreak", jailbreak(own, tuned, tokens, size, known)


def _known(content: Content, name: str) -> Known:
    shares = [] if content.metrics is None else content.metrics["c_tr"].drop_nulls().unique().to_list()
    guess = {texts: own["majority"] for texts, own in content.baselines.get(name, {}).items()}
    return Known(tuple(sorted(shares)), guess)


def jailbreak_table(run: Run) -> pl.DataFrame | None:
    """What ``veneer analyse`` found by asking through each task token, if it did.

    Raises:
        InputError: the table is damaged.
    """
    return read_analysis(run.path, "jailbreak")


def written(figure: "Figure", out: Path, name: str) -> list[Path]:
    """A figure as SVG and PDF, whole or refused; the files."""
    paths = [out / f"{name}.svg", out / f"{name}.pdf"]
    try:
        out.mkdir(parents=True, exist_ok=True)
        figure.savefig(paths[0], metadata={"Date": None})
        figure.savefig(paths[1], metadata={"CreationDate": None})
    except OSError as error:
        raise InputError("out", str(out), "a folder that can be written", str(error)) from error
    return paths
