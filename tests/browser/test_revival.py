"""What of the retraining is shown at first, and what one button adds: by mouse, by keyboard, by link."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import _fakes
from veneer.experiments.store import Run
from veneer.report.figures import BOLD
from veneer.report.page import write_report

pytestmark = pytest.mark.slow

RATES = (0.001, 0.0001)
# Of every panel its traces but the level of guessing and bands: name, width, share, rates, arm.
PANELS = """[...document.querySelectorAll('#revival .js-plotly-plot')].map((panel) => panel.data
  .filter((trace) => trace.meta && !trace.meta.level && trace.mode === 'lines+markers')
  .map((trace) => ({ name: trace.name, width: trace.line.width, ...trace.meta })))"""
ROWS = """[...document.querySelectorAll('#revival .times:not([hidden]) tbody tr')]
  .filter((row) => !row.hidden).map((row) => [...row.cells].slice(0, 3).map((cell) => cell.innerText))"""
KEYS = """[...document.querySelectorAll('#revival [data-of]')].filter((key) => !key.hidden)
  .map((key) => `${key.dataset.of} ${key.dataset.is}`)"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run with two rates of retraining."""
    fakes, folder = _fakes(), tmp_path_factory.mktemp("revival")
    experiment = replace(fakes.EXPERIMENT, reft_rates=RATES)
    run, cells = Run.open(folder / "run", "quick", experiment), fakes.cells_of(experiment)
    fakes.write_surroundings(run, cells)
    for cell in cells:
        fakes.store(run, cell)
    return write_report(run).as_uri()


def settled(page: Any, script: str, before: Any) -> Any:
    """What a script finds once it is something else."""
    for _ in range(60):
        if page.evaluate(script) != before:
            page.evaluate("() => open.draw(['revival'])")
            return page.evaluate(script)
        page.wait_for_timeout(50)
    pytest.fail("nothing changed")


def test_one_share_and_the_rate_that_says_most_come_first(address: str, open_page: Any) -> None:
    opened = open_page(address)
    panels = opened.page.evaluate(PANELS)
    assert len(panels) == 2
    for panel in panels:
        own = [trace for trace in panel if "arm" not in trace]
        controls = [trace for trace in panel if "arm" in trace]
        assert len(own) == 1 and own[0]["width"] == BOLD and "best" in own[0]["reft"]
        assert own[0]["c_tr"] == ["1"], "the share of the setting that leads"
        assert {trace["arm"][0] for trace in controls} == {"Scr.", "Scr. + FT"}
        assert {trace["reft"][0] for trace in controls} == {own[0]["reft"][0]}
        assert all(trace["width"] < BOLD for trace in controls)
    assert [row[:2] for row in opened.page.evaluate(ROWS)] == [["0.001", "1"]], "the others reached nothing"
    assert opened.page.evaluate(KEYS)[0] == "c_tr 1"
    assert "c_tr 0" not in opened.page.evaluate(KEYS)
    assert opened.complaints == []


@pytest.mark.parametrize("how", ["mouse", "keyboard"])
def test_one_button_shows_the_rest_and_takes_it_away(address: str, open_page: Any, how: str) -> None:
    opened = open_page(address)
    page = opened.page
    first, button = page.evaluate(PANELS), page.locator("#revival .show-all")
    assert button.inner_text() == "Show all"

    def press() -> None:
        if how == "mouse":
            button.click()
        else:
            button.focus()
            page.keyboard.press("Enter")

    press()
    everything = settled(page, PANELS, first)
    large, small = everything
    for panel in (large, small):
        own = [trace for trace in panel if "arm" not in trace]
        assert {(trace["c_tr"][0], trace["reft"][0]) for trace in own} == {
            (share, rate) for share in ("0", "1") for rate in ("0.001", "0.0001")
        }
        assert {trace["reft"][0] for trace in panel if "arm" in trace} == {"0.001", "0.0001"}
    assert sum(trace["width"] == BOLD for trace in large) == 2, "of each share the rate that says most"
    assert len(page.evaluate(KEYS)) == 4
    assert page.evaluate(ROWS) == [["0.001", "1", "0.001"], ["0.001", "1", "0.0001"]]
    assert "back_c_tr=all" in page.url and "back_reft=all" in page.url
    again = open_page(page.url)
    assert again.page.evaluate(PANELS) == everything
    assert again.page.locator("#revival .show-all").inner_text() != "Show all"
    press()
    assert settled(page, PANELS, everything) == first
    assert "back_reft" not in page.url
    assert opened.complaints == again.complaints == []


def test_settings_in_which_nothing_was_reached_are_one_line(address: str, open_page: Any) -> None:
    page = open_page(address).page
    part = "#revival .times:not([hidden])"
    told = page.locator(f"{part} > p.small").inner_text()
    rows = page.locator(f"{part} tbody tr").count()
    assert told.startswith("Neither retraining nor a control got there: ")
    assert rows + told.count("retrained at") == 2 * 2 * len(RATES)
    assert Path(address.removeprefix("file://")).is_file()
