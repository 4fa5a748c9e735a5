"""The plan: every cell once, parents first, fleets of cells that can train together."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from veneer.finetune.cell import Cell, Origin, Stage, plan
from veneer.finetune.fleet import Evaluation
from veneer.finetune.recipe import Recipe
from veneer.tasks.counter import Counter
from veneer.tasks.max_identifier import MaxIdentifier
from veneer.tasks.mixture import fine_tuning, pretraining

TASKS = (Counter("abcd", 5), Counter("abcd", 6), MaxIdentifier("abcdef", 3, 1, 2, 2))


@st.composite
def first_cells(choose: st.DrawFn) -> Cell:
    recipe = Recipe("sgd", choose(st.sampled_from([1e-1, 1e-2])), choose(st.sampled_from([10, 20])))
    return Cell(
        Origin(choose(st.sampled_from(["one", "two"])), "compiled", 0.1, seed := choose(st.integers(0, 3))),
        choose(st.sampled_from(TASKS)),
        Stage("fine-tune", fine_tuning(choose(st.sampled_from([0.0, 1.0]))), recipe),
        Evaluation(10, (0, recipe.iterations)),
        seed,
    )


@st.composite
def cells(choose: st.DrawFn) -> list[Cell]:
    """Fine-tunings and reFTs of them, some named twice, some parents not named at all."""
    first = choose(st.lists(first_cells(), max_size=12))
    revival = Stage("reft", pretraining(), Recipe("sgd", 1e-3, 10))
    second = [replace(cell, start=cell, stage=revival) for cell in first if choose(st.booleans())]
    third = [replace(cell, start=cell) for cell in second if choose(st.booleans())]
    return choose(st.permutations(first + second + third))


def with_parents(cell: Cell) -> set[str]:
    return {cell.id} | (with_parents(cell.start) if isinstance(cell.start, Cell) else set())


def shape(cell: Cell) -> tuple:
    """All that the members of a fleet must share."""
    return (
        cell.depth,
        cell.task,
        cell.stage.name,
        replace(cell.stage.recipe, learning_rate=1.0),
        cell.evaluation,
        cell.origin.capability,
    )


sizes = st.integers(1, 6)


@given(cells(), sizes)
def test_every_cell_and_every_parent_is_planned_once(named: list[Cell], size: int) -> None:
    planned = [cell.id for fleet in plan(named, size) for cell in fleet.cells]
    assert len(planned) == len(set(planned))
    assert set(planned) == set().union(*map(with_parents, named))


@given(cells(), sizes)
def test_parents_are_finished_before_their_children_begin(named: list[Cell], size: int) -> None:
    finished: set[str] = set()
    for fleet in plan(named, size):
        assert all(cell.start.id in finished for cell in fleet.cells if isinstance(cell.start, Cell))
        finished |= {cell.id for cell in fleet.cells}


@given(cells(), sizes)
def test_a_fleet_holds_cells_of_one_shape(named: list[Cell], size: int) -> None:
    for fleet in plan(named, size):
        assert len({shape(cell) for cell in fleet.cells}) == 1
        assert fleet.steps == sum(cell.stage.recipe.iterations for cell in fleet.cells)


@given(cells(), sizes)
def test_fleets_are_as_few_and_as_even_as_the_size_allows(named: list[Cell], size: int) -> None:
    by_shape: dict[tuple, list[int]] = {}
    for fleet in plan(named, size):
        by_shape.setdefault(shape(fleet.cells[0]), []).append(len(fleet.cells))
    for lengths in by_shape.values():
        assert max(lengths) <= size
        assert max(lengths) - min(lengths) <= 1
        assert len(lengths) == -(-sum(lengths) // size)


@given(st.integers(1, 200), st.integers(1, 64))
def test_any_number_of_equal_cells_is_divided_evenly(count: int, size: int) -> None:
    stage = Stage("fine-tune", fine_tuning(1.0), Recipe("sgd", 0.1, 10))
    many = [
        Cell(Origin("one", "compiled", 0.1, i), TASKS[0], stage, Evaluation(10, (0, 10)), i)
        for i in range(count)
    ]
    lengths = [len(fleet.cells) for fleet in plan(many, size)]
    assert sum(lengths) == count
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1


@given(cells(), sizes)
def test_the_plan_is_a_function_of_cells_and_size(named: list[Cell], size: int) -> None:
    rebuilt = [replace(cell) for cell in named]
    first, second = plan(named, size), plan(rebuilt, size)
    assert [fleet.id for fleet in first] == [fleet.id for fleet in second]
    assert [f.id for f in plan([*named, *named], size)] == [f.id for f in first]


def test_a_cell_is_known_by_its_content() -> None:
    stage = Stage("fine-tune", fine_tuning(1.0), Recipe("sgd", 0.1, 10))
    cell = Cell(Origin("one", "compiled", 0.1, 0), TASKS[0], stage, Evaluation(10, (0, 10)), 0)
    others = [
        replace(cell, seed=1),
        replace(cell, task=replace(TASKS[0], q=2)),
        replace(cell, stage=replace(stage, name="reft")),
        replace(cell, stage=replace(stage, mixture=fine_tuning(0.5))),
        replace(cell, stage=replace(stage, recipe=Recipe("sgd", 0.1, 11))),
        replace(cell, evaluation=Evaluation(11, (0, 10))),
        replace(cell, start=replace(cell.origin, noise=0.2)),
        replace(cell, start=cell),
    ]
    ids = [cell.id, *(other.id for other in others)]
    assert len(set(ids)) == len(ids)
    assert replace(cell).id == cell.id
    assert others[-1].origin == cell.origin
    assert others[-1].depth == 1


def test_tasks_of_other_types_with_equal_fields_are_other_cells() -> None:
    stage = Stage("fine-tune", fine_tuning(1.0), Recipe("sgd", 0.1, 10))
    one = Cell(Origin("one", "compiled", 0.1, 0), TASKS[0], stage, Evaluation(10, (0, 10)), 0)

    class Recounted(Counter):
        pass

    assert replace(one, task=Recounted("abcd", 5)).id != one.id
