"""bfloat16 and compilation: refused where they are not offered, and float32 where it matters."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from veneer.finetune import trainer
from veneer.finetune.fleet import Evaluation, FleetJob, Member
from veneer.finetune.recipe import Recipe
from veneer.finetune.trainer import train
from veneer.models.config import TransformerConfig
from veneer.models.transformer import Transformer
from veneer.tasks.counter import Counter
from veneer.tasks.encoding import Encoding
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import fine_tuning

TASK = Counter("abcd", 5)
ENCODING = Encoding.between(TASK, ("BOS", *"abcd", "#"), range(6), "BOS", "#", 2)
CONFIG = TransformerConfig.gpt(6, 6, width=16, blocks=2, heads=2)


def job(precision: str = "float32", device: str = "cpu", **settings: object) -> FleetJob:
    generator = torch.Generator().manual_seed(5)
    model = Transformer(CONFIG, 2)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    recipe = Recipe("adamw", 1.0, 20, batch=32, precision=precision)  # pyright: ignore[reportArgumentType]
    members = [Member(fine_tuning(1.0), 1e-2, seed) for seed in range(2)]
    evaluation = Evaluation(50, (0, 20))
    return FleetJob(model.to(device), members, recipe, TASK, ENCODING, "fine-tune", evaluation, **settings)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("field", "asked"), [("precision", job("bfloat16")), ("compile", job(compile=True))])
def test_a_cpu_is_refused_before_any_work(
    field: str, asked: FleetJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it does not have: compilation, and mostly bfloat16."""
    monkeypatch.setattr(trainer, "has_bfloat16", lambda: False)
    asked.progress = pytest.fail
    with pytest.raises(InputError) as refused:
        train(asked)
    assert refused.value.field == field
    assert "\n" not in str(refused.value)


def test_in_bfloat16_products_are_rounded_and_weights_and_evaluations_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On the CPU's autocast, which is let in for this alone."""
    monkeypatch.setattr(trainer, "has_bfloat16", lambda: True)
    half, full = train(job("bfloat16")), train(job())
    assert all(p.dtype == torch.float32 for p in half.model.parameters())
    assert torch.equal(half.loss[0], full.loss[0])  # evaluated in float32, before any update
    relative = (half.train_loss[1] / full.train_loss[1] - 1).abs()
    assert (relative > 1e-6).all()
    assert (relative < 2e-2).all()
    assert (half.train_loss[1] < half.loss[0, :, 0, 1]).all()


def test_attention_is_in_float32_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its backward pass in bfloat16 is many times slower there."""
    monkeypatch.setattr(trainer, "has_bfloat16", lambda: True)
    fused, seen = F.scaled_dot_product_attention, set[torch.dtype]()

    def attention(query: Tensor, key: Tensor, value: Tensor, **settings: bool) -> Tensor:
        seen.update(part.dtype for part in (query, key, value))
        return fused(query, key, value, **settings)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    train(job("bfloat16"))
    assert seen == {torch.float32}


BESIDE = """
import torch
from tests.finetune.test_precision import job
from veneer.finetune.trainer import train
plain = train(job(device="cuda"))
for other in (job("bfloat16", "cuda"), job(device="cuda", compile=True)):
    torch.testing.assert_close(train(other).train_loss[1], plain.train_loss[1], rtol=2e-2, atol=0)
"""


@pytest.mark.gpu
def test_on_a_gpu_bfloat16_and_compilation_train_as_float32_does() -> None:
    """In a process of its own: what checks shapes in tests cannot be compiled."""
    done = subprocess.run([sys.executable, "-c", BESIDE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
