"""Attention of a run's models for print: counterparts of Figures 10 and 44 of Jain et al. 2024.

Each block's head is the one whose answer looks most at the tokens that O_PT's answer hangs on, before
fine-tuning. Short texts are shown with all their positions; of long ones the answer's row alone, which is
also all that a run keeps of texts longer than 128 positions.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from veneer.experiments.content import CapabilityFiles, Content
from veneer.experiments.store import Run
from veneer.report.colours import ROLES
from veneer.report.figures import OPERAND_COLOURS
from veneer.report.page_data import read_maps
from veneer.report.stored_task import roles, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHORT = 24  # positions up to which a square map can be read in print
WRITTEN = 60  # positions up to which the tokens can be written below a strip
EVEN = 0.01  # a block whose shares differ by less looks at everything alike


@dataclass(frozen=True)
class Maps:
    """One text's attention at several moments.

    Attributes:
        shares: by moment, [block, head, query, key]; one query where only the answer's row was kept.
        tokens: the text.
        roles: "pt", "ft" or "" of each token.
        answer: position at which the answer is read.
        seed: the models' seed.
        c_tr: share of correlated samples that the models were fine-tuned with.
    """

    shares: dict[str, np.ndarray]
    tokens: list[str]
    roles: list[str]
    answer: int
    seed: int
    c_tr: float

    @property
    def squares(self) -> bool:
        """Whether all positions are shown."""
        return len(self.tokens) <= SHORT and all(own.shape[2] > 1 for own in self.shares.values())

    def row(self, shares: np.ndarray) -> np.ndarray:
        """The answer's row, [block, head, key]."""
        return shares[:, :, self.answer if shares.shape[2] > 1 else 0]

    @property
    def heads(self) -> list[int]:
        """The head of each block whose answer looks at O_PT's tokens most, before fine-tuning."""
        asked = [own == "pt" for own in self.roles]
        return self.row(self.shares["before"])[..., asked].sum(-1).argmax(-1).tolist()

    @property
    def blocks(self) -> list[int]:
        """The blocks that do not look at everything alike throughout."""
        seen = [own if self.squares else self.row(own) for own in self.shares.values()]
        every = range(len(self.heads))
        return [block for block in every if any(np.ptp(own[block]) > EVEN for own in seen)] or list(every)

    def name(self, block: int) -> str:
        """A block, and which of its heads is shown if it has several."""
        several = self.shares["before"].shape[1] > 1
        return f"block {block}, head {self.heads[block]}" if several else f"block {block}"


def attention(run: Run, content: Content, name: str, size: tuple[float, float]) -> "Figure | None":
    """Attention on one text before and after fine-tuning with the greatest C_Tr, by rate.

    Returns:
        A row per block and a column per moment; of long texts a row per block, with a strip per moment.
        None before a fine-tuning of the first seed is finished.
    """
    first = content.first_of(name)
    if first is None or content.metrics is None:
        return None
    before = read_maps(first.folder / "attention.safetensors")
    tuned = _tuned(content.metrics, first)
    if tuned.is_empty():
        return None
    shares = {"before": before["example"]}
    for rate, cell in tuned.select("learning_rate", "cell").iter_rows():
        shares[f"rate {rate:g}"] = read_maps(run.cell_path(cell) / "attention.safetensors")["example"]
    vocabulary, answer = words(content.experiment, first.model)
    tokens = [vocabulary[token] for token in before["example_tokens"].tolist()]
    role = roles(content.experiment, first.model, tokens, first.folder.parents[1])
    maps = Maps(shares, tokens, role, answer % len(tokens), first.seed, tuned["c_tr"][0])
    return squares(maps, size) if maps.squares else strips(maps, size)


def _tuned(metrics: pl.DataFrame, first: CapabilityFiles) -> pl.DataFrame:
    """The capability's fine-tunings with the greatest C_Tr, large rates first."""
    own = metrics.filter(
        (pl.col("capability") == first.name)
        & (pl.col("start") == "capability")
        & (pl.col("stage") == "fine-tune")
        & (pl.col("seed") == first.seed)
        & (pl.col("status") == "done")
    )
    own = own.filter(pl.col("c_tr") == pl.col("c_tr").max())
    return own.select("learning_rate", "c_tr", "cell").unique().sort("learning_rate", descending=True)


def squares(maps: Maps, size: tuple[float, float]) -> "Figure":
    """Where every position looks: a row per block, a column per moment, the answer's row framed."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    side = max(size)
    shown = maps.blocks
    figure = Figure(figsize=(side * len(maps.shares) + 0.6, side * len(shown) + 0.5), layout="constrained")
    axes = figure.subplots(len(shown), len(maps.shares), squeeze=False)
    for row, block in zip(axes, shown, strict=True):
        for axis, (moment, shares) in zip(row, maps.shares.items(), strict=True):
            _shaded(axis, shares[block, maps.heads[block]], 1.0)
            _text(axis, maps)
            edges = (-0.5, maps.answer - 0.5), len(maps.tokens), 1
            axis.add_patch(
                Rectangle(*edges, fill=False, edgecolor=ROLES["after"], linewidth=1, clip_on=False)
            )
            axis.set_yticks(
                [maps.answer], ["answer"] if moment == "before" else [""], rotation=90, va="center"
            )
            axis.tick_params(axis="y", length=0, pad=2)
            if block == shown[0]:
                axis.set_title(moment)
        row[0].set_ylabel(maps.name(block))
    _finish(figure, axes, maps)
    return figure


def strips(maps: Maps, size: tuple[float, float]) -> "Figure":
    """Where the answer's position looks: a row per block, in it a strip per moment."""
    from matplotlib.figure import Figure

    shown = maps.blocks
    height = len(shown) * size[1] * (0.12 * len(maps.shares) + 0.4) + 0.5
    figure = Figure(figsize=(4 * size[0] + 0.4, height), layout="constrained")
    axes = figure.subplots(len(shown), 1, squeeze=False)
    for axis, block in zip(axes[:, 0], shown, strict=True):
        head = maps.heads[block]
        # Many tokens share the attention: the root lets small shares be seen, and the scale says so.
        _shaded(axis, np.stack([maps.row(shares)[block, head] for shares in maps.shares.values()]), 0.5)
        axis.set_yticks(np.arange(0.5, len(maps.shares) - 1), minor=True)
        axis.grid(which="minor", axis="y", color="white", linewidth=2)
        axis.tick_params(axis="y", which="both", length=0)
        axis.set_yticks(range(len(maps.shares)), list(maps.shares))
        _text(axis, maps)
        axis.set_title(maps.name(block), loc="left")
    _finish(figure, axes, maps)
    return figure


def _shaded(axis: "Axes", values: np.ndarray, power: float) -> None:
    from matplotlib.colors import PowerNorm

    norm = PowerNorm(power, vmin=0, vmax=1)
    axis.imshow(values, cmap="Purples", norm=norm, aspect="auto", interpolation="nearest")
    axis.grid(False)
    axis.spines[:].set_visible(False)


def _text(axis: "Axes", maps: Maps) -> None:
    """The tokens below a map, or, of long texts, bars in their colour where the operands' are."""
    axis.tick_params(axis="x", length=0, pad=2)
    if len(maps.tokens) > WRITTEN:
        for place, role in enumerate(maps.roles):
            if role:
                axis.axvspan(
                    place - 0.5, place + 0.5, -0.1, -0.02, color=OPERAND_COLOURS[role], lw=0, clip_on=False
                )
        axis.tick_params(axis="x", pad=10)
        return
    axis.set_xticks(range(len(maps.tokens)), maps.tokens, fontsize="x-small", parse_math=False)
    for token, role, label in zip(maps.tokens, maps.roles, axis.get_xticklabels(), strict=True):
        label.set_color(OPERAND_COLOURS.get(role, ROLES["guess"]))
        label.set_fontweight("bold" if role else "normal")
        label.set_rotation(90 if len(token) > 1 else 0)


def _finish(figure: "Figure", axes: np.ndarray, maps: Maps) -> None:
    """The scale of colours, and what the picture is of."""
    bar = figure.colorbar(axes.flat[0].images[0], ax=axes, fraction=0.02, pad=0.01, ticks=[0, 0.1, 0.5, 1])
    bar.ax.set_yticklabels(["0", "10", "50", "100 %"])
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    even = [str(block) for block in range(len(maps.heads)) if block not in maps.blocks]
    who = "each position (row) looks at" if maps.squares else "the answer's position looks at"
    told = f"What {who} in one text, seed {maps.seed}; fine-tuned with $C_{{Tr}}$ = {maps.c_tr:g}."
    told += " Tokens of $O_{PT}$ blue, of $O_{FT}$ orange."
    if even:
        word = "Block" if len(even) == 1 else "Blocks"
        told += f"\n{word} {', '.join(even)}, not shown: all positions alike throughout."
    figure.supxlabel(told, fontsize="small", color=ROLES["scratch-new"])
