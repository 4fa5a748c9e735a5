"""The report says what the run's files say: numbers, what is missing, what diverged, and nothing else."""

import base64
import json
import re
import shutil
import subprocess
import zlib
from dataclasses import asdict, dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from analysis.attention import operand_shares
from analysis.grafting import Grafting, graft, movement
from analysis.probing import ProbeSettings, probe
from analysis.pruning import Pruning, prune
from compiled.capability import CompiledCapability
from finetune.cell import Cell, Origin, Stage
from finetune.fleet import EVALUATED, Evaluation
from finetune.recipe import Recipe
from models.transformer import Transformer, TransformerConfig
from pcfg.capability import LearnedCapability
from pcfg.families import SampleLayout
from pcfg.operand_task import OperandTask
from tasks.counter import Counter
from tasks.encoding import Encoding
from tasks.errors import InputError
from tasks.mixture import fine_tuning, pretraining
from veneer.experiments import CounterExperiment, PcfgCounterExperiment
from veneer.page_tables import unpack
from veneer.paper_figures import behaviour, figures
from veneer.report import write_report, write_reports
from veneer.store import KEYS, Run, metrics_table, write_json
from veneer.summary import classify, verdicts

EXPERIMENT = CounterExperiment(
    length=4,
    learning_rates=(0.1, 0.001),
    c_tr=(0.0, 1.0),
    reft_rates=(0.001,),
    iterations=20,
    reft_iterations=20,
    evaluation_samples=50,
    seeds=2,
    letters="ab<",
)
TASK = Counter(EXPERIMENT.letters, EXPERIMENT.length)
STEPS = (0, 10, 20)
SIZE = EXPERIMENT.length + 1


@dataclass(frozen=True)
class Fake:
    """A run's folder that no training made, with the accuracies that were put into it."""

    run: Run
    cells: list[Cell]
    diverged: Cell


def model() -> Transformer:
    config = TransformerConfig(
        vocabulary=5, classes=5, positions=SIZE, width=6, blocks=2, heads=1, key_size=3, mlp_width=4
    )
    return Transformer(config)


def attention(seed: int) -> dict[str, Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    maps = torch.rand(2, 1, SIZE, SIZE, generator=drawn).softmax(-1)
    tokens = torch.tensor([1, 2, 3, 4, 2])
    return {
        "example": maps,
        "mean": maps.clone(),
        "example_tokens": tokens,
        "by_token": maps[:, :, 2, :5].contiguous(),
    }


def cells_of(experiment: CounterExperiment) -> list[Cell]:
    """By seed: each setting's fine-tuning and reFT, then Scr. + FT, its reFT, and Scr."""
    evaluation, cells = Evaluation(experiment.evaluation_samples, STEPS), []
    for seed in range(experiment.seeds):
        reft = Stage("reft", pretraining(), Recipe("sgd", 0.001, experiment.reft_iterations))
        for rate in experiment.learning_rates:
            for c_tr in experiment.c_tr:
                tune = Stage("fine-tune", fine_tuning(c_tr), Recipe("sgd", rate, experiment.iterations))
                first = Cell(origin(seed), TASK, tune, evaluation, seed)
                cells += [first, Cell(first, TASK, reft, evaluation, seed)]
        tune = Stage("fine-tune", fine_tuning(0.0), Recipe("sgd", 0.1, experiment.iterations))
        first = Cell(origin(seed, "scratch"), TASK, tune, evaluation, seed)
        cells += [first, Cell(first, TASK, reft, evaluation, seed)]
        cells.append(Cell(origin(seed, "scratch"), TASK, reft, evaluation, seed))
    return cells


def origin(seed: int, start: str = "capability") -> Origin:
    return Origin("written by hand", "compiled", 1e-4 if start == "capability" else 0.0, seed, start)


def accuracies(cell: Cell) -> Tensor:
    """Evaluation, kind, operand. After 0.001 with C_Tr = 1 reFT revives O_PT, after all else it does not."""
    number = int(cell.id, 16) % 1000 / 20_000
    values = torch.full((len(STEPS), len(EVALUATED), 2), 0.2 + number, dtype=torch.float64)
    if not isinstance(cell.start, Cell):
        values[1:, 0, 1] = 0.95 + number
    elif (
        cell.origin.start == "capability"
        and cell.start.stage.recipe.learning_rate == 0.001
        and cell.start.stage.mixture == fine_tuning(1.0)
    ):
        values[1:, EVALUATED.index("natural"), 0] = 0.93 + number
    return values


def store(run: Run, cell: Cell, diverged: int = -1) -> None:
    table = metrics_table(STEPS, accuracies(cell), accuracies(cell), torch.zeros(len(STEPS)), EVALUATED)
    run.write_cell(cell, model(), table, attention(int(cell.id[:6], 16)), diverged)


def write_surroundings(run: Run, cells: list[Cell]) -> None:
    run.plan(cells, len(cells))
    run.write_environment(torch.device("cpu"))
    write_baselines(run, cells[0].task_id)
    capability = CompiledCapability(
        model=model(),
        vocabulary=("#", "BOS", "a", "b", "<"),
        bos="BOS",
        pad="#",
        classes=(0, 1, 2, 3, 4),
        residual_labels=("one",) * 6,
        max_length=EXPERIMENT.length,
        causal=False,
        mlp_exactness=77,
        answer_position=2,
        source="Counter of 'a', by hand",
    )
    for seed in range(EXPERIMENT.seeds):
        folder = run.capability_path(origin(seed))
        capability.save(folder)
        save_file(attention(seed), folder / "attention.safetensors")
        right = {
            when: {kind: {"pt": pt, "ft": 0.2} for kind in EVALUATED}
            for when, pt in (("without_noise", 1.0), ("as_started", 0.9875))
        }
        about = {"kind": "written", "parameters": 100, "exactness": 77, "noise": 1e-4}
        content = {"origin": asdict(origin(seed)), "texts": 4000, "accuracy": right, "about": about}
        write_json(folder / "accuracy.json", content)


def write_baselines(run: Run, task_id: str) -> None:
    entry = {"majority": {"pt": 0.3, "ft": 0.31}, "answer": {"pt": 1, "ft": 2}, "shortcut": 0.0}
    write_json(
        run.path / "baselines.json", {task_id: {"samples": 50, "texts": dict.fromkeys(EVALUATED, entry)}}
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Fake:
    """Two seeds of four settings; at 0.1 with C_Tr = 1, seed 1 diverged and has no reFT."""
    run = Run.open(tmp_path_factory.mktemp("run") / "r", "quick", EXPERIMENT)
    cells = cells_of(EXPERIMENT)
    write_surroundings(run, cells)
    diverged = next(
        c
        for c in cells
        if c.seed == 1 and c.stage.mixture == fine_tuning(1.0) and c.stage.recipe.learning_rate == 0.1
    )
    for cell in cells:
        if cell.start != diverged:
            store(run, cell, 7 if cell == diverged else -1)
    return Fake(run, cells, diverged)


@pytest.fixture(scope="module")
def page(finished: Fake) -> str:
    return write_report(finished.run).read_text()


@pytest.fixture()
def copied(finished: Fake, tmp_path: Path) -> Run:
    shutil.copytree(finished.run.path, tmp_path / "copy")
    return Run.read(tmp_path / "copy")


class Page(HTMLParser):
    """Tags with their attributes, tables by id as rows of text, and the text outside scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text, self.embedded = "", ""
        self._table: list[list[str]] = []
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        self._open.append(f"{tag}#{attributes.get('id')}")
        if tag == "table":
            self._table = self.tables.setdefault(attributes.get("id") or "", [])
        if tag == "tr":
            self._table.append([])
        if tag in ("td", "th"):
            self._table[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and not self._open.pop().startswith(f"{tag}#"):
            pass

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "script#data":
            self.embedded += data
        if inside.startswith(("script#", "style#")):
            return
        self.text += data
        if any(name.startswith(("td#", "th#")) for name in self._open):
            self._table[-1][-1] += data

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.embedded)


def last_values(run: Run, stage: str, texts: str, operand: str) -> dict[tuple[float, float], float]:
    """Mean accuracy after the last update by fine-tuning rate and C_Tr, read file by file."""
    found: dict[tuple[float, float], list[float]] = {}
    cells = {file.parent.name: json.loads(file.read_text()) for file in run.path.glob("cells/*/cell.json")}
    for name, cell in cells.items():
        first = cells[cell["start"]["cell"]] if "cell" in cell["start"] else cell
        if cell["stage"]["name"] == stage and first["start"]["start"] == "capability":
            rows = pl.read_parquet(run.path / "cells" / name / "metrics.parquet").filter(
                (pl.col("measure") == "accuracy")
                & (pl.col("texts") == texts)
                & (pl.col("operand") == operand)
                & (pl.col("step") == STEPS[-1])
            )
            c_tr = first["stage"]["mixture"]["components"][0]["weight"]
            found.setdefault((first["stage"]["recipe"]["learning_rate"], c_tr), []).append(
                rows["value"].item()
            )
    return {key: sum(values) / len(values) for key, values in found.items()}


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
    assert page.count("plotly.js v") == 1
    before = {"baselines.json", "capabilities", "cells", "cells.parquet", "environment.json", "locks"}
    before |= {"experiment.json", "plan.json"}
    assert {file.name for file in finished.run.path.iterdir()} == before | {"report.html"}


def test_table_3_shows_the_means_of_the_parquet_files(finished: Fake, page: str) -> None:
    rows = [row for row in Page(page).tables["against-paper"] if re.match(r"0\.", row[0])]
    assert len(rows) == 4
    for place, (texts, operand) in enumerate(
        [("correlated", "pt"), ("correlated", "ft"), ("uncorrelated", "pt"), ("uncorrelated", "ft")]
    ):
        values = last_values(finished.run, "fine-tune", texts, operand)
        for row in rows:
            ours = float(row[2 + place].split()[0])
            assert ours == pytest.approx(100 * values[float(row[0]), float(row[1])], abs=0.051)


def test_differences_from_the_paper_are_named_when_above_15_points(page: str) -> None:
    """Table 3 of the paper, Counter at 0.1 with C_Tr = 0: O_FT 100.0 at C_Te = 1 and at C_Te = 0."""
    row = next(row for row in Page(page).tables["against-paper"] if row[:2] == ["0.1", "0"])
    assert "(100.0)" in row[3] and "lower" not in row[3]
    ours = float(row[5].split()[0])
    assert f"{100 - ours:.0f} lower" in row[5]


def test_verdicts_show_the_means_of_the_parquet_files(finished: Fake, page: str) -> None:
    rows = {
        (float(row[0]), float(row[1])): row
        for row in Page(page).tables["verdicts"]
        if len(row) == 11 and "0" in row[1]
    }
    rows |= {
        (float(row[0]), float(row[1])): row for row in Page(page).tables["verdicts"] if row[1:2] == ["1"]
    }
    after = last_values(finished.run, "reft", "natural", "pt")
    task = last_values(finished.run, "fine-tune", "correlated", "ft")
    assert set(rows) == set(after) == {(0.1, 0), (0.1, 1), (0.001, 0), (0.001, 1)}
    for key, row in rows.items():
        assert float(row[4]) == pytest.approx(100 * task[key], abs=0.051)
        assert float(row[7].split()[0]) == pytest.approx(100 * after[key], abs=0.051)
    assert "wrapped" in rows[0.001, 1][2] and rows[0.001, 1][10] == "2 of 2"
    assert "not revived" in rows[0.001, 0][2]
    assert rows[0.001, 1][3] == "the shortcut"


def test_curves_are_those_of_the_parquet_files_to_4_digits(finished: Fake, page: str) -> None:
    figure = Page(page).data[""]["figures"]["behaviour-uncorrelated-1"]
    cell = next(
        c
        for c in finished.cells
        if c.seed == 1 and c.stage.mixture == fine_tuning(1.0) and c.stage.recipe.learning_rate == 0.001
    )
    table = pl.read_parquet(finished.run.cell_path(cell.id) / "metrics.parquet").filter(
        (pl.col("measure") == "accuracy") & (pl.col("texts") == "uncorrelated") & (pl.col("operand") == "ft")
    )
    drawn = [
        t
        for t in figure["data"]
        if t.get("meta") == {"capability": ["compiled"], "c_tr": ["1"], "seed": ["1"]} and "O_FT" in t["name"]
    ]
    assert len(drawn) == 1
    assert drawn[0]["customdata"] == table["step"].to_list()
    assert drawn[0]["y"] == pytest.approx(table["value"].to_list(), rel=5e-4)
    assert drawn[0]["x"][1:] == table["step"].to_list()[1:] and 0 < drawn[0]["x"][0] < 10


def test_several_seeds_get_their_mean_in_a_band_from_least_to_greatest(page: str) -> None:
    figure = Page(page).data[""]["figures"]["revival-1"]
    of_one = [t for t in figure["data"] if t.get("meta", {}).get("c_tr") == ["0"]]
    band = next(t for t in of_one if t.get("fill") == "toself")
    mean = next(t for t in of_one if "mean of 2 seeds" in t.get("name", ""))
    seeds = [t for t in of_one if t.get("name", "").endswith(("seed 0", "seed 1"))]
    assert len(seeds) == 2
    last = [t["y"][-1] for t in seeds]
    assert mean["y"][-1] == pytest.approx(sum(last) / 2, rel=1e-3)
    assert {max(last), min(last)} == set(band["y"][len(STEPS) - 1 : len(STEPS) + 1])


def test_attention_is_that_of_the_files_to_one_in_255(finished: Fake, page: str) -> None:
    data = Page(page).data[""]["attention"]
    model, cell = data["models"]["compiled"], finished.cells[1]
    stored = load_file(finished.run.cell_path(cell.id) / "attention.safetensors")
    levels = np.frombuffer(zlib.decompress(base64.b64decode(data["maps"][cell.id]["example"])), np.uint8)
    shown = levels.reshape(model["shape"]) / 255
    assert np.abs(shown - stored["example"].numpy()).max() <= 0.5 / 255 + 1e-6
    np.testing.assert_allclose(data["maps"][cell.id]["by_token"], stored["by_token"].numpy(), rtol=5e-4)
    assert model["tokens"] == ["BOS", "a", "b", "<", "a"]
    assert model["roles"] == ["", "pt", "ft", "", "pt"]


def test_a_diverged_cell_is_named_with_its_step_and_marked_in_its_curve(page: str) -> None:
    text = " ".join(Page(page).text.split())
    assert "1 cell diverged" in text
    assert "Fine-tuning at 0.1, C_Tr = 1, seed 1: diverged at step 7; its 1 reFT was not started." in text
    row = next(row for row in Page(page).tables["against-paper"] if row[:2] == ["0.1", "1"])
    assert all("diverged at step 7" in cell for cell in row[2:])
    crosses = [t for t in Page(page).data[""]["figures"]["behaviour-natural-0"]["data"] if t.get("text")]
    assert {tuple(t["x"]) for t in crosses} == {(7,)}
    assert "still in progress" not in text, "a reFT without a start is not waited for"


def test_a_setting_whose_every_fine_tuning_diverged_says_so(tmp_path: Path) -> None:
    run, cells = Run.open(tmp_path / "r", "quick", EXPERIMENT), cells_of(EXPERIMENT)
    write_surroundings(run, cells)
    for cell in cells:
        fresh = cell.origin.start != "capability"
        if not fresh and not isinstance(cell.start, Cell) and cell.stage.recipe.learning_rate == 0.1:
            store(run, cell, 3)
    kinds = {(v.fine_tuning_rate, v.c_tr): v.kind for v in verdicts(run)}
    assert kinds == {
        (0.1, 0): "diverged",
        (0.1, 1): "diverged",
        (0.001, 0): "not finished",
        (0.001, 1): "not finished",
    }
    assert "4 cells diverged" in Page(write_report(run).read_text()).text


@pytest.mark.parametrize("finished_cells", [0, 1, 5])
def test_a_run_in_progress_says_so_and_shows_what_there_is(tmp_path: Path, finished_cells: int) -> None:
    run, cells = Run.open(tmp_path / "r", "quick", EXPERIMENT), cells_of(EXPERIMENT)
    write_surroundings(run, cells)
    for cell in cells[:finished_cells]:
        store(run, cell)
    page = Page(write_report(run).read_text())
    assert "still in progress" in page.text
    assert f"{finished_cells} of 22 cells are finished" in page.text
    assert len([row for row in page.tables.get("against-paper", []) if row[0].startswith("0.")]) == -(
        -finished_cells // 2
    )


def test_a_run_that_has_only_begun_has_a_report(tmp_path: Path) -> None:
    page = write_report(Run.open(tmp_path / "r", "quick", EXPERIMENT)).read_text()
    assert "still in progress" in page


@pytest.mark.parametrize("name", ["metrics.parquet", "attention.safetensors"])
def test_a_damaged_file_is_refused(copied: Run, name: str) -> None:
    file = next(copied.path.glob(f"cells/*/{name}"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"is missing or damaged"):
        write_report(copied)


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"name": "counter"}', "nonsense", '{"name": "other", "format": 1}']
)
def test_a_foreign_folder_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "experiment.json").write_text(text)
    with pytest.raises(InputError):
        write_report(Run.read(tmp_path))
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("text", ["[]", "{}", "{", '{"format": 999}'])
def test_a_foreign_cell_is_refused(copied: Run, text: str) -> None:
    next(copied.path.glob("cells/*/cell.json")).write_text(text)
    with pytest.raises(InputError):
        write_report(copied)


def test_damaged_attention_of_a_capability_is_refused(copied: Run) -> None:
    (copied.path / "capabilities" / "compiled-seed-0" / "attention.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="attention maps"):
        write_report(copied)


def test_a_report_that_cannot_be_made_leaves_the_old_one(copied: Run) -> None:
    old = write_report(copied).read_bytes()
    (copied.path / "baselines.json").write_text("{")
    with pytest.raises(InputError):
        write_report(copied)
    assert (copied.path / "report.html").read_bytes() == old


def test_the_command_line_repeats_the_run(finished: Fake, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import shlex

    from veneer import cli, terminal

    taken: list[object] = []
    monkeypatch.setattr(terminal, "run_experiment", lambda options, experiment: taken.append(experiment))
    line = re.search(r'<pre class="again"><code>(.*?)</code></pre>', page)
    assert line
    from html import unescape

    words = shlex.split(unescape(line[1]))
    assert words[0] == "veneer"
    cli.main(words[1:])
    assert taken == [EXPERIMENT]


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


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (0.95, 0.2, "never left"),
        (0.05, 0.95, "wrapped"),
        (0.05, 0.90, "wrapped"),
        (0.05, 0.40, "not revived"),
        (0.50, 0.64, "not revived"),
        (0.05, 0.60, "undecided"),
    ],
)
def test_a_verdict_needs_90_percent_and_more_than_guessing(before: float, after: float, kind: str) -> None:
    assert classify(before, after, majority=0.3) == kind


PCFG = PcfgCounterExperiment(
    pretrained=("L", "H"),
    learning_rates=(1e-3,),
    c_tr=(1.0,),
    reft_rates=(1e-3,),
    iterations=20,
    reft_iterations=20,
    evaluation_samples=50,
)


def learned_run(folder: Path) -> Run:
    """Two learned capabilities with one setting each; reFT revives that of L alone."""
    run, layout = (
        Run.open(folder, "quick", PCFG),
        SampleLayout(window=6, count_last=4, occurrence=1, token_back=2),
    )
    task, cells = OperandTask(layout), []
    for name, prior in (("L", (0.999, 0.001, 0.0)), ("H", (0.5, 0.3, 0.2))):
        begin = Origin(f"weights of {name}", name, 0.0, 0)
        tune = Stage("fine-tune", fine_tuning(1.0), Recipe("adamw", 1e-3, 20))
        first = Cell(begin, task, tune, Evaluation(50, STEPS), 0)
        back = Stage("reft", pretraining(), Recipe("adamw", 1e-3, 20))
        cells += [first, Cell(first, task, back, Evaluation(50, STEPS), 0)]
        write_learned(run, begin, layout, prior)
    write_baselines(run, task_id=cells[0].task_id)
    for cell in cells:
        values = torch.full((len(STEPS), len(EVALUATED), 2), 0.25, dtype=torch.float64)
        values[-1, EVALUATED.index("natural"), 0] = 0.97 if cell.origin.name == "L" else 0.25
        if not isinstance(cell.start, Cell):
            values[-1] = torch.tensor([0.25, 0.62])
        table = metrics_table(STEPS, values, values, torch.zeros(len(STEPS)), EVALUATED)
        run.write_cell(cell, model(), table, learned_attention(layout), -1)
    return run


def write_learned(run: Run, begin: Origin, layout: SampleLayout, prior: tuple[float, ...]) -> None:
    words, size = len(layout.vocabulary), layout.length
    config = TransformerConfig(
        vocabulary=words, classes=words, positions=size, width=6, blocks=2, heads=1, key_size=3, mlp_width=4
    )
    capability = LearnedCapability(
        Transformer(config), layout, prior, 3, 6000, {"C a": 0.99}, "veneer pretrain x"
    )
    folder = run.capability_path(begin)
    capability.save(folder / "model")
    save_file(learned_attention(layout), folder / "attention.safetensors")
    right = {kind: {"pt": 0.991, "ft": 0.4} for kind in EVALUATED}
    accuracy = {when: right for when in ("without_noise", "as_started")}
    about = {"kind": "learned", "parameters": 1234, "operand_prior": prior, "iterations": 6000, "seed": 3}
    about |= {"accuracy": {"C a": 0.99}, "command": f"veneer pretrain {begin.name}"}
    write_json(
        folder / "accuracy.json",
        {"origin": asdict(begin), "texts": 2000, "accuracy": accuracy, "about": about},
    )


def learned_attention(layout: SampleLayout) -> dict[str, Tensor]:
    words = ["SOS", "C", "@4", "?a", "SOT", *"abcbab", "EOT", "ART"]
    tokens = torch.tensor([layout.id.get(word, layout.id["NULL"]) for word in words])
    size = len(tokens)
    maps = torch.rand(2, 1, size, size).softmax(-1)
    by_token = torch.zeros(2, 1, len(layout.vocabulary))
    by_token[..., tokens] = 1 / size
    return {
        "example": maps,
        "mean": maps.clone(),
        "example_tokens": tokens,
        "by_token": by_token,
        "mlp": maps[0, 0].clone(),
    }


def analysed(run: Run, cells: list[Cell]) -> None:
    """The tables of ``veneer analyse``, made by the analyses themselves from tiny models."""
    encoding = Encoding.between(TASK, ("#", "BOS", "a", "b", "<"), (0, 1, 2, 3, 4), "BOS", "#", 2)
    torch.manual_seed(0)
    before, after = model(), model()
    pruned = prune(after, TASK, encoding, Pruning((1, 2), draws=2, gradient_texts=8, samples=8))
    tables = {
        "pruning": pruned.accuracy,
        "classes": pruned.classes,
        "grafting": graft(before, after, TASK, encoding, Grafting(samples=8, singles=2)),
        "movement": movement(before, after),
        "probes": probe(after, TASK, encoding, ProbeSettings(train=40, test=20)),
        "attention": operand_shares(after, TASK, encoding, samples=8).table(),
    }
    keys = {
        "cell": cells[0].id,
        "parent": "",
        "capability": "compiled",
        "start": "capability",
        "task": cells[0].task_id,
        "stage": "fine-tune",
        "learning_rate": 0.1,
        "fine_tuning_rate": 0.1,
        "c_tr": 0.0,
        "seed": 0,
        "status": "done",
    }
    (run.path / "analysis").mkdir()
    columns = [pl.lit(keys[name], kind).alias(name) for name, kind in KEYS.items()]
    for name, table in tables.items():
        table.select(*columns, pl.exclude("member")).write_parquet(run.path / "analysis" / f"{name}.parquet")
    setting = {"capability": "compiled", "task": cells[0].task_id, "fine_tuning_rate": 0.001, "c_tr": 1.0}
    verdict = {"start": "capability", "kind": "rewritten", "strength": "weak", "seeds": 2}
    lists = {"reasons": ["It took as long as from scratch."], "needed": []}
    pl.DataFrame([{**setting, **verdict, **lists}]).write_parquet(run.path / "analysis" / "verdicts.parquet")
    time = {"threshold": 0.5, "seeds": 2, "reached": 2, "low": 10.0, "high": 40.0, "learning_rate": 0.001}
    control = {**setting, "fine_tuning_rate": 0.1, "c_tr": 0.0}
    survival = [
        {**setting, "arm": "reft", **time, "median": 17.0},
        {**control, "arm": "scratch-ft", **time, "median": 1234.0},
    ]
    pl.DataFrame(survival).write_parquet(run.path / "analysis" / "survival.parquet")
    ratio = {"learning_rate": 0.001, "threshold": 0.5, "control": "scratch-ft", "ratio": 72.6, "low": 60.0}
    pl.DataFrame([{**setting, **ratio, "high": 90.0, "seeds": 2}]).write_parquet(
        run.path / "analysis" / "ratios.parquet"
    )


@pytest.fixture(scope="module")
def both(finished: Fake, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One page of two runs: the compiled one with its analyses, and a learned one."""
    folder = tmp_path_factory.mktemp("both")
    shutil.copytree(finished.run.path, folder / "analysed")
    run = Run.read(folder / "analysed")
    analysed(run, finished.cells)
    return write_reports([run, learned_run(folder / "learned")], folder / "page.html")


def test_several_runs_make_one_page_with_a_chapter_each(both: Path) -> None:
    page = Page(both.read_text())
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert set(page.data) == {"", "r2-"}
    tabs = [a["data-chapter"] for tag, a in page.tags if tag == "a" and "data-chapter" in a]
    assert tabs == ["", "r2-"]


def test_a_run_of_learned_capabilities_has_a_row_for_each(both: Path) -> None:
    page = Page(both.read_text())
    rows = {row[0]: row for row in page.tables["r2-verdicts"] if row and row[0] in ("L", "H")}
    assert "wrapped" in rows["L"][3] and float(rows["L"][8]) == 97.0
    assert "not revived" in rows["H"][3] and float(rows["H"][8]) == 25.0
    text = " ".join(page.text.split())
    for phrase in (
        "AdamW",
        "Pretrained for 6,000 updates (seed 3)",
        "a 99.9%, b 0.1%",
        "windows of 6 tokens",
    ):
        assert phrase in text, phrase
    models = page.data["r2-"]["attention"]["models"]
    assert set(models) == {"L", "H"}
    # 'a' and 'b' count only among the last four tokens of the text abcbab.
    assert models["L"]["roles"] == [*[""] * 8, "ft", "pt", "ft", "", ""]


def test_labels_with_and_without_the_correlation_are_shown_and_close(both: Path) -> None:
    labels = Page(both.read_text()).data["r2-"]["labels"]["L"]
    for operand in ("pt", "ft"):
        assert sum(labels["shares"][operand]["0"]) == pytest.approx(1, abs=1e-3)
        pairs = zip(labels["shares"][operand]["0"], labels["shares"][operand]["1"], strict=True)
        assert labels["distance"][operand] == pytest.approx(sum(abs(a - b) for a, b in pairs) / 2, abs=2e-3)


@pytest.mark.parametrize(("name", "value"), [("pruning", "accuracy"), ("grafting", "change")])
def test_tables_in_the_page_hold_the_numbers_of_the_analyses(both: Path, name: str, value: str) -> None:
    shown = unpack(Page(both.read_text()).data[""]["tables"][name])
    stored = pl.read_parquet(both.parent / "analysed" / "analysis" / f"{name}.parquet")
    own = {"pruning": pl.col("k") == 2, "grafting": pl.col("name") == "blocks.1.mlp_in"}[name]
    text = {"pruning": pl.col("k") == "2", "grafting": pl.col("name") == "blocks.1.mlp_in"}[name]
    chosen = (pl.col("texts") == "natural") & (pl.col("operand") == "pt")
    keep = (
        chosen & (pl.col("criterion") == "random")
        if name == "pruning"
        else chosen & (pl.col("direction") == "back")
    )
    drawn = text & (pl.col("operand") == "pt")
    if name == "pruning":
        drawn &= (pl.col("criterion") == "random") & (pl.col("texts") == "natural")
    truth = stored.filter(own & keep).select(pl.col(value).mean()).item()
    assert shown.filter(drawn)[value].mean() == pytest.approx(truth, abs=1e-3)


def test_the_verdict_of_the_analyses_stands_where_it_was_made(both: Path) -> None:
    page = Page(both.read_text())
    row = next(row for row in page.tables["reasons"] if row[:2] == ["0.001", "1"])
    assert "rewritten" in row[2] and "as long as from scratch" in row[3]
    text = " ".join(page.text.split())
    assert "1,234 [10, 40]" in text and "72.6 [60.0, 90.0]" in text


def test_sections_without_their_table_name_the_command_that_makes_it(finished: Fake, page: str) -> None:
    text = " ".join(Page(page).text.split())
    assert text.count(f"veneer analyse {finished.run.path.name}") >= 5


def test_a_damaged_table_of_the_analyses_is_refused(copied: Run) -> None:
    (copied.path / "analysis").mkdir()
    (copied.path / "analysis" / "probes.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"probes\.parquet"):
        write_report(copied)


def test_one_run_cannot_be_two_chapters(finished: Fake, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="different runs"):
        write_reports([finished.run, finished.run], tmp_path / "page.html")


def test_print_figures_are_the_same_bytes_each_time(both: Path, tmp_path: Path) -> None:
    run = Run.read(both.parent / "analysed")
    first, second = (figures(run, "paper", tmp_path / name) for name in ("first", "second"))
    names = {path.stem for path in first}
    assert names == {f"{name}-compiled" for name in ("behaviour", "reft", "pruning", "probes", "attention")}
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_print_figures_draw_the_means_of_the_tables(finished: Fake) -> None:
    tuned = finished.run.metrics().filter(
        (pl.col("stage") == "fine-tune")
        & (pl.col("start") == "capability")
        & (pl.col("measure") == "accuracy")
    )
    axes = behaviour(tuned, (2, 2)).axes  # by operand and C_Te, then by rate
    drawn = {line.get_label(): line.get_ydata()[-1] for line in axes[3].get_lines()}
    truth = last_values(finished.run, "fine-tune", "correlated", "ft")
    for c_tr in (0, 1):
        assert drawn[f"$C_{{Tr}}$ = {c_tr}"] == pytest.approx(100 * truth[0.001, c_tr])


def test_an_unknown_print_style_is_refused(finished: Fake, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="paper or talk"):
        figures(finished.run, "poster", tmp_path)


def browser() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def dump(file: Path, profile: Path, fragment: str = "") -> tuple[str, str]:
    """The page after its scripts ran, and the browser's console."""
    chromium = browser()
    assert chromium
    quiet = ("gpu", "quic", "sync", "background-networking", "component-update")
    flags = ["--headless", "--no-sandbox", "--no-first-run", "--enable-logging=stderr"]
    flags += [f"--disable-{feature}" for feature in quiet]
    done = subprocess.run(
        [
            chromium,
            *flags,
            f"--user-data-dir={profile}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            f"file://{file}{fragment}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.slow
@pytest.mark.skipif(browser() is None, reason="no Chromium to open the report with")
def test_a_browser_draws_every_figure_without_complaint(finished: Fake, page: str, tmp_path: Path) -> None:
    shown, console = dump(finished.run.path / "report.html", tmp_path)
    assert console == ""
    assert 'data-ready="yes"' in shown
    figures = sum(a.get("class") in ("plot", "map-plot", "wide-plot") for _, a in Page(page).tags)
    assert shown.count('class="main-svg"') >= figures > 10


@pytest.mark.slow
@pytest.mark.skipif(browser() is None, reason="no Chromium to open the report with")
def test_an_address_restores_the_controls(finished: Fake, page: str, tmp_path: Path) -> None:
    shown, console = dump(
        finished.run.path / "report.html", tmp_path, "#c_te=natural&map_block=0&seed=1&nothing=1"
    )
    assert console == ""
    rows = dict(re.findall(r'<div class="row" data-row="(\w+)"( hidden="")?', shown))
    assert rows == {"correlated": ' hidden=""', "uncorrelated": ' hidden=""', "natural": ""}
    assert "After fine-tuning at 0.001, block 0" in shown
