"""A user's file runs with the modules beside it, is known again by all of them, and fails in one line."""

import sys
from pathlib import Path

import pytest

from veneer.tasks.errors import InputError
from veneer.tasks.user_code import digest, load, running, sources


def refused(path: Path, **options: float) -> InputError:
    with pytest.raises(InputError) as caught, running(path, "program", "mine.py:f", "a program", **options):
        load(path, "program", "mine.py:f", "a program").f()
    assert "\n" not in str(caught.value)
    return caught.value


def test_modules_beside_a_file_are_imported_and_part_of_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text("from deep.er import number\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "er.py").write_text("number = 1\n")
    mine = tmp_path / "mine.py"
    mine.write_text("def f():\n    from helpers import number\n    return number\n")
    assert sorted(sources(mine)) == ["deep/er.py", "helpers.py", "mine.py"]
    first = digest(mine)
    module = load(mine, "program", "mine.py:f", "a program")
    with running(mine, "program", "mine.py:f", "a program"):
        assert module.f() == 1
    assert load(mine, "program", "mine.py:f", "a program") is module
    (tmp_path / "deep" / "er.py").write_text("number = 2\n")  # as long, and of the same second
    assert digest(mine) != first
    again = load(mine, "program", "mine.py:f", "a program")
    with running(mine, "program", "mine.py:f", "a program"):
        assert again.f() == 2
    assert not list(tmp_path.rglob("__pycache__"))


def test_two_folders_may_have_modules_of_one_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "helpers.py").write_text(f"word = {name!r}\n")
        (tmp_path / name / "mine.py").write_text("from helpers import word\n")
    words = [load(tmp_path / n / "mine.py", "program", n, "a program").word for n in ("one", "two", "one")]
    assert words == ["one", "two", "one"]


@pytest.mark.parametrize("name", ["torch", "json", "veneer", "numpy"])
def test_a_file_beside_never_takes_the_place_of_ours_or_pythons(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("raise RuntimeError('shadowed')\n")
    mine = tmp_path / "mine.py"
    mine.write_text(f"import {name}\n")
    assert getattr(load(mine, "program", "x", "a program"), name) is sys.modules[name]
    assert sorted(sources(mine)) == ["mine.py"]


FAULTS = {
    "def f():\n    return 1 / 0\n": "mine.py line 2 in f: ZeroDivisionError: division by zero",
    "def f(:\n": "mine.py line 1: SyntaxError",
    "import nowhere_at_all\n": "mine.py line 1: ModuleNotFoundError",
    "import sys\ndef f():\n    sys.exit(3)\n": "mine.py line 3 in f: it ends the program",
    "from helpers import g as f\n": "helpers.py line 2 in g: KeyError: 'x'",
    "def f(x):\n    return x\n": "missing 1 required positional argument",
    "import json\ndef f():\n    json.loads('{')\n": "mine.py line 3 in f: JSONDecodeError",
    "class Own(Exception): pass\ndef f():\n    raise Own('a\\nb')\n": "mine.py line 3 in f: Own: a b",
    "def f():\n    return f()\n": "mine.py line 2 in f: RecursionError",
}


@pytest.mark.parametrize("text", FAULTS)
def test_what_a_users_code_raises_is_one_line_and_the_users_own_frames(tmp_path: Path, text: str) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(text)
    (tmp_path / "helpers.py").write_text("def g():\n    return {}['x']\n")
    error = refused(mine)
    assert FAULTS[text] in error.problem
    files = [line for line in error.frames.splitlines() if line.lstrip().startswith("File ")]
    assert all(str(tmp_path) in line for line in files)


def test_what_does_not_end_is_ended(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    loop = "    while True:\n        try:\n            pass\n        except Exception:\n            pass\n"
    mine.write_text(f"def f():\n{loop}")
    error = refused(mine, seconds=0.2)
    assert "it did not end within 0.2 seconds" in error.problem


def test_a_fault_of_ours_is_not_told_as_the_users(tmp_path: Path) -> None:
    def ours() -> None:
        raise KeyError("ours")

    with pytest.raises(KeyError), running(tmp_path / "mine.py", "program", "x", "a program"):
        ours()
