"""A report in a real browser: a page about two runs that no training made, opened in headless Chromium."""

import importlib
import importlib.util
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FAKES = Path(__file__).parent.parent / "report" / "fakes.py"
"""Its runs are the ones opened here; beside it, what the page says is tested without a browser."""
READY = "body[data-ready=yes]"
PUT_BACK = """async (link) => {
  for (const input of document.querySelectorAll("input")) {
    if (input.value === input.defaultValue) continue;
    input.value = input.defaultValue;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }
  document.activeElement.blur();
  scrollTo(0, 0);
  const folds = [...document.querySelectorAll("article:not([hidden]) details:not([open])")].length;
  if (location.hash.slice(1) !== link) {
    history.replaceState(null, "", `#${link}`);
    await readAddress();
  }
  if (folds) await unfoldAll();
}"""
"""Every choice becomes the link's, or else the page's own; nothing is drawn where all is so already."""


@dataclass
class Opened:
    """An open page with what the browser complained of, and what it asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on(
            "console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))


@dataclass(frozen=True)
class Reported:
    """The page's file, and the folder of the run in its first chapter."""

    file: Path
    run: Path

    @property
    def address(self) -> str:
        return self.file.as_uri()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A headless browser, started once."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip(f"no Chromium to open the report with ({', '.join(CHROMIUM)})")
    with playwright.sync_playwright() as own:
        browser = own.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """A compiled run with its analyses, and a learned one."""
    from veneer.experiments.store import Run
    from veneer.report.page import write_reports

    fakes, folder = _fakes(), tmp_path_factory.mktemp("browser")
    run, cells = Run.open(folder / "compiled", "quick", fakes.EXPERIMENT), fakes.cells_of(fakes.EXPERIMENT)
    fakes.write_surroundings(run, cells)
    for cell in cells:
        fakes.store(run, cell)
    fakes.analysed(run, cells)
    learned = fakes.learned_run(folder / "learned")
    return Reported(write_reports([run, learned], folder / "page.html"), run.path)


def _fakes() -> ModuleType:
    spec = importlib.util.spec_from_file_location("report_fakes", FAKES)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # There, a text's map and the mean are one; here a choice between them must change what is seen.
    for name in ("attention", "learned_attention"):
        setattr(module, name, _with_another_mean(getattr(module, name)))
    # There, every cell's accuracies are its own; here a reFT begins with what fine-tuning ended with, as in
    # runs that were trained.
    module.__dict__["accuracies"] = _as_its_start_ended(module.accuracies)
    return module


def _as_its_start_ended(accuracies: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def found(cell: Any) -> Any:
        values = accuracies(cell)
        if hasattr(cell.start, "stage"):
            values[0] = accuracies(cell.start)[-1]
        return values

    return found


def _with_another_mean(maps: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    return lambda about: {**(found := maps(about)), "mean": found["mean"].flip(0)}


@pytest.fixture(scope="session")
def open_page(chromium: Any) -> Iterator[Any]:
    """Opens an address in a window of its own, unfolds it, and waits until all is drawn."""
    playwright, contexts = importlib.import_module("playwright.sync_api"), []

    def opened(address: str, width: int = 1440, scheme: str = "light", unfold: bool = True) -> Opened:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        found = Opened(context.new_page())
        found.watch()
        found.page.set_default_timeout(60_000)
        found.page.goto(address)
        try:
            found.page.wait_for_selector(READY, timeout=30_000)
        except playwright.TimeoutError:
            pytest.fail(f"the page did not come to an end with its figures: {found.complaints}")
        if unfold:
            found.page.evaluate("() => unfoldAll()")
        return found

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def same_page(open_page: Any) -> Any:
    """Like ``open_page``, but a window of a page, a width and a scheme is opened once, and then put back.

    Drawing a whole page takes seconds. What a test does beyond choosing and typing it puts back itself, or
    it opens a window of its own.
    """
    windows: dict[tuple[str, int, str], Opened] = {}

    def shown(address: str, width: int = 1440, scheme: str = "light") -> Opened:
        file, _, link = address.partition("#")
        key = (file, width, scheme)
        if key not in windows:
            windows[key] = open_page(file, width, scheme)
        opened = windows[key]
        opened.page.mouse.move(0, 0)
        opened.page.emulate_media(media="screen", color_scheme=scheme)
        opened.page.evaluate(PUT_BACK, link)
        if opened.complaints:
            del windows[key]
            pytest.fail(f"the browser complained after the test before this one: {opened.complaints}")
        return opened

    return shown
