"""Models that another run has trained already, copied instead of trained again.

A cell's id stands for all that was asked of it. What else decides its bits is written down beside the copies:
the code and the device of the run that trained them. ``RUN/reused.json`` has that for every copied cell.
"""

import os
import shutil
from collections.abc import Sequence
from typing import Any

import torch

from veneer.experiments.shapes import CELL, ENVIRONMENT, RECORD, REUSED
from veneer.experiments.store import Run
from veneer.finetune.cell import Cell
from veneer.models.files import exists, put_in_place, read_json, write_sealed
from veneer.tasks.errors import InputError

WEIGHTS = "model.safetensors"


def lenders(paths: Sequence[str | os.PathLike[str]], device: torch.device) -> list[Run]:
    """The runs that models are taken from.

    Args:
        paths: their folders.
        device: where the new run trains.

    Raises:
        InputError: one is no run, or trained on another kind of device, whose numbers are others.
    """
    found = []
    for path in paths:
        try:
            run = Run.read(path)
            trained_on = _origin(run, None)["device"]
        except InputError as error:
            raise InputError("reuse", str(path), error.valid, error.problem) from error
        if (trained_on == "cpu") != (device.type == "cpu"):
            valid = f"a run that trained on {device.type}"
            raise InputError("reuse", str(path), valid, f"it trained on {trained_on}")
        found.append(run)
    return found


def take_over(run: Run, others: Sequence[Run], cells: Sequence[Cell]) -> int:
    """Copy what others have trained of a run's cells and the run has not.

    A model that was trained further is taken only where the one before it is the same here, bit for bit: so
    no chain is put together of two trainings. What is planned already is left alone, as a fleet trains as a
    whole.

    Args:
        run: what is to be trained.
        others: where to look, in this order.
        cells: all cells of the run, parents before children.

    Returns:
        How many were copied.
    """
    if not others:
        return 0
    with run.setup():
        record, planned = recorded(run), set(run.planned() or ())
        before, theirs = len(record), [(other, recorded(other)) for other in others]
        for cell in cells:
            if cell.id in planned or cell.id in record:
                continue
            for other, copies in theirs:
                if _same_so_far(run, other, cell):
                    _copy(other, run, cell.id)
                    record[cell.id] = copies.get(cell.id) or _origin(other, _weights(other, cell.id))
                    break
        if len(record) > before:
            write_sealed(run.path / RECORD, record)
    return len(record) - before


def recorded(run: Run) -> dict[str, Any]:
    """``reused.json`` by cell: the run that trained it, its commit and device; empty if all are its own.

    A copy that was damaged and trained again is no copy any more.
    """
    file = run.path / RECORD
    found = read_json(file, REUSED) if exists(file) else {}
    return {cell: told for cell, told in found.items() if _weights(run, cell) == told["weights"]}


def _same_so_far(run: Run, other: Run, cell: Cell) -> bool:
    """Whether another run has a cell with its weights, and both runs have what it started from."""
    if _weights(other, cell.id) is None or not other.has(cell):
        return False
    before = cell.start
    if not isinstance(before, Cell):
        return True
    return _weights(run, before.id) == _weights(other, before.id) is not None


def _weights(run: Run, cell: str) -> str | None:
    """The checksum of a finished cell's weights; None where there are none."""
    try:
        return read_json(run.cell_path(cell) / "cell.json", CELL)["files"].get(WEIGHTS)
    except InputError:
        return None


def _origin(run: Run, weights: str | None) -> dict[str, Any]:
    environment = read_json(run.path / "environment.json", {**ENVIRONMENT, "commit": str, "device": str})
    about = {name: environment[name] for name in ("commit", "device")}
    return {"run": str(run.path), **about, "weights": weights}


def _copy(source: Run, target: Run, cell: str) -> None:
    """A cell's folder, whole or not at all."""
    folder = target.cell_path(cell)
    temporary = folder.with_name(f".{cell}.reused.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.copytree(source.cell_path(cell), temporary)
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or Run.has had found it
        put_in_place(temporary, folder)
        (target.path / "metrics.parquet").unlink(missing_ok=True)  # it lacks this cell
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
