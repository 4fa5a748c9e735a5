"""Values that nobody should give, each refused in one line of plain words, with nothing left behind."""

import json
import re
import time
from pathlib import Path

import pytest

from tests.commands.test_fuzz import Ended, ended
from tests.report import fakes
from veneer.commands.options import EvaluateOptions, RunOptions, parse
from veneer.experiments.store import Run
from veneer.report.glossary import glossary
from veneer.suites.card import _common
from veneer.suites.dataset import generate
from veneer.suites.plan import Plan, Split
from veneer.suites.sources import make

OPAQUE = re.compile(
    r"invalid literal|has no attribute|arg is an empty|AssertionError|NoneType|instantiated|"
    r"Selection\(|<class|Unrecognized options Unrecognized|unhashable|codec can't"
)
"""Words of Python's, of a library's or of our code's that say nothing to who typed a command."""
SWEEPS = {
    "experiment is a list": 'experiment = ["counter"]',
    "experiment is a table": "experiment = {a = 1}",
    "experiment is a number": "experiment = 3",
    "nested a thousand deep": 'experiment = "counter"\n[axes]\nbatch = ' + "[" * 1000 + "]" * 1000,
    "preset nested": 'experiment = "counter"\npreset = ' + "[" * 300 + "]" * 300,
    "option of another type": 'experiment = "counter"\njobs = [2]',
    "option that is a word": 'experiment = "counter"\ndry_run = "x"',
    "axes is a list": 'experiment = "counter"\naxes = [1]',
    "axis is a table": 'experiment = "counter"\n[axes.batch]\nx = 1',
    "axis of lists": 'experiment = "counter"\n[axes]\nletters = [["a"]]',
    "axis of dates": 'experiment = "counter"\n[axes]\nbatch = [2020-01-01]',
    "a superscript": 'experiment = "counter"\n[axes]\nbatch = ["²"]',
    "no number": 'experiment = "counter"\n[axes]\nlearning_rates = [nan]',
    "without bound": 'experiment = "counter"\n[axes]\nbatch = [1e400]',
}
WORDS = (
    ["run", "counter", "--q", "--5"],
    ["run", "counter", "--batch", "²"],
    ["run", "counter", "--fleet", "x"],
    ["run", "counter", "--c-tr", "x"],
    ["run", "max-identifier", "--rank-pt", "²"],
    ["sweep", "counter", "--batch", "²"],
    ["sweep", "counter", "--q", "--5"],
    ["generate", "max-identifier", "--samples", "9", "--out", "d", "--operand-pt", "²"],
    ["generate", "max-identifier", "--samples", "9", "--out", "d", "--operand-pt", "--5"],
    ["generate", "counter", "--samples", "9", "--length", "5", "--out", "d", "--held-out-labels", "77"],
    ["generate", "counter", "--samples", "9", "--length", "5", "--out", "d", "--held-out-labels", "²"],
    ["generate", "counter", "--samples", "9", "--length", "5", "--out", "d", "--held-out-labels", "0-5"],
    ["generate", "counter", "--samples", "9", "--length", "5", "--out", "d", "--split", "a=²,b=3"],
    ["generate", "counter", "--samples", "9", "--length", "5", "--out", "d", "--answer-position", "²"],
    ["evaluate", "d"],
    ["compile", "p.py:f"],
    ["compile", "p.py:f", "--vocabulary", "a", "--max-length", "²", "--out", "d"],
    ["analyse", "d", "--jobs", "x"],
    ["analyse", "d", "--only", "nothing"],
)


THOUSANDS = [f"t{i}" for i in range(5000)]
PROGRAMS = ["p.py:count", "--vocabulary", "a", "b", "--out", "d"]
SIZES = (
    ["run", "counter", "--batch", str(10**12)],
    ["run", "counter", "--evaluation-samples", str(10**11)],
    ["run", "counter", "--q", "1" * 30],
    ["run", "counter", "--seeds", str(10**9)],
    ["run", "counter", "--iterations", str(10**30)],
    ["sweep", "counter", "--seeds", str(10**9), "--dry-run"],
    ["sweep", "counter", "--batch", f"8,{10**12}", "--dry-run"],
    ["compile", *PROGRAMS, "--max-length", str(10**5)],
    ["compile", *PROGRAMS, "--max-length", "1" * 30],
    ["compile", "p.py:count", "--vocabulary", *THOUSANDS, "--max-length", "5", "--out", "d"],
    ["generate", *PROGRAMS, "--max-length", "5", "--samples", str(10**30)],
    ["generate", *PROGRAMS, "--max-length", str(10**5), "--samples", "10"],
    ["generate", "counter", "--samples", str(10**30), "--out", "d"],
    ["generate", "counter", "--samples", "10", "--length", str(10**5), "--out", "d"],
    ["generate", "counter", "--samples", "10", "--q", "1" * 30, "--out", "d"],
    ["generate", "pcfg-c", "--samples", "10", "--window", str(10**12), "--out", "d"],
    ["pretrain", "pcfg", "--batch", str(10**12), "--out", "d"],
    ["pretrain", "pcfg", "--window", str(10**12), "--out", "d"],
    ["pretrain", "pcfg", "--width", str(4 * 10**12), "--out", "d"],
    ["pretrain", "pcfg", "--blocks", str(10**9), "--out", "d"],
    ["pretrain", "pcfg", "--seeds", str(10**9), "--out", "d"],
    ["pretrain", "pcfg", "--evaluation-samples", str(10**12), "--out", "d"],
    ["pretrain", "pcfg", "--iterations", str(10**30), "--out", "d"],
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("words", SIZES, ids=lambda words: " ".join([words[0], *words[-4:]])[:60])
def test_sizes_that_no_machine_has_are_refused_at_once(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.py").write_text(PROGRAM)
    began = time.process_time()
    refused(words, capsys, tmp_path)
    assert time.process_time() - began < 10, "by an estimate, not by trying"


def refused(words: list[str], capsys: pytest.CaptureFixture[str], folder: Path) -> Ended:
    before = sorted(folder.rglob("*"))
    found = ended(words, capsys)
    assert found.code == 2 and found.err, words
    assert not OPAQUE.search(found.err), found.err
    assert sorted(folder.rglob("*")) == before, words
    return found


@pytest.mark.parametrize("case", SWEEPS)
def test_odd_sweep_files_are_refused(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sweep.toml").write_text(SWEEPS[case])
    refused(["sweep", "--file", "sweep.toml", "--out", "out"], capsys, tmp_path)


@pytest.mark.parametrize("words", WORDS, ids=lambda words: " ".join(words[:2] + words[-2:]))
def test_odd_words_are_refused_in_plain_ones(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(words, capsys, tmp_path)


@pytest.mark.parametrize(
    ("options", "words", "said"),
    [
        (RunOptions, ["--fleet", "x"], "--fleet = 'x'; valid: none or a whole number"),
        (RunOptions, ["--checkpoint-seconds", "x"], "--checkpoint-seconds = 'x'; valid: a number"),
        (RunOptions, ["--preset", "x"], "--preset = 'x'; valid: 'quick', 'standard', 'paper'"),
        (EvaluateOptions, [], "missing: --predictions"),
    ],
)
def test_what_the_parser_of_options_says_is_put_as_all_else(
    options: type, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(options, words, "veneer x")
    assert capsys.readouterr().err == f"veneer: {said} (veneer x --help lists the options)\n"


OUTS = ("file", "file/sub", "loop", "x" * 300, "a\x01b", "\udcff")
MAKING = {
    "run": ["run", "counter", "--length", "5"],
    "sweep": ["sweep", "counter", "--batch", "8,16"],
    "compile": ["compile", "p.py:count", "--vocabulary", "a", "--max-length", "3"],
    "generate": ["generate", "counter", "--length", "5", "--letters", "abc", "--samples", "9"],
    "suite": ["generate", "suite", "paper", "--samples", "9"],
    "pretrain": ["pretrain", "pcfg", "--iterations", "1"],
    "report": ["report", "made"],
    "figures": ["figures", "made"],
}


@pytest.mark.parametrize("command", MAKING)
def test_a_place_that_cannot_be_written_is_refused(
    command: str,
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    Path("loop").symlink_to("loop")
    Path("p.py").write_text(PROGRAM)
    run = Run.open(tmp_path / "made", "quick", fakes.EXPERIMENT)
    fakes.write_surroundings(run, fakes.cells_of(fakes.EXPERIMENT))
    for out in OUTS:
        if command != "report" or out not in ("file", "loop"):  # a page takes the place of these
            refused([*MAKING[command], "--out", out], capsys, tmp_path)
    assert Path("file").read_text() == "mine"


PREDICTIONS = {
    "ids beyond 64 bits": [{"id": 10**30, "prediction": 1}],
    "ids of 64 bits without sign": [{"id": 2**64 - 1, "prediction": 1}],
    "negative ids": [{"id": -1, "prediction": 1}],
    "fractions as ids": [{"id": 1.5, "prediction": 1}],
    "lists": [{"id": [1], "prediction": [2]}],
    "nothing": [{"id": None, "prediction": None}],
    "no number": [{"id": 0, "prediction": float("nan")}],
    "without bound": [{"id": 0, "prediction": float("inf")}],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    task = {
        "task": "counter",
        "about": "Counter.",
        "letters": "abc",
        "length": 5,
        "min_length": None,
        "q": 1,
        "pairs": [["a", "b"]],
    }
    plan = Plan("counter", task, (Split("only", 20),))
    return generate(plan, make, tmp_path_factory.mktemp("odd") / "data")


@pytest.mark.parametrize("case", PREDICTIONS)
def test_odd_predictions_are_refused(
    case: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in PREDICTIONS[case]))
    refused(["evaluate", str(data), "--predictions", str(file)], capsys, tmp_path)


PROGRAM = """\
from tracr.rasp import rasp

def nan(): return rasp.Map(lambda t: float("nan") if t == "a" else 1.0, rasp.tokens)
def unbounded(): return rasp.Map(lambda t: float("inf") if t == "a" else 1.0, rasp.tokens)
def count(): return rasp.SelectorWidth(rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE))
"""


@pytest.mark.parametrize("name", ["nan", "unbounded"])
def test_answers_that_are_no_finite_numbers_are_refused(
    name: str, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.py").write_text(PROGRAM)
    words = ["compile", f"{tmp_path / 'p.py'}:{name}", "--vocabulary", "a", "b", "--max-length", "3"]
    assert "it answers" in refused([*words, "--out", str(tmp_path / "out")], capsys, tmp_path).err


def test_an_inexact_program_is_refused_with_its_share_and_a_string_unless_it_is_allowed(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At exactness 1 Tracr's model counts no string of eight right; RASP itself always does."""
    (tmp_path / "p.py").write_text(PROGRAM)
    words = ["compile", f"{tmp_path / 'p.py'}:count", "--vocabulary", "a", "b", "--max-length", "8"]
    words += ["--exactness", "1", "--out", str(tmp_path / "out")]
    said = refused(words, capsys, tmp_path).err
    share = re.search(r"is right on ([\d.]+)% of \d+ strings; for \[.*\] it answers", said)
    assert share and float(share[1]) < 99.9 and "Tracr compiles the program wrongly" in said
    assert "--allow-inexact" in said
    allowed = ended([*words, "--allow-inexact"], capsys)
    assert allowed.code == 0 and f"{share[1]}%" in allowed.out
    assert refused([*words[:-1], str(tmp_path / "again")], capsys, tmp_path).code == 2  # not from the cache


@pytest.mark.parametrize("out", ["no/such/page.html", "", "x" * 300 + ".html", "."])
def test_a_report_is_written_where_it_is_asked_for_or_refused(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.open(tmp_path / "run", "quick", fakes.EXPERIMENT)
    fakes.write_surroundings(run, fakes.cells_of(fakes.EXPERIMENT))
    monkeypatch.chdir(tmp_path)
    if out.startswith("no/"):  # folders are made, as everywhere
        assert ended(["report", str(run.path), "--out", out], capsys).code == 0
        assert Path(out).stat().st_size > 1000
    else:
        refused(["report", str(run.path), "--out", out], capsys, tmp_path)


def test_labels_that_look_like_numbers_are_put_in_order_as_what_they_are() -> None:
    assert _common({"10": 1, "9": 1, "-1": 1}) == [str(n) for n in range(-1, 11)]
    assert _common({"1.5": 1, "-2": 1}) == ["-2", "1.5"]
    for odd in ("²", "--5", "-", "1.2.3", "nan", ""):
        assert set(_common({odd: 1, "3": 2})) == {odd, "3"}


def test_a_run_whose_difference_is_the_commonest_one_has_a_glossary() -> None:
    fields = {"program_pt": "p.py:old", "program_ft": "p.py:new", "q": None, "length": 3, "vocabulary": ["a"]}
    meanings = {row[1]: row[2] for row in glossary({"name": "program", "fields": fields})}
    assert "both answers agree" in meanings["C_Tr"]


NAMED = {
    "learning_rates": ["--lr", "nan"],
    "reft_rates": ["--reft-rates", "inf"],
    "c_tr": ["--c-tr", "-0.1"],
    "iterations": ["--iterations", "0"],
    "reft_iterations": ["--reft-iterations", "-1"],
    "batch": ["--batch", "0"],
    "clip": ["--clip", "inf"],
    "length": ["--length", "0"],
    "--learning-rates": ["--lr", "abc"],
}


@pytest.mark.parametrize("field", NAMED)
def test_a_value_is_refused_by_its_options_name_and_nothing_else_is_said(
    field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "counter", *NAMED[field], "--out", str(tmp_path / "run")]
    said = refused(words, capsys, tmp_path)
    assert said.err.startswith(f"veneer: {field} = ") and "valid: " in said.err
    assert not said.out, "it is made ready before it is refused"


def test_a_run_without_noise_ends_with_its_page(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Zero is a value as any other: without noise there is nothing to hold against it."""
    small = "--letters abc --length 5 --iterations 2 --seeds 1 --lr 0.1 --c-tr 1 --evaluation-samples 20"
    words = ["run", "counter", "--noise", "0", *small.split(), "--out", str(tmp_path / "run")]
    assert ended([*words, "--reft-rates", "none", "--no-controls"], capsys).code == 0
    assert "None is added. O_PT accuracy on" in (tmp_path / "run" / "report.html").read_text()
