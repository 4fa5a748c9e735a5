"""Bad input is answered in one line and with exit code 2, and leaves nothing behind."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from veneer.commands import main as cli
from veneer.commands.training import about
from veneer.experiments.named import PRESETS
from veneer.experiments.store import Run
from veneer.tasks.errors import InputError

ROOT = Path(__file__).parent.parent.parent
TINY = ["--length", "6", "--iterations", "10", "--reft-iterations", "10", "--evaluation-samples", "20"]
FEW = ["--learning-rates", "0.01", "--c-tr", "1.0", "--reft-rates", "0.001", "--seeds", "1"]


def refusal(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a refused command says on stderr."""
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def one_line(said: str) -> str:
    assert said.endswith("\n")
    assert said.count("\n") == 1, said
    assert said.startswith("veneer: ")
    return said


@pytest.fixture
def no_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals must come before the first thing that takes long."""

    def compiled(*_: object) -> None:
        pytest.fail("compiled before the input was checked")

    monkeypatch.setattr("veneer.experiments.cells._sources", compiled)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("countre", [], ["experiment = 'countre'", "did you mean counter?"]),
        ("maxidentifier", [], ["did you mean max-identifier?"]),
        ("zzz", [], ["experiment = 'zzz'", "counter, max-identifier"]),
        ("counter", ["--operand-pt", "z"], ["operand_pt = 'z'", "a, b, c"]),
        ("counter", ["--operand-ft", "A"], ["operand_ft = 'A'", "a, b, c"]),
        ("counter", ["--operand-ft", "a"], ["operand_ft = 'a'", "other than"]),
        ("max-identifier", ["--rank-pt", "11"], ["rank_pt = 11", "1 to length = 10"]),
        ("max-identifier", ["--rank-ft", "0"], ["rank_ft = 0", "1 to length = 10"]),
        ("counter", ["--c-tr", "0.5", "1.5"], ["c_tr = 1.5", "[0, 1]"]),
        ("counter", ["--c-tr", "-0.1"], ["c_tr = -0.1", "[0, 1]"]),
        ("counter", ["--c-tr", "nan"], ["c_tr = nan", "[0, 1]"]),
        ("counter", ["--c-tr", "0.5", "0.5"], ["c_tr = (0.5, 0.5)", "different"]),
        ("counter", ["--q", "0"], ["q = 0"]),
        ("counter", ["--q", "17"], ["q = 17", "-12 to 12"]),
        ("max-identifier", ["--q", "1"], ["q = 1", "2 to 18"]),
        ("max-identifier", ["--q", "-2"], ["q = -2", "2 to 18"]),
        ("counter", ["--learning-rates", "0.1", "0"], ["learning_rates = 0.0", "above 0"]),
        ("counter", ["--learning-rates", "-1"], ["learning_rates = -1.0", "above 0"]),
        ("counter", ["--learning-rates", "nan"], ["learning_rates = nan", "above 0"]),
        ("counter", ["--reft-rates", "inf"], ["reft_rates = inf", "above 0"]),
        ("counter", ["--length", "1"], ["length = 1", "2 to "]),
        ("counter", ["--length", "100000"], ["length = 100000", "2 to "]),
        ("max-identifier", ["--length", "27"], ["length = 27", "26"]),
        ("counter", ["--letters", "aab"], ["letters = 'aab'", "different"]),
        ("counter", ["--seeds", "0"], ["seeds = 0", "1 or more"]),
        ("counter", ["--iterations", "0"], ["iterations = 0", "1 to "]),
        ("counter", ["--batch", "0"], ["batch = 0", "1 to "]),
        ("counter", ["--evaluation-samples", "0"], ["evaluation_samples = 0", "1 to "]),
        ("counter", ["--warmup", "2"], ["warmup = 2.0", "[0, 1]"]),
        ("counter", ["--momentum", "1"], ["momentum = 1.0", "[0, 1)"]),
        ("counter", ["--clip", "0"], ["clip = 0.0", "above 0"]),
        ("counter", ["--noise", "-1"], ["noise = -1.0", "0 or more"]),
        ("counter", ["--exactness", "0"], ["exactness = 0", "1 or more"]),
        ("counter", ["--literal", "--noise", "0"], ["literal"]),
        ("counter", ["--fleet", "0"], ["fleet = 0", "1 or more"]),
        ("counter", ["--checkpoint-seconds", "nan"], ["checkpoint_seconds = nan", "0 or more"]),
        ("counter", ["--preset", "papre"], ["preset = 'papre'", "did you mean paper?"]),
    ],
)
@pytest.mark.usefixtures("no_compiling")
def test_what_cannot_be_run_is_refused_in_one_line(
    name: str, options: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    said = one_line(refusal(["run", name, "--out", str(out), *options], capsys))
    for word in words:
        assert word in said
    assert not out.exists()


@pytest.mark.usefixtures("no_compiling")
def test_cuda_without_a_gpu_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = one_line(refusal(["run", "counter", "--device", "cuda", "--out", str(tmp_path / "out")], capsys))
    assert "device = 'cuda'" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--learnig-rates", "0.1"], "--learnig-rates"),
        (["--iterations", "many"], "--iterations"),
        (["--device", "tpu"], "--device"),
        (["--batch"], "--batch"),
    ],
)
@pytest.mark.usefixtures("no_compiling")
def test_an_option_that_cannot_be_read_is_named(
    options: list[str], word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert word in refusal(["run", "counter", "--out", str(tmp_path / "out"), *options], capsys)
    assert not (tmp_path / "out").exists()


def test_an_unknown_command_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean report?" in one_line(refusal(["reprot"], capsys))
    assert "argument = 'now'" in one_line(refusal(["list", "now"], capsys))


def test_a_report_of_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = one_line(refusal(["report", str(tmp_path / "nowhere")], capsys))
    assert "nowhere" in said
    assert [*tmp_path.iterdir()] == []


def test_the_exit_code_and_the_line_are_those_of_the_process(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "veneer",
        "run",
        "counter",
        "--operand-pt",
        "z",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    one_line(done.stderr)
    assert not (tmp_path / "out").exists()


WRITES = {
    "a terminal of ASCII": ("PYTHONIOENCODING=ascii {veneer} list", 0, "veneer"),
    "a full disk": ("{veneer} list > /dev/full", 2, "No space left on device"),
    "a reader that has seen enough": ("{veneer} list | true; exit ${{PIPESTATUS[0]}}", 1, ""),
    "nothing": ("{veneer} list >&-", 0, ""),
    "errors nowhere": ("{veneer} status no-such-run 2>&-", 2, ""),
}


@pytest.mark.skipif(not Path("/dev/full").exists() or not shutil.which("bash"), reason="needs Linux and bash")
@pytest.mark.parametrize("case", WRITES)
def test_output_that_cannot_be_written_is_told_in_a_line_at_most(case: str) -> None:
    line, code, said = WRITES[case]
    command = line.format(veneer=f"{sys.executable} -m veneer")
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) <= 1 and "Traceback" not in done.stderr
    assert said in done.stdout + done.stderr


def test_out_of_another_experiment_or_other_settings_is_refused_and_left_alone(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    cli.main(["run", "counter", *TINY, *FEW, "--out", str(out)])
    capsys.readouterr()
    monkeypatch.setattr(
        "veneer.experiments.cells.prepare", lambda _: pytest.fail("compiled before looking at the folder")
    )
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    said = one_line(refusal(["run", "counter", *TINY, *FEW, "--q", "2", "--out", str(out)], capsys))
    assert "q: 1 -> 2" in said
    other = [
        "run",
        "max-identifier",
        "--letters",
        "abcde",
        "--length",
        "3",
        "--rank-pt",
        "1",
        "--rank-ft",
        "2",
    ]
    said = one_line(refusal([*other, *TINY[2:], *FEW, "--out", str(out)], capsys))
    assert "it holds the experiment counter" in said
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before


def test_a_truncated_checkpoint_is_not_gone_on_from(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint is written whole, so half of one was damaged by something else: its fleet begins anew."""
    out = tmp_path / "out"
    words = ["run", "counter", *TINY, *FEW, "--checkpoint-seconds", "0", "--no-controls", "--out", str(out)]
    words.append("--no-third-operand")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "write_cell", interrupted)
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
    assert ended.value.code == 130
    (state,) = (out / "fleets").glob("*.safetensors")
    state.write_bytes(state.read_bytes()[:1000])
    cli.main(words)
    assert len(Run.read(out).cells()) == 2


def test_a_run_ends_with_its_table_and_its_report(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    cli.main(["run", "counter", *TINY, *FEW, "--out", str(out)])
    said = capsys.readouterr().out
    assert "Fine-tuning, then reFT" in said
    assert "What fine-tuning did to O_PT" in said
    assert "to decide: veneer run counter" in said, "one seed decides nothing"
    assert (out / "report.html").exists()
    fields = json.loads((out / "experiment.json").read_text())["fields"]
    assert (fields["length"], fields["iterations"], fields["learning_rates"]) == (6, 10, [0.01])
    cli.main(["run", "counter", *TINY, *FEW, "--out", str(out), "--quiet"])
    quiet = capsys.readouterr().out
    assert "What fine-tuning did to O_PT" in quiet
    assert not any(words in quiet for words in ("to decide", "Next:", "Open:")), "the results alone"


def test_the_list_names_every_experiment_and_its_cost(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["list"])
    said = capsys.readouterr().out
    for word in ("counter", "max-identifier", "4 fine-tunings of 800 updates", "28 fine-tunings of 10,000"):
        assert word in said


def test_a_bug_is_not_taken_for_bad_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr("veneer.experiments.cells._task", broken)
    with pytest.raises(ValueError, match="a bug") as raised:
        cli.main(["run", "counter", "--out", str(tmp_path / "out")])
    assert not isinstance(raised.value, InputError)


def test_the_first_line_of_a_run_names_its_own_operands() -> None:
    names = ("counter", "max-identifier", "pcfg-indexer")
    counter, ranks, learned = (PRESETS[name]["quick"] for name in names)
    assert all(about(each, {}) == each.about for each in (counter, ranks, learned))
    turned = replace(counter, operand_pt="b", operand_ft="a")
    assert "counts 'b', fine-tuned to count 'a'" in about(turned, {})
    assert "counts 'a', fine-tuned to count 'b' or 'c'" in about(counter, {"operand_ft": ("b", "c")})
    other = replace(ranks, rank_pt=3, rank_ft=12)
    assert "the 3rd letter in order, fine-tuned to read the 12th" in about(other, {"batch": (16, 32)})
    assert "fine-tuned to find 'c'" in about(replace(learned, operand_ft="c"), {})
