"""Figures of a run for print: matplotlib counterparts of the figures of Jain et al. 2024.

Drawn from the run's tables alone, as SVG and PDF, the same bytes each time. Lines are means over
seeds, bands go from the least to the greatest seed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from safetensors.numpy import load_file

from tasks.errors import InputError
from veneer.figures import NAMES, OPERAND_COLOURS, c_tr_colour
from veneer.report_content import Content, ReadRun, read_content
from veneer.store import Run
from veneer.stored_task import learned, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLES: dict[str, dict[str, Any]] = {
    "paper": {"font.size": 8, "lines.linewidth": 1.2, "lines.markersize": 3, "panel": (1.75, 1.35)},
    "talk": {"font.size": 13, "lines.linewidth": 2.2, "lines.markersize": 5, "panel": (3.2, 2.4)},
}
COMMON: dict[Any, Any] = {
    "svg.hashsalt": "veneer",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
}
GREY = {"Scr. + FT": "#595959", "Scr.": "#A6A6A6"}


def figures(run: Run, style: str, out: Path) -> list[Path]:
    """Write every figure that the run has tables for.

    One file per figure and capability, as NAME-CAPABILITY.svg and .pdf: behaviour (Fig. 5, 6), reft
    (Fig. 9, 27, 28), pruning (Fig. 7, 55), probes (Fig. 8), attention (Fig. 10, 44).

    Args:
        run: a run with finished cells; pruning and probes need ``veneer analyse``.
        style: "paper" (8 points, one column of a page) or "talk" (13 points).
        out: folder, made if it is not there.

    Raises:
        InputError: a style that does not exist, a run without finished cells, or files that cannot be
            read or written.
    """
    import matplotlib as mpl

    if style not in STYLES:
        raise InputError("style", style, " or ".join(STYLES))
    run = ReadRun(run.path)
    content = read_content(run)
    settings: dict[Any, Any] = {key: value for key, value in STYLES[style].items() if key != "panel"}
    paths: list[Path] = []
    with mpl.rc_context(COMMON | settings):
        for name in content.names:
            for title, figure in _drawn(run, content, name, STYLES[style]["panel"]):
                paths += _written(figure, out, f"{title}-{name}")
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
    if not tuned.is_empty():
        yield "behaviour", behaviour(tuned, size)
    if not back.filter(pl.col("start") == "capability").is_empty():
        yield "reft", reft(back, size)
    for title, draw in (("pruning", pruning), ("probes", probes)):
        if title in content.analyses:
            own = content.analyses[title].filter(pl.col("capability") == name)
            if not own.is_empty():
                yield title, draw(own, size, learned(content.experiment))
    maps = attention(run, content, name, size)
    if maps is not None:
        yield "attention", maps


def _written(figure: "Figure", out: Path, name: str) -> list[Path]:
    paths = [out / f"{name}.svg", out / f"{name}.pdf"]
    try:
        out.mkdir(parents=True, exist_ok=True)
        figure.savefig(paths[0], metadata={"Date": None})
        figure.savefig(paths[1], metadata={"CreationDate": None})
    except OSError as error:
        raise InputError("out", str(out), "a folder that can be written", str(error)) from error
    return paths


def _grid(rows: int, columns: int, size: tuple[float, float]) -> tuple["Figure", "np.ndarray[Any, Any]"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] * columns + 0.4, size[1] * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex="row", sharey=True)
    return figure, axes


def _line(axis: "Axes", table: pl.DataFrame, x: str, y: str, **look: Any) -> None:
    """Mean over all rows of one x, in a band from the least to the greatest."""
    summed = table.group_by(x).agg(mean=pl.col(y).mean(), least=pl.col(y).min(), greatest=pl.col(y).max())
    places = summed.sort(x)
    axis.plot(places[x], 100 * places["mean"], **look)
    if places["least"].to_list() != places["greatest"].to_list():
        axis.fill_between(
            places[x], 100 * places["least"], 100 * places["greatest"], color=look["color"], alpha=0.2, lw=0
        )


def _finish(figure: "Figure", axes: "np.ndarray[Any, Any]", below: str) -> None:
    for axis in axes.flat:
        axis.set_ylim(-4, 104)
    for axis in axes[-1]:
        axis.set_xlabel(below)
    handles: dict[str, Any] = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2 * axes.shape[1])


def _rates(table: pl.DataFrame, column: str) -> list[float]:
    return sorted(table[column].drop_nulls().unique().to_list(), reverse=True)


def _updates(axis: "Axes", table: pl.DataFrame) -> None:
    steps = [step for step in table["step"].unique().to_list() if step > 0]
    axis.set_xscale("symlog", linthresh=min(steps, default=1), linscale=0.4)
    axis.set_xlim(left=0)


def behaviour(tuned: pl.DataFrame, size: tuple[float, float]) -> "Figure":
    """Accuracy during fine-tuning: a column per rate, a row per operand and C_Te, colours for C_Tr."""
    rates, shares = _rates(tuned, "learning_rate"), sorted(tuned["c_tr"].unique().to_list())
    rows = [(operand, texts) for texts in ("correlated", "uncorrelated") for operand in ("pt", "ft")]
    figure, axes = _grid(len(rows), len(rates), size)
    for row, (operand, texts) in zip(axes, rows, strict=True):
        row[0].set_ylabel(f"{NAMES[operand]}, $C_{{Te}}$ = {int(texts == 'correlated')} (%)")
        for axis, rate in zip(row, rates, strict=True):
            for share in shares:
                own = tuned.filter(
                    (pl.col("learning_rate") == rate)
                    & (pl.col("c_tr") == share)
                    & (pl.col("operand") == operand)
                    & (pl.col("texts") == texts)
                )
                colour = c_tr_colour(shares, share)
                _line(axis, own, "step", "value", color=colour, label=f"$C_{{Tr}}$ = {share:g}")
            _updates(axis, tuned)
    for axis, rate in zip(axes[0], rates, strict=True):
        axis.set_title(f"rate {rate:g}")
    _finish(figure, axes, "updates")
    return figure


def reft(back: pl.DataFrame, size: tuple[float, float]) -> "Figure":
    """O_PT during reFT beside Scr. and Scr. + FT: a column per fine-tuning rate, a row per reFT rate."""
    own = back.filter(pl.col("start") == "capability")
    rates, refts = _rates(own, "fine_tuning_rate"), _rates(own, "learning_rate")
    shares = sorted(own["c_tr"].unique().to_list())
    figure, axes = _grid(len(refts), len(rates), size)
    scratch = back.filter(pl.col("start") == "scratch")
    controls = {
        "Scr. + FT": scratch.filter(pl.col("fine_tuning_rate").is_not_null()),
        "Scr.": scratch.filter(pl.col("fine_tuning_rate").is_null()),
    }
    for row, rate_back in zip(axes, refts, strict=True):
        row[0].set_ylabel(f"O_PT, reFT {rate_back:g} (%)")
        for axis, rate in zip(row, rates, strict=True):
            for name, control in controls.items():
                curve = control.filter(pl.col("learning_rate") == rate_back)
                if not curve.is_empty():
                    _line(axis, curve, "step", "value", color=GREY[name], linestyle="--", label=name)
            for share in shares:
                curve = own.filter(
                    (pl.col("fine_tuning_rate") == rate)
                    & (pl.col("learning_rate") == rate_back)
                    & (pl.col("c_tr") == share)
                )
                colour = c_tr_colour(shares, share)
                _line(axis, curve, "step", "value", color=colour, label=f"$C_{{Tr}}$ = {share:g}")
            _updates(axis, back)
    for axis, rate in zip(axes[0], rates, strict=True):
        axis.set_title(f"fine-tuned at {rate:g}")
    _finish(figure, axes, "updates")
    return figure


def pruning(table: pl.DataFrame, size: tuple[float, float], neurons: bool) -> "Figure":
    """Accuracy against the number pruned: a column per rate, a row per C_Tr."""
    own = table.filter(
        (pl.col("unit") == ("neuron" if neurons else "weight"))
        & (pl.col("texts") == "natural")
        & (pl.col("start") == "capability")
    )
    rates, shares = _rates(own, "fine_tuning_rate"), sorted(own["c_tr"].unique().to_list())
    figure, axes = _grid(len(shares), len(rates), size)
    for row, share in zip(axes, shares, strict=True):
        row[0].set_ylabel(f"$C_{{Tr}}$ = {share:g} (%)")
        for axis, rate in zip(row, rates, strict=True):
            here = own.filter((pl.col("fine_tuning_rate") == rate) & (pl.col("c_tr") == share))
            for criterion, dash in (("random", ":"), ("saliency", "-")):
                for operand, colour in OPERAND_COLOURS.items():
                    curve = here.filter((pl.col("criterion") == criterion) & (pl.col("operand") == operand))
                    curve = curve.group_by("k", "seed").agg(pl.col("accuracy").mean())  # of random draws
                    label = f"{NAMES[operand]}, {criterion}"
                    _line(axis, curve, "k", "accuracy", color=colour, linestyle=dash, label=label)
            axis.set_xscale("symlog", linthresh=1)
    for axis, rate in zip(axes[0], rates, strict=True):
        axis.set_title(f"rate {rate:g}")
    _finish(figure, axes, "neurons zeroed" if neurons else "weights zeroed")
    return figure


def probes(table: pl.DataFrame, size: tuple[float, float], _: bool) -> "Figure":
    """Accuracy of probes by block: a column per rate, a row per operand."""
    real = table.filter(pl.col("labels") == "real")
    own = real.filter((pl.col("start") == "capability") & (pl.col("stage") == "fine-tune"))
    rates, shares = _rates(own, "fine_tuning_rate"), sorted(own["c_tr"].unique().to_list())
    lines = {
        "before": real.filter(pl.col("stage") == "capability"),
        "from scratch": real.filter((pl.col("start") == "scratch") & (pl.col("stage") == "fine-tune")),
    }
    figure, axes = _grid(2, len(rates), size)
    for row, operand in zip(axes, ("pt", "ft"), strict=True):
        row[0].set_ylabel(f"probe for {NAMES[operand]} (%)")
        for axis, rate in zip(row, rates, strict=True):
            asked = pl.col("target") == operand
            for (label, part), colour in zip(lines.items(), GREY.values(), strict=True):
                if not part.is_empty():
                    curve = part.filter(asked)
                    _line(axis, curve, "residual", "accuracy", color=colour, linestyle="--", label=label)
            for share in shares:
                curve = own.filter(asked & (pl.col("fine_tuning_rate") == rate) & (pl.col("c_tr") == share))
                colour = c_tr_colour(shares, share)
                label = f"$C_{{Tr}}$ = {share:g}"
                _line(axis, curve, "residual", "accuracy", color=colour, marker="o", label=label)
            axis.set_xticks(sorted(own["residual"].unique().to_list()))
    for axis, rate in zip(axes[0], rates, strict=True):
        axis.set_title(f"rate {rate:g}")
    _finish(figure, axes, "after block")
    return figure


def attention(run: Run, content: Content, name: str, size: tuple[float, float]) -> "Figure | None":
    """Attention on one text before and after fine-tuning with the greatest C_Tr: a row per block.

    Of several heads the one that looks away from the first token most, before fine-tuning.
    """
    from matplotlib.figure import Figure

    first = content.first_of(name)
    if first is None or content.metrics is None:
        return None
    tuned = content.metrics.filter(
        (pl.col("capability") == name)
        & (pl.col("start") == "capability")
        & (pl.col("stage") == "fine-tune")
        & (pl.col("seed") == first.seed)
        & (pl.col("status") == "done")
    )
    tuned = tuned.filter(pl.col("c_tr") == pl.col("c_tr").max())
    chosen = dict(tuned.sort("learning_rate").select("learning_rate", "cell").iter_rows())
    before = load_file(first.folder / "attention.safetensors")
    maps = {"before": before["example"]}
    for rate, cell in sorted(chosen.items(), reverse=True):
        maps[f"rate {rate:g}"] = load_file(run.cell_path(cell) / "attention.safetensors")["example"]
    vocabulary, answer = words(content.experiment, first.model)
    tokens = [vocabulary[token] for token in before["example_tokens"].tolist()]
    blocks, _, rows, keys = before["example"].shape
    side = max(size)
    figure = Figure(figsize=(side * len(maps), side * blocks * min(1, 4 * rows / keys)), layout="constrained")
    axes = figure.subplots(blocks, len(maps), squeeze=False)
    for block in range(blocks):
        head = int(before["example"][block, :, :, 0].mean(-1).argmin())
        for axis, (title, values) in zip(axes[block], maps.items(), strict=True):
            axis.imshow(values[block, head], cmap="Purples", vmin=0, vmax=1, aspect="auto")
            axis.grid(False)
            axis.set_xticks(range(keys), tokens if keys < 30 else [""] * keys, fontsize=5)
            axis.set_yticks([answer] if rows > 1 else [0], ["answer"])
            axis.set_title(f"{title}, block {block}, head {head}" if title == "before" else title)
    return figure
