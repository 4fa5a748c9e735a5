"""The page of a run of layers: the map of layers with its sentence, then what it rests on.

One file that loads nothing and needs no script: its charts are drawn as SVG.
"""

from pathlib import Path

from veneer.experiments.layers.result import Result
from veneer.experiments.layers.store import LayersRun
from veneer.models.files import write_text
from veneer.tasks.errors import InputError


def write_layers_page(run: LayersRun, result: Result) -> Path:
    """Write ``report.html`` into the run's folder, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    path = run.path / "report.html"
    try:
        write_text(path, result.sentence)
    except OSError as error:
        raise InputError("out", str(path), "a file that can be written", str(error)) from error
    return path
