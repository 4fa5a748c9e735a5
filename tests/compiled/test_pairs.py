"""Any two programs of a user's become a capability and a task, and the run keeps what they came to."""

from pathlib import Path

import polars as pl
import pytest

from veneer.commands.main import main
from veneer.compiled.pairs import Pair, load_task, make_pair, save_task
from veneer.compiled.tokens import read_token, read_vocabulary
from veneer.tasks.errors import InputError

PROGRAMS = """\
from tracr.rasp import rasp
from helpers import count

def old(): return count("a")
def new(): return count("b")
def always(): return rasp.Map(lambda n: 2, count("a"))
def seldom(): return rasp.Map(lambda n: 3 if n == 3 else None, count("a"))
def is_a(): return rasp.Map(lambda token: token == "a", rasp.tokens)
def is_b(): return rasp.Map(lambda token: token == "b", rasp.tokens)
def never(): return rasp.Map(lambda n: n + 100, count("a"))
def fails(): return rasp.Map(lambda n: 1 // 0, count("a"))
def sums(random): return ["a", *(random.choice("abc") for _ in range(3))]
short = [["a"], ["b"]]
few = [["a", "a", "b", "c"], ["b", "a", "b", "c"]]
def bigger(pt, ft): return ft > pt
"""
HELPERS = """\
from tracr.rasp import rasp

def count(token):
    return rasp.SelectorWidth(rasp.Select(rasp.tokens == token, rasp.tokens, lambda key, query: bool(key)))
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("VENEER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mine.py").write_text(PROGRAMS)
    (tmp_path / "helpers.py").write_text(HELPERS)
    return str(tmp_path / "mine.py")


def asked(file: str, ft: str = "new", **more: object) -> Pair:
    return Pair(f"{file}:old", f"{file}:{ft}", ("a", "b", "c"), 4, exactness=100, **more)  # pyright: ignore[reportArgumentType]


def test_two_programs_become_a_capability_and_a_table(file: str, tmp_path: Path) -> None:
    capability, task = make_pair(asked(file))
    assert len(task.texts) == 3**4
    for row, (pt, ft) in zip(task.texts.tolist(), task.results.tolist(), strict=True):
        text = [task.letters[i] for i in row]
        assert (task.answers[pt], task.answers[ft]) == (text.count("a"), text.count("b"))
    assert capability.answer_position == 4
    save_task(tmp_path / "kept", task)
    assert load_task(tmp_path / "kept").describe() == task.describe()
    (tmp_path / "helpers.py").write_text(HELPERS.replace("rasp.tokens == token", "rasp.tokens != token"))
    changed = make_pair(asked(file))[1]  # a changed helper is another program
    assert changed.describe()["sha256"] != task.describe()["sha256"]


@pytest.mark.parametrize(
    ("ft", "more", "says"),
    [
        ("old", {}, "the same answer on all"),
        ("never", {}, "never does"),
        ("always", {}, "it answers 2 on all 81 texts"),
        ("fails", {}, "ZeroDivisionError"),
        ("seldom", {}, "8 of 81 texts: on the others one of them is None"),
        ("new", {"inputs": "{file}:short"}, "some have 1"),
        ("new", {"inputs": "{file}:few"}, "texts = 2: there are no more than 2 inputs; valid: 20"),
        ("new", {"agree": "{file}:nothing"}, "agree"),
    ],
)
def test_what_two_programs_cannot_be_is_one_line(file: str, ft: str, more: dict[str, str], says: str) -> None:
    named = {name: value.format(file=file) for name, value in more.items()}
    with pytest.raises(InputError, match=says) as refused:
        make_pair(asked(file, ft, **named))
    assert "\n" not in str(refused.value)


def test_a_run_of_two_programs_ends_with_its_page_wherever_one_stands(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ``--q``; the texts are those that the run keeps, and reading it needs neither program."""
    monkeypatch.chdir(tmp_path)
    words = (
        "--vocabulary a b c --length 4 --iterations 3 --reft-iterations 3 --evaluation-samples 5 --seeds 1"
    )
    words += " --learning-rates 0.01 --c-tr 1 --reft-rates 0.001 --no-controls --no-third-operand"
    main(["run", f"{file}:old", "--to", f"{file}:new", *words.split(), "--out", "run"])
    Path(file).unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for command in ("report", "figures", "status", "verify"):
        main([command, str(tmp_path / "run")])
    assert "both answers agree" in (tmp_path / "run" / "report.html").read_text()


def test_a_model_of_a_few_dozen_neurons_is_looked_into(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is pruned of it is no more than it has, though the usual numbers go up to a hundred."""
    monkeypatch.chdir(tmp_path)
    words = (
        "--vocabulary a b c --length 4 --iterations 3 --evaluation-samples 5 --seeds 1 --learning-rates 0.01"
    )
    words += " --c-tr 1 --reft-rates --no-controls --no-third-operand"
    main(["run", f"{file}:is_a", "--to", f"{file}:is_b", *words.split(), "--out", "run"])
    main(["analyse", "run", "--only", "pruning", "grafting", "--jobs", "1"])
    table = pl.read_parquet("run/analysis/pruning.parquet").filter(pl.col("criterion") == "saliency")
    assert 10 <= table["k"].max() < 100


def test_texts_and_agreement_may_be_the_users(file: str) -> None:
    _, task = make_pair(asked(file, inputs=f"{file}:sums", agree=f"{file}:bigger"))
    assert {row[0] for row in task.texts.tolist()} == {0}
    larger = task.results[:, 1] > task.results[:, 0]
    assert task.agrees.tolist() == larger.tolist()


WORDS = {"a": "a", "1": 1, "-2": -2, "0.5": 0.5, "'1'": "1", "' '": " ", "'a,b'": "a,b", '"x"': "x", "²": "²"}


@pytest.mark.parametrize("word", WORDS)
def test_tokens_have_one_notation(word: str) -> None:
    assert (type(read_token(word)), read_token(word)) == (type(WORDS[word]), WORDS[word])


@pytest.mark.parametrize(
    ("words", "length"), [([], 3), (["a", "a"], 3), (["a", ""], 3), (["a"], 10**5), (["1" * 40], 3)]
)
def test_vocabularies_that_cannot_be_are_refused_at_once(words: list[str], length: int) -> None:
    with pytest.raises(InputError):
        read_vocabulary(words, length)
