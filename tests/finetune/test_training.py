"""Training a fleet is training its members one by one, and an interrupted training is a whole one."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from veneer.finetune.fleet import EVALUATED, Evaluation, FleetJob, Member
from veneer.finetune.recipe import Recipe
from veneer.finetune.trainer import Trained, evaluation_steps, train
from veneer.models.config import TransformerConfig
from veneer.models.transformer import Transformer
from veneer.tasks.counter import Counter
from veneer.tasks.encoding import Encoding
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import OPERANDS, fine_tuning, pretraining

TASK = Counter("abcd", 5)
VOCABULARY = ("BOS", *"abcd", "#")
ENCODING = Encoding.between(TASK, VOCABULARY, range(6), "BOS", "#", 2)
COMPILED = TransformerConfig(
    vocabulary=6, classes=6, positions=6, width=12, blocks=2, heads=2, key_size=5, mlp_width=14
)
GPT = replace(COMPILED, causal=True, normalization="pre", activation="gelu", unembedding="trained")
RATES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-2, 3e-3, 1e-3, 3e-4)
MEMBERS = [
    Member(pretraining() if i == 7 else fine_tuning((0.0, 0.5, 1.0)[i % 3]), rate, seed=i // 2)
    for i, rate in enumerate(RATES)
]


def random_model(config: TransformerConfig, members: int, dtype: torch.dtype = torch.float32) -> Transformer:
    generator = torch.Generator().manual_seed(8)
    model = Transformer(config, members).to(dtype)
    for parameter in model.parameters():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = (parameter.data + 0.4 * drawn).to(dtype)
    return model


def job(
    model: Transformer,
    members: list[Member],
    optimizer: str = "sgd",
    iterations: int = 40,
    **settings: object,
) -> FleetJob:
    recipe = Recipe(optimizer, 1.0, iterations, warmup=5, batch=16)  # pyright: ignore[reportArgumentType]
    evaluation = Evaluation(30, evaluation_steps(iterations))
    return FleetJob(model, members, recipe, TASK, ENCODING, "fine-tune", evaluation, **settings)  # pyright: ignore[reportArgumentType]


def weights(model: Transformer) -> torch.Tensor:
    """All parameters, by member."""
    return torch.cat([p.detach().flatten(1) for p in model.parameters()], 1)


def assert_identical(one: Trained, other: Trained) -> None:
    """Bit for bit, weights and metrics."""
    assert torch.equal(weights(one.model), weights(other.model))
    assert torch.equal(one.diverged_at, other.diverged_at)
    for name in ("accuracy", "loss", "train_loss"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=0, atol=0, equal_nan=True)


class Killed(Exception):
    """Stands for whatever ends a process."""


def killed_at(step: int) -> object:
    def progress(done: int) -> None:
        if done == step:
            raise Killed

    return progress


@pytest.mark.parametrize(
    ("config", "optimizer", "dtype", "tolerance"),
    [
        (COMPILED, "sgd", torch.float32, 2e-5),
        (COMPILED, "sgd", torch.float64, 1e-12),
        (GPT, "adamw", torch.float64, 1e-9),
    ],
)
def test_a_member_trains_in_a_fleet_as_it_does_alone(
    config: TransformerConfig, optimizer: str, dtype: torch.dtype, tolerance: float
) -> None:
    """Up to rounding, which batched products do in another order."""
    together = train(job(random_model(config, 8, dtype), MEMBERS, optimizer))
    started = random_model(config, 8, dtype)
    for i, member in enumerate(MEMBERS):
        alone = train(job(started.member(i), [member], optimizer))
        close = {"rtol": tolerance, "atol": tolerance}
        torch.testing.assert_close(together.loss[:, i], alone.loss[:, 0], **close)
        torch.testing.assert_close(together.train_loss[1:, i], alone.train_loss[1:, 0], **close)
        torch.testing.assert_close(weights(together.model)[i], weights(alone.model)[0], **close)
        assert not torch.allclose(alone.loss[0, 0], alone.loss[-1, 0], rtol=1e-3)


def test_training_on_correlated_data_makes_the_new_answers_likelier() -> None:
    trained = train(job(random_model(COMPILED, 8), MEMBERS, iterations=150))
    correlated, ft = EVALUATED.index("correlated"), OPERANDS.index("ft")
    assert trained.loss[-1, 2, correlated, ft] < 0.8 * trained.loss[0, 2, correlated, ft]  # C = 1, rate 1e-3
    assert trained.train_loss[-1, 4] < 0.8 * trained.train_loss[1, 4]


def test_members_are_evaluated_at_the_steps_asked_for() -> None:
    seen = []
    short = job(random_model(COMPILED, 8), MEMBERS, iterations=20, progress=seen.append)
    trained = train(short)
    assert trained.steps == (0, 10, 15, 20)
    assert trained.accuracy.shape == (4, 8, len(EVALUATED), len(OPERANDS))
    assert trained.accuracy.isfinite().all()
    assert trained.train_loss[0].isnan().all()
    assert trained.train_loss[1:].isfinite().all()
    assert seen == [*range(1, 21)]
    whole = trained.train_loss[1:] * torch.tensor([[10.0], [5.0], [5.0]])
    at_once = train(
        replace(job(random_model(COMPILED, 8), MEMBERS, iterations=20), evaluation=Evaluation(30, (0, 20)))
    )
    torch.testing.assert_close(whole.sum(0) / 20, at_once.train_loss[-1])


def with_third(member: Member) -> list[Member]:
    return [*MEMBERS[:2], member, *MEMBERS[3:]]


OTHERS = [0, 1, 3, 4, 5, 6, 7]


def test_a_member_with_an_absurd_rate_is_frozen_and_marked_and_the_others_do_not_notice() -> None:
    healthy = train(job(random_model(COMPILED, 8), MEMBERS))
    wild = replace(MEMBERS[2], learning_rate=1e30)
    torn = train(job(random_model(COMPILED, 8), with_third(wild)))
    assert healthy.diverged_at.tolist() == [-1] * 8
    # The first update, at a fifth of 1e30, still gives finite weights; their loss is not finite.
    assert torn.diverged_at.tolist() == [-1, -1, 1, -1, -1, -1, -1, -1]
    assert torch.equal(weights(torn.model)[OTHERS], weights(healthy.model)[OTHERS])
    for name in ("accuracy", "loss", "train_loss"):
        ours, theirs = getattr(torn, name)[1:, OTHERS], getattr(healthy, name)[1:, OTHERS]
        assert torch.equal(ours, theirs)
    stopped = job(random_model(COMPILED, 8), with_third(wild), progress=killed_at(1))
    with pytest.raises(Killed):
        train(stopped)
    assert weights(torn.model)[2].isfinite().all()
    assert torch.equal(weights(torn.model)[2], weights(stopped.model)[2])


def test_a_member_that_starts_with_nan_is_marked_at_its_first_update() -> None:
    healthy = train(job(random_model(COMPILED, 8), MEMBERS, iterations=10))
    poisoned = random_model(COMPILED, 8)
    with torch.no_grad():
        poisoned.blocks[0].query.weight[2, 0, 0] = math.nan  # pyright: ignore
    before = weights(poisoned)[2]
    torn = train(job(poisoned, MEMBERS, iterations=10))
    assert torn.diverged_at.tolist() == [-1, -1, 0, -1, -1, -1, -1, -1]
    assert torch.equal(weights(torn.model)[OTHERS], weights(healthy.model)[OTHERS])
    torch.testing.assert_close(weights(torn.model)[2], before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_training_killed_anywhere_and_gone_on_with_is_training_without_a_break(
    optimizer: str, tmp_path: Path
) -> None:
    """One member diverges on the way. Kills are at every update, before its checkpoint is written."""
    config = COMPILED if optimizer == "sgd" else GPT
    members = [MEMBERS[0], replace(MEMBERS[1], learning_rate=1e30), MEMBERS[2]]

    def started(**settings: object) -> FleetJob:
        return job(random_model(config, 3), members, optimizer, iterations=12, **settings)

    whole = train(started())
    assert (whole.diverged_at >= 0).tolist() == [False, True, False]
    for step in range(1, 13):
        state = tmp_path / f"{step}.safetensors"
        with pytest.raises(Killed):
            train(started(checkpoint=state, checkpoint_seconds=-1.0, progress=killed_at(step)))
        assert state.exists() == (step > 1)
        updates: list[int] = []
        resumed = train(started(checkpoint=state, checkpoint_seconds=-1.0, progress=updates.append))
        assert updates == [*range(step, 13)]
        assert_identical(resumed, whole)


def test_training_killed_at_every_update_in_turn_still_comes_to_the_same_end(tmp_path: Path) -> None:
    """Each process makes two updates and dies before the second is kept."""
    state = tmp_path / "state.safetensors"
    whole = train(job(random_model(COMPILED, 8), MEMBERS, iterations=12))
    for step in range(2, 13):
        with pytest.raises(Killed):
            train(
                job(
                    random_model(COMPILED, 8),
                    MEMBERS,
                    iterations=12,
                    checkpoint=state,
                    checkpoint_seconds=-1.0,
                    progress=killed_at(step),
                )
            )
    last = train(job(random_model(COMPILED, 8), MEMBERS, iterations=12, checkpoint=state))
    assert_identical(last, whole)


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    train(job(random_model(COMPILED, 8), MEMBERS, iterations=5, checkpoint=state, checkpoint_seconds=-1.0))
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(InputError) as refused:
        train(job(random_model(COMPILED, 8), MEMBERS, iterations=5, checkpoint=state))
    assert (refused.value.field, refused.value.value) == ("checkpoint", str(state))


def test_no_checkpoint_is_written_before_its_time(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    train(job(random_model(COMPILED, 8), MEMBERS, iterations=5, checkpoint=state, checkpoint_seconds=1000.0))
    assert [*tmp_path.iterdir()] == []
