"""The same thing has the same colour everywhere: only ``report/colours.py`` says which."""

import re
from pathlib import Path
from typing import get_args

from veneer.analysis.verdict import Kind
from veneer.commands.verdicts import MEANS
from veneer.experiments.curves import CourseKind
from veneer.report import colours
from veneer.suites import card

REPORT = Path(__file__).parents[2] / "report"
LITERAL = re.compile(r"#[0-9A-Fa-f]{6}\b|(?<!&)#[0-9A-Fa-f]{3}\b(?=[\"'; ])|\brgb\(|\bhsl\(")
CONTRAST = 4.5  # of words, WCAG 2 AA
GREY = 1.25  # of two areas beside each other, that the eye tells apart


def test_no_colour_is_written_down_elsewhere() -> None:
    files = [*REPORT.glob("*.py"), *REPORT.glob("paper/*.py"), *REPORT.glob("web/*.[cj]*")]
    read = {file.name: LITERAL.findall(file.read_text()) for file in files if file.suffix != ".gz"}
    found = {name: literals for name, literals in read.items() if literals and name != "colours.py"}
    assert len(read) > 20
    assert found == {}


def test_every_verdict_has_a_colour_on_the_page_and_the_same_in_the_terminal() -> None:
    sheet = colours.style_sheet()
    for kind in (*get_args(Kind), *get_args(CourseKind)):
        role = re.search(rf"\.{kind.replace(' ', '-')}\b[^{{]*{{ background: var\(--([a-z]+)\); }}", sheet)
        assert role, kind
        by_day = re.search(rf"--{role[1]}: (#[0-9A-F]{{6}});", sheet)
        assert by_day and colours.terminal_style(kind).endswith(f"on {by_day[1]}"), kind
    assert set(MEANS) <= set(get_args(Kind))


def test_words_can_be_read_by_day_by_night_and_on_paper() -> None:
    for part in re.findall(r":root \{(.*?)\}", colours.style_sheet()):
        own = dict(re.findall(r"--([a-z-]+): (#[0-9A-F]{6});", part))
        if "page" not in own:
            continue
        for ink in ("ink", "soft", "pt", "ft"):
            assert contrast(own[ink], own["page"]) >= CONTRAST, (ink, part)
        for behind in colours.VERDICTS:
            assert contrast(own["ink"], own[behind]) >= CONTRAST, (behind, part)


def test_wrapped_and_rewritten_are_told_apart_in_grey() -> None:
    for part in re.findall(r":root \{(.*?)\}", colours.style_sheet()):
        own = dict(re.findall(r"--([a-z-]+): (#[0-9A-F]{6});", part))
        if "wrapped" in own:
            assert contrast(own["wrapped"], own["rewritten"]) >= GREY, part


def test_a_scale_and_a_share_are_darker_where_there_is_more() -> None:
    assert luminance(colours.ROLES["most"]) < luminance(colours.ROLES["least"])
    shares = [0.0, 0.2, 0.5, 0.8, 1.0]
    light = [luminance(colours.share_colour(shares, share)) for share in shares]
    assert light == sorted(light, reverse=True) and len(set(light)) == len(light)


def test_a_datasets_card_draws_the_tasks_in_their_colours() -> None:
    assert (colours.ROLES["old"], colours.ROLES["new"]) == (card._BLUE, card._ORANGE)


def luminance(colour: str) -> float:
    """Relative luminance of ``#RRGGBB``, as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
