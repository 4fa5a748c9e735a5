"""What a reader of a sweep's report meets: the overview, the picker of a point, links, keyboard and paper."""

import itertools
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import polars as pl
import pytest

from tests.report.fake_sweep import AXES, sweep_run
from veneer.experiments.store import Run
from veneer.report.page import write_report

pytestmark = pytest.mark.slow

VIEWS = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]


POINT = "document.querySelector('.at-point').innerText"


def until(page: Any, expression: str, wanted: Any) -> None:
    """Ask again and again: the page forbids the evaluation of text that the browser's own waiting needs."""
    for _ in range(200):
        if (found := page.evaluate(expression)) == wanted:
            return
        page.wait_for_timeout(50)
    pytest.fail(f"{expression} stays {found!r} instead of {wanted!r}")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return sweep_run(tmp_path_factory.mktemp("swept") / "s")


@pytest.fixture(scope="module")
def address(swept: Run) -> str:
    return write_report(swept).as_uri()


@pytest.mark.parametrize(("width", "scheme"), VIEWS)
def test_the_page_opens_whole_and_asks_for_nothing(
    address: str, same_page: Any, width: int, scheme: str
) -> None:
    """axe-core: contrasts, names of controls, order of headings, tables, landmarks."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")
    opened = same_page(address, width, scheme)
    assert opened.complaints == []
    assert [r for r in opened.requests if not r.startswith(("data:", "blob:"))] == [address]
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert opened.page.evaluate(wide) <= 0
    opened.page.locator("#over_show").select_option("after")
    found = axe.Axe().run(opened.page).response["violations"]
    serious = [(own["id"], own["help"]) for own in found if own["impact"] in ("serious", "critical")]
    assert serious == []


def test_the_map_shows_the_means_of_the_parquet_files(swept: Run, address: str, same_page: Any) -> None:
    page = same_page(f"{address}#over_show=after").page
    cells = page.evaluate(
        "[...document.querySelectorAll('#sweep-map button')].map((b) => [{...b.dataset}, b.innerText])"
    )
    assert len(cells) == 8
    points = list(itertools.product(*AXES.values()))
    metrics = swept.metrics().filter(stage="reft", measure="accuracy", texts="natural", operand="pt")
    for data, text in cells:
        batch, length = points[int(data["point"])]
        own = metrics.filter(batch=batch, length=length, c_tr=float(data["c_tr"]))
        values = own.filter(pl.col("step") == pl.col("step").max())["value"].to_list()
        assert len(values) == 2
        assert text.split()[0] == f"{50 * sum(values):.0f}", (data, text)


def test_the_picker_shows_another_point_and_keeps_the_choices(address: str, same_page: Any) -> None:
    opened = same_page(address)
    page = opened.page
    page.locator("#map_c_tr").select_option("0")
    curves = "open.data.figures['behaviour-natural-0'].data.map((t) => t.y)"
    before = page.evaluate(curves)
    page.locator("#at_batch").select_option("96")
    until(page, POINT, "At batch 96, length 3")  # which opens with this C_Tr by itself
    page.locator("#at_length").select_option("4")
    until(page, POINT, "At batch 96, length 4")
    assert page.evaluate(curves) != before
    assert page.locator("#map_c_tr").input_value() == "0"
    state = dict(parse_qsl(urlsplit(page.url).fragment))
    assert state == {"at_batch": "96", "at_length": "4", "map_c_tr": "0"}
    page.evaluate("() => open.draw()")
    assert page.locator("[data-slot] .main-svg").count() > 10
    assert opened.complaints == []


def test_a_link_restores_the_point_and_what_was_chosen_in_it(address: str, open_page: Any) -> None:
    link = f"{address}#at_batch=96&at_length=4&map_c_tr=0&over_show=ft_0&only_batch=32"
    opened = open_page(link)
    page = opened.page
    assert page.locator(".at-point").inner_text() == "At batch 96, length 4"
    values = {
        name: page.locator(f"#{name}").input_value() for name in ("map_c_tr", "over_show", "only_batch")
    }
    assert values == {"map_c_tr": "0", "over_show": "ft_0", "only_batch": "32"}
    assert page.locator("#answers tbody tr:visible").count() == 4
    assert opened.complaints == []


@pytest.mark.parametrize("where", ["#sweep-map", "#answers"])
def test_choosing_a_cell_opens_its_model(address: str, same_page: Any, where: str) -> None:
    opened = same_page(address)
    page = opened.page
    for button in page.locator(f"{where} button.pick").all():
        point, c_tr = (button.get_attribute(f"data-{name}") for name in ("point", "c_tr"))
        assert point is not None
        batch, length = list(itertools.product(*AXES.values()))[int(point)]
        button.click()
        until(page, POINT, f"At batch {batch}, length {length}")
        until(page, "document.getElementById('map_c_tr').value", c_tr)
    until(page, "document.activeElement.id", "point")
    assert opened.complaints == []


def test_the_keyboard_reaches_a_cell_and_the_picker(address: str, same_page: Any) -> None:
    page = same_page(address).page
    page.locator("#sweep-map button").last.focus()
    page.keyboard.press("Enter")
    until(page, POINT, "At batch 96, length 4")
    page.locator("#at_batch").focus()
    page.keyboard.press("ArrowUp")
    until(page, POINT, "At batch 32, length 4")


def test_the_table_sorts_and_filters(address: str, same_page: Any) -> None:
    page = same_page(address).page
    column = "[...document.querySelectorAll('#answers tbody tr')].filter((r) => !r.hidden)"
    column += ".map((r) => parseFloat(r.cells[9].innerText))"
    heading = page.locator("#answers th").nth(9)
    for direction, backwards in (("ascending", False), ("descending", True)):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == direction
        assert page.evaluate(column) == sorted(page.evaluate(column), reverse=backwards)
    page.locator("#only_kind").select_option("came back")
    until(page, "document.getElementById('answers-count').innerText", "4 of 8 rows.")
    assert all(value > 90 for value in page.evaluate(column))
    assert dict(parse_qsl(urlsplit(page.url).fragment))["only_kind"] == "came back"


def test_any_two_dimensions_make_the_map(address: str, same_page: Any) -> None:
    """With length held at 4, batch across and C_Tr down, 4 of the 8 answers are left."""
    opened = same_page(address)
    page = opened.page
    assert page.locator("#sweep-map table").count() == 2
    page.locator("#over_down").select_option("c_tr")
    page.locator("#over_length").select_option("4")
    until(page, "document.querySelectorAll('#sweep-map button').length", 4)
    points = {button.get_attribute("data-point") for button in page.locator("#sweep-map button").all()}
    assert points == {"1", "3"}
    assert not page.locator("#over_batch").is_visible()
    page.locator("#over_across").select_option("c_tr")  # then something else goes down
    until(page, "document.getElementById('over_down').value !== 'c_tr'", True)
    assert opened.complaints == []


def test_paper_shows_the_chosen_point(address: str, same_page: Any) -> None:
    opened = same_page(f"{address}#at_batch=96&at_length=4")
    page = opened.page
    page.emulate_media(media="print")
    assert page.locator(".at-point").is_visible()
    assert page.locator(".at-point").inner_text() == "At batch 96, length 4"
    assert page.pdf(format="A4").startswith(b"%PDF")
    assert opened.complaints == []


def test_one_axis_of_numbers_has_curves_of_its_values(tmp_path: Path, open_page: Any) -> None:
    """The script alone draws them: a page whose sweep has one axis of three numbers."""
    page_file = write_report(sweep_run(tmp_path / "s"))
    opened = open_page(page_file.as_uri())
    drawn = opened.page.evaluate(
        """() => {
          const { answers } = open.sweep;
          open.sweep.axes = { batch: ["32", "96", "128"] };
          open.sweep.answers = answers.filter((row) => row.at[1] === "4")
            .map((row) => ({ ...row, at: [row.at[0]] }));
          open.control("over_down").value = "rate";
          return plotly().then(() => { drawLines(open); return [...document.querySelectorAll("#lines .plot")]
            .map((p) => p.data.map((t) => [t.name, t.x, t.y, t.error_y.array])); });
        }"""
    )
    assert len(drawn) == 2  # C_Tr = 0 and 1
    for own in drawn:
        name, x, y, error = own[2]
        assert name == "O_PT after the best reFT" and x == [32, 96, 128]
        assert y[0] > 0.9 and 0.35 < y[1] < 0.5 and y[2] is None
        assert all(length >= 0 for length in error)
    assert opened.complaints == []
