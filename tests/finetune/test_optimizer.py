"""The fleet optimizer is torch's own, member by member."""

import math

import pytest
import torch
from torch import Tensor, nn

from veneer.finetune.optimizer import FleetOptimizer
from veneer.finetune.recipe import Recipe

RATES = [1e-1, 1e-2, 1e-3]
STEPS = 200


class Weights(nn.Module):
    """A matrix (decayed), a bias (not decayed) and a frozen offset for each member."""

    def __init__(self, dtype: torch.dtype, members: list[int]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        matrix = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
        bias = torch.randn(3, 5, generator=generator, dtype=torch.float64)
        self.matrix = nn.Parameter(matrix[members].to(dtype))
        self.bias = nn.Parameter(bias[members].to(dtype))
        self.offset = nn.Parameter(torch.ones(len(members), 5, dtype=dtype), requires_grad=False)

    def loss(self, step: int) -> Tensor:
        """Another bowl at every step, element-wise; at first its gradient is far above 1 in norm."""
        target = math.sin(step)
        bowl = (self.matrix - target).pow(2).sum((1, 2)) + 3 * (self.bias - 2 * target).cosh().sum(1)
        return bowl * (2.0 if step < 50 else 0.02) + self.offset.sum(1)


def schedule(recipe: Recipe, step: int) -> float:
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    angle = math.pi * (step - recipe.warmup) / (recipe.iterations - recipe.warmup)
    return recipe.floor + (1 - recipe.floor) * (1 + math.cos(angle)) / 2


def by_torch(recipe: Recipe, rate: float, member: int, dtype: torch.dtype) -> list[Tensor]:
    """Values of matrix and bias after training one member with torch's optimizer and schedule."""
    model = Weights(dtype, [member])
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD([model.matrix, model.bias], lr=rate, momentum=recipe.momentum)
    else:
        groups = [
            {"params": [model.matrix], "weight_decay": recipe.weight_decay},
            {"params": [model.bias], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=rate, betas=recipe.betas, eps=recipe.epsilon)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(recipe, step))
    for step in range(STEPS):
        optimizer.zero_grad()
        model.loss(step).sum().backward()
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_([model.matrix, model.bias], recipe.clip)
        optimizer.step()
        rates.step()
    return [model.matrix.detach()[0], model.bias.detach()[0]]


def train(recipe: Recipe, rates: list[float], model: Weights, steps: int = STEPS) -> Tensor:
    optimizer = FleetOptimizer(model, recipe, rates, {"matrix"})
    alive = torch.ones(len(rates), dtype=torch.bool)
    for step in range(steps):
        alive = optimizer.step(model.loss(step), step, alive)
    return alive


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("clip", [1.0, None])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_every_member_trains_as_by_torch(optimizer: str, clip: float | None, dtype: torch.dtype) -> None:
    recipe = Recipe(optimizer, 1.0, STEPS, warmup=20, clip=clip)  # pyright: ignore[reportArgumentType]
    rates = RATES if clip else [1e-2, 1e-3, 1e-4]
    model = Weights(dtype, [0, 1, 2])
    assert train(recipe, rates, model).all()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    for member, rate in enumerate(rates):
        matrix, bias = by_torch(recipe, rate, member, dtype)
        assert not torch.equal(matrix, Weights(dtype, [member]).matrix[0])
        torch.testing.assert_close(model.matrix[member].detach(), matrix, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(model.bias[member].detach(), bias, rtol=tolerance, atol=tolerance)


def test_a_frozen_parameter_stays() -> None:
    model = Weights(torch.float32, [0, 1, 2])
    train(Recipe("sgd", 1.0, STEPS), RATES, model)
    assert torch.equal(model.offset, torch.ones(3, 5))


def test_clipping_keeps_other_members_updates_unchanged() -> None:
    recipe = Recipe("sgd", 1.0, STEPS, clip=1.0)
    plain, steep = Weights(torch.float32, [0, 1, 2]), Weights(torch.float32, [0, 1, 2])
    with torch.no_grad():
        steep.matrix[1] *= 1e6
    train(recipe, RATES, plain)
    train(recipe, RATES, steep)
    for name in ("matrix", "bias"):
        assert torch.equal(getattr(plain, name)[[0, 2]], getattr(steep, name)[[0, 2]])
        assert not torch.equal(getattr(plain, name)[1], getattr(steep, name)[1])


def test_a_clipped_first_step_has_the_length_of_the_rate() -> None:
    model, before = Weights(torch.float64, [0, 1, 2]), Weights(torch.float64, [0, 1, 2])
    train(Recipe("sgd", 1.0, STEPS, clip=1.0), RATES, model, steps=1)
    moved = [
        torch.cat([(model.matrix - before.matrix)[i].flatten(), (model.bias - before.bias)[i]])
        for i in range(3)
    ]
    assert [float(m.detach().norm()) for m in moved] == pytest.approx(RATES, rel=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_member_that_is_not_finite_stays_and_the_others_go_on(optimizer: str, poison: float) -> None:
    recipe = Recipe(optimizer, 1.0, STEPS)  # pyright: ignore[reportArgumentType]
    healthy, ill = Weights(torch.float32, [0, 1, 2]), Weights(torch.float32, [0, 1, 2])
    with torch.no_grad():
        ill.bias[1, 0] = poison
    assert train(recipe, RATES, healthy).tolist() == [True, True, True]
    assert train(recipe, RATES, ill).tolist() == [True, False, True]
    assert torch.equal(healthy.matrix[[0, 2]], ill.matrix[[0, 2]])
    assert torch.equal(ill.matrix[1], Weights(torch.float32, [1]).matrix[0])


@pytest.mark.parametrize("rate", [1e38, 1e39])
def test_an_update_that_would_overflow_is_not_made(rate: float) -> None:
    """1e39 is no float32; at 1e38 it is momentum that carries the weights too far."""
    model = Weights(torch.float32, [0, 1, 2])
    alive = train(Recipe("sgd", 1.0, STEPS, clip=None), [1e-4, rate, 1e-4], model)
    assert alive.tolist() == [True, False, True]
    assert model.matrix.isfinite().all()
    assert model.bias.isfinite().all()


def test_state_brings_back_where_an_optimizer_was() -> None:
    recipe = Recipe("adamw", 1.0, STEPS)
    model, other = Weights(torch.float32, [0, 1, 2]), Weights(torch.float32, [2, 1, 0])
    first, second = (FleetOptimizer(m, recipe, RATES, {"matrix"}) for m in (model, other))
    alive = torch.ones(3, dtype=torch.bool)
    for step in range(5):
        first.step(model.loss(step), step, alive)
    second.restore({name: value.clone() for name, value in first.state().items()})
    for step in range(5, 10):
        first.step(model.loss(step), step, alive)
        second.step(other.loss(step), step, alive)
    assert torch.equal(model.matrix, other.matrix)
    assert torch.equal(model.bias, other.bias)
