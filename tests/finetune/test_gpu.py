"""On a GPU: what is trained there is what a CPU trains, the same bits each time, on from any checkpoint."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.finetune.test_training import (
    COMPILED,
    GPT,
    MEMBERS,
    Killed,
    assert_identical,
    job,
    killed_at,
    random_model,
    weights,
)
from veneer.finetune.fleet import FleetJob
from veneer.finetune.method import FullFineTuning, Method
from veneer.finetune.methods import GradientAscent, GradientDifference, LastBlock, LowRank, TowardsStart
from veneer.finetune.trainer import train
from veneer.models.by_hand import cross_entropy_gradient
from veneer.models.config import TransformerConfig

pytestmark = pytest.mark.gpu


def on_gpu(config: TransformerConfig, optimizer: str, **settings: Any) -> FleetJob:
    return job(random_model(config, 8).cuda(), MEMBERS, optimizer, **settings)


@pytest.mark.parametrize(("config", "optimizer"), [(COMPILED, "sgd"), (COMPILED, "adamw"), (GPT, "adamw")])
def test_it_trains_as_a_cpu_does(config: TransformerConfig, optimizer: str) -> None:
    """Up to rounding, which adds up: the data are the same, and so is the course of the losses."""
    there, here = train(on_gpu(config, optimizer)), train(job(random_model(config, 8), MEMBERS, optimizer))
    torch.testing.assert_close(there.train_loss[1:], here.train_loss[1:], rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(there.loss, here.loss, rtol=1e-2, atol=1e-2)
    assert not torch.allclose(here.loss[0], here.loss[-1], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(("config", "optimizer"), [(COMPILED, "sgd"), (GPT, "adamw")])
def test_the_same_run_gives_the_same_bits(config: TransformerConfig, optimizer: str) -> None:
    assert_identical(train(on_gpu(config, optimizer)), train(on_gpu(config, optimizer)))


@pytest.mark.parametrize(("config", "optimizer"), [(COMPILED, "sgd"), (GPT, "adamw")])
def test_an_interrupted_run_gives_the_same_bits(
    config: TransformerConfig, optimizer: str, tmp_path: Path
) -> None:
    whole = train(on_gpu(config, optimizer))
    kept: dict[str, Any] = {"checkpoint": tmp_path / "state.safetensors", "checkpoint_seconds": 0.0}
    with pytest.raises(Killed):
        train(on_gpu(config, optimizer, progress=killed_at(17), **kept))
    assert (tmp_path / "state.safetensors").exists()
    assert_identical(train(on_gpu(config, optimizer, **kept)), whole)


def test_a_member_that_diverges_is_frozen_and_the_others_do_not_notice() -> None:
    members = [replace(m, learning_rate=1e30) if i == 2 else m for i, m in enumerate(MEMBERS)]
    torn = train(job(random_model(COMPILED, 8).cuda(), members))
    healthy = train(on_gpu(COMPILED, "sgd"))
    assert torn.diverged_at.tolist() == [-1, -1, 1, -1, -1, -1, -1, -1]
    others = [0, 1, 3, 4, 5, 6, 7]
    assert torch.equal(weights(torn.model)[others], weights(healthy.model)[others])


@pytest.mark.parametrize(
    "method",
    [FullFineTuning(), LastBlock(), LowRank(2), TowardsStart(0.1), GradientAscent(), GradientDifference(0.5)],
    ids=lambda method: type(method).__name__,
)
def test_every_method_trains_as_on_a_cpu(method: Method) -> None:
    there, here = (
        train(job(model, MEMBERS, "adamw", iterations=12, method=method))
        for model in (random_model(COMPILED, 8).cuda(), random_model(COMPILED, 8))
    )
    torch.testing.assert_close(there.loss, here.loss, rtol=1e-2, atol=1e-2)


def test_the_gradient_worked_out_by_hand_is_autograds() -> None:
    asked = on_gpu(COMPILED, "sgd")
    asked.prepare()
    batch = next(asked.batches(0))
    loss = asked.loss(batch, 0)
    trained = [p for p in asked.model.parameters() if p.requires_grad]
    expected = torch.cat(
        [g.flatten(1) for g in torch.autograd.grad(loss.sum(), trained, materialize_grads=True)], 1
    )
    own, gradient = cross_entropy_gradient(asked.model, batch.tokens, batch.labels, asked.encoding.answer)
    torch.testing.assert_close(own, loss.detach())
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5)
