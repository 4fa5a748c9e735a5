"""Panels of curves for print: matplotlib counterparts of figures of Jain et al. 2024, from tables alone.

A column per learning rate. Lines are means over the seeds that did not diverge, bands go from the least to
the greatest of them; a cross is where one diverged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from veneer.report.colours import ROLES, share_colour
from veneer.report.figures import OPERAND_COLOURS, diverged_at
from veneer.tasks.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Axess = np.ndarray[Any, Any]

GREY = {"Scr. + FT": ROLES["scratch-new"], "Scr.": ROLES["scratch"]}
NAMES = {"pt": "$O_{PT}$", "ft": "$O_{FT}$"}
TUNED_COLOUR = ROLES["scratch-new"]  # of the task token that is fine-tuned
TOKEN_LOOKS: tuple[dict[str, Any], ...] = (  # of the others
    {"color": ROLES["revived"], "marker": "^"},
    {"color": ROLES["other"], "marker": "v"},
    {"color": ROLES["after"], "marker": "D"},
)
GUESSING = "always the commonest answer"
Size = tuple[float, float]


@dataclass(frozen=True)
class Known:
    """What of a run every figure shows alike.

    Attributes:
        shares: its C_Tr, by which lines are coloured; empty means those of the table drawn.
        guess: by kind of text, accuracy of always giving the commonest answer, for "pt" and "ft".
    """

    shares: tuple[float, ...] = ()
    guess: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def colours(self, table: pl.DataFrame) -> dict[float, str]:
        """The C_Tr of a table with their colours."""
        own = sorted(table["c_tr"].drop_nulls().unique().to_list())
        shares = sorted({*self.shares, *own})
        return {share: share_colour(shares, share) for share in own}

    def draw_guess(self, axis: "Axes", texts: str, operand: str) -> None:
        """The level of guessing, dotted."""
        if texts in self.guess:
            level = 100 * self.guess[texts][operand]
            axis.axhline(level, color=ROLES["guess"], linestyle=(0, (1, 2)), linewidth=0.8, label=GUESSING)


def behaviour(tuned: pl.DataFrame, size: Size, known: Known | None = None) -> "Figure":
    """Accuracy during fine-tuning: a column per rate, a row per operand and C_Te, colours for C_Tr."""
    known = known or Known()
    rates, colours = _rates(tuned, "learning_rate"), known.colours(tuned)
    rows = [(operand, texts) for texts in ("correlated", "uncorrelated") for operand in ("pt", "ft")]
    figure, axes = _grid(len(rows), len(rates), size)
    for row, (operand, texts) in zip(axes, rows, strict=True):
        row[0].set_ylabel(f"{NAMES[operand]}, $C_{{Te}}$ = {int(texts == 'correlated')} (%)")
        for axis, rate in zip(row, rates, strict=True):
            known.draw_guess(axis, texts, operand)
            asked = (pl.col("operand") == operand) & (pl.col("texts") == texts)
            here = tuned.filter((pl.col("learning_rate") == rate) & asked)
            for share, colour in colours.items():
                own = here.filter(pl.col("c_tr") == share)
                _line(axis, own, "step", "value", color=colour, label=f"$C_{{Tr}}$ = {share:g}")
            _updates(axis, tuned)
    _title(axes, [f"rate {rate:g}" for rate in rates])
    _finish(figure, axes, "updates", tuned)
    return figure


def reft(back: pl.DataFrame, size: Size, known: Known | None = None) -> "Figure":
    """O_PT during reFT beside Scr. and Scr. + FT: a column per fine-tuning rate, a row per reFT rate."""
    known = known or Known()
    own = back.filter(pl.col("start") == "capability")
    rates, refts = _rates(own, "fine_tuning_rate"), _rates(own, "learning_rate")
    scratch = back.filter(pl.col("start") == "scratch")
    controls = {
        "Scr. + FT": scratch.filter(pl.col("fine_tuning_rate").is_not_null()),
        "Scr.": scratch.filter(pl.col("fine_tuning_rate").is_null()),
    }
    figure, axes = _grid(len(refts), len(rates), size)
    for row, rate_back in zip(axes, refts, strict=True):
        row[0].set_ylabel(f"reFT {rate_back:g}\n{NAMES['pt']} (%)")
        for axis, rate in zip(row, rates, strict=True):
            known.draw_guess(axis, "natural", "pt")
            for name, control in controls.items():
                curve = control.filter(pl.col("learning_rate") == rate_back)
                if not curve.is_empty():
                    _line(axis, curve, "step", "value", color=GREY[name], linestyle="--", label=name)
            here = own.filter((pl.col("fine_tuning_rate") == rate) & (pl.col("learning_rate") == rate_back))
            for share, colour in known.colours(own).items():
                curve, label = here.filter(pl.col("c_tr") == share), f"$C_{{Tr}}$ = {share:g}"
                _line(axis, curve, "step", "value", color=colour, label=label)
            if here.is_empty():
                _say(axis, "no reFT: its rate\nexceeds fine-tuning's" if rate_back > rate else "no reFT")
            _updates(axis, back)
    _title(axes, [f"fine-tuned at {rate:g}" for rate in rates])
    _finish(figure, axes, "updates", own)
    return figure


def pruning(table: pl.DataFrame, size: Size, neurons: bool, known: Known | None = None) -> "Figure":
    """Accuracy on natural texts against the number pruned: a column per rate, a row per C_Tr."""
    known = known or Known()
    own = table.filter(
        (pl.col("unit") == ("neuron" if neurons else "weight"))
        & (pl.col("texts") == "natural")
        & (pl.col("start") == "capability")
    )
    rates, shares = _rates(own, "fine_tuning_rate"), sorted(own["c_tr"].unique().to_list())
    figure, axes = _grid(len(shares), len(rates), size)
    for row, share in zip(axes, shares, strict=True):
        row[0].set_ylabel(f"right, $C_{{Tr}}$ = {share:g} (%)")
        for axis, rate in zip(row, rates, strict=True):
            here = own.filter((pl.col("fine_tuning_rate") == rate) & (pl.col("c_tr") == share))
            for criterion, dash in (("saliency", "-"), ("random", ":")):
                for operand, colour in OPERAND_COLOURS.items():
                    curve = here.filter((pl.col("criterion") == criterion) & (pl.col("operand") == operand))
                    curve = curve.group_by("k", "seed", "status").agg(pl.col("accuracy").mean())  # of draws
                    label = f"{NAMES[operand]}, " + ("most salient" if criterion == "saliency" else "random")
                    _line(axis, curve, "k", "accuracy", color=colour, linestyle=dash, label=label)
            _counts(axis, 1)
    _title(axes, [f"rate {rate:g}" for rate in rates])
    _finish(figure, axes, "neurons zeroed" if neurons else "weights zeroed", own)
    return figure


def probes(table: pl.DataFrame, size: Size, _: bool, known: Known | None = None) -> "Figure":
    """Accuracy of probes by block: a column per rate, a row per operand."""
    known = known or Known()
    real = table.filter(pl.col("labels") == "real")
    own = real.filter((pl.col("start") == "capability") & (pl.col("stage") == "fine-tune"))
    rates = _rates(own, "fine_tuning_rate")
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
            for share, colour in known.colours(own).items():
                curve = own.filter(asked & (pl.col("fine_tuning_rate") == rate) & (pl.col("c_tr") == share))
                label = f"$C_{{Tr}}$ = {share:g}"
                _line(axis, curve, "residual", "accuracy", color=colour, marker="o", label=label)
            axis.set_xticks(sorted(own["residual"].unique().to_list()))
    _title(axes, [f"rate {rate:g}" for rate in rates])
    _finish(figure, axes, "after block", own)
    return figure


def jailbreak(
    asked: pl.DataFrame, tuned: pl.DataFrame, tokens: list[str], size: Size, known: Known | None = None
) -> "Figure":
    """Accuracy through each task token before, during and after fine-tuning one of them.

    A column per rate, a row per operand and C_Tr. The fine-tuned token is followed by update. The others,
    which fine-tuning never used, stand beside its start and its end, with their distance to it in points:
    above it, they still reach what fine-tuning took from it.

    Args:
        asked: rows of the analysis on natural texts: token, operand, accuracy, with a cell's columns.
        tuned: accuracies during fine-tuning (``Run.metrics``), which asks through the first token.
        tokens: task tokens, the fine-tuned one first.
        size: of a panel, in inches.
        known: what of the run every figure shows alike.
    """
    known = known or Known()
    rates, shares = _rates(tuned, "learning_rate"), sorted(tuned["c_tr"].unique().to_list())
    rows = [(share, operand) for share in shares for operand in ("pt", "ft")]
    natural = tuned.filter(pl.col("texts") == "natural")
    figure, axes = _grid(len(rows), len(rates), size)
    for row, (share, operand) in zip(axes, rows, strict=True):
        told = f", $C_{{Tr}}$ = {share:g}" if len(shares) > 1 else ""
        row[0].set_ylabel(f"asked for {NAMES[operand]}{told} (%)")
        for axis, rate in zip(row, rates, strict=True):
            known.draw_guess(axis, "natural", operand)
            here = (pl.col("learning_rate") == rate) & (pl.col("c_tr") == share)
            through = f"through {tokens[0]}, which was fine-tuned"
            curve = natural.filter(here & (pl.col("operand") == operand))
            _line(axis, curve, "step", "value", color=TUNED_COLOUR, label=through)
            own = asked.filter(pl.col("operand") == operand)
            _ends(axis, own.filter(pl.col("stage") == "capability"), tokens, 0)
            after = own.filter((pl.col("stage") == "fine-tune") & here)
            _ends(axis, after, tokens, int(natural["step"].max()))  # pyright: ignore[reportArgumentType]
            _updates(axis, tuned, 1.2 * LAST_PLACE)
    _title(axes, [f"rate {rate:g}" for rate in rates])
    _finish(figure, axes, "updates", tuned, f"numbers: points above {tokens[0]} at the end")
    return figure


LAST_PLACE = 1.9  # where the last token stands beyond the last update, as a factor


def _ends(axis: "Axes", table: pl.DataFrame, tokens: list[str], step: int) -> None:
    """Each token's mean and range at the start (0) or beyond the end, with its distance to the first."""
    means = {
        token: table.filter((pl.col("token") == token) & (pl.col("status") == "done"))["accuracy"]
        for token in tokens
    }
    first = means[tokens[0]]
    for place, (token, look) in enumerate(zip(tokens[1:], TOKEN_LOOKS, strict=False)):
        values = 100 * means[token]
        if values.is_empty():
            continue
        mean, low, high = values.to_numpy().mean(), values.to_numpy().min(), values.to_numpy().max()
        beyond = LAST_PLACE ** ((place + 1) / len(tokens[1:]))
        at, label = (step * beyond, f"through {token}, which was not") if step else (0, None)
        axis.errorbar(
            at, mean, [[mean - low], [high - mean]], **look, linestyle="none", label=label, zorder=3
        )
        if step and not first.is_empty():
            gap = mean - 100 * first.to_numpy().mean()
            text = f"{token} {gap:+.0f}".replace("-", "−")
            where: dict[str, Any] = {
                "xy": (0.04, 0.06 + 0.14 * (len(tokens) - 2 - place)),
                "xycoords": "axes fraction",
            }
            axis.annotate(text, **where, color=look["color"], fontsize="small")


def _grid(rows: int, columns: int, size: Size) -> tuple["Figure", "Axess"]:
    from matplotlib.figure import Figure

    if not rows * columns:
        problem = "no row of it is of the run's models, rates and shares"
        raise InputError("table", f"{rows} by {columns} panels", "a table made by veneer analyse", problem)
    figure = Figure(figsize=(size[0] * columns + 0.4, size[1] * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    return figure, axes


def _line(axis: "Axes", table: pl.DataFrame, x: str, y: str, **look: Any) -> None:
    """Mean over the seeds that did not diverge, in a band from the least to the greatest, and crosses."""
    broken = table.filter(pl.col("status") != "done")
    for status, seed in broken.select("status", "seed").unique(maintain_order=True).iter_rows():
        until = broken.filter((pl.col("seed") == seed) & (pl.col(x) <= (diverged_at(status) or 0))).sort(x)
        if not until.is_empty():
            cross: dict[str, Any] = {"marker": "x", "markersize": 5, "linestyle": "none", "zorder": 3}
            axis.plot(until[x][-1], 100 * until[y][-1], **cross, color=look["color"])
    done = table.filter(pl.col("status") == "done")
    summed = done.group_by(x).agg(mean=pl.col(y).mean(), least=pl.col(y).min(), greatest=pl.col(y).max())
    places = summed.sort(x)
    axis.plot(places[x], 100 * places["mean"], **look)
    if places["least"].to_list() != places["greatest"].to_list():
        ends = 100 * places["least"], 100 * places["greatest"]
        axis.fill_between(places[x], *ends, color=look["color"], alpha=0.2, lw=0)


def _say(axis: "Axes", text: str) -> None:
    axis.text(
        0.5,
        0.9,
        text,
        transform=axis.transAxes,
        ha="center",
        va="top",
        fontsize="small",
        color=ROLES["scratch-new"],
    )


def _title(axes: "Axess", titles: list[str]) -> None:
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)


def _finish(figure: "Figure", axes: "Axess", below: str, table: pl.DataFrame, more: str = "") -> None:
    """Limits, the axis' name, and a legend that fits, with what lines and bands are."""
    for axis in axes.flat:
        axis.set_ylim(-4, 104)
    for axis in axes[-1]:
        axis.set_xlabel(below)
    handles: dict[str, Any] = {}
    for axis in axes.flat:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if GUESSING in handles:
        handles[GUESSING] = handles.pop(GUESSING)  # last
    letters = max(len(label.replace("$", "").replace("{", "").replace("}", "")) for label in handles)
    import matplotlib as mpl

    width = 72 * figure.get_figwidth() / mpl.rcParams["font.size"]  # in letters' heights
    columns = max(1, min(len(handles), int(width / (0.52 * letters + 3.5))))
    seeds, diverged = table["seed"].n_unique(), not (table["status"] == "done").all()
    notes = [f"mean and range of {seeds} seeds"] if seeds > 1 else []
    notes += ["× diverged and left out"] if diverged else []
    note = "; ".join([*notes, *([more] if more else [])])
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=columns,
        title=note or None,
        title_fontsize="small",
    )


def _rates(table: pl.DataFrame, column: str) -> list[float]:
    return sorted(table[column].drop_nulls().unique().to_list(), reverse=True)


def _updates(axis: "Axes", table: pl.DataFrame, beyond: float = 1.05) -> None:
    steps = [step for step in table["step"].unique().to_list() if step > 0]
    _counts(axis, min(steps, default=1))
    axis.set_xlim(0, beyond * max(steps, default=1))


def _counts(axis: "Axes", first: int) -> None:
    """A logarithmic axis of counts, with a place for 0 left of the first."""
    from matplotlib.ticker import FuncFormatter

    axis.set_xscale("symlog", linthresh=first, linscale=0.4)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
