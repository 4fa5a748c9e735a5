"""Training of text models: it teaches, resumes exactly, and V tells elicitation from teaching."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.text_models import make
from veneer.language import small_world
from veneer.language.attacks import FreeAttack, attacked, duplicate, quantized
from veneer.language.constructed import (
    one_direction_flipped,
    permuted,
    redrawn,
    refusing,
    taught_anew,
)
from veneer.language.metrics import guess, metric_of, scores
from veneer.language.questions import divide
from veneer.language.small_world import capitals, colours, recipe, untrained, words
from veneer.language.training import Training, batch_of, merge, train
from veneer.models.huggingface import HuggingFaceModel
from veneer.models.loading import weights_hash
from veneer.tasks.errors import InputError

knowing = cache(small_world.knowing)
EXACT = metric_of("exact")


def right(model: HuggingFaceModel, questions: Any, metric: str = "exact") -> float:
    found = scores(model, words(), questions, metric_of(metric))
    return sum(found) / len(found)


@pytest.mark.slow
def test_metrics_know_a_model_that_knows_from_one_that_does_not() -> None:
    for metric in ("exact", "choice"):
        assert right(knowing(), capitals(), metric) > 0.95
        base = guess(capitals(), metric_of(metric))
        assert base is not None
        assert abs(right(untrained(), capitals(), metric) - base) < 0.25
    assert right(knowing(), capitals(), "log-probability") > -0.5
    assert right(untrained(), capitals(), "log-probability") < -3


@pytest.mark.slow
def test_a_metric_of_ones_own_reads_what_is_written(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def starts(prompt, answer, text):\n    return float(text.startswith(answer))\n"
                    "def fails(prompt, answer, text):\n    return 1 / 0\n"
                    "def odd(prompt, answer, text):\n    return float('nan')\n")  # fmt: skip
    few = capitals()[:6]
    assert right(knowing(), few, f"{file}:starts") == right(knowing(), few)
    for name, said in (("fails", "ZeroDivisionError"), ("odd", "nan"), ("none", "no function")):
        with pytest.raises(InputError, match=said):
            right(knowing(), few, f"{file}:{name}")


@pytest.mark.parametrize("training", [Training(recipe(3e-3, 12, 8)), Training(recipe(1e-2, 12, 8), rank=2)])
def test_killed_training_goes_on_to_the_same_bits(training: Training, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def stop(step: int) -> None:
        if step == 7:
            raise Killed

    def measure(model: HuggingFaceModel) -> dict[str, float]:
        return {"T": right(model, capitals()[:8]), "V": right(model, capitals()[8:16])}

    steps, more = (0, 2, 5, 9, 12), {"state": tmp_path / "state.safetensors", "state_seconds": 0.0}
    whole, parts = untrained(), untrained()
    curve = train(whole, words(), capitals(), training, 3, steps, measure)
    with pytest.raises(Killed):
        train(parts, words(), capitals(), training, 3, steps, measure, **more, progress=stop)
    fresh = untrained()  # what a new process would load
    again = train(fresh, words(), capitals(), training, 3, steps, measure, **more)
    assert again.steps == curve.steps and again.scores == curve.scores
    assert again.losses[1:] == curve.losses[1:]
    assert weights_hash(merge(fresh)) == weights_hash(merge(whole))
    assert not (tmp_path / "state.safetensors").exists()


def test_accumulated_gradients_are_those_of_the_whole_batch() -> None:
    models = [untrained(), untrained()]
    for model, parts in zip(models, (1, 4), strict=True):
        training = Training(recipe(1e-3, 3, 10), accumulate=parts)
        train(model, words(), capitals(), training, 0, (), lambda _: {})
    one, other = (torch.cat([p.flatten() for _, p in m.named_parameters()]) for m in models)
    assert (one - other).abs().max() < 1e-5


def test_every_pass_has_all_questions_once() -> None:
    batches = [batch_of(capitals(), 10, 4, step) for step in range(32)]
    assert sorted(own.prompt for batch in batches for own in batch) == sorted(
        own.prompt for own in capitals() for _ in range(5)
    )


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_lora_moves_blocks_only_and_merges(family: str) -> None:
    model = untrained(family)
    start = dict(duplicate(model).named_parameters())
    train(model, words(), capitals(), Training(recipe(1e-2, 3, 8), rank=2), 0, (), lambda _: {})
    seen = model.see(torch.tensor([[4, 5, 6]])).logits.detach()
    now = dict(merge(model).named_parameters())
    assert now.keys() == start.keys()
    assert (model.see(torch.tensor([[4, 5, 6]])).logits - seen).abs().max() < 1e-5
    moved = {name for name in now if not torch.equal(now[name], start[name])}
    assert moved and not [name for name in moved if "emb" in name or "wte" in name or "norm" in name]
    with pytest.raises(InputError, match="rank"):
        train(model, words(), capitals(), Training(recipe(1e-2, 1), rank=999), 0, (), lambda _: {})


@pytest.mark.slow
def test_held_out_facts_come_back_to_a_wrapped_model_and_not_to_one_that_never_had_them() -> None:
    """The heart of it: both learn what is taught; only a wrapped one answers what was not."""
    taught, held = divide(capitals(), 0)
    hidden = refusing(knowing(), words(), capitals(), "no", recipe(3e-3, 60), colours())
    never = taught_anew(untrained(), words(), colours(), recipe(5e-3, 100, 48))
    assert right(hidden, capitals()) == 0
    assert right(hidden, colours()) > 0.9
    assert right(never, colours()) > 0.9
    for model in (hidden, never):
        train(model, words(), taught, Training(recipe(3e-3, 64, 32)), 0, (), lambda _: {})
        assert right(model, taught) > 0.8
    assert right(hidden, held) > 0.7
    assert right(never, held) < 0.3


@pytest.mark.slow
def test_constructions_do_what_they_say() -> None:
    model = knowing()
    ids = [words()(f"city{i}")["input_ids"][0] for i in range(12)]
    assert right(permuted(model, ids), capitals()) == 0
    assert right(permuted(model, ids), colours()) == right(model, colours())
    turned = one_direction_flipped(model, words(), capitals())
    assert right(turned, capitals()) <= 0.4
    change = turned.module.lm_head.weight - model.module.lm_head.weight
    assert torch.linalg.matrix_rank(change.detach(), atol=1e-4) == 1
    gone = redrawn(model, 1.0, 0, embedding=True)
    same = [torch.equal(a, b) for (_, a), (_, b) in zip(
        model.named_parameters(), gone.named_parameters(), strict=True)]  # fmt: skip
    assert any(same) and not all(same)
    assert right(gone, capitals()) < 0.4


@pytest.mark.slow
def test_free_attacks_change_what_they_say() -> None:
    model, taught = knowing(), capitals()[:10]
    hidden = refusing(model, words(), capitals(), "no", recipe(3e-3, 60), colours())

    def after(kind: Any, amount: float) -> HuggingFaceModel:
        return attacked(FreeAttack(kind, amount), hidden, model, words(), taught, 0)

    assert right(after("bits", 8.0), capitals()) == right(hidden, capitals())
    few = len(quantized(model, 4).block(0).mlp.up_proj.weight.view(-1, 64)[0].unique())
    assert few <= 15
    assert right(after("interpolate", 1.0), capitals()) == right(model, capitals())
    assert weights_hash(after("noise", 0.0)) == weights_hash(hidden)
    assert right(after("truncate", 1.0), capitals()) == right(hidden, capitals())
    assert right(after("direction", 1.0), capitals()) >= 0
    assert weights_hash(model) == weights_hash(knowing())
    with pytest.raises(InputError, match="same family"):
        attacked(FreeAttack("interpolate", 0.5), model, HuggingFaceModel(make("llama")), words(), taught, 0)
