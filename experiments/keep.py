"""Keep a run's numbers without its weights: a folder small enough to go with the code.

``python -m veneer.experiments.keep RUN FOLDER``. What is kept is a run still: ``veneer claims``, ``veneer
report`` and ``veneer compare`` read it. Weights are left out, since the recorded command makes them again,
and attention maps are rounded to half precision, or left out too (``--no-maps``: of GPTs they are most of
what is kept; then ``veneer claims`` alone reads it). Each ``cell.json`` has the checksums of what is kept.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from veneer.experiments.content import checked
from veneer.experiments.shapes import RECORD
from veneer.experiments.store import Run
from veneer.models.files import checksum, write_json
from veneer.tasks.errors import InputError

WHOLE = ("experiment.json", "environment.json", "plan.json", "cells.parquet", "baselines.json", RECORD)
OF_A_CELL = ("metrics.parquet", "model.json")
OF_A_CAPABILITY = ("accuracy.json", "model.json")
MAPS = "attention.safetensors"


def keep(run: Run, folder: Path, maps: bool = True) -> Path:
    """Copy what is worth keeping of a run.

    Args:
        run: a run with finished cells.
        folder: where to; it must not be there yet.
        maps: whether attention maps go with it.

    Returns:
        The folder.

    Raises:
        InputError: the folder is there already, or the run is none of ours, or damaged.
    """
    if folder.exists():
        raise InputError("folder", str(folder), "a folder that is not there yet")
    _, cells = checked(run)
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for name in WHOLE:
            if (run.path / name).exists():
                shutil.copy(run.path / name, temporary / name)
        run.metrics().write_parquet(temporary / "metrics.parquet")
        for cell in cells:
            own = temporary / "cells" / cell["id"]
            _copy(run.cell_path(cell["id"]), own, OF_A_CELL, maps)
            kept = {file.name: checksum(file) for file in sorted(own.iterdir())}
            write_json(own / "cell.json", {**cell, "files": kept})
        for accuracy in (run.path / "capabilities").glob("*/accuracy.json"):
            own = temporary / "capabilities" / accuracy.parent.name
            _copy(accuracy.parent, own, OF_A_CAPABILITY, maps)
        for table in (run.path / "analysis").glob("*.parquet"):
            (temporary / "analysis").mkdir(exist_ok=True)
            shutil.copy(table, temporary / "analysis" / table.name)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _copy(source: Path, target: Path, names: Sequence[str], with_maps: bool) -> None:
    """These files of a folder, and perhaps its attention maps in half precision."""
    target.mkdir(parents=True)
    for name in names:
        if (source / name).exists():
            shutil.copy(source / name, target / name)
    if with_maps and (source / MAPS).exists():
        maps = load_file(source / MAPS)
        rounded = {k: v.half() if v.is_floating_point() else v.to(torch.int32) for k, v in maps.items()}
        save_file(rounded, target / MAPS)


def main(words: Sequence[str]) -> None:
    """The command line: a run, and the folder to keep it in."""
    paths = [word for word in words if word != "--no-maps"]
    if len(paths) != 2:
        print("usage: python -m veneer.experiments.keep RUN FOLDER [--no-maps]", file=sys.stderr)
        sys.exit(2)
    try:
        kept = keep(Run.read(Path(paths[0])), Path(paths[1]), "--no-maps" not in words)
    except InputError as error:
        print(f"veneer: {error}", file=sys.stderr)
        sys.exit(2)
    size = sum(file.stat().st_size for file in kept.rglob("*") if file.is_file())
    print(f"{kept}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(sys.argv[1:])
