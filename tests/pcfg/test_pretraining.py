"""Pretraining: data by prior, answers scored per question, capabilities kept with their layout."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from veneer.finetune.initialize import initialize
from veneer.finetune.recipe import Recipe
from veneer.finetune.trainer import Trained, train
from veneer.pcfg.capability import LearnedCapability
from veneer.pcfg.families import JAILBREAK, Pretraining, SampleLayout
from veneer.pcfg.grammars import grammar
from veneer.pcfg.pretraining import PRIORS, PretrainingJob, gpt, question_batch, question_name, questions
from veneer.tasks.errors import InputError

LAYOUT = SampleLayout(window=10, count_last=6, occurrence=2, token_back=3)
CONFIG = gpt(LAYOUT, width=16, blocks=1, heads=2)
CPU = torch.device("cpu")


def pretrain(priors: str, seeds: list[int], iterations: int = 12, **options: object) -> Trained:
    data = [Pretraining(LAYOUT, PRIORS[prior]) for prior in priors]
    recipe = Recipe("adamw", 3e-3, iterations, warmup=2, batch=16)
    job = PretrainingJob(
        initialize(CONFIG, seeds), data, seeds, recipe, (0, iterations), samples=20, **options
    )  # pyright: ignore[reportArgumentType]
    return train(job)


def test_initial_weights_depend_on_the_seed_alone() -> None:
    both, alone = initialize(CONFIG, [3, 4]), initialize(CONFIG, [4])
    for name, value in both.state_dict().items():
        assert torch.equal(value[1], alone.state_dict()[name][0])
        if name.endswith("weight") and "norm" not in name:
            assert not torch.equal(value[0], value[1])


def test_initial_weights_have_minGPTs_scale() -> None:
    state = initialize(gpt(LAYOUT, width=96, blocks=2, heads=4), [0]).state_dict()
    assert state["blocks.0.mlp_in.weight"].std() == pytest.approx(0.02, rel=0.03)
    assert state["blocks.0.mlp_out.weight"].std() == pytest.approx(0.01, rel=0.03)
    assert state["blocks.1.query.bias"].abs().max() == 0


def test_next_token_loss_falls_from_that_of_a_uniform_guess() -> None:
    trained = pretrain("M", [0], iterations=60)
    data = Pretraining(LAYOUT, PRIORS["M"])
    job = PretrainingJob(initialize(CONFIG, [0]), [data], [0], Recipe("adamw", 1e-3, 1), (0,), samples=5)
    first = job.loss(next(job.batches(0)))
    assert first.item() == pytest.approx(torch.tensor(float(len(LAYOUT.vocabulary))).log().item(), abs=0.3)
    assert trained.train_loss[-1, 0] < 0.8 * first.item()


def test_a_prior_trains_alike_alone_and_in_a_fleet() -> None:
    fleet, alone = pretrain("LH", [0, 5]), pretrain("H", [5])
    assert torch.allclose(fleet.train_loss[-1, 1], alone.train_loss[-1, 0], rtol=1e-5)


def test_the_answers_scored_are_the_families_own() -> None:
    for question in questions(LAYOUT):
        batch = question_batch(LAYOUT, question, 30, CPU)
        words = [LAYOUT.vocabulary[i] for i in batch.tokens[0, 0]]
        assert len(words) == LAYOUT.answer_position + 1 and words[-1] == "ART"
        assert question_name(LAYOUT, question).split()[0] == words[1]
    counted = question_batch(LAYOUT, questions(LAYOUT)[1], 30, CPU)
    b = LAYOUT.id["b"]
    last = counted.tokens[0, :, 5 + LAYOUT.window - LAYOUT.count_last : 5 + LAYOUT.window]
    assert torch.equal((last == b).sum(-1) + LAYOUT.id["=0"], counted.labels[0])


def test_models_are_handed_over_with_their_scores_at_every_evaluation() -> None:
    kept: list[tuple[int, list[float]]] = []
    found = pretrain("M", [0], keep=lambda step, model, right: kept.append((step, right[0].tolist())))
    assert kept == [(0, found.accuracy[0, 0, :, 0].tolist()), (12, found.accuracy[1, 0, :, 0].tolist())]


def test_pretraining_goes_on_bit_for_bit(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(step: int) -> None:
        if step == 7:
            raise Stop

    whole = pretrain("MH", [0, 1])
    file = tmp_path / "state.safetensors"
    with pytest.raises(Stop):
        pretrain("MH", [0, 1], checkpoint=file, checkpoint_seconds=-1.0, progress=stop)
    rest = pretrain("MH", [0, 1], checkpoint=file, checkpoint_seconds=-1.0)
    assert torch.equal(whole.train_loss[-1], rest.train_loss[-1])
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, rest.model.state_dict()[name])


@pytest.mark.parametrize("layout", [LAYOUT, SampleLayout(grammar("deep"), 8, 4, 1, 2, JAILBREAK, padding=3)])
def test_a_layout_survives_plain_data(layout: SampleLayout) -> None:
    assert SampleLayout.read(layout.describe()) == layout


def capability() -> LearnedCapability:
    return LearnedCapability(
        initialize(CONFIG, [0]), LAYOUT, PRIORS["M"], 0, 12, {"C a": 0.5}, "veneer pretrain"
    )


def test_a_capability_is_saved_whole(tmp_path: Path) -> None:
    before = capability()
    before.save(tmp_path / "quick-M")
    after = LearnedCapability.load(tmp_path / "quick-M")
    assert replace(after, model=before.model) == before
    for name, value in before.model.state_dict().items():
        assert torch.equal(value, after.model.state_dict()[name])


def test_a_checkpoint_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    other = replace(capability(), layout=SampleLayout(window=11, count_last=6, occurrence=2, token_back=3))
    other.save(tmp_path / "other")
    with pytest.raises(InputError, match="vocabulary differs"):
        LearnedCapability.load(tmp_path / "other")


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    from veneer.models.checkpoint import save_checkpoint

    save_checkpoint(tmp_path / "plain", initialize(CONFIG, [0]))
    with pytest.raises(InputError, match="veneer pretrain"):
        LearnedCapability.load(tmp_path / "plain")


@pytest.mark.gpu
def test_a_gpu_pretrains_on_the_texts_that_a_cpu_pretrains_on() -> None:
    layout = SampleLayout.quick()
    config = gpt(layout, 16, 1, 2)

    def first(device: str) -> torch.Tensor:
        model = initialize(config, [0]).to(device)
        job = PretrainingJob(model, [Pretraining(layout)], [0], Recipe("adamw", 1e-3, 1, batch=4), ())
        (batch,) = next(job.batches(0))
        assert batch.tokens.device.type == device
        return batch.tokens.cpu()

    assert torch.equal(first("cuda"), first("cpu"))
