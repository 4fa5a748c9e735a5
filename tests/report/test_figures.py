"""Figures show what their tables hold: a line's values, who is left out, where a map's strips look."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from veneer.experiments.named import CounterExperiment, PcfgCounterExperiment
from veneer.experiments.store import Run
from veneer.report.figures import controls
from veneer.report.map_figures import attention_map, attention_strips
from veneer.report.paper import maps as paper_maps
from veneer.report.paper import panels as paper_panels
from veneer.report.paper.counterparts import lacking
from veneer.report.paper.figures import COMMON, written

RATES, SIZE = (0.001, 0.01), (2.0, 2.0)
TOKENS = ["T_NJ", "T_J1"]


def training(
    seed_values: dict[int, tuple[float, float]], rate: float, status: dict[int, str]
) -> pl.DataFrame:
    """Accuracies of two evaluations by seed, as ``Run.metrics`` has them."""
    rows = [
        {"step": step, "seed": seed, "value": value, "status": status.get(seed, "done")}
        for seed, values in seed_values.items()
        for step, value in zip((0, 100), values, strict=True)
    ]
    own = {"capability": "c", "start": "capability", "stage": "fine-tune", "learning_rate": rate, "c_tr": 0.0}
    return pl.DataFrame(rows).with_columns(**{name: pl.lit(value) for name, value in own.items()})


def asked_of(tuned: pl.DataFrame) -> pl.DataFrame:
    """The same accuracies for both operands, on natural texts and the other kinds."""
    kinds = pl.DataFrame({"texts": ["natural", "correlated", "uncorrelated"]})
    return tuned.join(kinds, how="cross").join(pl.DataFrame({"operand": ["pt", "ft"]}), how="cross")


def drawn(line: Any) -> tuple[list[float], list[float]]:
    """Where a line goes."""
    return np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()


def jailbroken() -> Any:
    """T_NJ ends at 20 % at each rate; T_J1 10 points above it at the large rate, with it at the small one."""
    tuned = asked_of(pl.concat([training({0: (1.0, 0.1), 1: (1.0, 0.3)}, rate, {}) for rate in RATES]))
    rows = [
        {"stage": stage, "learning_rate": rate, "token": token, "operand": operand, "seed": seed}
        | {"accuracy": 1.0 if stage == "capability" else 0.2 + 0.1 * (token == "T_J1" and rate == 0.01)}
        for stage, rate in (("capability", None), ("fine-tune", 0.001), ("fine-tune", 0.01))
        for token in TOKENS
        for operand in ("pt", "ft")
        for seed in (0, 1)
    ]
    asked = pl.DataFrame(rows).with_columns(status=pl.lit("done"), c_tr=pl.lit(0.0))
    return paper_panels.jailbreak(asked, tuned, TOKENS, SIZE)


def test_the_jailbreak_figure_follows_the_tuned_token_and_tells_how_far_the_others_end_above_it() -> None:
    axes = np.array(jailbroken().axes).reshape(2, 2)  # operand, rate
    (line,) = [
        own for own in axes[0, 0].get_lines() if own.get_label() == "through T_NJ, which was fine-tuned"
    ]
    assert line.get_ydata().tolist() == pytest.approx([100, 20])
    assert [axis.get_title() for axis in axes[0]] == ["rate 0.01", "rate 0.001"]
    assert [[text.get_text() for text in axis.texts] for axis in axes[0]] == [["T_J1 +10"], ["T_J1 +0"]]
    ends = [container.lines[0].get_xydata()[0] for container in axes[0, 0].containers]
    assert [y for _, y in ends] == pytest.approx([100, 30])
    assert ends[0][0] == 0
    assert ends[1][0] > 100, "beside the end of the curve, not on it"


def test_the_jailbreak_figure_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    import matplotlib as mpl

    with mpl.rc_context(COMMON):
        first, second = (written(jailbroken(), tmp_path / name, "jailbreak") for name in ("one", "two"))
    assert [path.suffix for path in first] == [".svg", ".pdf"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_printed_curve_leaves_out_the_seed_that_diverged_and_crosses_where() -> None:
    values, broken = {0: (1.0, 0.4), 1: (1.0, 0.6), 2: (1.0, 0.0)}, {2: "diverged at step 50"}
    figure = paper_panels.behaviour(asked_of(training(values, 0.1, broken)), SIZE)
    cross, line = figure.axes[0].get_lines()
    assert drawn(line)[1] == pytest.approx([100, 50])
    assert cross.get_marker() == "x"
    assert drawn(cross) == ([0], [100]), "the last evaluation before it"
    assert "left out" in figure.legends[0].get_title().get_text()


def test_the_pages_mean_leaves_out_the_seed_that_diverged() -> None:
    values, broken = {0: (0.0, 0.4), 1: (0.0, 0.6), 2: (0.0, 0.0)}, {2: "diverged at step 50"}
    curves = training(values, 0.1, broken).with_columns(fine_tuning_rate=pl.lit(None, pl.Float64))
    (mean,) = [trace for trace in controls(curves)["data"] if "mean" in trace.get("name", "")]
    assert mean["y"] == pytest.approx([0, 0.5])
    assert "2 of 3 seeds" in mean["name"]


def test_a_colour_means_the_same_c_tr_in_every_figure_of_a_run() -> None:
    known = paper_panels.Known(shares=(0.0, 1.0))
    only_one = known.colours(pl.DataFrame({"c_tr": [1.0]}))
    assert only_one[1.0] == known.colours(pl.DataFrame({"c_tr": [0.0, 1.0]}))[1.0]


def long_maps(rows: int) -> paper_maps.Maps:
    """Two blocks of two heads on 140 positions; block 1's head 1 looks at the only O_PT token, 7."""
    shares = np.full((2, 2, rows, 140), 1 / 140)
    shares[1, 1, -1] = 0
    shares[1, 1, -1, 7] = 1
    roles = ["pt" if place == 7 else "ft" if place == 9 else "" for place in range(140)]
    moments = {"before": shares, "rate 0.1": shares[..., ::-1]}
    return paper_maps.Maps(moments, ["a"] * 140, roles, answer=rows - 1, seed=0, c_tr=1.0)


@pytest.mark.parametrize("rows", [1, 140], ids=["the answer's row kept", "all kept"])
def test_long_texts_are_printed_as_strips_of_the_answers_row(rows: int) -> None:
    maps = long_maps(rows)
    assert not maps.squares
    assert maps.blocks == [1], "block 0 looks at everything alike"
    figure = paper_maps.strips(maps, SIZE)
    (image,) = figure.axes[0].images
    assert np.asarray(image.get_array()).argmax(-1).tolist() == [7, 132]  # a row per moment
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["before", "rate 0.1"]
    assert figure.axes[0].get_title("left") == "block 1, head 1"
    assert "Block 0, not shown" in figure.get_supxlabel()


def test_a_map_of_one_row_is_a_strip_with_the_text_below() -> None:
    tokens, roles = ["SOS", "a", "b", "ART"], ["", "pt", "ft", ""]
    figure: Any = attention_strips(np.eye(4)[:2], tokens, roles)
    assert figure.data[0].z.tolist() == np.eye(4)[:2].tolist()
    layout = figure.to_plotly_json()["layout"]
    assert list(layout["yaxis"]["ticktext"]) == ["0", "1"]
    assert [bool(text) for text in layout["xaxis"]["ticktext"]] == [False, True, True, False]
    assert [note["text"] for note in layout["annotations"]] == ["SOS", "ART"]
    one = attention_map(np.eye(4)[:1], tokens, 3, roles, queries=[3]).to_plotly_json()
    assert one["layout"]["height"] < layout["height"]
    assert list(one["layout"]["yaxis"]["ticktext"]) == ["0"]


@pytest.mark.parametrize(
    ("experiment", "drawn", "figures", "command"),
    [
        (CounterExperiment(), set(), "5, 6", "veneer run counter --out"),
        (CounterExperiment(), set(), "9, 27", "veneer run counter --out"),
        (CounterExperiment(reft_rates=()), set(), "9, 27", "without an empty --reft-rates"),
        (CounterExperiment(), set(), "7, 55", "--only pruning"),
        (CounterExperiment(), set(), "Figure 8", "--only probes"),
        (CounterExperiment(), {"pruning"}, "Figure 44", "veneer run max-identifier"),
        (CounterExperiment(), {"reft"}, "Figure 28", "--rand-ft 0.5"),
        (PcfgCounterExperiment(), set(), "Figure 24", "--pretrained jailbreak --task-token T_NJ"),
    ],
)
def test_a_figure_that_cannot_be_drawn_names_what_makes_it(
    experiment: Any, drawn: set[str], figures: str, command: str, tmp_path: Path
) -> None:
    run = Run.open(tmp_path / "run", "quick", experiment)
    (sentence,) = [own for own in lacking(run, drawn) if figures in own]
    assert command in sentence
    assert len(sentence.split(": ")[1].split()) > 1, "the stage that is missing, in words"


def test_what_was_drawn_lacks_nothing(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", "quick", PcfgCounterExperiment(rand_ft=0.5))
    drawn = {"behaviour", "reft", "pruning", "probes", "attention", "jailbreak"}
    assert [own.split(" (")[0] for own in lacking(run, drawn)] == ["Figure 44"]
