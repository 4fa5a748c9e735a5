"""Nothing of a user's is markup: what is named ``[red]`` or ``:fire:`` is printed so by every command."""

import io
import json
from pathlib import Path

import polars as pl
import pytest

from tests.report import fakes
from veneer.commands import progress, screen
from veneer.commands.main import main
from veneer.commands.progress import per_second
from veneer.report.figures import literal
from veneer.suites import card

NASTY = "[/x] [red]a[/] [bold]:fire: \\[dim]"
FOLDER = "[x] [red] [bold] :fire:"
TINY = ["--length", "4", "--iterations", "5", "--reft-iterations", "5", "--evaluation-samples", "8"]
FEW = ["--learning-rates", "0.01", "--c-tr", "1", "--reft-rates", "0.001", "--seeds", "1", "--no-controls"]
METHOD = """\
from dataclasses import dataclass
from veneer.finetune.method import FullFineTuning

@dataclass(frozen=True)
class Mine(FullFineTuning):
    pass
"""
PROGRAM = """\
from tracr.rasp import rasp

def old():
    return rasp.Map(lambda token: "[/x]" if token == "[red]" else token, rasp.tokens)

def new():
    return rasp.Map(lambda token: "[red]", rasp.tokens)
"""


class Terminal(screen.Screen):
    """A screen that writes into a text, as a terminal with colours would get it."""

    def __init__(self) -> None:
        super().__init__(width=400)
        self.file, self._force_terminal = io.StringIO(), True

    @property
    def text(self) -> str:
        return self.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def said(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    """What a command prints, without the breaks between lines."""
    capsys.readouterr()
    try:
        main(words)
    except SystemExit as ended:
        assert ended.code == code, capsys.readouterr()
    told = capsys.readouterr()
    return "".join((told.out + told.err).split())


def squeezed(text: str) -> str:
    return "".join(text.split())


def test_every_way_onto_the_screen_leaves_texts_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(screen, "console", terminal)
    monkeypatch.setattr(progress, "console", terminal)
    table = screen.Table(title=NASTY, caption=NASTY)
    table.add_column(NASTY)
    table.add_row(NASTY)
    terminal.print(NASTY, table, screen.styled("and ", (NASTY, "bold")))
    terminal.print(NASTY, markup=True, emoji=True)
    assert terminal.text.count("[/x] [red]a[/] [bold]:fire: \\[dim]") == 7
    with screen.Waiting() as line:
        line.update(f"waits {NASTY}")
        terminal.print(line._status)  # as it draws itself, ten times a second
    with screen.Bar(screen.words("{task.description}"), console=terminal) as bar:
        bar.add_task(f"trains {NASTY}")
    progress.LiveProgress(3).notice(f"notices {NASTY}")
    for word in ("waits", "trains", "notices"):
        assert f"{word} {NASTY}" in terminal.text


def test_what_moves_a_terminals_cursor_is_shown_as_a_question_mark() -> None:
    terminal = Terminal()
    terminal.print("a\x1b[31mb\x07\x9bc", screen.styled(("d\x1b]0;e", "bold")))
    assert "a?[31mb??c" in terminal.text and "d?]0;e" in terminal.text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of models named like markup, in such a folder."""
    return fakes.learned_run(tmp_path_factory.mktemp("screen") / FOLDER, ("[M]", ":fire:")).path


@pytest.mark.parametrize("command", ["status", "verify", "report", "figures", "claims"])
def test_names_in_a_run_are_printed_as_they_are(
    run: Path, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {
        "report": ["--out", str(tmp_path / f"{FOLDER}.html")],
        "figures": ["--out", str(tmp_path / FOLDER)],
        "claims": ["--only", "1"],
    }
    told = said([command, str(run), *words.get(command, [])], capsys, 1 if command == "verify" else 0)
    assert command in ("claims", "status") or squeezed(FOLDER) in told


def test_names_in_the_tables_of_a_run_are_printed_as_they_are(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = fakes.learned_run(tmp_path / "other", ("[M]", "[/]"))
    told = said(["compare", str(run), str(other.path)], capsys)
    assert squeezed(FOLDER) in told
    assert "[M]" in told and ":fire:" in told and "[/]" in told
    from veneer.commands.training import show_run
    from veneer.experiments.store import Run

    capsys.readouterr()
    show_run(Run.read(run))
    assert "[M]" in (shown := capsys.readouterr().out) and ":fire:" in shown


def test_labels_and_folders_of_a_dataset_are_printed_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "[red].py"
    program.write_text(PROGRAM)
    data = tmp_path / FOLDER
    words = ["generate", f"{program}:old", "--program-ft", f"{program}:new", "--out", str(data)]
    words += ["--vocabulary", "[red]", "[/x]", "$a$", "--max-length", "5", "--samples", "12"]
    assert squeezed(FOLDER) in said(words, capsys)
    told = said(["verify", str(data), "--program", f"{program}:old", f"{program}:new"], capsys)
    assert squeezed(FOLDER) in told
    file = next((data / "data").glob("test*"))
    rows = pl.read_parquet(file, glob=False).to_dicts()
    answers = tmp_path / "answers.jsonl"
    answers.write_text(
        "".join(json.dumps({"id": row["id"], "prediction": row["label"]}) + "\n" for row in rows)
    )
    assert "label[red]" in said(["evaluate", str(data), "--predictions", str(answers)], capsys)
    assert "\\[red\\]" in (data / "README.md").read_text()


def test_tokens_and_folders_of_a_compiled_program_are_printed_as_they_are(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "[red].py"
    program.write_text(PROGRAM)
    words = ["compile", f"{program}:old", "--vocabulary", "[red]", "[/x]", "--max-length", "3"]
    told = said([*words, "--out", str(tmp_path / FOLDER)], capsys)
    assert squeezed(FOLDER) in told and "[red]" in told


@pytest.mark.slow
def test_methods_models_and_folders_are_printed_as_they_are_while_training(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("[red].py").write_text(METHOD)
    words = [*TINY, *FEW, "--method", "[red].py:Mine"]
    out = f"{FOLDER} run"
    assert squeezed(out) in said(["run", "counter", *words, "--out", out], capsys)
    assert squeezed(out) in said(["analyse", out, "--only", "revival", "verdicts"], capsys)
    again = [*words[:-1], "[red].py:Mine,full", "--out", f"{FOLDER} sweep"]
    told = said(["sweep", "counter", *again], capsys)
    assert "[red]" in told, "the table cuts names at 80 columns"
    planned = said(["sweep", "counter", *again, "--dry-run"], capsys)
    assert squeezed(f"{FOLDER} sweep") in planned
    pair = ["run", "[red].py:old", "--to", "[red].py:new", "--vocabulary", "[red]", "[/x]", "c", *TINY, *FEW]
    answers = '"c" if token == "[red]" else token'  # only what the first program answers too
    Path("[red].py").write_text(PROGRAM.replace('lambda token: "[red]",', f"lambda token: {answers},"))
    assert "[red].py" in said([*pair, "--out", f"{FOLDER} pair"], capsys)


@pytest.mark.slow
def test_folders_and_grammars_are_printed_as_they_are_while_pretraining(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [
        "--iterations",
        "2",
        "--evaluation-samples",
        "4",
        "--width",
        "8",
        "--blocks",
        "1",
        "--priors",
        "0.7/0.2/0.1",
    ]
    assert squeezed(FOLDER) in said(["pretrain", "pcfg", *small, "--out", str(tmp_path / FOLDER)], capsys)


def test_nothing_is_markup_in_pages_and_cards() -> None:
    assert literal("<b>%{x}</b>") == "&lt;b&gt;%&#123;x}&lt;/b&gt;"
    assert card.literal("[a](b) |`_c_\n$d$") == r"\[a\](b) \|\`\_c\_ \$d\$"
    assert card.fenced("veneer ```x").startswith("````console\nveneer ```x\n````")


@pytest.mark.parametrize(("rate", "told"), [(0.04, "0.04"), (3.14159, "3.1"), (1234.5, "1,234")])
def test_a_rate_below_ten_keeps_its_digits(rate: float, told: str) -> None:
    assert per_second(rate) == told
