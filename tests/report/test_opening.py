"""The report opens on what was looked into, and says nothing of stages that a run does not have."""

import re
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.report.conftest import Fake
from tests.report.fakes import EXPERIMENT, analysed, cells_of, store, write_surroundings
from tests.report.reading import Page
from veneer.experiments.store import Run
from veneer.finetune.cell import Cell
from veneer.finetune.fleet import EVALUATED
from veneer.report.page import write_report
from veneer.report.stored_task import answer_word

ANSWER, OF_PT = 2, [1, 4]  # positions in the fakes' text: where the answer is read, and of its letters a


def opened(page: Page) -> dict[str, str]:
    """What each control of the page is set to at first, by its id."""
    found, control = {}, ""
    for tag, attributes in page.tags:
        if tag == "select":
            control = attributes["id"] or ""
        if tag == "option" and (control not in found or "selected" in attributes):
            found[control] = attributes["value"] or ""
    return found


def test_it_opens_on_a_model_that_was_pruned_though_another_is_wrapped(copied: Run, finished: Fake) -> None:
    analysed(copied, finished.cells)  # at 0.1 with C_Tr = 0
    table = copied.path / "analysis" / "pruning.parquet"
    pl.read_parquet(table).with_columns(seed=pl.lit(1, pl.Int64)).write_parquet(table)
    own = opened(Page(write_report(copied).read_text()))
    assert (own["map_rate"], own["map_c_tr"], own["map_seed"]) == ("0.1", "0", "1")


def test_without_analyses_it_opens_on_a_wrapped_model(page: str) -> None:
    own = opened(Page(page))
    assert (own["map_rate"], own["map_c_tr"], own["map_seed"]) == ("0.001", "1", "0")


@pytest.mark.parametrize("measured", [False, True], ids=["from-the-map", "over-many-texts"])
@pytest.mark.parametrize(("block", "head"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_attention_opens_on_the_head_whose_answer_looks_most_at_o_pts_tokens(
    copied: Run, block: int, head: int, measured: bool
) -> None:
    for file in copied.path.glob("capabilities/*/attention.safetensors"):
        stored = load_file(file)
        maps = torch.full((2, 2, 5, 5), 0.2)
        maps[1 - block, head, :, OF_PT] = 0.5  # looked at a lot, but not by the answer
        maps[:, :, ANSWER] = 0.2
        shown = 1 - block if measured else block  # one text may mislead where many were measured
        maps[shown, head, ANSWER, OF_PT] = 0.45
        shares = torch.full((1, len(EVALUATED), 2, 2, 3), 0.1)
        shares[0, EVALUATED.index("natural"), block, head, 0] = 0.4
        shares[0, EVALUATED.index("correlated"), 1 - block, head, 0] = 0.9
        shares[0, :, 1 - block, head, 1] = 0.9  # on O_FT's
        stored |= {"example": maps, "mean": maps.clone(), "by_token": maps[:, :, ANSWER].contiguous()}
        save_file(stored | ({"operand_share": shares} if measured else {}), file)
    own = opened(Page(write_report(copied).read_text()))
    assert (own["map_block"], own["map_head"]) == (str(block), str(head))


@pytest.fixture(scope="module")
def without_reft(tmp_path_factory: pytest.TempPathFactory) -> Page:
    experiment = replace(EXPERIMENT, reft_rates=(), controls=False)
    run = Run.open(tmp_path_factory.mktemp("run") / "r", "quick", experiment)
    cells = [c for c in cells_of(EXPERIMENT) if c.origin.start == "capability"]
    cells = [c for c in cells if not isinstance(c.start, Cell)]
    write_surroundings(run, cells)
    for cell in cells:
        store(run, cell)
    return Page(write_report(run).read_text())


def test_a_run_without_reft_has_no_control_or_column_for_it(without_reft: Page, page: str) -> None:
    columns = {tag: a for tag, a in without_reft.tags if a.get("id") in ("map_reft", "back_reft")}
    assert columns == {}
    assert {"map_reft", "back_reft"} <= {a.get("id") for _, a in Page(page).tags}
    rows = [row for row in without_reft.tables["verdicts"] if row and row[0] in ("0.1", "0.001")]
    assert [len(row) for row in rows] == [6] * 4
    assert all(float(cell) >= 0 for row in rows for cell in row[3:])


def test_what_is_said_first_ends_in_one_full_stop_or_question_mark(without_reft: Page, page: str) -> None:
    told = [" ".join(text.split()) for text in (without_reft.text, Page(page).text)]
    assert "or only hidden?" in told[0]
    assert not any(re.search(r"[.?]\.", text.replace("...", "")) for text in told)


@pytest.mark.parametrize(
    "words",
    ["after the best retraining", "in all three", "for all three", "reFT (reverse", "updates of reFT"],
)
def test_a_run_without_reft_does_not_speak_of_its_outcome(
    without_reft: Page, page: str, both: Path, words: str
) -> None:
    assert words in " ".join(Page(page).text.split()) + " ".join(Page(both.read_text()).text.split())
    assert words not in " ".join(without_reft.text.split())


@pytest.mark.parametrize(("answer", "word"), [("=3", "3"), (3, "3"), ("=12", "12"), ("=", "="), ("q", "q")])
def test_an_answer_is_written_without_the_sign_of_its_token(answer: object, word: str) -> None:
    assert answer_word(answer) == word


def test_answers_of_learned_models_are_numbers_in_maps_and_labels(both: Path) -> None:
    data = Page(both.read_text()).data["r2-"]
    assert "0" in data["attention"]["models"]["L"]["answers"]
    named = [*data["attention"]["models"]["L"]["answers"], *data["labels"]["L"]["answers"]]
    assert not [name for name in named if name.startswith("=")]
    assert all(name.isdigit() for name in data["labels"]["L"]["answers"])
