"""Pages of runs on text models: one file that loads nothing and needs no script, from a template."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape
from markupsafe import Markup

from veneer.models.files import write_text
from veneer.report.colours import style_sheet
from veneer.tasks.errors import InputError

WEB = Path(__file__).parent / "web"


def page_style() -> str:
    """The style sheet of a page, with its colours."""
    return f"{(WEB / 'page.css').read_text(encoding='utf-8')}\n{style_sheet()}"


def rendered(template: str, values: dict[str, Any], **filters: Callable[..., Any]) -> str:
    """A template of ``web`` with its values and the style sheet; ``filters`` are of its own, by name."""
    environment = Environment(
        loader=FileSystemLoader(WEB), autoescape=select_autoescape(default=True), trim_blocks=True
    )
    environment.filters |= filters
    return environment.get_template(template).render(style=Markup(page_style()), **values)


def write_page(folder: Path, page: str) -> Path:
    """Write ``report.html`` into a run's folder, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    path = folder / "report.html"
    try:
        write_text(path, page)
    except OSError as error:
        raise InputError("out", str(path), "a file that can be written", str(error)) from error
    return path
