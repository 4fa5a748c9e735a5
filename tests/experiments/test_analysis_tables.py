"""Tables of ``veneer analyse`` are read one way: what lacks a column, or has another, is refused."""

from pathlib import Path

import polars as pl
import pytest

from tests.report import fakes
from veneer.experiments.analysis_tables import COLUMNS, read_analysis
from veneer.tasks.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.analysed_run(tmp_path_factory.mktemp("tables") / "run").path


def test_what_the_analyses_make_is_what_is_read(folder: Path) -> None:
    made = {file.stem: pl.read_parquet(file).schema for file in (folder / "analysis").glob("*.parquet")}
    assert len(made) > 8
    for name, schema in made.items():
        assert dict(schema) == {column: COLUMNS[name][column] for column in schema}, name
        assert set(schema) == set(COLUMNS[name]), name
        assert read_analysis(folder, name) is not None


def test_a_table_that_was_not_made_is_none_and_a_link_that_leads_nowhere_is_damaged(folder: Path) -> None:
    assert read_analysis(folder, "jailbreak") is None
    link = folder / "analysis" / "jailbreak.parquet"
    link.symlink_to(link.name)
    try:
        with pytest.raises(InputError, match="jailbreak"):
            read_analysis(folder, "jailbreak")
    finally:
        link.unlink()


@pytest.mark.parametrize("name", ["pruning", "verdicts"])
def test_a_table_that_lacks_a_column_or_has_it_with_another_type_is_refused(name: str, folder: Path) -> None:
    file = folder / "analysis" / f"{name}.parquet"
    table = pl.read_parquet(file)
    for column in table.columns:
        for changed in (table.drop(column), table.with_columns(pl.lit(1, pl.Int8).alias(column))):
            changed.write_parquet(file)
            with pytest.raises(InputError, match=column):
                read_analysis(folder, name)
    table.write_parquet(file)
