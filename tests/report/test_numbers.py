"""The report's numbers are those of the run's files."""

import base64
import re
import zlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file

from tests.report.conftest import Fake
from tests.report.fakes import STEPS
from tests.report.reading import Page, last_values
from veneer.experiments.curves import classify
from veneer.experiments.store import Run
from veneer.report.page import write_report
from veneer.report.page_tables import unpack
from veneer.tasks.mixture import fine_tuning


def test_table_3_shows_the_means_of_the_parquet_files(finished: Fake, page: str) -> None:
    rows = [row for row in Page(page).tables["against-paper"] if re.match(r"0\.", row[0])]
    assert len(rows) == 4
    for place, (texts, operand) in enumerate(
        [("correlated", "pt"), ("correlated", "ft"), ("uncorrelated", "pt"), ("uncorrelated", "ft")]
    ):
        values = last_values(finished.run, "fine-tune", texts, operand)
        for row in rows:
            ours = float(row[2 + place].split()[0])
            assert ours == pytest.approx(100 * values[float(row[0]), float(row[1])], abs=0.051)


def test_differences_from_the_paper_are_named_when_above_15_points(page: str) -> None:
    """Table 3 of the paper, Counter at 0.1 with C_Tr = 0: O_FT 100.0 at C_Te = 1 and at C_Te = 0."""
    row = next(row for row in Page(page).tables["against-paper"] if row[:2] == ["0.1", "0"])
    assert "(100.0)" in row[3] and "lower" not in row[3]
    ours = float(row[5].split()[0])
    assert f"{100 - ours:.0f} lower" in row[5]


def test_what_a_smaller_run_differs_in_is_grey_and_says_why(
    copied: Run, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs here stand for the quick preset; of the paper's own size differences are findings."""
    assert "smaller than the paper's (strings of 45, 10,000 updates)" in page
    assert 'class="expected"' in page and 'class="lower"' not in page
    monkeypatch.setattr("veneer.experiments.paper._preset", lambda described: "paper")
    full = write_report(copied).read_text()
    assert "smaller than the paper's" not in full
    assert 'class="lower"' in full and 'class="expected"' not in full


def test_verdicts_show_the_means_of_the_parquet_files(finished: Fake, page: str) -> None:
    rows = {
        (float(row[0]), float(row[1])): row
        for row in Page(page).tables["verdicts"]
        if len(row) == 11 and "0" in row[1]
    }
    rows |= {
        (float(row[0]), float(row[1])): row for row in Page(page).tables["verdicts"] if row[1:2] == ["1"]
    }
    after = last_values(finished.run, "reft", "natural", "pt")
    task = last_values(finished.run, "fine-tune", "correlated", "ft")
    assert set(rows) == set(after) == {(0.1, 0), (0.1, 1), (0.001, 0), (0.001, 1)}
    for key, row in rows.items():
        assert float(row[4]) == pytest.approx(100 * task[key], abs=0.051)
        assert float(row[7].split()[0]) == pytest.approx(100 * after[key], abs=0.051)
    assert "came back" in rows[0.001, 1][2] and rows[0.001, 1][10] == "2 of 2"
    assert "did not come back" in rows[0.001, 0][2]
    assert rows[0.001, 1][3] == "the shortcut"


def test_curves_are_those_of_the_parquet_files_to_4_digits(finished: Fake, page: str) -> None:
    figure = Page(page).data[""]["figures"]["behaviour-uncorrelated-1"]
    cell = next(
        c
        for c in finished.cells
        if c.seed == 1 and c.stage.mixture == fine_tuning(1.0) and c.stage.recipe.learning_rate == 0.001
    )
    table = pl.read_parquet(finished.run.cell_path(cell.id) / "metrics.parquet").filter(
        (pl.col("measure") == "accuracy") & (pl.col("texts") == "uncorrelated") & (pl.col("operand") == "ft")
    )
    drawn = [
        t
        for t in figure["data"]
        if t.get("meta") == {"capability": ["compiled"], "c_tr": ["1"], "seed": ["1"]}
        and "new task" in t["name"]
    ]
    assert len(drawn) == 1
    assert drawn[0]["customdata"] == table["step"].to_list()
    assert drawn[0]["y"] == pytest.approx(table["value"].to_list(), rel=5e-4)
    assert drawn[0]["x"][1:] == table["step"].to_list()[1:] and 0 < drawn[0]["x"][0] < 10


def test_several_seeds_get_their_mean_in_a_band_from_least_to_greatest(page: str) -> None:
    figure = Page(page).data[""]["figures"]["revival-1"]
    of_one = [t for t in figure["data"] if t.get("meta", {}).get("c_tr") == ["0"]]
    band = next(t for t in of_one if t.get("fill") == "toself")
    mean = next(t for t in of_one if "mean of 2 seeds" in t.get("name", ""))
    seeds = [t for t in of_one if t.get("name", "").endswith(("seed 0", "seed 1"))]
    assert len(seeds) == 2
    last = [t["y"][-1] for t in seeds]
    assert mean["y"][-1] == pytest.approx(sum(last) / 2, rel=1e-3)
    assert {max(last), min(last)} == set(band["y"][len(STEPS) - 1 : len(STEPS) + 1])


def test_attention_is_that_of_the_files_to_one_in_255(finished: Fake, page: str) -> None:
    data = Page(page).data[""]["attention"]
    model, cell = data["models"]["compiled"], finished.cells[1]
    stored = load_file(finished.run.cell_path(cell.id) / "attention.safetensors")
    levels = np.frombuffer(zlib.decompress(base64.b64decode(data["maps"][cell.id]["example"])), np.uint8)
    shown = levels.reshape(model["shape"]) / 255
    assert np.abs(shown - stored["example"].numpy()).max() <= 0.5 / 255 + 1e-6
    np.testing.assert_allclose(data["maps"][cell.id]["by_token"], stored["by_token"].numpy(), rtol=5e-4)
    assert model["tokens"] == ["BOS", "a", "b", "<", "a"]
    assert model["roles"] == ["", "pt", "ft", "", "pt"]


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (0.95, 0.2, "never left"),
        (0.05, 0.95, "came back"),
        (0.05, 0.90, "came back"),
        (0.05, 0.40, "did not come back"),
        (0.50, 0.64, "did not come back"),
        (0.05, 0.60, "came part of the way"),
    ],
)
def test_a_verdict_needs_90_percent_and_more_than_guessing(before: float, after: float, kind: str) -> None:
    assert classify(before, after, majority=0.3) == kind


def test_a_run_of_learned_capabilities_has_a_row_for_each(both: Path) -> None:
    page = Page(both.read_text())
    rows = {row[0]: row for row in page.tables["r2-verdicts"] if row and row[0] in ("L", "H")}
    assert "came back" in rows["L"][3] and float(rows["L"][8]) == 97.0
    assert "did not come back" in rows["H"][3] and float(rows["H"][8]) == 25.0
    text = " ".join(page.text.split())
    for phrase in (
        "AdamW",
        "Pretrained for 6,000 updates (seed 3)",
        "a 99.9%, b 0.1%",
        "windows of 6 tokens",
    ):
        assert phrase in text, phrase
    models = page.data["r2-"]["attention"]["models"]
    assert set(models) == {"L", "H"}
    # 'a' and 'b' count only among the last four tokens of the text abcbab.
    assert models["L"]["roles"] == [*[""] * 8, "ft", "pt", "ft", "", ""]


def test_labels_with_and_without_the_correlation_are_shown_and_close(both: Path) -> None:
    labels = Page(both.read_text()).data["r2-"]["labels"]["L"]
    for operand in ("pt", "ft"):
        assert sum(labels["shares"][operand]["0"]) == pytest.approx(1, abs=1e-3)
        pairs = zip(labels["shares"][operand]["0"], labels["shares"][operand]["1"], strict=True)
        assert labels["distance"][operand] == pytest.approx(sum(abs(a - b) for a, b in pairs) / 2, abs=2e-3)


@pytest.mark.parametrize(("name", "value"), [("pruning", "accuracy"), ("grafting", "change")])
def test_tables_in_the_page_hold_the_numbers_of_the_analyses(both: Path, name: str, value: str) -> None:
    shown = unpack(Page(both.read_text()).data[""]["tables"][name])
    stored = pl.read_parquet(both.parent / "analysed" / "analysis" / f"{name}.parquet")
    own = {"pruning": pl.col("k") == 2, "grafting": pl.col("name") == "blocks.1.mlp_in"}[name]
    text = {"pruning": pl.col("k") == "2", "grafting": pl.col("name") == "blocks.1.mlp_in"}[name]
    chosen = (pl.col("texts") == "natural") & (pl.col("operand") == "pt")
    keep = (
        chosen & (pl.col("criterion") == "random")
        if name == "pruning"
        else chosen & (pl.col("direction") == "back")
    )
    drawn = text & (pl.col("operand") == "pt")
    if name == "pruning":
        drawn &= (pl.col("criterion") == "random") & (pl.col("texts") == "natural")
    truth = stored.filter(own & keep).select(pl.col(value).mean()).item()
    assert shown.filter(drawn)[value].mean() == pytest.approx(truth, abs=1e-3)


def test_the_verdict_of_the_analyses_stands_where_it_was_made(both: Path) -> None:
    page = Page(both.read_text())
    row = next(row for row in page.tables["evidence"] if row[:2] == ["0.001", "1"])
    assert "rewritten" in row[2] and "as long as from scratch" in row[2]
    assert "does not decide" in row[3] and "% at 0.001" in row[3], "two seeds are too few for the rule"
    text = " ".join(page.text.split())
    assert "1,234 [10, 40]" in text and "72.6 [60.0, 90.0]" in text
