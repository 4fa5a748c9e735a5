"""The page with what the commands print shows every command, as the script that makes it ran them."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from veneer.commands.main import COMMANDS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("maker", DOCS / "make_terminal_output.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_is_on_the_page(maker: ModuleType) -> None:
    lines = re.findall(r"^\$ (.+)$", maker.PAGE.read_text(), re.MULTILINE)
    assert lines == list(maker.COMMANDS), "python docs/make_terminal_output.py makes it again"
    called = {word for line in lines for word in re.findall(r"\bveneer ([a-z]+)", line)}
    assert set(COMMANDS) <= called


def test_nothing_on_the_page_is_wider_than_the_terminal_but_what_is_to_be_copied(maker: ModuleType) -> None:
    shown = re.findall(r"```console\n(.*?)```", maker.PAGE.read_text(), re.DOTALL)
    copied = re.compile(r"^(\$ |Next: |Open: |wrote |to decide|veneer: |complete | +\")|/|: veneer ")
    wide = [
        line for part in shown for line in part.splitlines() if len(line) > 80 and not copied.search(line)
    ]
    assert wide == []


def test_no_command_that_should_work_failed(maker: ModuleType) -> None:
    text = maker.PAGE.read_text()
    assert "Traceback" not in text
    failed = re.findall(r"^\$ ([^\n]+)\n(?:(?!^```).)*?^\(exit code (\d)\)$", text, re.MULTILINE | re.DOTALL)
    assert failed == [("veneer analyse", "2"), ("veneer run countre", "2")]
