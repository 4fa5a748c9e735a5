"""The report says what is missing, what diverged, and refuses what is damaged."""

from pathlib import Path

import pytest

from tests.report.fakes import EXPERIMENT, cells_of, store, write_surroundings
from tests.report.reading import Page
from veneer.experiments.curves import courses
from veneer.experiments.store import Run
from veneer.finetune.cell import Cell
from veneer.models.files import read_json, write_json
from veneer.report.page import write_report
from veneer.tasks.errors import InputError


def test_a_diverged_cell_is_named_with_its_step_and_marked_in_its_curve(page: str) -> None:
    text = " ".join(Page(page).text.split())
    assert "1 cell diverged" in text
    assert "Fine-tuning at 0.1, C_Tr = 1, seed 1: diverged at step 7; its 1 reFT was not started." in text
    row = next(row for row in Page(page).tables["against-paper"] if row[:2] == ["0.1", "1"])
    assert all("diverged at step 7" in cell for cell in row[2:])
    crosses = [t for t in Page(page).data[""]["figures"]["behaviour-natural-0"]["data"] if t.get("text")]
    assert {tuple(t["x"]) for t in crosses} == {(7,)}
    assert "still in progress" not in text, "a reFT without a start is not waited for"


def test_a_setting_whose_every_fine_tuning_diverged_says_so(tmp_path: Path) -> None:
    run, cells = Run.open(tmp_path / "r", "quick", EXPERIMENT), cells_of(EXPERIMENT)
    write_surroundings(run, cells)
    for cell in cells:
        fresh = cell.origin.start != "capability"
        if not fresh and not isinstance(cell.start, Cell) and cell.stage.recipe.learning_rate == 0.1:
            store(run, cell, 3)
    kinds = {(v.fine_tuning_rate, v.c_tr): v.kind for v in courses(run)}
    assert kinds == {
        (0.1, 0): "diverged",
        (0.1, 1): "diverged",
        (0.001, 0): "not finished",
        (0.001, 1): "not finished",
    }
    assert "4 cells diverged" in Page(write_report(run).read_text()).text


@pytest.mark.parametrize("finished_cells", [0, 1, 5])
def test_a_run_in_progress_says_so_and_shows_what_there_is(tmp_path: Path, finished_cells: int) -> None:
    run, cells = Run.open(tmp_path / "r", "quick", EXPERIMENT), cells_of(EXPERIMENT)
    write_surroundings(run, cells)
    for cell in cells[:finished_cells]:
        store(run, cell)
    page = Page(write_report(run).read_text())
    assert "still in progress" in page.text
    assert f"{finished_cells} of 22 cells are finished" in page.text
    assert len([row for row in page.tables.get("against-paper", []) if row[0].startswith("0.")]) == -(
        -finished_cells // 2
    )


def test_a_run_that_has_only_begun_has_a_report(tmp_path: Path) -> None:
    page = write_report(Run.open(tmp_path / "r", "quick", EXPERIMENT)).read_text()
    assert "still in progress" in page


@pytest.mark.parametrize("name", ["metrics.parquet", "attention.safetensors"])
def test_a_damaged_file_is_refused(copied: Run, name: str) -> None:
    file = next(copied.path.glob(f"cells/*/{name}"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"is missing or damaged"):
        write_report(copied)


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"name": "counter"}', "nonsense", '{"name": "other", "format": 1}']
)
def test_a_foreign_folder_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "experiment.json").write_text(text)
    with pytest.raises(InputError):
        write_report(Run.read(tmp_path))
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"format": 999}'])
def test_a_foreign_cell_is_refused(copied: Run, text: str) -> None:
    next(copied.path.glob("cells/*/cell.json")).write_text(text)
    with pytest.raises(InputError):
        write_report(copied)


def test_damaged_attention_of_a_capability_is_refused(copied: Run) -> None:
    (copied.path / "capabilities" / "compiled-seed-0" / "attention.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="attention maps"):
        write_report(copied)


def test_a_capability_that_was_changed_is_refused(copied: Run) -> None:
    """Its shape is right, and what the page needs of it is gone."""
    file = copied.path / "capabilities" / "compiled-seed-0" / "model.json"
    content = read_json(file)
    write_json(file, {**content, "metadata": {"bos": "BOS"}})
    with pytest.raises(InputError, match=r"model\.json.*it was changed"):
        write_report(copied)


def test_a_report_that_cannot_be_made_leaves_the_old_one(copied: Run) -> None:
    old = write_report(copied).read_bytes()
    (copied.path / "baselines.json").write_text("{")
    with pytest.raises(InputError):
        write_report(copied)
    assert (copied.path / "report.html").read_bytes() == old


def test_a_damaged_table_of_the_analyses_is_refused(copied: Run) -> None:
    (copied.path / "analysis").mkdir()
    (copied.path / "analysis" / "probes.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"probes\.parquet"):
        write_report(copied)
