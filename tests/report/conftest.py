"""Folders and pages that the tests of the report read."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.report.fakes import EXPERIMENT, analysed, cells_of, learned_run, store, write_surroundings
from veneer.experiments.store import Run
from veneer.finetune.cell import Cell
from veneer.report.page import write_report, write_reports
from veneer.tasks.mixture import fine_tuning


@pytest.fixture(scope="module", autouse=True)
def beside_the_paper() -> Iterator[None]:
    """Made-up runs stand for the quick preset, so that the paper's table is shown beside them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("veneer.experiments.paper._preset", lambda described: "quick")
        yield


@dataclass(frozen=True)
class Fake:
    """A run's folder that no training made, with the accuracies that were put into it."""

    run: Run
    cells: list[Cell]
    diverged: Cell


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Fake:
    """Two seeds of four settings; at 0.1 with C_Tr = 1, seed 1 diverged and has no reFT."""
    run = Run.open(tmp_path_factory.mktemp("run") / "r", "quick", EXPERIMENT)
    cells = cells_of(EXPERIMENT)
    write_surroundings(run, cells)
    diverged = next(
        c
        for c in cells
        if c.seed == 1 and c.stage.mixture == fine_tuning(1.0) and c.stage.recipe.learning_rate == 0.1
    )
    for cell in cells:
        if cell.start != diverged:
            store(run, cell, 7 if cell == diverged else -1)
    return Fake(run, cells, diverged)


@pytest.fixture(scope="module")
def page(finished: Fake) -> str:
    return write_report(finished.run).read_text()


@pytest.fixture()
def copied(finished: Fake, tmp_path: Path) -> Run:
    shutil.copytree(finished.run.path, tmp_path / "copy")
    return Run.read(tmp_path / "copy")


@pytest.fixture(scope="module")
def both(finished: Fake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One page of two runs: the compiled one with its analyses, and a learned one."""
    folder = tmp_path_factory.mktemp("both")
    shutil.copytree(finished.run.path, folder / "analysed")
    run = Run.read(folder / "analysed")
    analysed(run, finished.cells)
    return write_reports([run, learned_run(folder / "learned")], folder / "page.html")
