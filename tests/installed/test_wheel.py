"""What a user gets: the wheel, in an environment of its own, in a folder with rooms of the same names.

The environment has the wheel, and the libraries of the one that runs the tests. The folder has its own
``models/``, ``tasks/``, ``analysis/`` and ``datasets/``, three of which must never be imported.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent.parent
LEFT_OUT = (
    ".git",
    ".venv",
    "runs",
    "build",
    "dist",
    "*.egg-info",
    "__pycache__",
    "tests",
    "shared",
    ".*_cache",
)
THEIRS = "raise RuntimeError(\"this is the user's own room, which is none of Veneer's\")\n"
MINE = """
from tracr.rasp import rasp

def length():
    return rasp.SelectorWidth(rasp.Select(rasp.tokens, rasp.tokens, rasp.Comparison.TRUE))

WEIGHT = 0.5
"""
PROGRAM = """
from models import mine

def program():
    return mine.length()
"""
METHOD = """
from dataclasses import dataclass

import veneer
from models import mine

@dataclass(frozen=True)
class Mine(veneer.Method):
    weight: float = mine.WEIGHT

    def loss(self, step):
        return step.cross_entropy(step.batch) * self.weight
"""
TINY = "--length 6 --letters abcd --iterations 10 --reft-iterations 10 --evaluation-samples 20 --c-tr 1"
TWO = f"{TINY} --learning-rates 0.01 --reft-rates 0.001 --seeds 2"
ONE = TWO.replace("--seeds 2", "--seeds 1")
BARE = "--no-controls --no-third-operand"
RANKS = ONE.replace("abcd", "abcdefghij").replace("--length 6", "--length 8")
FEW = (
    "--iterations 4 --reft-iterations 4 --evaluation-samples 8 --c-tr 1 --learning-rates 0.001 "
    f"--reft-rates 0.0001 {BARE}"
)
COMMANDS = f"""
list
run counter {ONE} --out runs/demo
run counter {TWO} {BARE} --out runs/seeds
run max-identifier --rank-pt 3 --rank-ft 6 --q 5 {RANKS} {BARE} --out runs/max
run pcfg-counter --pretrained M {FEW} --out runs/pcfg
run counter {ONE} {BARE} --method lora:4 --out runs/lora
run counter {ONE} {BARE} --method method.py:Mine --out runs/mine
sweep counter {ONE} {BARE} --batch 8,16 --out runs/sweep
analyse runs/demo --only revival verdicts
claims runs/demo
compare runs/demo runs/lora
status runs/demo
verify runs/demo
report runs/demo
figures runs/demo
compile program.py:program --vocabulary a b c --max-length 5 --out compiled-mine
generate counter --samples 60 --split train=0.9,test=0.1 --c 0.5 --out data/counter
verify data/counter
push data/counter --out hub/counter
push runs/demo --out hub/models
"""
DRIVER = """
import json, sys
from pathlib import Path

from veneer.commands.main import main

for line in Path("commands.txt").read_text().split("\\n"):
    if not line:
        continue
    print("##", line, flush=True)
    try:
        main(line.split())
    except SystemExit as ended:
        if ended.code not in (None, 0):
            sys.exit(f"{line}: {ended.code}")

import polars as pl
files = sorted(Path("data/counter").rglob("*test*.parquet"))
table = pl.concat(pl.read_parquet(file) for file in files)
table.select("id", prediction=pl.col("label")).write_parquet("predictions.parquet")
main(["evaluate", "data/counter", "--predictions", "predictions.parquet"])

import veneer
run = veneer.load("runs/demo")
assert run.verdicts().height == 1
assert run.model(rate=0.01, seed=0).answer("abcabc") in range(7)
assert veneer.compile("program.py:program", "abc", 5).answer("abc") == [3, 3, 3]
assert veneer.load_capability("compiled-mine").answer("ab") == [2, 2]

whole, few = veneer.run, {"iterations": 10, "reft_iterations": 10, "evaluation_samples": 20, "seeds": 1}
veneer.run = lambda *given, **fields: whole(*given, **{**fields, **few})  # both notebooks, with few updates
for name in ("written", "learned"):
    notebook = json.loads(Path(f"{name}.ipynb").read_text())
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    named = {"__name__": "__main__"}
    for cell in cells:
        cell = cell.replace("3e-4, 200,", "3e-4, 10,").replace("1e-4, 60,", "1e-4, 10,")
        exec(compile(cell, f"{name}.ipynb", "exec"), named)
    assert {"written": "verdict", "learned": "back"}[name] in named, "the answer"

import models.mine
assert models.mine.WEIGHT == 0.5
assert not {"tasks", "analysis", "datasets"} & set(sys.modules), "a room of the user's was imported"
print("all done in", veneer.__file__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the source, so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True, timeout=250)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel, and with the libraries of this one."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=100)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", str(wheel)], check=True, timeout=200)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A research repository with rooms of its own, a program, a method and a notebook."""
    for room in ("models", "tasks", "analysis", "datasets"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("" if room == "models" else THEIRS)
    (tmp_path / "models" / "mine.py").write_text(MINE)
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "method.py").write_text(METHOD)
    (tmp_path / "commands.txt").write_text(COMMANDS)
    (tmp_path / "driver.py").write_text(DRIVER)
    for name in ("written", "learned"):
        shutil.copy(ROOT / "examples" / f"{name}.ipynb", tmp_path)
    return tmp_path


def spoken(environment: Path, folder: Path, *words: str) -> str:
    """What a program of the new environment says, given in a user's folder."""
    known = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    known |= {"VENEER_CACHE": str(folder.parent / "veneer-cache"), "OMP_NUM_THREADS": "1"}
    program = str(environment / "bin" / words[0])
    done = subprocess.run(
        [program, *words[1:]], cwd=folder, env=known, capture_output=True, text=True, timeout=560
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_the_wheel_adds_one_name_and_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        metadata = opened.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"veneer"}
    rooms = [link for link in (ROOT / "veneer").iterdir() if link.is_dir() and "__" not in link.name]
    here = {
        f"veneer/{room.name}/{file.relative_to(room)}"
        for room in rooms
        for file in room.rglob("*.*")
        if file.is_file()
    }
    kept = {name for name in here if "__pycache__" not in name}
    assert not (kept | {"veneer/py.typed"}) - set(names)
    always = {
        Requirement(value).name
        for key, _, value in (line.partition(": ") for line in metadata.splitlines())
        if key == "Requires-Dist" and not Requirement(value).marker
    }
    assert "torch" in always
    assert not always & {"jax", "dm-haiku", "tracr-pypi", "matplotlib"}


@pytest.mark.slow
@pytest.mark.timeout(580)
def test_everything_works_in_a_folder_with_rooms_of_the_same_names(environment: Path, folder: Path) -> None:
    said = spoken(environment, folder, "python", "driver.py")
    assert f"all done in {environment}" in said
    assert (folder / "runs" / "demo" / "report.html").stat().st_size > 100_000
    described = json.loads((folder / "runs" / "mine" / "experiment.json").read_text())
    assert described["fields"]["method"] == "method.py:Mine"


@pytest.mark.slow
def test_the_command_itself_is_installed(environment: Path, folder: Path) -> None:
    assert "veneer run NAME" in spoken(environment, folder, "veneer", "--help")
    compiled = [
        "compile",
        "program.py:program",
        "--vocabulary",
        "a",
        "b",
        "c",
        "--max-length",
        "5",
        "--out",
        "again",
    ]
    assert "wrote again/model.safetensors" in spoken(environment, folder, "veneer", *compiled)
