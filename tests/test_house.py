"""The house rules that a user feels or a test relies on: quick starts, checked shapes, true pins."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pytest

from veneer.experiments.folder import FORMAT
from veneer.experiments.named import CounterExperiment

ROOT = Path(__file__).parent.parent
HEAVY = ("jax", "plotly", "torch")
ROOMS = (
    "tasks",
    "models",
    "compiled",
    "pcfg",
    "language",
    "finetune",
    "analysis",
    "suites",
    "experiments",
    "report",
    "claims",
)


def imported_by(program: str) -> set[str]:
    """The top-level names of all modules that a fresh interpreter has loaded after a program."""
    report = "import sys; print('\\n' + repr(sorted({m.partition('.')[0] for m in sys.modules})))"
    script = f"import atexit; atexit.register(lambda: exec({report!r}))\n{program}"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return set(ast.literal_eval(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("library", HEAVY)
def test_the_probe_sees_a_heavy_library_that_is_imported(library: str) -> None:
    assert library in imported_by(f"import sys, types; sys.modules[{library!r}] = types.ModuleType('x')")


def test_import_veneer_is_light() -> None:
    assert not imported_by("import veneer").intersection(HEAVY)


def test_help_is_light() -> None:
    program = (
        "import runpy, sys; sys.argv = ['veneer', '--help']; runpy.run_module('veneer', run_name='__main__')"
    )
    loaded = imported_by(program)
    assert "veneer" in loaded
    assert not loaded.intersection(HEAVY)


def test_a_look_at_a_run_is_light(tmp_path: Path) -> None:
    """``veneer status`` counts folders: it must not load what trains."""
    described = {
        "format": FORMAT,
        "name": "counter",
        "preset": "quick",
        "fields": asdict(CounterExperiment()),
    }
    (tmp_path / "experiment.json").write_text(json.dumps(described))
    (tmp_path / "plan.json").write_text('{"fleets": [{"fleet": "f", "updates": 10, "cells": ["c"]}]}')
    (tmp_path / "cells" / "c").mkdir(parents=True)
    (tmp_path / "cells" / "c" / "cell.json").write_text('{"format": 2, "id": "c", "status": "done"}')
    look = f"from veneer.commands.main import main; main(['status', {str(tmp_path)!r}])"
    assert not imported_by(look).intersection(HEAVY)


def test_shapes_are_checked_in_tests() -> None:
    """Without the import hook, a vector of float keys would pass for a vector of integer ones."""
    import torch
    from jaxtyping import TypeCheckError

    random = import_module("veneer.tasks.random")
    with pytest.raises(TypeCheckError):
        random.bits(torch.zeros(3), 2)


def test_every_room_stands_at_the_root_and_is_linked_into_the_package() -> None:
    links = {path.name: path for path in (ROOT / "veneer").iterdir() if path.is_symlink()}
    assert set(links) == set(ROOMS)
    for room, link in links.items():
        assert link.readlink() == Path("..") / room
        assert (ROOT / room / "__init__.py").is_file(), room


def test_the_tools_know_every_room() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    layers = settings["importlinter"]["contracts"][0]["layers"]
    assert {room for layer in layers for room in layer.split(" | ")} == {*ROOMS, "commands", "face"}
    assert set(settings["pyright"]["include"]) == {"veneer", "benchmarks", *(f"veneer/{r}" for r in ROOMS)}


def test_nothing_is_imported_by_the_name_of_a_room_alone() -> None:
    """From the root, ``import tasks`` would work by accident, and load a second copy of every module."""
    bare = re.compile(rf"^\s*(?:from|import) (?:{'|'.join(ROOMS)})\b", re.MULTILINE)
    folders = [*ROOMS, "veneer/commands", "tests", "benchmarks", "examples"]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    own = [path for path in files if path.parent.name != "installed"]  # those hold other people's programs
    assert not [path for path in own if bare.search(path.read_text())]


def test_one_module_alone_knows_the_library_of_the_terminal() -> None:
    """It would read a user's ``[red]`` as a colour; ``veneer/commands/screen.py`` has that switched off."""
    files = [path for folder in ("veneer/commands", *ROOMS) for path in (ROOT / folder).rglob("*.py")]
    loads = re.compile(r"^\s*(?:from|import) rich\b|import_module\(.rich", re.MULTILINE)
    found = [str(path.relative_to(ROOT)) for path in files if loads.search(path.read_text())]
    assert found == ["veneer/commands/screen.py"]


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Also inside a room. Imports for types alone do not count: they never run."""
    from graphlib import TopologicalSorter

    import grimp

    graph = grimp.build_graph("veneer", exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert sum(map(len, imports.values())) > len(graph.modules)
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


def test_pins_satisfy_what_is_declared() -> None:
    """Each dependency of the tested set is pinned to a version that its own declared range admits."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), (
        "a pin is name==version, no local tag"
    )
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    tested = ("dev", "compile", "figures", "pandas", "transformer-lens", "datasets", "huggingface")
    declared = project["dependencies"] + [line for extra in tested for line in extras[extra]]
    for requirement in map(Requirement, declared):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_every_page_of_the_documentation_is_in_its_menu() -> None:
    menu = re.findall(r'"([\w-]+\.md)"', (ROOT / "zensical.toml").read_text())
    assert sorted(menu) == sorted(file.name for file in (ROOT / "docs").glob("*.md"))


def test_links_of_the_readme_lead_to_what_is_there() -> None:
    """They are relative, as no public address is known yet; a package index would show them broken."""
    links = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text())
    near = [link for link in links if not link.startswith("https://")]
    assert len(near) > 20
    assert [link for link in near if not (ROOT / link).exists()] == []
