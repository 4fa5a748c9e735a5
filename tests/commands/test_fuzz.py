"""Damaged files and odd values, thrown at every command: it ends as documented, and says why in one line.

Whatever is given, a command exits with 0, 1 or 2, shows no traceback, writes one line at most on standard
error, and leaves nothing half-written. The normal suite throws some hundreds, the slow one thousands.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.report import fakes
from veneer.commands.main import main

READING = ("status", "verify", "report", "figures", "compare", "claims")
QUICK = ("status", "verify")
VALUES = (None, True, -1, 10**30, 1.5, "x", "[/red]", [], ["x"], [None], {}, {"x": 1})
CONTENTS = {
    "empty": b"",
    "noise": bytes(range(256)),
    "nul": b"\x00" * 40,
    "open": b'{"a": ',
    "null": b"null",
    "list": b"[]",
    "object": b"{}",
    "text": b'"text"',
    "number": b"3",
    "nan": b"NaN",
    "deep": b"[" * 100_000,
    "foreign": b'{"name": "thesis", "chapters": [1, 2]}',
}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def ended(words: list[str], capsys: pytest.CaptureFixture[str]) -> Ended:
    """Call a command as the shell would, and hold what every command promises."""
    capsys.readouterr()
    code = 0
    try:
        main(words)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 2 if left.code else 0
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.strip()]
    assert code in (0, 1, 2), (words, code)
    assert "Traceback" not in said.err + said.out, words
    assert len(lines) <= 1, (words, lines)
    if code == 2:
        assert said.out or lines, words
        assert not lines or lines[0].startswith("veneer: "), lines
    return Ended(code, said.out, said.err)


def reading(command: str, folder: Path, out: Path) -> list[str]:
    """The words with which a command reads a run and writes elsewhere."""
    more = {
        "report": ["--out", str(out / "page.html")],
        "figures": ["--out", str(out / "figures")],
        "compare": [str(folder)],
    }
    return [command, str(folder), *more.get(command, [])]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.analysed_run(tmp_path_factory.mktemp("fuzz") / "run").path


def kinds_of_files(run: Path) -> list[Path]:
    """One of each kind of file that a run holds."""
    cell = sorted((run / "cells").iterdir())[0]
    capability = sorted((run / "capabilities").iterdir())[0]
    names = ("experiment.json", "environment.json", "plan.json", "cells.parquet", "baselines.json")
    own = [run / name for name in names]
    own += [cell / name for name in ("cell.json", "metrics.parquet", "model.json", "model.safetensors")]
    own += [capability / name for name in ("accuracy.json", "model.json", "attention.safetensors")]
    return [*own, *sorted((run / "analysis").glob("*.parquet"))]


class Damaged:
    """A file of a run that is something else for a while."""

    def __init__(self, file: Path) -> None:
        self.file, self.before = file, file.read_bytes()

    def __enter__(self) -> Path:
        return self.file

    def __exit__(self, *_: object) -> None:
        if self.file.is_dir() and not self.file.is_symlink():
            shutil.rmtree(self.file)
        else:
            self.file.unlink(missing_ok=True)
        self.file.write_bytes(self.before)


def whole_damages(file: Path) -> Iterator[tuple[str, Any]]:
    """Ways in which a file as a whole is not what it was."""
    yield from CONTENTS.items()
    content = file.read_bytes()
    yield "half", content[: len(content) // 2]
    yield "flipped", content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    yield from (("missing", None), ("folder", None), ("pipe", None), ("loop", None))


def put(file: Path, name: str, content: Any) -> None:
    if content is not None:
        file.write_bytes(content)
        return
    file.unlink()
    match name:
        case "folder":
            file.mkdir()
        case "pipe":
            os.mkfifo(file)
        case "loop":
            file.symlink_to(file.name)


def mutations(value: Any, depth: int = 3) -> Iterator[Any]:
    """The value with one thing in it of another type, missing or added, down to a depth."""
    if isinstance(value, dict) and depth:
        for key in value:
            yield {name: own for name, own in value.items() if name != key}
            for other in VALUES:
                yield {**value, key: other}
            for inner in mutations(value[key], depth - 1):
                yield {**value, key: inner}
        yield {**value, "stranger": 1}
    if isinstance(value, list) and depth and value:
        for other in VALUES:
            yield [other, *value[1:]]
        for inner in mutations(value[0], depth - 1):
            yield [inner, *value[1:]]


def json_cases(run: Path, every: int) -> Iterator[tuple[Path, bytes]]:
    """Every so-manieth mutation of each JSON file, without its seal."""
    for file in kinds_of_files(run):
        if file.suffix == ".json":
            content = json.loads(file.read_text())
            content.pop("seal", None)
            for place, changed in enumerate(mutations(content)):
                if place % every == 0:
                    yield file, json.dumps(changed).encode()


def table_cases(run: Path) -> Iterator[tuple[Path, pl.DataFrame]]:
    """Each table with a column less, of another type, or no rows; and a foreign one."""
    for file in kinds_of_files(run):
        if file.suffix == ".parquet":
            table = pl.read_parquet(file)
            yield file, pl.DataFrame({"x": [1]})
            yield file, table.clear()
            for column in table.columns:
                yield file, table.drop(column)
                yield file, table.with_columns(pl.lit("x").alias(column))


def is_seen(file: Path, damage: str) -> bool:
    """Whether ``verify`` sees it: all but an analysis not made, and a bit of a table without checksum."""
    unmade = damage == "missing" and file.parent.name == "analysis"
    unsealed = file.suffix == ".parquet" and file.parent.parent.name != "cells"
    return not unmade and not (damage == "flipped" and unsealed)


def throw_files(run: Path, commands: tuple[str, ...], every: int, tmp_path: Path, capsys: Any) -> int:
    thrown = 0
    for file in kinds_of_files(run):
        for name, content in whole_damages(file):
            with Damaged(file):
                put(file, name, content)
                for command in commands:
                    found = ended(reading(command, run, tmp_path), capsys)
                    assert command != "verify" or found.code or not is_seen(file, name), (file, name)
                    thrown += 1
    for file, changed in json_cases(run, every):
        with Damaged(file):
            file.write_bytes(changed)
            for command in commands:
                ended(reading(command, run, tmp_path), capsys)
                thrown += 1
    return thrown


def test_damaged_files_of_a_run_are_told_by_what_looks_at_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert throw_files(run, QUICK, 60, tmp_path, capsys) > 500
    assert ended(["verify", str(run)], capsys).code == 0


@pytest.mark.parametrize("command", ["report", "compare", "claims", "figures"])
def test_damaged_files_of_a_run_are_told_by_what_shows_it(
    run: Path, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe in a file's place is never waited for."""
    for file in kinds_of_files(run)[:12]:
        for name in ("pipe", "foreign") if file.suffix == ".json" else ("pipe",):
            with Damaged(file):
                put(file, name, CONTENTS.get(name))
                ended(reading(command, run, tmp_path), capsys)
    assert not [file for file in tmp_path.rglob("*.tmp")]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", READING)
def test_thousands_of_damaged_files(
    run: Path, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All cases for what answers at once; a share of them for what makes a page, pictures or a judgement."""
    quick = command in QUICK
    assert throw_files(run, (command,), 1 if quick else 20, tmp_path, capsys) > 300
    for file, table in islice(table_cases(run), None, None, 1 if quick else 5):
        with Damaged(file):
            table.write_parquet(file)
            ended(reading(command, run, tmp_path), capsys)


SMALL = (
    "--length 6 --learning-rates 0.01 --c-tr 1 --reft-rates 0.001 --iterations 6 --reft-iterations 6 "
    "--evaluation-samples 10 --seeds 1 --no-controls --no-third-operand --engine in-process --batch 8"
)
WORKING: dict[str, Callable[[Path], list[str]]] = {
    "run": lambda folder: ["run", "counter", *SMALL.split(), "--out", str(folder)],
    "analyse": lambda folder: ["analyse", str(folder), "--only", "revival", "verdicts", "--jobs", "1"],
}
"""What goes on with a run, or looks into it: it reads files and writes others."""


@pytest.fixture(scope="module")
def trained(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained, and analysed."""
    folder = tmp_path_factory.mktemp("fuzz") / "trained"
    for words in WORKING.values():
        main(words(folder))
    return folder


def work_on_damaged(
    trained: Path, files: list[Path], damages: tuple[str, ...], tmp: Path, capsys: Any
) -> int:
    """Damage a copy in one way, and work on it: what is refused is not changed, what is mended is whole."""
    thrown = 0
    for file in files:
        for name, content in whole_damages(file):
            if name not in damages:
                continue
            for command, words in WORKING.items():
                copy = tmp / f"copy {thrown}"
                shutil.copytree(trained, copy)
                put(copy / file.relative_to(trained), name, content)
                code = ended(words(copy), capsys).code
                assert not list(copy.rglob("*.tmp")), (command, file, name)
                if command == "run" and code == 0:
                    assert ended(["verify", str(copy)], capsys).code == 0, (file, name)
                shutil.rmtree(copy)
                thrown += 1
    return thrown


def test_damaged_files_of_a_run_are_told_by_what_works_on_it(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("experiment.json", "plan.json", "cell.json", "metrics.parquet", "accuracy.json")
    files = [file for file in kinds_of_files(trained) if file.name in names]
    assert work_on_damaged(trained, files, ("null",), tmp_path, capsys) == 2 * len(names)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_damaged_file_is_told_by_what_works_on_it(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = kinds_of_files(trained)
    damages = (
        "empty",
        "noise",
        "list",
        "object",
        "foreign",
        "half",
        "flipped",
        "missing",
        "folder",
        "pipe",
        "loop",
    )
    assert work_on_damaged(trained, files, damages, tmp_path, capsys) > 200


NAMES = (
    "no/such/run",
    "x" * 300,
    "",
    "a\nb",
    "[/x]",
    "[red]",
    "it's",
    "*",
    "~nobody/x",
    "\udcff",
    "--",
    "-x",
    "/",
)


@pytest.mark.parametrize(
    "command", [*READING, "analyse", "evaluate", "run", "compile", "generate", "pretrain"]
)
def test_odd_names_of_folders_are_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        assert ended([command, name], capsys).code in (0, 2), name
    assert not list(tmp_path.iterdir())


ODD = {
    "--batch": ("0", "-1", "1.5", "1000000000000", "x", "", "²", "nan"),
    "--evaluation-samples": ("0", "100000000000", "٣x"),
    "--q": ("0", "1" * 30, "1.5", "--5"),
    "--length": ("1", "0", "-3", "100000"),
    "--seeds": ("0", "1000000000", "-1"),
    "--iterations": ("-1", "1" * 25),
    "--learning-rates": ("nan", "inf", "-1", "x", "1e-1 1e-1"),
    "--c-tr": ("2", "nan", "-0.1"),
    "--warmup": ("2", "nan"),
    "--clip": ("nan", "-1"),
    "--momentum": ("nan", "-1"),
    "--method": ("lora:0", "no.py:X", "full:1", "[red]", "l2-sp:nan"),
    "--letters": ("", "aa", "a"),
    "--operand-pt": ("z", "", "ab"),
    "--checkpoint-seconds": ("nan", "inf", "-1"),
    "--jobs": ("0", "-1", "1000000"),
    "--fleet": ("0", "-1"),
    "--out": ("", "x" * 300, "a/" * 3000),
    "--nothing": ("1",),
    "--device": ("tpu",),
}


def odd_words(command: str) -> Iterator[list[str]]:
    for flag, values in ODD.items():
        for value in values:
            yield [command, "counter", flag, *value.split(" ")]


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_odd_values_are_refused_at_once_and_nothing_is_written(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("veneer.experiments.cells._sources", never)
    for words in odd_words(command):
        assert ended(words, capsys).code == 2, words
        assert not list(tmp_path.iterdir()), words


def never(*_: object) -> Any:
    raise AssertionError("no odd value may come so far")


def test_what_cannot_be_written_is_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "stdout")

    with monkeypatch.context() as patch:
        patch.setattr(sys.stdout, "flush", full)
        with pytest.raises(SystemExit) as left:
            main(["list"])
    assert left.value.code == 2
    assert "No space left" in capsys.readouterr().err
