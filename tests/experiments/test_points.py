"""A point of a sweep is read as a run that was made by itself would be."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

from tests.report.fake_sweep import AXES, point_cells, store_cell, sweep_run
from tests.report.fakes import EXPERIMENT
from veneer.claims.list import claims, evaluate
from veneer.claims.view import View
from veneer.commands.main import main
from veneer.experiments.points import points_of
from veneer.experiments.store import Run, read_json, write_json
from veneer.report.paper import figures as paper_figures

GRID = [(32, 3), (32, 4), (96, 3), (96, 4)]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return sweep_run(tmp_path_factory.mktemp("swept") / "s")


def run_alone(folder: Path, swept: Run, batch: int, length: int) -> Run:
    """The same cells as a run of one experiment."""
    made = replace(EXPERIMENT, learning_rates=(0.01,), length=length, batch=batch, controls=False)
    run, cells = Run.open(folder, "quick", made), point_cells(batch, length)
    run.plan(cells, 4)
    for cell in cells:
        store_cell(run, cell, batch, length)
    task = cells[0].task_id
    write_json(run.path / "baselines.json", {task: read_json(swept.path / "baselines.json")[task]})
    return run


def test_a_point_has_the_cells_settings_and_metrics_of_a_run_alone(swept: Run, tmp_path: Path) -> None:
    with points_of(swept) as points:
        assert [(own.values["batch"], own.values["length"]) for own in points] == GRID
        for own, (batch, length) in zip(points, GRID, strict=True):
            alone = run_alone(tmp_path / f"{batch}-{length}", swept, batch, length)
            assert own.run.experiment["fields"] == alone.experiment["fields"]
            assert own.run.finished() == alone.finished()
            assert_frame_equal(own.run.metrics(), alone.metrics())
            assert read_json(own.run.path / "baselines.json") == read_json(alone.path / "baselines.json")
            assert len(list((own.run.path / "capabilities").iterdir())) == EXPERIMENT.seeds


def test_the_folders_of_points_go_when_they_are_no_longer_asked_for(swept: Run) -> None:
    with points_of(swept) as points:
        folder = points[0].run.path
        assert folder.exists()
    assert not folder.exists()
    assert len(swept.finished()) == 4 * 8


def test_claims_judge_each_point_by_itself(
    swept: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "claims.json"
    main(["claims", str(swept.path), "--json", str(out), "--only", "2", "3"])
    shown = " ".join(capsys.readouterr().out.split())
    written = json.loads(out.read_text())
    assert [tuple(own["point"].values()) for own in written["points"]] == GRID
    assert written["claims"] == []
    for own, (batch, length) in zip(written["points"], GRID, strict=True):
        assert f"at batch {batch}, length {length}" in shown
        view = View(run_alone(tmp_path / f"{batch}-{length}", swept, batch, length))
        for row, claim in zip(own["claims"], claims(("2", "3")), strict=True):
            alone: dict[str, Any] = json.loads(json.dumps(asdict(evaluate(claim, [view]))))
            for name in ("outcome", "effect", "parts", "seeds"):
                assert row[name] == alone[name], (claim.number, name)


def test_a_sweep_beside_a_run_leaves_the_runs_table_alone(swept: Run, tmp_path: Path) -> None:
    alone, out = run_alone(tmp_path / "alone", swept, 32, 3), tmp_path / "claims.json"
    main(["claims", str(alone.path), str(swept.path), "--json", str(out), "--only", "2"])
    both = json.loads(out.read_text())
    assert both["runs"] == [str(alone.path)] and len(both["points"]) == 4
    main(["claims", str(alone.path), "--json", str(out), "--only", "2"])
    assert json.loads(out.read_text())["claims"] == both["claims"]


def test_figures_of_a_sweep_have_a_folder_for_each_point(
    swept: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[tuple[int, int, Path]] = []

    def figures(run: Run, style: str, out: Path) -> list[Path]:
        fields = run.experiment["fields"]
        drawn.append((fields["batch"], fields["length"], out))
        return []

    monkeypatch.setattr(paper_figures, "figures", figures)
    main(["figures", str(swept.path), "--out", str(tmp_path)])
    assert drawn == [(b, n, tmp_path / f"batch-{b}_length-{n}") for b, n in GRID]
    assert list(AXES) == ["batch", "length"]
