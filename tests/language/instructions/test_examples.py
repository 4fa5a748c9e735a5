"""Files in the form of FLAN are read, caps are equal, and held-out tasks are left out."""

import json
from collections import Counter
from pathlib import Path

import pytest

from veneer.language.instructions.examples import COLUMNS, Example, by_task, capped, read_examples, without
from veneer.language.instructions.tasks import HELD_OUT, TASKS, examples
from veneer.tasks.errors import InputError

MIXED = [example for task in TASKS for example in examples(task, 30)]


def test_a_flan_like_file_is_read(tmp_path: Path) -> None:
    rows = [{name: getattr(example, name) for name in COLUMNS} for example in MIXED]
    (tmp_path / "mix.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read_examples(tmp_path / "mix.jsonl") == tuple(MIXED)


def test_the_prompt_of_an_example_without_input() -> None:
    example = Example("Say hello.", "", "hello", "greet", "talk")
    assert example.prompt == "Instruction: Say hello.\nAnswer:"
    assert (example.question.prompt, example.question.answer) == (example.prompt, " hello")


def test_caps_are_equal_over_clusters_and_then_over_tasks() -> None:
    kept = capped(MIXED, 40)
    assert set(Counter(example.cluster for example in kept).values()) == {40}
    for cluster in {task.cluster for task in TASKS}:
        sizes = Counter(example.task for example in kept if example.cluster == cluster).values()
        assert max(sizes) - min(sizes) <= 1
    assert len(set(map(id, kept))) == len(kept)
    assert kept == capped(MIXED, 40) != capped(MIXED, 40, seed=1)


def test_a_small_cluster_gives_what_it_has() -> None:
    few = [*MIXED[:3], *(example for example in MIXED if example.cluster == "reading")]
    sizes = Counter(example.cluster for example in capped(few, 50))
    assert sizes == {"editing": 3, "reading": 50}


def test_held_out_tasks_are_left_out() -> None:
    left = {example.task for example in without(MIXED, HELD_OUT)}
    assert left == {task.name for task in TASKS} - set(HELD_OUT)
    assert list(by_task(MIXED)) == [task.name for task in TASKS]
    with pytest.raises(InputError, match="held out"):
        without(MIXED, ["poem"])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"instruction": "a"}, "input is missing"),
        ({name: "" if name == "output" else "x" for name in COLUMNS}, "output is empty"),
        ([1], "it is no object"),
    ],
)
def test_a_damaged_row_is_named(tmp_path: Path, row: object, says: str) -> None:
    good = {name: "x" for name in COLUMNS}
    (tmp_path / "mix.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(row)}\n")
    with pytest.raises(InputError, match=rf"row 2: {says}"):
        read_examples(tmp_path / "mix.jsonl")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="instruction, input, output, task and cluster"):
        read_examples(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="cap"):
        capped(MIXED, 0)
