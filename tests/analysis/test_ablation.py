"""A part that carries the decision is the one that ablation finds, and an ablation is what it says."""

import polars as pl
import pytest
import torch

from tests.analysis.test_constructed import ANSWER, COMPILED, GPT, random_model, texts
from veneer.analysis.ablation import HOWS, Part, ablation_effects, depth_centroid, parts
from veneer.models.block import Block
from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError

EVERY_WAY = pytest.mark.parametrize("how", HOWS)


def block_of(model: Transformer, index: int) -> Block:
    block = model.blocks[index]
    assert isinstance(block, Block)
    return block


def with_one_head(block: int, head: int) -> Transformer:
    """Only one head writes to the stream, and no MLP: the answer is what it carries."""
    model = random_model(GPT)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("bias"):
                parameter.zero_()  # or one answer wins whatever the text
        for i in range(model.config.blocks):
            for layer in (block_of(model, i).mlp_out, block_of(model, i).output, block_of(model, i).value):
                layer.bias.zero_()
            block_of(model, i).mlp_out.weight.zero_()
            rows = block_of(model, i).output.weight.view(model.config.heads, -1, model.config.width)
            for h in range(model.config.heads):
                rows[h] *= 50.0 if (i, h) == (block, head) else 0.0
    return model


@EVERY_WAY
@pytest.mark.parametrize(("block", "head"), [(0, 1), (1, 0)])
def test_the_head_that_carries_the_decision_is_found(how: str, block: int, head: int) -> None:
    model = with_one_head(block, head)
    batch = texts(model, 200)
    table = ablation_effects(model, batch.tokens[0], batch.labels[0], ANSWER, how)  # pyright: ignore
    costly = table.filter(pl.col("accuracy_lost") > 0.05)
    assert set(costly.select("kind", "block", "head").rows()) == {
        ("head", block, head),
        ("block", block, None),
    }
    centroid = depth_centroid(table)
    assert centroid == block


def test_zero_ablation_takes_the_contribution_out_of_the_stream() -> None:
    model = random_model(COMPILED)
    batch = texts(model)
    names = ["residual.0", "residual.1", "attention.0"]
    with torch.no_grad():
        seen = model(batch.tokens, capture=names).captured
        table = ablation_effects(model, batch.tokens[0], batch.labels[0], ANSWER, "zero", [Part("block", 0)])
        last = block_of(model, 1)
        x, _ = last.mlp(_attend(last, seen["residual.0"].flatten(1, 2), len(batch.tokens[0])))
        logits = (x @ model.unembedding).unflatten(1, (-1, 6))[0, :, ANSWER]
    expected = float((logits.argmax(-1) == batch.labels[0]).double().mean())
    assert table["accuracy"][0] == pytest.approx(expected)


def _attend(block: Block, x: torch.Tensor, batch: int) -> torch.Tensor:
    mixed, _ = block.mix(block.project(x), batch, False)
    return x + block.output(mixed)


def test_mean_ablation_of_what_never_varies_costs_nothing() -> None:
    """A head that sees the same everywhere contributes its mean: only zero ablation hurts."""
    model = random_model(COMPILED)
    with torch.no_grad():
        block_of(model, 1).value.weight.zero_()
        block_of(model, 1).value.bias.mul_(5)
    batch = texts(model, 200)
    chosen = [Part("head", 1, 0), Part("head", 1, 1)]
    mean, zero = (
        ablation_effects(model, batch.tokens[0], batch.labels[0], ANSWER, how, chosen)
        for how in ("mean", "zero")
    )
    assert mean["difference_lost"].abs().max() < 1e-4  # pyright: ignore[reportOperatorIssue]
    assert zero["difference_lost"].abs().max() > 0.1  # pyright: ignore[reportOperatorIssue]


def test_every_part_has_a_row_and_the_model_is_left_alone() -> None:
    model = random_model(COMPILED)
    before = [p.clone() for p in model.parameters()]
    batch = texts(model)
    table = ablation_effects(model, batch.tokens[0], batch.labels[0], ANSWER)
    assert table.height == len(parts(model)) == 2 * (2 + 1 + 1)
    assert table.select("accuracy", "difference").null_count().sum_horizontal().item() == 0
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_the_centroid_weighs_depth_by_what_is_lost() -> None:
    table = pl.DataFrame(
        {"kind": ["head"] * 4, "block": [0, 1, 2, 2], "head": [0] * 4, "accuracy_lost": [0.1, 0.0, 0.3, -0.2]}
    )
    assert depth_centroid(table) == pytest.approx(0.75)
    assert depth_centroid(table.with_columns(accuracy_lost=pl.lit(0.0))) is None


def test_bad_input_is_refused() -> None:
    model = random_model(COMPILED)
    batch = texts(model)
    inputs = batch.tokens[0], batch.labels[0], ANSWER
    with pytest.raises(InputError, match="block = 2"):
        ablation_effects(model, *inputs, "zero", [Part("mlp", 2)])
    with pytest.raises(InputError, match="head = 7"):
        ablation_effects(model, *inputs, "zero", [Part("head", 0, 7)])
    with pytest.raises(InputError, match="members"):
        ablation_effects(model.select([0, 0]), *inputs)
