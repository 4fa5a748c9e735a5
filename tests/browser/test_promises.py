"""What the report promises in words: hovering, typing a text, filters, commands, cards, folds, print."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.report.fakes import EXPERIMENT, drawn_model
from veneer.commands import main as cli
from veneer.experiments.named import PRESETS
from veneer.experiments.store import Run
from veneer.report.samples import packed_weights

pytestmark = pytest.mark.slow

HOVERED = "(id) => document.querySelectorAll(`#${id} .hoverlayer .hovertext`).length"
OPEN = "[...document.querySelectorAll('article:not([hidden]) details.fold[open]')].length"


def test_the_answer_stands_alone_and_a_section_is_drawn_when_it_is_opened(
    reported: Any, open_page: Any
) -> None:
    opened = open_page(reported.address, unfold=False)
    page = opened.page
    assert page.evaluate(OPEN) == 0
    assert page.locator("article:not([hidden]) .main-svg:visible").count() > 0, "the leading curves"
    assert page.locator("#behaviour .main-svg").count() == 0
    page.locator("#behaviour summary").first.click()
    page.locator("#behaviour .main-svg").first.wait_for()
    assert page.locator("h1").first.inner_text().startswith("At rate 0.001 counting 'a'")
    assert opened.complaints == []


def test_the_page_on_a_phone_is_short_and_its_tables_are_cards(reported: Any, open_page: Any) -> None:
    opened = open_page(reported.address, 390, unfold=False)
    page = opened.page
    assert page.evaluate("document.documentElement.scrollHeight") < 24_241 / 8
    page.evaluate("() => unfoldAll()")
    cell = page.locator("#verdicts tbody td").nth(4)
    label = "(cell) => getComputedStyle(cell, '::before').content"
    assert cell.evaluate(label) == '"after fine-tuning, new task, shortcut works"'
    assert cell.evaluate("(cell) => cell.getBoundingClientRect().width") > 250
    cut = "[...document.querySelectorAll('table.cards td')].filter((c) => c.scrollWidth > c.clientWidth + 1)"
    assert page.evaluate(f"{cut}.length") == 0
    assert opened.complaints == []


def test_pointing_at_a_cell_of_a_map_shows_it_in_the_others(reported: Any, same_page: Any) -> None:
    opened = same_page(reported.address)
    page = opened.page
    page.locator("#map-before").scroll_into_view_if_needed()
    box = page.locator("#map-before .nsewdrag").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.7 * box["height"])
    for place in ("map-tuned", "map-reft"):
        for _ in range(40):
            if page.evaluate(HOVERED, place):
                break
            page.wait_for_timeout(50)
        assert page.evaluate(HOVERED, place) == 1, place
    texts = [page.locator(f"#{place} .hovertext").text_content() for place in ("map-before", "map-tuned")]
    assert texts[0].split(":")[0] == texts[1].split(":")[0], "the same cell"
    assert opened.complaints == []


def test_a_typed_text_is_answered_as_pytorch_answers_it(reported: Any, same_page: Any) -> None:
    """Logits of models with drawn weights agree to 1e-4; what the box shows is their greatest."""
    opened = same_page(reported.address)
    page, generator = opened.page, torch.Generator().manual_seed(1)
    for seed in range(3):
        model = drawn_model(seed)
        tokens = torch.randint(5, (4, 5), generator=generator)
        wanted = model(tokens.unsqueeze(0), answer=2).logits[0]
        shape = vars(model.config)
        given = page.evaluate(
            "([text, shape, all]) => { const model = unpackModel(text, shape);"
            " return all.map((tokens) => forward(model, tokens, 2).logits); }",
            [packed_weights(model), shape, tokens.tolist()],
        )
        assert torch.allclose(torch.tensor(given), wanted.double().float(), atol=1e-4)
    box, note = page.locator("#typed"), page.locator("#typed-note")
    box.fill("abba")
    assert page.locator("#typed-answers strong").count() == 3
    assert page.locator("#typed-answers .token").first.is_visible()
    box.fill("abz")
    assert note.inner_text() == "“z” is not among the letters."
    assert page.locator("#typed-answers strong").count() == 0
    assert opened.complaints == []


def test_samples_are_filtered_by_what_the_model_gives(reported: Any, same_page: Any) -> None:
    opened = same_page(reported.address)
    page = opened.page
    rows = "[...document.querySelectorAll('#sample-table tbody tr')]"
    rows += ".map((row) => [...row.cells].map((cell) => cell.innerText))"
    every = page.evaluate(rows)
    assert len(every) == 60
    page.locator("#look_kind").select_option("correlated")
    works = page.evaluate(rows)
    assert len(works) == 20 and {row[1] for row in works} == {"shortcut works"}
    assert all(int(row[3]) == int(row[2]) + 1 for row in works)
    page.locator("#look_kind").select_option("all")
    page.locator("#look_given").select_option("pt")
    chosen = page.evaluate(rows)
    assert 0 < len(chosen) < 60 and all("old" in row[5] for row in chosen)
    assert opened.complaints == []


def test_every_command_on_the_page_can_be_pasted(
    reported: Any, same_page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real command line reads each; in place of training, what was asked for is taken down."""
    from veneer.commands import analyse, run

    page = same_page(reported.address).page
    texts = page.evaluate(
        "[...document.querySelectorAll('article:not([hidden]) code')].map((c) => c.textContent)"
    )
    commands = {text for text in texts if text.startswith("veneer ")}
    assert len(commands) >= 3
    ran: list[tuple[Path, Any]] = []
    looked: list[Path] = []
    monkeypatch.setattr(run, "run_experiment", lambda options, made: ran.append((options.out, made)))
    monkeypatch.setattr(analyse, "analyse_run", lambda folder, options: looked.append(folder))
    for command in commands:
        cli.main(shlex.split(command)[1:])
    assert (reported.run, EXPERIMENT) in ran, "the run itself"
    assert {made.seeds for _, made in ran} == {EXPERIMENT.seeds, 3}, "and one that would decide"
    assert set(looked) == {reported.run} and Run.read(looked[0])
    assert all(type(made) is type(PRESETS["counter"]["quick"]) for _, made in ran)


def test_paper_shows_every_section(reported: Any, open_page: Any) -> None:
    opened = open_page(reported.address, unfold=False)
    page = opened.page
    page.emulate_media(media="print")
    page.evaluate("() => { printing = true; return open.draw(); }")
    shown = page.evaluate("document.querySelector('#methods dl').offsetHeight")
    assert shown > 100, "methods are printed though they are folded"
    assert page.locator("#inside .main-svg").count() > 5
    assert page.pdf(format="A4").startswith(b"%PDF")
    assert opened.complaints == []


def test_symbols_lead_to_the_glossary(reported: Any, open_page: Any) -> None:
    page = open_page(reported.address, unfold=False).page
    page.locator("a.term").first.click()
    assert page.locator("#glossary").get_attribute("open") is not None
    assert re.search(r"old task \(O_PT\)", page.locator("#glossary").inner_text())


def test_the_answer_comes_first_on_a_phone_and_is_spoken_in_words(reported: Any, open_page: Any) -> None:
    page = open_page(reported.address, 390, unfold=False).page
    top = "(place) => document.querySelector(place).getBoundingClientRect().top"
    assert page.evaluate(top, "#map") < page.evaluate(top, "#answer ul.answer")
    assert page.evaluate(top, "#map button.pick") < 900, "on the first screen"
    wide = open_page(reported.address, unfold=False).page
    names = [own["name"] for own in spoken(wide, "button") if "right on the old task" in own["name"]]
    assert len(names) == 4
    shape = r"[\w ]+?( \(\w+\))? ?, right on the old task: [\d.]+ percent, retrained [\d.]+ percent.*"
    assert all(re.fullmatch(shape, name.strip()) for name in names), names
    heads = [own["name"] for own in spoken(wide, "columnheader")][:3]
    assert heads == ["fine-tuned at", "shortcut share 0", "shortcut share 1"]
    assert not [own for own in spoken(wide, "heading") if set("▸▾") & set(own["name"])]
    assert "settings" in wide.locator("#answer ul.answer li").first.inner_text()


def spoken(page: Any, role: str) -> list[dict[str, str]]:
    """What a screen reader is told of a role's elements, in order."""
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    return [
        {"name": " ".join(node["name"].get("value", "").split())}
        for node in nodes
        if not node.get("ignored") and node.get("role", {}).get("value") == role and "name" in node
    ]


def test_every_stop_of_the_keyboard_is_seen(reported: Any, open_page: Any) -> None:
    page = open_page(reported.address, unfold=False).page
    look = """() => { const style = getComputedStyle(document.activeElement);
      return [document.activeElement.tagName, style.outlineStyle, parseFloat(style.outlineWidth)]; }"""
    stops = []
    for _ in range(20):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(look))
    assert {"A", "BUTTON"} <= {tag for tag, *_ in stops}
    faint = [stop for stop in stops if stop[0] not in ("BODY", "HTML") and (stop[1] == "none" or stop[2] < 2)]
    assert faint == []
