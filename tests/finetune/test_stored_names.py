"""Names that stored runs depend on: a run made before a change has to find its cells after it.

A cell's id is a hash over the names of classes and fields. Whoever renames a method, a task or a field of
a recipe makes every stored cell another cell. If that is meant, raise ``veneer.experiments.folder.FORMAT``,
so that old runs are refused in one line, and write the new ids down here.
"""

import pytest

from veneer.experiments.folder import FORMAT
from veneer.finetune.cell import Cell, Origin, Stage
from veneer.finetune.fleet import Evaluation
from veneer.finetune.methods import load_method
from veneer.finetune.recipe import Recipe
from veneer.pcfg.families import SampleLayout
from veneer.pcfg.operand_task import OperandTask
from veneer.tasks.counter import Counter
from veneer.tasks.encoding import Task
from veneer.tasks.max_identifier import MaxIdentifier
from veneer.tasks.mixture import fine_tuning

TASKS: dict[str, Task] = {
    "counter": Counter(length=16),
    "max-identifier": MaxIdentifier(),
    "pcfg": OperandTask(SampleLayout.quick()),
}
IDS: dict[tuple[str, str], str] = {
    ("counter", "full"): "dd37c4c5c907196c",
    ("max-identifier", "full"): "1e1938781375dc7e",
    ("pcfg", "full"): "716676358d5e37bf",
    ("counter", "last-block"): "a482a4a1e86e9a7d",
    ("counter", "lora:4"): "b78e8380b4719eed",
    ("counter", "l2-sp:0.01"): "20923a866dce5b47",
    ("counter", "ascent"): "6d371b17238ba9d3",
    ("counter", "difference:0.5"): "e4f323115c14b6ab",
}


def cell(task: str, method: str) -> Cell:
    stage = Stage("fine-tune", fine_tuning(0.5), Recipe("sgd", 1e-3, 100, warmup=20), load_method(method))
    return Cell(
        Origin("0123456789abcdef", "compiled", 1e-3, 0), TASKS[task], stage, Evaluation(10, (0, 100)), 0
    )


@pytest.mark.parametrize(("task", "method"), IDS)
def test_a_stored_cell_keeps_its_id(task: str, method: str) -> None:
    assert FORMAT == 3
    assert cell(task, method).id == IDS[task, method]
