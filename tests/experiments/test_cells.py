"""What an experiment trains: the third operand beside reFT, and what a seed draws for itself."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.tiny import CPU, EXPERIMENT
from veneer.experiments.cells import Prepared, prepare, third_task
from veneer.experiments.named import THIRD, PcfgCounterExperiment
from veneer.experiments.origins import LEAST_NOISE, SCRATCH, Written, pretrained
from veneer.experiments.run import fleet_job
from veneer.finetune.cell import Cell, Fleet
from veneer.tasks.counter import Counter
from veneer.tasks.errors import InputError
from veneer.tasks.max_identifier import MaxIdentifier

BOTH = replace(EXPERIMENT, third_operand=True, seeds=2, learning_rates=(1e-2, 1e-4), reft_rates=(1e-3, 1e-4))


@pytest.fixture(scope="module")
def cells(cache: Any) -> list[Cell]:
    return prepare(BOTH).cells


def test_a_third_operand_is_trained_wherever_reft_is_by_the_same_recipe(cells: list[Cell]) -> None:
    def children(stage: str) -> set[Any]:
        return {
            (c.start.id, c.stage.recipe, c.seed)
            for c in cells
            if isinstance(c.start, Cell) and c.stage.name == stage
        }

    assert children(THIRD) == children("reft")
    assert len(children(THIRD)) == 2 * 3  # 1e-4 is not reFTed at 1e-3
    for cell in cells:
        if cell.stage.name == THIRD:
            assert isinstance(cell.start, Cell)
            assert isinstance(cell.task, Counter)
            assert cell.task.operand_pt not in ("a", "b")
            assert cell.start.task == replace(cell.task, operand_pt="a")


def test_without_the_arm_there_is_nothing_of_it(cache: Any) -> None:
    assert not [c for c in prepare(replace(BOTH, third_operand=False)).cells if c.stage.name == THIRD]


def test_reft_above_the_rate_of_fine_tuning_has_to_be_asked_for(cache: Any) -> None:
    cells = prepare(replace(BOTH, reft_above=True, third_operand=False)).cells
    assert sum(cell.stage.name == "reft" for cell in cells) == 2 * 4


def test_a_third_rank_is_as_far_away_on_the_other_side(cache: Any) -> None:
    source = Written(None, 0.0)  # pyright: ignore[reportArgumentType]
    third = third_task(MaxIdentifier(rank_pt=5, rank_ft=7), source)
    assert isinstance(third, MaxIdentifier)
    assert third.rank_pt == 3
    assert third_task(MaxIdentifier(rank_pt=2, rank_ft=5, q=3), source) is None


def test_a_pretrained_model_that_has_had_every_operand_has_no_third() -> None:
    experiment = PcfgCounterExperiment(pretrained=("M", "H"), learning_rates=(1e-3,), c_tr=(1.0,))
    have = {cell.origin.name for cell in prepare(experiment).cells if cell.stage.name == THIRD}
    assert have == {"M"}
    assert pretrained("H").capability.operand_prior[2] > 0


def test_each_seed_draws_noise_within_the_harmless_and_texts_of_its_own(cells: list[Cell]) -> None:
    origins = {cell.seed: cell.origin for cell in cells}
    harmless = prepare(BOTH).sources[origins[0].capability].noise
    assert origins[0].noise != origins[1].noise
    assert all(LEAST_NOISE * harmless <= origin.noise <= harmless for origin in origins.values())
    paired = prepare(replace(BOTH, own_samples=False))
    assert {cell.origin.noise for cell in paired.cells} == {harmless}
    asked = prepare(replace(BOTH, noise=2e-4))
    assert {cell.origin.noise for cell in asked.cells} == {2e-4}, (
        "a noise that is asked for is taken as it is"
    )


def test_a_seeds_evaluation_texts_do_not_depend_on_the_fleet(cells: list[Cell]) -> None:
    tuned = [cell for cell in cells if cell.depth == 0]
    prepared = prepare(BOTH)

    def texts(members: list[Cell]) -> torch.Tensor:
        sets = fleet_job(prepared, None, Fleet(tuple(members)), CPU)._sets
        return sets["natural"][0].tokens

    both, second = texts([tuned[0], tuned[-1]]), texts([tuned[-1]])
    assert (tuned[0].seed, tuned[-1].seed) == (0, 1)
    assert torch.equal(both[1], second[0])
    assert not torch.equal(both[0], both[1])
    assert len(texts(tuned[:2])) == 1, "one seed's texts are made once"


def test_many_starts_at_once_are_the_starts_one_by_one(prepared: Prepared) -> None:
    """Bit for bit, of any noise and kind, in the order asked for."""
    own = prepared.cells[0].origin
    origins = [
        replace(own, seed=3, noise=1e-3),
        replace(own, seed=1, noise=0.0),
        replace(own, seed=2, noise=2e-4),
        replace(own, seed=5, start=SCRATCH),
        replace(own, seed=4, noise=1e-3),
    ]
    together = prepared.starts(origins)
    for i, origin in enumerate(origins):
        for name, value in prepared.start(origin).state_dict().items():
            assert torch.equal(value[0], together.state_dict()[name][i])


def test_seeds_from_another_one_on_are_those_of_a_run_of_all(cache: Any) -> None:
    whole = {cell.id: cell.seed for cell in prepare(replace(EXPERIMENT, seeds=5)).cells}
    parts = [prepare(replace(EXPERIMENT, first_seed=a, seeds=n)).cells for a, n in ((0, 3), (3, 2))]
    assert [{cell.seed for cell in part} for part in parts] == [{0, 1, 2}, {3, 4}]
    assert {cell.id: cell.seed for part in parts for cell in part} == whole


def test_each_seed_from_another_one_on_has_its_own_pretraining() -> None:
    asked = PcfgCounterExperiment(pretrained=("M-4000-{seed}",), first_seed=3, seeds=2)
    prepared = prepare(asked)
    assert {source.only for source in prepared.sources.values()} == {3, 4}  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(InputError, match="M-4000-5"):
        prepare(replace(asked, seeds=3))


@pytest.mark.parametrize("first", [-1, 10**9 + 1])
def test_a_first_seed_that_is_none_is_refused(first: int) -> None:
    with pytest.raises(InputError, match=r"first_seed.*0 to 1,000,000,000"):
        prepare(replace(EXPERIMENT, first_seed=first))
