"""One form for all instruction tasks, made by program or read from a file (Zhao et al. 2024, on FLAN).

Every prompt ends in the same words, so that its last token, where layers are compared, is the same for every
example and every task. Files hold a row for each example: instruction, input, output, task, cluster.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from veneer.tasks.errors import InputError

if TYPE_CHECKING:  # naming the tasks answers at once
    from veneer.language.questions import Question

COLUMNS = ("instruction", "input", "output", "task", "cluster")


@dataclass(frozen=True)
class Example:
    """An instruction followed once.

    Attributes:
        instruction: what to do.
        input: what to do it to; may be empty.
        output: the right answer.
        task: name of the task.
        cluster: name of the group of tasks that it belongs to.
    """

    instruction: str
    input: str
    output: str
    task: str
    cluster: str

    @property
    def prompt(self) -> str:
        """What a model reads."""
        middle = f"Input: {self.input}\n" if self.input else ""
        return f"Instruction: {self.instruction}\n{middle}Answer:"

    @property
    def question(self) -> "Question":
        """As what text models are trained on; examples of one input are kept together."""
        from veneer.language.questions import Question

        return Question(self.prompt, f" {self.output}", f"{self.task}/{self.input or self.instruction}")


def read_examples(path: Path) -> tuple[Example, ...]:
    """The examples of a FLAN-like file (``.jsonl`` or ``.parquet``).

    Raises:
        InputError: a file that cannot be read or is empty, or a row that lacks a column or has it empty
            (only the input may be).
    """
    from veneer.language.questions import read_rows

    rows = read_rows(path, "data", COLUMNS)
    if not rows:
        raise InputError("data", str(path), "one example or more", "it is empty")
    return tuple(_example(row, number, path) for number, row in enumerate(rows, 1))


def by_task(examples: Iterable[Example]) -> dict[str, tuple[Example, ...]]:
    """The examples of each task, in order of first appearance."""
    found: dict[str, list[Example]] = {}
    for example in examples:
        found.setdefault(example.task, []).append(example)
    return {task: tuple(own) for task, own in found.items()}


def capped(examples: Sequence[Example], cap: int, seed: int = 0) -> tuple[Example, ...]:
    """At most so many examples of each cluster, its tasks as equal as their sizes allow, in random order.

    Tasks of a cluster give one example each in turn until the cap is reached or all are used up.

    Raises:
        InputError: a cap below 1.
    """
    if cap < 1:
        raise InputError("cap", cap, "1 or more")
    generator = random.Random(f"instructions/capped/{seed}")
    clusters: dict[str, dict[str, list[Example]]] = {}
    for task, own in by_task(examples).items():
        clusters.setdefault(own[0].cluster, {})[task] = generator.sample(own, len(own))
    kept = [example for tasks in clusters.values() for example in _in_turn(tasks, cap)]
    generator.shuffle(kept)
    return tuple(kept)


def without(examples: Iterable[Example], held_out: Iterable[str]) -> tuple[Example, ...]:
    """The examples of all tasks but those held out.

    Raises:
        InputError: a task that no example has.
    """
    examples, held = tuple(examples), set(held_out)
    known = {example.task for example in examples}
    if missing := sorted(held - known):
        raise InputError("held out", missing[0], ", ".join(sorted(known)))
    return tuple(example for example in examples if example.task not in held)


def _in_turn(tasks: Mapping[str, list[Example]], cap: int) -> list[Example]:
    left = [list(own) for own in tasks.values()]
    kept: list[Example] = []
    while len(kept) < cap and any(left):
        kept += [own.pop() for own in left if own]
    return kept[:cap]


def _example(row: Any, number: int, path: Path) -> Example:
    def refuse(problem: str) -> InputError:
        return InputError("data", str(path), f"the columns {', '.join(COLUMNS)}", f"row {number}: {problem}")

    if not isinstance(row, dict):
        raise refuse("it is no object")
    for name in COLUMNS:
        if not isinstance(row.get(name), str):
            raise refuse(f"{name} is missing or no text")
        if name != "input" and not row[name].strip():
            raise refuse(f"{name} is empty")
    return Example(*(row[name].strip() for name in COLUMNS))
