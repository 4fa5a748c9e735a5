"""Models that another run has trained already, copied instead of trained again.

A cell's id stands for all that was asked of it. What else decides its bits is written down beside the copies:
the code and the device of the run that trained them. ``RUN/reused.json`` has that for every copied cell.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
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
        InputError: one is no run, has no weights, or trained on another kind of device, whose numbers are
            others.
    """
    found = []
    for path in paths:
        valid = f"a run with its weights that trained on {device.type}"
        if not os.fspath(path):
            raise InputError("reuse", "", valid)
        try:
            run = Run.read(Path(path).expanduser())
            trained_on = _origin(run, "")["device"]
        except InputError as error:
            raise InputError("reuse", str(path), valid, error.problem) from error
        if (trained_on == "cpu") != (device.type == "cpu"):
            raise InputError("reuse", str(path), valid, f"it trained on {trained_on}")
        if not has_weights(run):
            raise InputError("reuse", str(path), valid, "it has no weights of finished models")
        found.append(run)
    return found


def has_weights(run: Run) -> bool:
    """Whether models can be taken from a run: one that is kept for its numbers has none."""
    return any((run.path / "cells").glob(f"[!.]*/{WEIGHTS}"))


def take_over(run: Run, others: Sequence[Run], cells: Sequence[Cell]) -> int:
    """Copy what others have trained of a run's cells and the run has not.

    A model that was trained further is taken only where the one before it is the same here, bit for bit: so
    no chain is put together of two trainings. What is planned already is left alone, as a fleet trains as a
    whole. Where copies come from is written first, so that none is ever without it.

    Args:
        run: what is to be trained.
        others: where to look, in this order.
        cells: all cells of the run, parents before children.

    Returns:
        How many of them are copies now.

    Raises:
        InputError: there is no room for them.
    """
    if not others:
        return 0
    try:
        with run.setup():
            taken = to_take(run, others, cells)
            if taken:
                told = {cell: entry for cell, (_, entry) in taken.items()}
                write_sealed(run.path / RECORD, recorded(run) | told)
            for cell, (other, _) in taken.items():
                _copy(other, run, cell)
    except OSError as error:
        valid = "a folder that can be written and has room; the same command goes on from there"
        raise InputError("out", str(run.path), valid, str(error)) from error
    return len(recorded(run))


def to_take(run: Run, others: Sequence[Run], cells: Sequence[Cell]) -> dict[str, tuple[Run, dict[str, Any]]]:
    """By cell to be copied, whose it is and what is to be written down of it."""
    if not others:
        return {}
    planned = set(run.planned() or ())
    theirs = [(other, recorded(other)) for other in others]
    taken: dict[str, tuple[Run, dict[str, Any]]] = {}

    def here(cell: str) -> str | None:
        return taken[cell][1]["weights"] if cell in taken else _weights(run, cell)

    for cell in cells:
        if cell.id in planned or run.has(cell):
            continue
        for other, copies in theirs:
            weights, before = _weights(other, cell.id), cell.start
            alike = not isinstance(before, Cell) or here(before.id) == _weights(other, before.id) is not None
            if weights and alike and other.has(cell):
                taken[cell.id] = other, copies.get(cell.id) or _origin(other, weights)
                break
    return taken


def recorded(run: Run) -> dict[str, Any]:
    """``reused.json`` by cell: the run that trained it, its commit and device; empty if all are its own.

    A copy that was damaged and trained again is no copy any more; one that is kept without weights is.
    """
    found = written_down(run).items()
    return {cell: told for cell, told in found if _weights(run, cell) in (told["weights"], "")}


def written_down(run: Run) -> dict[str, Any]:
    """``reused.json`` as it stands, without a look at the cells."""
    file = run.path / RECORD
    return read_json(file, REUSED) if exists(file) else {}


def _weights(run: Run, cell: str) -> str | None:
    """The checksum of a finished cell's weights; "" where only numbers are kept, None if there is none."""
    try:
        return read_json(run.cell_path(cell) / "cell.json", CELL)["files"].get(WEIGHTS, "")
    except InputError:
        return None


def _origin(run: Run, weights: str) -> dict[str, Any]:
    """What is written down of a run's own cell. Its commit is the last that it was trained with."""
    file = run.path / "environment.json"
    if not exists(file):
        raise InputError("run", str(run.path), "a run that was begun", "it has no environment.json")
    environment = read_json(file, {**ENVIRONMENT, "commit": str, "device": str})
    about = {name: environment[name] for name in ("commit", "device")}
    path = run.path if run.path.name not in ("", "..") else run.path.resolve()
    return {"run": str(path), **about, "weights": weights}


def _copy(source: Run, target: Run, cell: str) -> None:
    """A cell's folder, whole or not at all."""
    folder = target.cell_path(cell)
    temporary = folder.with_name(f".{cell}.reused.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.copytree(source.cell_path(cell), temporary)
        shutil.rmtree(folder, ignore_errors=True)  # damaged: Run.has did not find it whole
        put_in_place(temporary, folder)
        (target.path / "metrics.parquet").unlink(missing_ok=True)  # it lacks this cell
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
