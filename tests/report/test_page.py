"""The report is one file: it loads nothing, has a chapter for each run, and repeats what was done."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.report.conftest import Fake
from tests.report.fakes import EXPERIMENT, cells_of, store, write_surroundings
from tests.report.reading import Page
from veneer.commands.training import show_run
from veneer.experiments.evidence import evidence_of, verdict_table
from veneer.experiments.store import Run
from veneer.report.page import write_report, write_reports
from veneer.tasks.errors import InputError


def test_the_report_is_one_file_that_loads_nothing(finished: Fake, page: str) -> None:
    sources = [a.get("src") for tag, a in Page(page).tags if tag in ("script", "img", "iframe", "source")]
    links = [a.get("href") for tag, a in Page(page).tags if tag == "link"]
    anchors = [a.get("href") or "" for tag, a in Page(page).tags if tag == "a"]
    assert not [source for source in sources if source]
    assert not links
    assert all(anchor.startswith("#") for anchor in anchors)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style and "url(" not in style[1] and "@import" not in style[1]
    assert "default-src 'none'" in page
    assert page.count('id="plotly"') == 1
    before = {"baselines.json", "capabilities", "cells", "cells.parquet", "environment.json", "locks"}
    before |= {"experiment.json", "plan.json"}
    assert {file.name for file in finished.run.path.iterdir()} == before | {"report.html"}


def test_several_runs_make_one_page_with_a_chapter_each(both: Path) -> None:
    page = Page(both.read_text())
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert set(page.data) == {"", "r2-"}
    tabs = [a["data-chapter"] for tag, a in page.tags if tag == "a" and "data-chapter" in a]
    assert tabs == ["", "r2-"]


def test_one_run_cannot_be_two_chapters(finished: Fake, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="different runs"):
        write_reports([finished.run, finished.run], tmp_path / "page.html")


def test_the_command_line_repeats_the_run(finished: Fake, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import shlex

    from veneer.commands import main as cli
    from veneer.commands import run

    taken: list[object] = []
    monkeypatch.setattr(run, "run_experiment", lambda options, experiment: taken.append(experiment))
    line = re.search(r'<pre class="again"><code>(.*?)</code></pre>', page)
    assert line
    from html import unescape

    words = shlex.split(unescape(line[1]))
    assert words[0] == "veneer"
    cli.main(words[1:])
    assert taken == [EXPERIMENT]


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_run_that_begins_with_another_seed_shows_its_own(tmp_path: Path, seeds: int) -> None:
    experiment = replace(EXPERIMENT, first_seed=3, seeds=seeds)
    run, cells = Run.open(tmp_path / "run", "quick", experiment), cells_of(experiment)
    write_surroundings(run, cells)
    for cell in cells:
        store(run, cell)
    page = write_report(run).read_text()
    own = ["3", "4"][:seeds]
    for name in ("seed", "map_seed"):
        picker = page.split(f'data-name="{name}"')[1].split("</select>")[0]
        offered = re.findall(r'<option value="(\w+)"', picker)
        assert offered == (["all"] if seeds > 1 and name == "seed" else []) + own, name
        assert f'<option value="{offered[0]}" selected>' in picker or name == "seed", "what is shown first"
    drawn: set[str] = set()

    def seen(part: dict[str, Any]) -> dict[str, Any]:
        drawn.update((part.get("meta") or {}).get("seed", []))
        return part

    json.loads(Page(page).embedded, object_hook=seen)
    assert drawn == {"all", *own}, "a picker that offers one seed alone has its curves"
    text = " ".join(Page(page).text.split())
    assert "of seed 3." in text and f"{seeds} ({', '.join(own)}). A seed decides" in text


def test_methods_say_what_was_measured_and_what_departs_from_the_paper(page: str) -> None:
    text = " ".join(Page(page).text.split())
    for phrase in (
        "100.00% before, 98.75% after",
        "mlp_exactness is 77",
        "clipped at a norm of 1",
        "both operands have the same answer",
        "20 updates of fine-tuning; the paper uses 10,000",
        "2 seeds: numbers are means",
        "arXiv 2311.12786v2",
    ):
        assert phrase in text, phrase


def test_sections_without_their_table_name_the_command_that_makes_it(finished: Fake, page: str) -> None:
    text = " ".join(Page(page).text.split())
    assert text.count(f"veneer analyse {finished.run.path}") == 2, (
        "beside the evidence, and where it is repeated"
    )
    assert text.count("one command makes it") >= 4


def test_a_page_before_the_analysis_has_the_verdict_that_the_terminal_has(finished: Fake, page: str) -> None:
    """Curves alone would call a model back that was never fine-tuned."""
    first_screen = Page(page).text.split("The experiment")[0]
    kinds = verdict_table(finished.run).filter(pl.col("start") == "capability")["kind"].unique().to_list()
    assert kinds
    for kind in kinds:
        assert kind in first_screen, kind
    assert "came back" not in first_screen


def test_a_finished_run_is_judged_once_for_its_page_and_the_terminal(
    copied: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def counted(*given: Any) -> Any:
        calls.append(given)
        return evidence_of(*given)

    monkeypatch.setattr("veneer.experiments.content.evidence_of", counted)
    show_run(copied)
    assert "What fine-tuning did" in capsys.readouterr().out
    assert len(calls) == 1
    assert not (copied.path / "analysis").exists()
