"""Curves as event files for TensorBoard, for those who watch their trainings there."""

import importlib.util

import polars as pl

from veneer.experiments.store import Run
from veneer.finetune.cell import Fleet
from veneer.tasks.errors import InputError


def require_tensorboard() -> None:
    """Check that event files can be written.

    Raises:
        InputError: TensorBoard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        valid = "without it, or after: pip install 'veneer[tensorboard]'"
        raise InputError("tensorboard", True, valid, "TensorBoard is not installed")


class EventFiles:
    """Writes ``RUN/tensorboard/NAME/`` for every cell, once it is finished.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        require_tensorboard()
        self._run = run

    def write(self, fleet: Fleet) -> None:
        """The curves of a finished fleet's cells; a cell whose folder is there is left alone."""
        from torch.utils.tensorboard import SummaryWriter

        for cell in fleet.cells:
            rate = cell.stage.recipe.learning_rate
            name = f"{cell.stage.name} rate={rate:g} seed={cell.seed} {cell.id}"
            folder = self._run.path / "tensorboard" / name
            if folder.exists() or not self._run.has(cell):
                continue
            writer = SummaryWriter(str(folder))
            table = pl.read_parquet(self._run.cell_path(cell.id) / "metrics.parquet", glob=False)
            for step, measure, texts, operand, value in table.iter_rows():
                writer.add_scalar(f"{measure}/{texts}/{operand}", value, step)
            writer.close()
