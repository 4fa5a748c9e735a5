"""What is not installed is named in one line, with the command that installs it; the rest works without."""

import subprocess
import sys
from pathlib import Path

import pytest

from veneer.tasks.errors import InputError
from veneer.tasks.extras import MODULES, need


@pytest.mark.parametrize("extra", MODULES)
def test_what_is_installed_is_not_refused(extra: str) -> None:
    need(extra)


@pytest.mark.parametrize(("extra", "module"), [(e, m) for e, modules in MODULES.items() for m in modules])
def test_what_is_missing_is_named(extra: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError) as refused:
        need(extra)
    said = str(refused.value)
    assert "\n" not in said
    assert f"{module} is not installed" in said
    assert f'pip install "veneer[{extra}]"' in said


WITHOUT = """
import sys
for name in ("haiku", "jax", "tracr", "matplotlib"):
    sys.modules[name] = None
import veneer
print(veneer.load_capability("M").answer("abcabcabcacbbcabcabacbabcabcabcabcabcbab", operand="a"))
for attempt in (lambda: veneer.run("counter", "r"), lambda: veneer.compile(lambda: None, "ab", 3),
                lambda: veneer.compile("mine.py:program", "ab", 3)):
    try:
        attempt()
    except veneer.InputError as error:
        print(error)
"""


def test_a_reader_does_without_what_compiles_and_draws(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from tracr.rasp import rasp\n\nprogram = rasp.tokens\n")
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT],
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "VENEER_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    answer, *refusals = done.stdout.splitlines()
    assert answer.startswith("=")
    assert len(refusals) == 3
    assert all('pip install "veneer[compile]"' in said for said in refusals)
    assert not (tmp_path / "r").exists()
