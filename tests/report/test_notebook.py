"""Values show themselves in a notebook: small HTML that says what they are, escaped, and loads nothing."""

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.report.fakes import store_analysis
from veneer.analysis.verdict import Verdict
from veneer.experiments.curves import Course
from veneer.experiments.named import CounterExperiment
from veneer.experiments.store import Run
from veneer.experiments.summary import Summary
from veneer.finetune.cell import Cell, Origin, Stage
from veneer.finetune.fleet import Evaluation
from veneer.finetune.recipe import Recipe
from veneer.models.config import TransformerConfig
from veneer.models.display import table
from veneer.models.transformer import Transformer
from veneer.report.colours import ROLES
from veneer.report.notebook import LEVELS, show
from veneer.tasks.counter import Counter
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import fine_tuning, pretraining

ROOT = Path(__file__).parent.parent.parent
MODEL = Transformer(TransformerConfig(5, 3, 5, 6, 2, 1, 3, 4))
TUNE = Stage("fine-tune", fine_tuning(0.5), Recipe("sgd", 0.01, 20))
CELL = Cell(Origin("zero", "<compiled>", 0.0, 3), Counter(length=4), TUNE, Evaluation(5, (0, 20)), 3)


class Seen(HTMLParser):
    """Well-formed, with what is said in it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.tags, self._open = "", list[str](), list[str]()
        self.feed(page)
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name in ("src", "href") or name.startswith("on")]
        if tag not in ("rect", "path"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("rect", "path"):
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


def html_of(value: object) -> Seen:
    page = value._repr_html_()  # pyright: ignore[reportAttributeAccessIssue]
    seen = Seen(page)
    assert "script" not in seen.tags
    return seen


def run_of(path: Path) -> Run:
    return Run.open(path, "quick", CounterExperiment(learning_rates=(0.1, 0.001), c_tr=(0.0,), seeds=2))


def test_text_is_escaped_wherever_it_stands() -> None:
    evil = "<script>alert(1)</script>"
    for page in (
        table(evil, [[evil, evil]], [evil, evil], evil),
        show(torch.ones(1, 1), tokens=[evil])._repr_html_(),
        Verdict("wrapped", "strong", (evil,))._repr_html_(),
        Summary(evil, [evil], [[evil]], evil)._repr_html_(),
        replace(CELL, start=Origin("zero", evil, 0.0, 3))._repr_html_(),
    ):
        assert "<script" not in page and "&lt;script" in page


def test_a_model_shows_its_shape_and_its_size() -> None:
    text = html_of(MODEL).text
    assert f"1 model, {MODEL.parameter_count:,} parameters" in text
    assert re.search(r"width\s+6", text) and re.search(r"blocks\s+2", text)
    assert "3 models of one shape" in html_of(MODEL.select([0, 0, 0])).text


def test_a_cell_shows_where_it_starts_and_how_it_is_trained() -> None:
    text = html_of(CELL).text
    assert "fine-tune" in text and "sgd at 0.01, 20 updates" in text and "<compiled>" in text
    assert "0.5 correlated (O_FT)" in text
    reft = Cell(CELL, CELL.task, Stage("reft", pretraining(), TUNE.recipe), CELL.evaluation, 3)
    assert f"cell {CELL.id}" in html_of(reft).text


def test_a_verdict_shows_its_reasons_and_what_it_lacks() -> None:
    text = html_of(Verdict("mixed evidence", "none", ("one seed",), ("two more seeds",))).text
    assert "mixed evidence" in text and "one seed" in text and "two more seeds" in text
    assert "not finished" in html_of(Course("compiled", 0.1, 0.0, "not finished", 0.3)).text


def test_a_run_shows_its_experiment_and_how_far_it_is(tmp_path: Path) -> None:
    run = run_of(tmp_path / "mine")
    assert "0 finished" in html_of(run).text
    run.plan([CELL], 1)
    seen = html_of(run)
    for words in ("counter (quick)", "mine", "0 of 1 finished", "0.1, 0.001"):
        assert words in seen.text, words
    assert str(tmp_path) not in run._repr_html_()
    assert "Verdicts" not in seen.text


def test_a_run_shows_its_verdicts_where_they_were_made(tmp_path: Path) -> None:
    run = run_of(tmp_path / "mine")
    (run.path / "analysis").mkdir()
    row = {"capability": "compiled", "fine_tuning_rate": 0.001, "c_tr": 0.0, "start": "capability"}
    rows = [{**row, "kind": "wrapped", "strength": "strong", "reasons": ["fast <revival>"]}]
    store_analysis(run.path, "verdicts", rows)
    text = html_of(run).text
    assert "wrapped (strong)" in text and "fast <revival>" in text
    (run.path / "analysis" / "verdicts.parquet").write_bytes(b"nothing")
    assert "damaged" in html_of(run).text


def test_what_is_no_run_shows_so_instead_of_a_traceback(tmp_path: Path) -> None:
    assert "missing or damaged" in html_of(Run(tmp_path)).text
    (tmp_path / "experiment.json").write_text("[]")
    assert "missing or damaged" in html_of(Run(tmp_path)).text


def test_a_heat_map_is_darkest_where_attention_is_most() -> None:
    page = show(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), tokens=["a", "b"])._repr_html_()
    paths = dict(re.findall(r'<path fill="(#\w+)" d="([^"]+)"', page))
    most = ROLES["most"].lower()  # as on the report's page
    assert paths[most] == "M0 0h1v1h-1z"
    assert len(paths) == 2  # one, and one half twice; nothing is drawn for zero
    half = next(d for colour, d in paths.items() if colour != most)
    assert half == "M0 1h1v1h-1zM1 1h1v1h-1z"
    assert "most is 1.00, from 0 on 0 (a)" in page
    assert page.count(">a</text>") == 2  # a key and a query


def test_every_block_and_head_has_its_map() -> None:
    seen = html_of(show(torch.rand(1, 2, 3, 4, 5)))
    assert seen.tags.count("svg") == 2 * 3
    assert "block 1, head 2" in seen.text and "member" not in seen.text


def test_what_is_not_finite_is_grey() -> None:
    page = show(torch.full((2, 2), torch.nan))._repr_html_()
    assert f'<path fill="{ROLES["grid"]}"' in page and "no finite values" in page


def test_a_large_map_stays_small() -> None:
    page = show(torch.rand(100, 100).softmax(-1))._repr_html_()
    assert len(page) < 200_000 and page.count("<path") <= LEVELS


@pytest.mark.parametrize("shape", [(3,), (0, 2), (300, 300), (65, 2, 2)])
def test_what_is_no_map_or_too_large_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="attention"):
        show(torch.zeros(shape))


def test_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="tokens"):
        show(torch.zeros(2, 3), tokens=["a"])


def test_importing_the_looks_imports_nothing_heavy() -> None:
    program = (
        "import sys, veneer.report.notebook; print({'torch', 'polars', 'jax', 'plotly'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_titles_follow_the_order_of_the_patterns_axes() -> None:
    """``veneer.analysis.attention`` gives [member, block, text, head, query, key]."""
    assert [title for title, _ in show(torch.rand(1, 2, 1, 2, 3, 3)).maps][1] == "block 0, head 1"
    assert [title for title, _ in show(torch.rand(2, 2, 1, 3, 3)).maps][2] == "member 1, block 0"
    assert repr(show(torch.rand(2, 3, 3))) == "AttentionMaps(2 maps of 3 queries and 3 keys)"


EXAMPLES = ("written", "learned")


def stored(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "examples" / f"{name}.ipynb").read_text())


def kinds(notebook: Any) -> list[list[str]]:
    """What each cell shows, by kind."""
    return [[output["output_type"] for output in cell.get("outputs", [])] for cell in notebook["cells"]]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_stored_executed_and_small_and_knows_no_machine(name: str) -> None:
    file = ROOT / "examples" / f"{name}.ipynb"
    assert file.stat().st_size < 300_000
    code = [cell for cell in stored(name)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not any("error" in shown for shown in kinds(stored(name)))
    for place in (str(ROOT), str(Path.home()) + "/", tempfile.gettempdir() + "/", "site-packages"):
        assert place not in json.dumps([cell["outputs"] for cell in code]), place


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name: str) -> None:
    """As ``python -m examples.execute`` does, in a kernel of its own; it shows the same kinds of things."""
    for needed in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(needed, reason=f"{needed} is not installed (the extra notebooks)")
    spec = importlib.util.spec_from_file_location("execute", ROOT / "examples" / "execute.py")
    assert spec is not None and spec.loader is not None
    execute = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(execute)
    assert kinds(execute.executed(name)) == kinds(stored(name))
