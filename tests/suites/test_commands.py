"""From the command line to other libraries: every task's labels, every reader, every refusal."""

import itertools
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from veneer.commands import main as cli
from veneer.suites.named import SUITES
from veneer.suites.plan import Plan
from veneer.suites.sources import CORRELATED, Condition
from veneer.suites.tasks import PCFG, TASKS, make, pcfg
from veneer.tasks.errors import InputError

SMALL = ["--samples", "120", "--split", "train=100,test=20"]
PROGRAM = """
from tracr.rasp import rasp


def same(letter):
    return rasp.SelectorWidth(rasp.Select(rasp.tokens, rasp.tokens, lambda key, query: key == letter))


def count_a():
    return same("a")


def count_b():
    return same("b")
"""


def command(*words: object) -> None:
    cli.main([str(word) for word in words])


def read(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "data" / "*.parquet")


def count_in_last(text: str, operand: str) -> int:
    return sum(x == operand for x in text[len(text) - 16 :])


def pairs_in_last(text: str, operand: str) -> int:
    last = text[len(text) - 16 :]
    return sum(last.startswith(operand * 2, i) for i in range(len(last)))


def third_from_end(text: str, operand: str) -> int:
    seen = 0
    for distance, letter in enumerate(reversed(text), start=1):
        seen += letter == operand
        if seen == 3:
            return distance
    return 0


def third_pair_from_end(text: str, operand: str) -> int:
    seen = 0
    for end in range(len(text), 1, -1):
        seen += text[end - 2 : end] == operand * 2
        if seen == 3:
            return len(text) - end + 1
    return 0


FAMILIES: dict[str, tuple[Callable[[str, str], object], list[str]]] = {
    "pcfg-c": (count_in_last, []),
    "pcfg-cc": (pairs_in_last, []),
    "pcfg-i": (third_from_end, ["--number", "3"]),
    "pcfg-ic": (third_pair_from_end, ["--number", "3"]),
    "pcfg-t": (lambda text, operand: text[-7], ["--number", "7"]),
}


@pytest.mark.parametrize("task", FAMILIES)
def test_labels_of_a_grammars_families(task: str, tmp_path: Path) -> None:
    answer, options = FAMILIES[task]
    command("generate", task, *SMALL, "--window", 40, "--count-last", 16, *options, "--out", tmp_path / "d")
    table = read(tmp_path / "d")
    vocabulary = json.loads((tmp_path / "d" / "dataset.json").read_text())["vocabulary"]
    for row in table.iter_rows(named=True):
        assert row["result_pt"] == answer(row["text"], row["operand_pt"])
        assert row["result_ft"] == answer(row["text"], row["operand_ft"])
        assert row["label"] == answer(row["text"], row["operand"])
        words = [vocabulary[i] for i in row["tokens"]]
        assert words[0] == "SOS" and words[row["answer_position"]] == "ART"
        assert "".join(words[5:45]) == row["text"]
        assert words[2].strip("?") == (
            "NULL" if task == "pcfg-t" else row["operand"] * (1 + task.endswith("c") * (task != "pcfg-c"))
        )
    if task in ("pcfg-c", "pcfg-i"):
        assert table["correlated"].sum() == 60
    command("verify", tmp_path / "d")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("program") / "counts.py"
    file.write_text(PROGRAM)
    return file


def test_labels_of_a_program_are_rasps_own(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [f"{program}:count_a", f"{program}:count_b"]
    options = ["--vocabulary", "a", "b", "c", "--max-length", 8, "--min-length", 4, "--c", 0.5]
    command("generate", both[0], *SMALL, *options, "--program-ft", both[1], "--out", tmp_path / "d")
    for row in read(tmp_path / "d").iter_rows(named=True):
        assert (int(row["result_pt"]), int(row["result_ft"])) == (
            row["text"].count("a"),
            row["text"].count("b"),
        )
        assert row["answer_position"] == len(row["text"])
        assert row["correlated"] == (row["text"].count("b") - row["text"].count("a") == 1)
    assert read(tmp_path / "d")["correlated"].sum() == 60
    command("verify", tmp_path / "d", "--program", *both)
    capsys.readouterr()
    command("verify", tmp_path / "d")
    said = capsys.readouterr().out
    assert "not recomputed" in said
    assert f"Next: veneer evaluate {tmp_path / 'd'} --predictions PREDICTIONS.parquet" in said
    assert both[0] in (tmp_path / "d" / "dataset.json").read_text()  # so that the command can be repeated


KINDS = """
from tracr.rasp import rasp


def kind():
    return rasp.Map(lambda token: f"{type(token).__name__} {token}", rasp.tokens)
"""


def test_tokens_of_every_kind_stand_in_a_datasets_texts_and_are_told_apart(tmp_path: Path) -> None:
    """As ``compile`` takes them: the text 1 and the number, a decimal, a blank, a minus, a comma."""
    (tmp_path / "mine.py").write_text(KINDS)
    program = f"{tmp_path / 'mine.py'}:kind"
    words = ["--vocabulary", "'1'", "1", "0.5", "' '", "-2", "'a,b'", "--max-length", "3", "--samples", "60"]
    command("generate", program, *words, "--out", tmp_path / "d")
    shown = {"'1'": "str 1", "1": "int 1", "0.5": "float 0.5", "␣": "str  ", "-2": "int -2", "a,b": "str a,b"}
    table = read(tmp_path / "d")
    assert {row["text"].split(" ")[-1] for row in table.iter_rows(named=True)} == set(shown)
    assert all(row["label"] == shown[row["text"].split(" ")[-1]] for row in table.iter_rows(named=True))
    command("verify", tmp_path / "d", "--program", program)


FAILING = """
from tracr.rasp import rasp


def fails():
    return rasp.Map(lambda token: {"a": 1}[token], rasp.tokens)


def nothing():
    return rasp.Map(lambda token: None, rasp.tokens)


def seldom():
    return rasp.Map(lambda index: 1 if index == 5 else None, rasp.indices)
"""


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("fails", "fails: the interpreter fails with KeyError: 'b'"),
        ("nothing", "nothing: it is None where the answer is read"),
        ("seldom", "seldom: it is None where the answer is read"),
    ],
)
def test_a_program_without_answers_is_refused_with_the_cause(
    name: str, cause: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(FAILING)
    words = ["--vocabulary", "b", "c", "--max-length", 4, "--samples", 9, "--out", tmp_path / "d"]
    with pytest.raises(SystemExit) as ended:
        command("generate", f"{tmp_path / 'mine.py'}:{name}", *words)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and cause in error and error.count("\n") == 1, error
    assert error.startswith("veneer: program = ") and "no text has an answer" in error
    assert not (tmp_path / "d").exists()


def test_the_command_on_a_programs_card_keeps_its_path_and_makes_the_same(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(program.parent)
    for place, named in (("given", "./counts.py"), ("whole", str(program))):
        words = ["--vocabulary", "a", "b", "--max-length", 9, "--samples", 40, "--out", tmp_path / place]
        command("generate", f"{named}:count_a", *words)
        card = (tmp_path / place / "README.md").read_text()
        again = shlex.split(card.split("```console\n")[1].split("\n")[0])
        assert f"{named}:count_a" in again
        command(*again[1:-1], tmp_path / f"{place} again")
        made, remade = (tmp_path / name / "dataset.json" for name in (place, f"{place} again"))
        assert made.read_bytes() == remade.read_bytes()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["dataset.json", "README.md", "data/test-00000-of-00001.parquet"])
def test_a_dataset_with_a_pipe_in_it_is_not_waited_for(name: str, counter: Path, tmp_path: Path) -> None:
    shutil.copytree(counter, tmp_path / "d")
    answers = read(counter).select("id", prediction="label")
    answers.write_parquet(tmp_path / "p.parquet")
    (tmp_path / "d" / name).unlink()
    os.mkfifo(tmp_path / "d" / name)
    with pytest.raises(SystemExit) as ended:
        command("verify", tmp_path / "d")
    assert ended.value.code == (2 if name == "dataset.json" else 1)
    if name != "README.md":  # which no scoring reads
        with pytest.raises(SystemExit) as ended:
            command("evaluate", tmp_path / "d", "--predictions", tmp_path / "p.parquet")
        assert ended.value.code == 2


def test_predictions_in_a_pipe_are_not_waited_for(counter: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.parquet")
    with pytest.raises(SystemExit) as ended:
        command("evaluate", counter, "--predictions", tmp_path / "p.parquet")
    assert ended.value.code == 2


def test_another_program_does_not_verify(program: Path, tmp_path: Path) -> None:
    words = ["--vocabulary", "a", "b", "--max-length", 9, "--samples", 40]
    command("generate", f"{program}:count_a", *words, "--out", tmp_path / "d")
    other = tmp_path / "counts.py"
    other.write_text(PROGRAM + "\n# changed\n")
    with pytest.raises(SystemExit) as ended:
        command("verify", tmp_path / "d", "--program", f"{other}:count_a")
    assert ended.value.code == 2


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("counter") / "d"
    command("generate", "counter", *SMALL, "--format", "parquet,jsonl", "--out", folder)
    return folder


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The library in a process without a network and with a cache of its own."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    yield


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_round_trip_through_datasets(
    counter: Path, form: str, offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets
    import torch

    folder = counter
    if form == "jsonl":
        folder = tmp_path / "d"
        command("generate", "counter", *SMALL, "--format", "jsonl", "--out", folder)
    data = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in data.items()} == {"train": 100, "test": 20}
    assert data["test"].to_list() == read(counter).filter(pl.col("id") >= 100).to_dicts()
    assert data["train"].features["tokens"].feature.dtype == "uint8"
    batch = next(iter(torch.utils.data.DataLoader(data["train"].with_format("torch"), batch_size=8)))
    assert batch["tokens"].shape == (8, 46)
    assert batch["label"].shape == (8,)


def test_round_trip_through_pandas(counter: Path) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.read_parquet(counter / "data" / "test-00000-of-00001.parquet")
    assert (table["text"].str.count("b") == table["label"]).all()
    lines = pandas.read_json(counter / "data" / "test-00000-of-00001.jsonl", lines=True)
    assert lines["text"].tolist() == table["text"].tolist()
    assert lines["tokens"].tolist() == [list(tokens) for tokens in table["tokens"]]


def test_round_trip_through_duckdb(counter: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.sql(
        "SELECT count(*), sum(correlated::int), sum((len(tokens) = 46)::int) "
        f"FROM '{counter}/data/train-*.parquet' "
        "WHERE label = length(text) - length(replace(text, 'b', ''))"
    ).fetchall()
    assert found == [(100, 50, 100)]


def test_the_front_matter_is_what_hugging_face_reads(counter: Path) -> None:
    yaml = pytest.importorskip("yaml")
    front = yaml.safe_load((counter / "README.md").read_text().split("---\n")[1])
    assert [entry["split"] for entry in front["configs"][0]["data_files"]] == ["train", "test"]
    assert front["license"] == "cc0-1.0" and front["size_categories"] == ["n<1K"]
    assert [split["num_examples"] for split in front["dataset_info"][0]["splits"]] == [100, 20]


def test_a_table_and_json_of_scores(
    counter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = read(counter).filter(pl.col("id") >= 100)
    test.select("id", prediction=pl.col("result_pt") + 1).write_csv(tmp_path / "p.csv")
    command("evaluate", counter, "--predictions", tmp_path / "p.csv", "--out", tmp_path / "scores.json")
    said = capsys.readouterr().out
    assert "correlated" in said and "shortcut reliance" in said
    command("evaluate", counter, "--predictions", tmp_path / "p.csv", "--json")
    printed = json.loads(capsys.readouterr().out)
    told = {"format": 1, "command": "evaluate"}
    assert printed == told | json.loads((tmp_path / "scores.json").read_text())
    assert printed["reliance"]["given"]["value"] == 1


def test_a_damaged_dataset_exits_with_1(
    counter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(counter, tmp_path / "d")
    (tmp_path / "d" / "data" / "test-00000-of-00001.parquet").write_bytes(b"")
    with pytest.raises(SystemExit) as ended:
        command("verify", tmp_path / "d")
    assert ended.value.code == 1
    assert "damaged file" in capsys.readouterr().out


REFUSED = {
    "unknown task": (["countr"], "did you mean counter?"),
    "no such q": (["counter", "--q", "99"], "q = 99"),
    "unknown operand": (["counter", "--operand-pt", "z"], "operand_pt = 'z'"),
    "unknown question": (["counter", "--operand", "z"], "pt, ft, both, a or b"),
    "too many": (
        ["counter", "--length", "3", "--letters", "abc", "--samples", "28", "--c", "natural"],
        "there are 27",
    ),
    "sizes above": (["counter", "--samples", "10", "--split", "train=8,test=8"], "they sum to 16"),
    "shares above": (["counter", "--split", "train=0.8,test=0.3"], "shares sum to 1.1"),
    "no size": (["counter", "--split", "train,test"], "NAME=SHARE"),
    "split twice": (["counter", "--split", "a=0.5,a=0.5"], "named twice"),
    "no samples": (["counter", "--samples", "0"], "1 or more"),
    "c outside": (["counter", "--c", "2"], "probability"),
    "c of no split": (["counter", "--c", "trian=0.5"], "the splits are train, validation, test"),
    "format": (["counter", "--format", "csv"], "parquet, jsonl"),
    "lengths": (["counter", "--held-out-lengths", "50"], "lengths from 45 to 45"),
    "range": (["counter", "--held-out-labels", "9-7"], "7,10-12"),
    "two hold-outs": (["counter", "--held-out-labels", "1", "--held-out-pairs", "c:d"], "one of"),
    "pairs": (["counter", "--pairs", "a:b:c"], "O_PT:O_FT"),
    "pair in both": (["counter", "--held-out-pairs", "a:b"], "not among the others"),
    "held-out split": (
        ["counter", "--held-out-labels", "3", "--held-out-split", "dev"],
        "train, validation, test",
    ),
    "jobs": (["counter", "--jobs", "0"], "1 or more processes"),
    "rank": (["max-identifier", "--operand-pt", "x"], "rank = 'x'"),
    "grammar": (["pcfg-c", "--grammar", "none"], "grammar file"),
    "window": (["pcfg-c", "--window", "20"], "count_last"),
    "no program": (["none.py:f", "--vocabulary", "a", "--max-length", "3"], "no file"),
    "suite": (["suite", "papr"], "paper, shortcut-ladder"),
    "pairs next to each other": (["pcfg-ic", "--c", "0.5"], "valid: 2 to 249, or the same with a minus"),
    "more pairs than fit": (["pcfg-cc", "--c", "0.5", "--q", "40"], "valid: 1 to 39"),
}


@pytest.mark.parametrize(
    ("task", "number", "window", "last"),
    [
        ("pcfg-cc", None, 8, 5),
        ("pcfg-ic", 1, 3, 3),
        ("pcfg-ic", 2, 8, 8),
        ("pcfg-ic", 3, 7, 7),
        ("pcfg-ic", 3, 9, 9),
        ("pcfg-ic", 3, 10, 10),
    ],
)
def test_a_q_of_pairs_is_refused_where_enumeration_finds_no_text(
    task: str, number: int | None, window: int, last: int
) -> None:
    def answer(text: str, operand: str) -> int:
        ends = [i for i in range(2, window + 1) if text[i - 2 : i] == operand * 2]
        if number is None:
            return sum(end - 2 >= window - last for end in ends)
        return window - ends[-number] + 1 if len(ends) >= number else 0

    texts = map("".join, itertools.product("abc", repeat=window))
    found = {answer(text, "b") - answer(text, "a") for text in texts} - {0}
    accepted = set()
    for q in range(-window, window + 1):
        asked = pcfg(PCFG[task], window=window, number=number, count_last=last, q=q)
        try:
            make(asked, Condition())[0].capacity(CORRELATED)
            accepted.add(q)
        except InputError as error:
            assert error.field == "q"
    assert accepted == found


def test_an_impossible_q_is_no_obstacle_where_nothing_is_to_show_it(tmp_path: Path) -> None:
    for c in ("0", "natural"):
        command("generate", "pcfg-ic", *SMALL, "--c", c, "--q", "1", "--out", tmp_path / c)
        assert read(tmp_path / c)["correlated"].sum() == 0


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_one_line_and_leaves_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, said = REFUSED[name]
    with pytest.raises(SystemExit) as ended:
        command("generate", *words, "--out", tmp_path / "d")
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.count("\n") == 1 and error.startswith("veneer: ") and said in error, error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused(counter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command("generate", "counter", *SMALL, "--out", counter)
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_command_on_the_card_makes_the_same_dataset(counter: Path, tmp_path: Path) -> None:
    words = (counter / "README.md").read_text().split("```console\n")[1].split("\n")[0].split()
    command(*words[1:-1], tmp_path / "d")
    assert (tmp_path / "d" / "dataset.json").read_bytes() == (counter / "dataset.json").read_bytes()


@pytest.mark.parametrize("name", SUITES)
def test_suites_name_every_task_once_per_question(name: str) -> None:
    suite = SUITES[name](10, 0)
    names = [plan.name for plan in suite.plans]
    assert len(set(names)) == len(names)
    for plan in suite.plans:
        for split in plan.splits:
            assert plan.sources(make, split)
    if name == "paper":
        assert {plan.task["task"] for plan in suite.plans} == set(TASKS)
        asked = {(plan.task["task"], plan.operand) for plan in suite.plans}
        assert asked >= {(task, which) for task in set(PCFG) - {"pcfg-t"} for which in ("pt", "ft")}
        counter = next(plan for plan in suite.plans if plan.name == "counter-a")
        assert {split.c for split in counter.splits} == {0.0, 1.0, None}


def test_a_suite_is_written_whole_and_verifies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from veneer.suites import named as dataset_suites

    def two(samples: int | None, seed: int) -> dataset_suites.Suite:
        plans = SUITES["shortcut-ladder"](20, seed).plans[:2]
        return dataset_suites.Suite(
            "Two.", tuple(Plan(p.name, p.task, p.splits[-2:], seed=seed) for p in plans)
        )

    monkeypatch.setitem(dataset_suites.SUITES, "two", two)
    command("generate", "suite", "two", "--out", tmp_path / "s")
    assert json.loads((tmp_path / "s" / "suite.json").read_text())["format"] == 1
    assert [f.name for f in tmp_path.iterdir()] == ["s"]
    command("verify", tmp_path / "s")
    assert capsys.readouterr().out.count("as described") == 2


def test_help_of_a_task_loads_no_torch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import subprocess

    script = (
        "import sys\nfrom veneer.commands import main as cli\n"
        "try:\n    cli.main(['generate', 'counter', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'polars', 'plotly', 'jax'} & set(sys.modules)"
    )
    root = Path(__file__).parent.parent.parent
    subprocess.run([sys.executable, "-c", script], check=True, cwd=root, capture_output=True)
