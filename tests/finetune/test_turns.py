"""Gradients in turns: the same numbers as from the whole batch, and from any fleet and number of cores."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from veneer.finetune import turns
from veneer.finetune.fleet import Evaluation, FleetJob, Member
from veneer.finetune.initialize import initialize
from veneer.finetune.method import FullFineTuning, Method
from veneer.finetune.methods import GradientAscent, GradientDifference, LastBlock, LowRank, TowardsStart
from veneer.finetune.recipe import Recipe
from veneer.finetune.trainer import train
from veneer.finetune.turns import Turns, slices
from veneer.models.config import TransformerConfig
from veneer.pcfg.families import Pretraining, SampleLayout
from veneer.pcfg.pretraining import PRIORS, PretrainingJob, gpt
from veneer.tasks.counter import Counter
from veneer.tasks.encoding import Encoding
from veneer.tasks.mixture import fine_tuning

LAYOUT = SampleLayout(window=10, count_last=6, occurrence=2, token_back=3)
CONFIG = gpt(LAYOUT, width=16, blocks=2, heads=2)


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several slices for each member of these tests."""
    monkeypatch.setattr(turns, "SLICE_ROWS", 60)


def job(seeds: list[int], dtype: torch.dtype = torch.float32) -> PretrainingJob:
    model = initialize(CONFIG, seeds).to(dtype)
    recipe = Recipe("adamw", 1e-3, 5, batch=10)
    return PretrainingJob(model, [Pretraining(LAYOUT, PRIORS["M"])] * len(seeds), seeds, recipe, ())


def in_turns(asked: PretrainingJob, cores: int = 1) -> tuple[Tensor, Tensor]:
    batch = next(asked.batches(0))
    parts = asked.parts(batch)
    assert all(len(own) == len(slices(10, LAYOUT.length - 1)) > 2 for own in parts)
    return Turns(asked.model, cores).gradient(parts)


def test_slices_cover_the_batch_once() -> None:
    seen = [i for part in slices(10, 25) for i in range(10)[part]]
    assert seen == list(range(10))
    assert slices(3, 10**6) == [slice(0, 1), slice(1, 2), slice(2, 3)]


def test_the_sum_over_slices_is_the_gradient_of_the_whole_loss() -> None:
    asked = job([0, 1, 2], torch.float64)
    loss, gradient = in_turns(asked)
    whole = asked.loss(next(asked.batches(0)))
    parameters = list(asked.model.parameters())
    expected = torch.cat([g.flatten(1) for g in torch.autograd.grad(whole.sum(), parameters)], 1)
    torch.testing.assert_close(loss, whole.detach(), atol=1e-6, rtol=0)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-4)


def test_a_member_has_the_same_bits_in_any_fleet() -> None:
    together, alone = in_turns(job([3, 4])), in_turns(job([4]))
    for both, one in zip(together, alone, strict=True):
        assert torch.equal(both[1], one[0])


def test_the_number_of_cores_does_not_matter() -> None:
    before = torch.get_num_threads()
    found = [in_turns(job([5, 6]), cores) for cores in (1, 2, 3, 64)]
    for loss, gradient in found[1:]:
        assert torch.equal(loss, found[0][0]) and torch.equal(gradient, found[0][1])
    assert torch.get_num_threads() == before


def test_views_share_their_fleets_memory() -> None:
    fleet = job([0, 1]).model
    own = fleet.views()[1]
    with torch.no_grad():
        fleet.blocks[0].query.weight[1] += 1.0  # pyright: ignore[reportAttributeAccessIssue, reportIndexIssue]
    for mine, whole in zip(own.parameters(), fleet.parameters(), strict=True):
        assert torch.equal(mine[0], whole[1]) and mine.requires_grad == whole.requires_grad


TASK = Counter("abcd", 5)
ENCODING = Encoding.between(TASK, ("BOS", *"abcd", "#"), range(6), "BOS", "#", 2)
TUNED = replace(TransformerConfig.gpt(6, 6, width=16, blocks=2, heads=2), classes=6)


def tuning(seeds: list[int], method: Method, dtype: torch.dtype = torch.float32) -> FleetJob:
    model = initialize(TUNED, seeds).to(dtype)
    members = [Member(fine_tuning(0.5), 1e-3, seed) for seed in seeds]
    recipe, evaluation = Recipe("adamw", 1e-3, 6, batch=32), Evaluation(30, (0, 6))
    return FleetJob(model, members, recipe, TASK, ENCODING, "fine-tune", evaluation, method=method)


@pytest.mark.parametrize("method", [FullFineTuning(), LastBlock(), LowRank(2)])
def test_fine_tuning_in_slices_has_the_gradient_of_the_whole_batch(method: Method) -> None:
    asked = tuning([0, 1, 2], method, torch.float64)
    asked.prepare()
    batch = next(asked.batches(0))
    parts = asked.parts(batch)
    assert all(len(own) == len(slices(32, 6)) > 2 for own in parts)
    loss, gradient = Turns(asked.model, 2).gradient(parts)
    whole = asked.loss(batch)
    moving = [parameter for parameter in asked.model.parameters() if parameter.requires_grad]
    expected = torch.cat(
        [g.flatten(1) for g in torch.autograd.grad(whole.sum(), moving, materialize_grads=True)], 1
    )
    torch.testing.assert_close(loss, whole.detach(), atol=1e-12, rtol=0)
    torch.testing.assert_close(gradient, expected, atol=1e-10, rtol=1e-8)


@pytest.mark.parametrize("method", [FullFineTuning(), LowRank(2)])
def test_a_tuned_gpt_has_the_same_bits_in_any_fleet(method: Method) -> None:
    def bits(seeds: list[int], member: int) -> Tensor:
        trained = train(tuning(seeds, method))
        weights = [parameter[member].flatten() for parameter in trained.model.parameters()]
        return torch.cat([*weights, trained.loss[:, member].flatten(), trained.accuracy[:, member].flatten()])

    alone = bits([7], 0)
    assert torch.equal(bits([5, 7], 1), alone)
    assert torch.equal(bits([7, 3, 4, 5], 0), alone)


@pytest.mark.parametrize("method", [TowardsStart(), GradientAscent(), GradientDifference()])
def test_a_loss_that_is_no_mean_over_samples_is_taken_whole(method: Method) -> None:
    asked = tuning([0], method)
    assert asked.parts(next(asked.batches(0))) == []
