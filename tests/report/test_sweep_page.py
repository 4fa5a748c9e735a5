"""A sweep's page shows every answer as the points' own files give it, and each point as a run's report."""

import json
import re
import zlib
from base64 import b64decode
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.report.conftest import Fake
from tests.report.fake_sweep import AXES, analysed_sweep, sweep_run
from tests.report.reading import Page
from veneer.commands.sweep import show_sweep
from veneer.experiments.points import points_of
from veneer.experiments.store import Run
from veneer.report import page as report
from veneer.report import page_data
from veneer.report.page import write_report, write_reports
from veneer.tasks.errors import InputError


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return sweep_run(tmp_path_factory.mktemp("swept") / "s")


@pytest.fixture(scope="module")
def overview(swept: Run) -> Page:
    return Page(write_report(swept).read_text())


def point(page: Page, place: int) -> dict[str, Any]:
    """What lies in the page for one point."""
    return json.loads(zlib.decompress(b64decode(page.data[""]["sweep"]["points"][place])))


def last(run: Run, stage: str, texts: str, operand: str, **at: Any) -> list[float]:
    """Values after the last update, one for each seed, from the cells' own files and the sweep's plan."""
    planned = pl.read_parquet(run.path / "cells.parquet")
    ids = planned.filter(pl.col("stage") == stage, **{k: v for k, v in at.items() if k in AXES})["cell"]
    found = []
    for cell in ids:
        described = json.loads((run.cell_path(cell) / "cell.json").read_text())
        first = described
        if "cell" in described["start"]:
            first = json.loads((run.cell_path(described["start"]["cell"]) / "cell.json").read_text())
        share = sum(c["weight"] for c in first["stage"]["mixture"]["components"] if c["kind"] == "correlated")
        if share == at["c_tr"]:
            table = pl.read_parquet(run.cell_path(cell) / "metrics.parquet")
            own = table.filter(measure="accuracy", texts=texts, operand=operand)
            found.append(own.sort("step")["value"][-1])
    return found


def test_every_answer_has_the_mean_and_the_range_of_its_points_cells(swept: Run, overview: Page) -> None:
    answers = overview.data[""]["sweep"]["answers"]
    assert len(answers) == 4 * 2
    for own in answers:
        at = {"batch": int(own["at"][0]), "length": int(own["at"][1]), "c_tr": float(own["c_tr"])}
        for name, stage, texts, operand in (
            ("before", "fine-tune", "natural", "pt"),
            ("after", "reft", "natural", "pt"),
            ("ft_1", "fine-tune", "correlated", "ft"),
            ("ft_0", "fine-tune", "uncorrelated", "ft"),
        ):
            values = last(swept, stage, texts, operand, **at)
            assert len(values) == 2
            truth = [sum(values) / 2, min(values), max(values)]
            assert own[name] == pytest.approx(truth, rel=1e-3), (own, name)


def test_the_table_says_in_words_what_the_data_say(overview: Page) -> None:
    answers = overview.data[""]["sweep"]["answers"]
    rows = [row for row in overview.tables["answers"] if len(row) == 11][1:]
    assert len(rows) == len(answers)
    for row, own in zip(rows, answers, strict=True):
        assert [row[0], row[1], row[2], row[3]] == [*own["at"], own["rate"], own["c_tr"]]
        assert own["kind"] in row[4]
        assert row[9].split()[0] == f"{100 * own['after'][0]:.0f}"


def test_a_point_is_judged_by_the_guessing_of_its_own_task(overview: Page) -> None:
    """40 % is 20 points above guessing at length 3 and 10 at length 4."""
    kinds = {tuple(own["at"]): own["kind"] for own in overview.data[""]["sweep"]["answers"]}
    assert kinds == {
        ("32", "3"): "came back",
        ("32", "4"): "came back",
        ("96", "3"): "came part of the way",
        ("96", "4"): "did not come back",
    }


def test_an_axis_is_judged_by_points_that_differ_in_it_alone(overview: Page) -> None:
    """Batch changes all 4 answers (2 lengths, 2 C_Tr); length the 2 at batch 96, and not those at 32."""
    rows = {row[0]: row for row in overview.tables["effects"][1:]}
    assert rows["batch"][1].split() == ["4", "of", "4"]
    assert rows["length"][1].split() == ["2", "of", "4"]
    assert int(rows["batch"][3].split()[0]) == pytest.approx(55, abs=2.5)
    assert int(rows["length"][3].split()[0]) <= 3
    text = " ".join(overview.text.split())
    assert "changes with batch (4 of 4 comparisons) and with length (2 of 4 comparisons)" in text


def test_a_point_has_the_report_that_a_run_of_it_alone_has(swept: Run, overview: Page) -> None:
    with points_of(swept) as points:
        alone = Page(write_report(points[3].run).read_text())
    own = Page(point(overview, 3)["markup"])
    for name in ("verdicts", "against-paper"):
        assert own.tables[name] == alone.tables[name], name
    data = point(overview, 3)
    for name in ("attention", "labels"):
        assert data[name] == alone.data[""][name], name
    # The leading picture is of the setting that the verdict is clearest on; points of a sweep have none yet.
    figures = [{**found["figures"], "lead": None} for found in (data, alone.data[""])]
    assert figures[0] == figures[1]
    assert "At batch 96, length 4" in own.text
    assert "in 4 letters" in own.text and "in 3 letters" not in own.text


def test_a_point_can_be_repeated_as_a_run(overview: Page) -> None:
    line = re.search(r'<pre class="again"><code>(.*?)</code></pre>', point(overview, 2)["markup"])
    assert line and "veneer run counter" in line[1]
    assert "--batch 96" in line[1]
    assert "--momentum" not in line[1], "it is the preset's"
    assert "--length 3" in line[1]
    assert "veneer sweep counter --batch 32,96 --length 3,4" in overview.text


def test_a_point_has_the_rows_of_the_analyses_that_are_its_own(tmp_path: Path) -> None:
    run = sweep_run(tmp_path / "s")
    analysed_sweep(run)
    planned = pl.read_parquet(run.path / "cells.parquet")
    with points_of(run) as points:
        for own in points:
            cells = set(planned.filter(**own.values)["cell"])
            folder = own.run.path / "analysis"
            assert set(pl.read_parquet(folder / "movement.parquet")["cell"]) <= cells
            assert len(pl.read_parquet(folder / "movement.parquet")) == 4  # 2 seeds, 2 C_Tr
            assert len(pl.read_parquet(folder / "verdicts.parquet")) == 2
    page = Page(write_report(run).read_text())
    for place, (batch, length) in enumerate([(32, 3), (32, 4), (96, 3), (96, 4)]):
        reasons = Page(point(page, place)["markup"]).tables["evidence"]
        assert all(f"batch {batch} and length {length}" in row[2] for row in reasons[1:])
    assert {own["kind"] for own in page.data[""]["sweep"]["answers"]} == {"wrapped", "rewritten"}


def test_a_point_that_is_not_finished_says_so(tmp_path: Path) -> None:
    page = Page(write_report(sweep_run(tmp_path / "s", left_out=(96, 3))).read_text())
    assert "1 of 4 points lack cells" in " ".join(page.text.split())
    kinds = {tuple(own["at"]): own["kind"] for own in page.data[""]["sweep"]["answers"]}
    assert kinds["96", "3"] == "not finished" and kinds["96", "4"] == "did not come back"
    assert "This point is still in progress" in Page(point(page, 2)["markup"]).text
    assert "still in progress" not in Page(point(page, 3)["markup"]).text


def test_a_sweep_that_has_only_begun_has_a_report(tmp_path: Path, swept: Run) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "experiment.json").write_text((swept.path / "experiment.json").read_text())
    assert "4 of 4 points lack cells" in " ".join(Page(write_report(Run(begun)).read_text()).text.split())


def test_a_sweep_may_stand_beside_a_run(swept: Run, finished: Fake, tmp_path: Path) -> None:
    page = Page(write_reports([finished.run, swept], tmp_path / "page.html").read_text())
    assert set(page.data) == {"", "r2-"}
    inside = Page(json.loads(zlib.decompress(b64decode(page.data["r2-"]["sweep"]["points"][0])))["markup"])
    ids = [attributes["id"] for _, attributes in [*page.tags, *inside.tags] if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert "r2-answers" in ids and "r2-verdicts" in ids and "verdicts" in ids


def test_a_damaged_file_of_a_point_is_named_where_it_lies(tmp_path: Path) -> None:
    run = sweep_run(tmp_path / "s")
    file = next(run.path.glob("capabilities/*/attention.safetensors"))
    file.write_bytes(b"nothing")
    with pytest.raises(InputError, match=str(file)):
        write_report(run)


def test_what_is_thinned_is_said_above_and_at_the_point(
    swept: Run, overview: Page, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "leave out some" not in overview.text
    assert "leaves out" not in point(overview, 0)["markup"]
    monkeypatch.setattr(report, "MAP_BYTES", 4000)
    page = Page(report.render([swept]))
    assert "4 of 4 points leave out some maps" in " ".join(page.text.split())
    assert "leaves out maps of" in point(page, 0)["markup"]
    assert page.data[""]["sweep"]["answers"] == overview.data[""]["sweep"]["answers"]
    assert page_data.MAP_BYTES == 7_000_000


def test_the_sweeps_folder_gains_nothing_but_its_report(tmp_path: Path) -> None:
    run = sweep_run(tmp_path / "s")
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    written = write_report(run)
    after = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path != written}
    assert {path for path in after if path != run.path} == {path for path in before if path != run.path}
    assert all(after[path] == before[path] for path in after if path.is_file())


def test_a_sweep_ends_with_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = sweep_run(tmp_path / "s")
    show_sweep(run)
    assert "metrics.parquet" in "".join(capsys.readouterr().out.split())
    answers = Page((run.path / "report.html").read_text()).data[""]["sweep"]["answers"]
    assert len(answers) == 4 * 2


def test_the_table_of_a_sweep_has_every_name_whole_at_80_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["examples/ascent.py:GentleAscent", "difference:0.25", "full"]
    rows = [{"method": name, "length": 12, "batch": 32, "capability": "written by hand", "stage": "reft",
             "fine_tuning_rate": 0.001, "c_tr": 1.0, "learning_rate": 0.0001, "pt": 0.999, "ft": 0.5,
             "seeds": 9} for name in names]  # fmt: skip
    monkeypatch.setattr("veneer.commands.sweep.sweep_table", lambda run: pl.DataFrame(rows))
    show_sweep(sweep_run(tmp_path / "s"))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert max(map(len, lines)) <= 80
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert "".join(row[0] for row in cells) == "".join(names)
    assert [row[7] for row in cells if row[7]] == ["99.9"] * 3
    assert "written by hand" not in str(cells)
