"""What a run of layers comes to: tables as Parquet, sections as JSON, and rows for a terminal or a page."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from veneer.analysis.sections import Estimate
from veneer.experiments.layers.evidence import FEWEST_TASKS, Measured, plain_sections, told_sections
from veneer.experiments.layers.settings import PAIRS
from veneer.experiments.layers.store import LayersRun
from veneer.models.files import write_json, write_table
from veneer.tasks.errors import InputError


@dataclass(frozen=True)
class LayerRow:
    """One layer, median over the tasks that were seen and learned, means over seeds.

    Attributes:
        layer: counted from 1.
        medians: by pair, unbiased similarity; pairs that were not compared are missing.
        biased: the same, biased as in the paper.
        spread: by pair, the interquartile range over tasks (unbiased); empty for fewer than four tasks.
        dimensions: of base and multi-task model, for 99 % of the variance.
    """

    layer: int
    medians: dict[str, float]
    biased: dict[str, float]
    spread: dict[str, float]
    dimensions: tuple[float, float]


@dataclass(frozen=True)
class Result:
    """What came out.

    Attributes:
        measured: the numbers.
        rows: the map, layer by layer; empty where nothing was learned.
        unseen: the same for tasks that the multi-task model was not tuned on.
        sections: by the unbiased estimator; None where they could not be asked.
        sentence: the answer.
    """

    measured: Measured
    rows: tuple[LayerRow, ...]
    unseen: tuple[LayerRow, ...]
    sections: Estimate | None
    sentence: str

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "sentence": self.sentence,
            "sections": plain_sections(self.sections),
            "left_out": {own.task: own.why_not for own in self.measured.learned if own.why_not},
            "layers": [{"layer": row.layer, **row.medians} for row in self.rows],
        }


def conclude(run: LayersRun) -> Result:
    """Gather what is there, write the tables, and find sections.

    Raises:
        InputError: nothing has been measured.
    """
    measured = Measured(run)
    if measured.accuracy.is_empty():
        raise InputError("run", str(run.path), "a run with a trial that is done")
    tables = {
        "accuracy": measured.accuracy,
        "similarity": run.similarity(),
        "dimensions": run.dimensions(),
        "separation": run.separation(),
        "pictures": run.pictures(),
        "known": run.known(),
    }
    for name, table in tables.items():
        if table is not None:
            write_table(run.path / f"{name}.parquet", table)
    found = measured.sections()
    rows = rows_of(measured, measured.kept())
    sentence = told_sections(found, len(rows))
    result = Result(measured, rows, rows_of(measured, measured.kept(True)), found, sentence)
    write_json(
        run.path / "sections.json",
        {
            "unbiased": plain_sections(found),
            "biased": plain_sections(measured.sections("cka")),
            "sentence": sentence,
        },
    )
    return result


def rows_of(measured: Measured, tasks: tuple[str, ...]) -> tuple[LayerRow, ...]:
    """The map of some tasks; empty where they were not compared."""
    if not tasks or not measured.seeds:
        return ()
    medians, biased, spread = {}, {}, {}
    for pair in PAIRS:
        own = measured.by_task(pair, tasks)
        if np.isnan(own).all():
            continue
        medians[pair] = np.nanmedian(own, 0).tolist()
        biased[pair] = np.nanmedian(measured.by_task(pair, tasks, "cka"), 0).tolist()
        if len(tasks) >= FEWEST_TASKS:
            spread[pair] = measured.spread(pair, tasks)
    wide = [measured.dimensions(model, tasks) for model in ("base", "multi-task")]
    return tuple(
        LayerRow(
            layer,
            {name: own[i] for name, own in medians.items()},
            {name: own[i] for name, own in biased.items()},
            {name: own[i] for name, own in spread.items()},
            (wide[0][i], wide[1][i]),
        )
        for i, layer in enumerate(measured.layers)
    )
