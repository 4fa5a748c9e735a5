"""Figures for print draw the means of the run's tables, the same bytes each time."""

from pathlib import Path

import polars as pl
import pytest

from tests.report.conftest import Fake
from tests.report.reading import last_values
from veneer.experiments.store import Run
from veneer.report.paper.figures import behaviour, figures, pruning
from veneer.tasks.errors import InputError


def test_print_figures_are_the_same_bytes_each_time(both: Path, tmp_path: Path) -> None:
    run = Run.read(both.parent / "analysed")
    first, second = (figures(run, "paper", tmp_path / name) for name in ("first", "second"))
    names = {path.stem for path in first}
    assert names == {f"{name}-compiled" for name in ("behaviour", "reft", "pruning", "probes", "attention")}
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_print_figures_draw_the_means_of_the_tables(finished: Fake) -> None:
    tuned = finished.run.metrics().filter(
        (pl.col("stage") == "fine-tune")
        & (pl.col("start") == "capability")
        & (pl.col("measure") == "accuracy")
    )
    axes = behaviour(tuned, (2, 2)).axes  # by operand and C_Te, then by rate
    drawn = {line.get_label(): line.get_ydata()[-1] for line in axes[3].get_lines()}
    truth = last_values(finished.run, "fine-tune", "correlated", "ft")
    for c_tr in (0, 1):
        assert drawn[f"$C_{{Tr}}$ = {c_tr}"] == pytest.approx(100 * truth[0.001, c_tr])


def test_an_unknown_print_style_is_refused(finished: Fake, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="paper or talk"):
        figures(finished.run, "poster", tmp_path)


def test_a_table_of_other_models_is_refused_not_drawn(both: Path) -> None:
    """Its columns are right, and none of its rows is of a model that could be drawn."""
    table = pl.read_parquet(both.parent / "analysed" / "analysis" / "pruning.parquet")
    with pytest.raises(InputError, match="no row of it"):
        pruning(table.with_columns(start=pl.lit("x")), (2, 2), neurons=False)
