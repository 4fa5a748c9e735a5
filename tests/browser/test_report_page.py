"""What a reader of the report meets: every control works, links restore it, and it is accessible."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import polars as pl
import pytest

pytestmark = pytest.mark.slow

ANALYSED = "#map_rate=0.1&map_c_tr=0"  # the model of the first run that was looked into
# One reFT rate or C_Tr, so that "all" is that one; two learned models with the same fine-tuning.
ALIKE = {"back_reft", "r2-back_reft", "r2-back_c_tr", "r2-capability"}
VIEWS = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")]
# What is drawn in a chapter's section: the traces of every figure that is seen, what is hidden, all words.
DRAWN = """([prefix, name]) => JSON.stringify([
  [...document.getElementById(prefix + name).querySelectorAll("*")]
    .filter((e) => e.classList.contains("js-plotly-plot") && e.offsetParent)
    .map((e) => [e.data.map((t) => [t.name, t.visible, t.x, t.y, t.z]), e.layout.title?.text]),
  [...document.getElementById(prefix + name).querySelectorAll("*")]
    .filter((e) => !e.parentElement.closest(".js-plotly-plot")).map((e) => e.hidden ? 1 : 0).join(""),
  document.getElementById(prefix + name).innerText,
])"""
CHOICES = """() => [...document.querySelectorAll("article:not([hidden]) select")].map((s) => [
  s.id, s.closest("section").dataset.section, [...s.options].map((o) => o.value), s.value])"""


@pytest.fixture(scope="module", params=VIEWS, ids=lambda view: f"{view[0]}-{view[1]}")
def view(request: pytest.FixtureRequest, reported: Any, same_page: Any) -> Any:
    """The page at a width and in a scheme of colours, with all that folds unfolded."""
    return same_page(reported.address, *request.param)


def drawn(page: Any, section: str, prefix: str = "") -> str:
    return page.evaluate(DRAWN, [prefix, section])


def test_the_page_is_drawn_without_complaint_and_asks_for_nothing(view: Any, reported: Any) -> None:
    assert view.complaints == []
    assert [r for r in view.requests if not r.startswith(("data:", "blob:"))] == [reported.address]
    figures = "document.querySelectorAll('article:not([hidden]) .main-svg').length"
    assert view.page.evaluate(figures) > 10


def test_the_page_is_as_wide_as_the_window(view: Any) -> None:
    """What is wider (tables) scrolls in a box of its own."""
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert view.page.evaluate(wide) <= 0


def test_there_is_no_serious_barrier(view: Any) -> None:
    """axe-core: contrasts, names of controls, order of headings, tables, landmarks."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-core is not installed")
    view.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    found = axe.Axe().run(view.page).response["violations"]
    serious = [
        f"{own['id']}: {own['help']}: {[node['target'] for node in own['nodes'][:3]]} of {len(own['nodes'])}"
        for own in found
        if own["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.mark.parametrize(("chapter", "width"), [(0, 1440), (1, 390)])
def test_every_control_changes_what_is_drawn_and_the_address(
    reported: Any, same_page: Any, chapter: int, width: int
) -> None:
    tried, prefix = same_page(reported.address + ANALYSED, width), ("", "r2-")[chapter]
    page = tried.page
    page.locator("nav.runs a").nth(chapter).click()
    page.locator(f"article[data-prefix='{prefix}']").wait_for(state="visible")
    page.evaluate("() => open.draw()")
    defaults, idle = page.evaluate("defaults"), []
    for control, section, values, chosen in page.evaluate(CHOICES):
        if len(values) < 2 or control in ALIKE:
            continue
        before = drawn(page, section, prefix)
        for value in [value for value in values if value != chosen]:
            page.locator(f"[id='{control}']").select_option(value)
            assert dict(parse_qsl(urlsplit(page.url).fragment)).get(control, defaults[control]) == value
            if changes(page, section, prefix, before):
                break
        else:
            idle.append(control)
        page.locator(f"[id='{control}']").select_option(chosen)
        page.evaluate("(name) => open.draw([name])", section)
    assert idle == []
    assert tried.complaints == []


def changes(page: Any, section: str, prefix: str, before: str) -> bool:
    """Whether what is drawn becomes another within two seconds."""
    for _ in range(20):
        if drawn(page, section, prefix) != before:
            return True
        page.wait_for_timeout(100)
    return False


def settled(page: Any, section: str) -> float:
    """How far below the window's upper edge a section begins once the page has stopped scrolling."""
    place, before = f"document.getElementById('{section}').getBoundingClientRect().top", None
    for _ in range(20):
        if (now := page.evaluate(place)) == before:
            return now
        before = now
        page.wait_for_timeout(500)
    pytest.fail(f"{section} does not come to rest")


def test_a_cell_of_the_map_of_verdicts_opens_its_model(reported: Any, same_page: Any) -> None:
    opened = same_page(reported.address)
    page = opened.page
    for button in page.locator("article:not([hidden]) button.pick").all():
        wanted = [button.get_attribute(f"data-{name}") for name in ("rate", "c_tr")]
        button.click()
        assert [page.locator(f"#map_{name}").input_value() for name in ("rate", "c_tr")] == wanted
    assert abs(settled(page, "inside")) < 200
    assert opened.complaints == []


def test_a_link_restores_every_choice_and_the_figures(reported: Any, open_page: Any, same_page: Any) -> None:
    opened = same_page(reported.address)
    for control, _, values, chosen in opened.page.evaluate(CHOICES):
        if others := [value for value in values if value != chosen]:
            opened.page.locator(f"#{control}").select_option(others[-1])
    opened.page.evaluate("() => open.draw()")
    again = open_page(opened.page.url)
    assert again.page.evaluate(CHOICES) == opened.page.evaluate(CHOICES)
    for section in ("behaviour", "revival", "inside"):
        assert drawn(again.page, section) == drawn(opened.page, section), section
    assert opened.complaints == again.complaints == []


def test_a_link_opens_the_second_run(reported: Any, open_page: Any) -> None:
    opened = open_page(f"{reported.address}#run=2&nothing=1", unfold=False)
    assert opened.page.locator("article[data-prefix='r2-']").is_visible()
    assert not opened.page.locator("article[data-prefix='']").is_visible()
    assert opened.complaints == []


def test_colours_follow_the_system_and_paper(reported: Any, same_page: Any) -> None:
    opened = same_page(reported.address)
    page = opened.page
    look = "getComputedStyle(document.body).backgroundColor"
    day = page.evaluate(look)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(look) != day
    page.evaluate("() => open.draw()")
    page.emulate_media(media="print", color_scheme="light")
    assert page.pdf(format="A4").startswith(b"%PDF")
    assert opened.complaints == []


def test_the_skip_link_is_the_first_stop_of_the_keyboard(reported: Any, open_page: Any) -> None:
    page = open_page(reported.address, unfold=False).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert abs(settled(page, "answer")) < 200
    assert page.evaluate("document.activeElement.id") == "answer"


def test_the_table_shows_the_numbers_of_the_parquet_files(reported: Any, same_page: Any) -> None:
    """Means over seeds after the last update, from the cells' own files."""
    page = same_page(reported.address).page
    rows = page.evaluate(
        "[...document.querySelectorAll('#verdicts tbody tr')]"
        ".map((r) => [...r.cells].map((c) => c.textContent))"
    )
    metrics = pl.read_parquet(
        sorted(Path(reported.run).glob("cells/*/metrics.parquet")), include_file_paths="file"
    ).filter((pl.col("measure") == "accuracy") & (pl.col("step") == pl.col("step").max().over("file")))
    cells = {path.name: path for path in Path(reported.run).glob("cells/*")}
    shown = [row for row in rows if len(row) == 11]
    assert len(shown) == 4
    for row in shown:
        tuned = ids(cells, float(row[0]), float(row[1]))
        own = metrics.with_columns(cell=pl.col("file").str.extract(r"cells/([^/]+)/")).filter(
            pl.col("cell").is_in(tuned)
        )
        for place, (texts, operand) in {
            4: ("correlated", "ft"),
            5: ("uncorrelated", "ft"),
            6: ("natural", "pt"),
        }.items():
            truth = own.filter((pl.col("texts") == texts) & (pl.col("operand") == operand))["value"]
            assert len(truth) == 2
            number = re.match(r"[\d.]+", row[place])
            assert number and float(number[0]) == pytest.approx(100 * sum(truth) / 2, abs=0.051), row


def ids(cells: dict[str, Path], rate: float, c_tr: float) -> list[str]:
    """The fine-tunings of the capability at a rate with a C_Tr, by what their files say."""
    found = []
    for name, path in cells.items():
        cell = json.loads((path / "cell.json").read_text())
        share = sum(c["weight"] for c in cell["stage"]["mixture"]["components"] if c["kind"] == "correlated")
        tuned = cell["stage"]["name"] == "fine-tune" and cell["start"].get("start") == "capability"
        if tuned and cell["stage"]["recipe"]["learning_rate"] == rate and share == c_tr:
            found.append(name)
    return found


def test_what_was_not_looked_into_is_told_from_what_is_not_there(reported: Any, same_page: Any) -> None:
    """The fakes' tables are about 0.1 with C_Tr = 0 and seed 0: a command without them would lose it."""
    opened = same_page(reported.address)
    page, note = opened.page, "#lacking-pruning"
    assert page.locator("#pruning-pt .main-svg").count() > 0, "it opens on a model that was pruned"
    assert not page.locator(note).is_visible()
    page.locator("#map_seed").select_option("1")
    page.locator(note).wait_for(state="visible")
    assert "not among the analysed models" in page.locator(note).inner_text()
    assert page.locator(f"{note} code").inner_text() == (
        f"veneer analyse {reported.run} --rates 0.1 --c-tr 0 --only pruning verdicts"
    )
    assert not page.locator("#pruning-pt").is_visible()
    page.locator("#map_rate").select_option("0.001")
    code = f"document.querySelector('{note} code').innerText.includes('--rates')"
    for _ in range(40):
        if not page.evaluate(code):
            break
        page.wait_for_timeout(50)
    assert not page.evaluate(code), "with both rates none is left to be named"
    page.locator("#map_seed").select_option("0")
    page.locator("#map_rate").select_option("0.1")
    page.locator("#pruning-pt").wait_for(state="visible")
    assert page.locator(note).inner_text() == ""
    assert opened.complaints == []
