"""Pruning by saliency finds what hides a capability, and its controls prune as much of other things."""

from dataclasses import replace

import polars as pl
import pytest
import torch
import torch.nn.functional as F
from polars.testing import assert_frame_equal

from veneer.analysis.pruning import Pruning, per_neuron, prune, saliency
from veneer.analysis.surgery import Layout
from veneer.analysis.texts import draw
from veneer.models.config import TransformerConfig
from veneer.models.transformer import Transformer
from veneer.tasks.counter import Counter
from veneer.tasks.encoding import Batch, Encoding
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import pretraining

TASK = Counter("abcd", 5)
ENCODING = Encoding.between(TASK, ("BOS", *"abcd", "#"), range(6), "BOS", "#", 2)
COMPILED = TransformerConfig(
    vocabulary=6, classes=6, positions=6, width=12, blocks=2, heads=2, key_size=5, mlp_width=14
)
GPT = replace(COMPILED, causal=True, normalization="pre", activation="gelu", unembedding="trained")
FEW = Pruning(ks=(1, 3, 10), draws=2, gradient_texts=64, samples=40)


def random_model(config: TransformerConfig, members: int, dtype: torch.dtype = torch.float64) -> Transformer:
    generator = torch.Generator().manual_seed(8)
    model = Transformer(config, members).to(dtype)
    for parameter in model.parameters():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = (parameter.data + 0.4 * drawn).to(dtype)
    return model


def counting_model() -> Transformer:
    """Counts a's by hand: every position attends to all alike, an MLP makes the count a class.

    Direction 0 says "is a"; its mean over the six positions is c / 6. Logit j is 2 j c - j^2 + 1, which
    is largest at j = c (and cut off at 0), out of directions 2 (c) and 3 (one).
    """
    config = replace(COMPILED, blocks=1, heads=1)
    model = Transformer(config).double()
    block = model.blocks[0]
    with torch.no_grad():
        model.token_embedding[0, 1, 0] = 1.0
        block.value.weight[0, 0, 0] = 6.0
        block.output.weight[0, 0, 2] = 1.0
        block.output.bias[0, 3] = 1.0
        classes = torch.arange(6.0, dtype=torch.float64)
        for j in range(6):
            block.mlp_in.weight[0, 2, j] = 2 * classes[j]
            block.mlp_in.weight[0, 3, j] = 1 - classes[j] ** 2
            block.mlp_out.weight[0, j, 6 + j] = 1.0
        model.unembedding[0, 6:12] = torch.eye(6, dtype=torch.float64)
    return model


def corrupted_model() -> tuple[Transformer, str]:
    """The counter with one weight planted that makes it answer 0 whatever comes."""
    model = counting_model()
    with torch.no_grad():
        model.blocks[0].output.weight[0, 0, 6] = 4.0  # class 0 rises with the count
    return model, "blocks.0.output.weight[0, 6]"


def texts(count: int = 64) -> Batch:
    return draw(TASK, ENCODING, pretraining(), count, torch.device("cpu"), "analyse/prune")


def accuracy_of(table: pl.DataFrame, k: int, criterion: str = "saliency") -> float:
    kept = table.filter(
        (pl.col("unit") == "weight")
        & (pl.col("criterion") == criterion)
        & (pl.col("draw") == 0)
        & (pl.col("k") == k)
        & (pl.col("texts") == "natural")
        & (pl.col("operand") == "pt")
    )
    return kept["accuracy"].item()


@pytest.mark.parametrize("config", [COMPILED, GPT], ids=["compiled", "gpt"])
def test_saliency_is_minus_the_slope_of_the_loss_as_a_weight_shrinks(config: TransformerConfig) -> None:
    model, batch, step = random_model(config, 2), texts(), 1e-5
    layout = Layout.of(model)
    found, flat = saliency(model, batch, ENCODING.answer), layout.flatten(model)

    def loss(weights: torch.Tensor, member: int) -> float:
        logits = layout.build(model.member(member), weights)(batch.tokens, answer=ENCODING.answer).logits
        return float(F.cross_entropy(logits[0], batch.labels[0]))

    for member in (0, 1):
        for address in range(0, layout.size, layout.size // 15):
            shrunk, grown = flat[member : member + 1].clone(), flat[member : member + 1].clone()
            shrunk[0, address] *= 1 - step
            grown[0, address] *= 1 + step
            slope = (loss(shrunk, member) - loss(grown, member)) / (2 * step)
            assert -slope == pytest.approx(float(found[member, address]), abs=1e-8, rel=1e-5)


def test_a_neurons_score_is_the_sum_over_the_weights_into_one_output_unit() -> None:
    model = random_model(COMPILED, 1)
    layout = Layout.of(model)
    scores = per_neuron(layout, layout.flatten(model))
    neurons = layout.neurons
    assert scores.shape == (1, len(neurons))
    hidden = [i for i, (part, _) in enumerate(neurons) if part.name == "blocks.1.mlp_in.weight"]
    torch.testing.assert_close(scores[0, hidden], model.blocks[1].mlp_in.weight[0].sum(0))


def test_the_hand_written_counter_counts() -> None:
    table = prune(counting_model(), TASK, ENCODING, FEW).accuracy
    assert accuracy_of(table, 0) == 1.0


def test_zeroing_the_weight_with_the_largest_saliency_undoes_a_planted_wrapper() -> None:
    model, name = corrupted_model()
    tables = prune(model, TASK, ENCODING, FEW, [f"direction {i}" for i in range(12)])
    first = tables.pruned.filter(
        (pl.col("unit") == "weight") & (pl.col("criterion") == "saliency") & (pl.col("rank") == 1)
    )
    assert first["name"].item() == name
    assert (first["block"].item(), first["row"].item(), first["column"].item()) == (0, 0, 6)
    assert first["value"].item() == 4.0 and first["score"].item() > 0
    assert (first["row_label"].item(), first["column_label"].item()) == (None, "direction 6")
    assert accuracy_of(tables.accuracy, 0) < 0.9
    assert accuracy_of(tables.accuracy, 1) == 1.0
    assert accuracy_of(tables.accuracy, 1, "magnitude") < 1.0


def test_the_histogram_of_classes_tells_a_revival_from_a_collapse() -> None:
    model, _ = corrupted_model()
    classes = prune(model, TASK, ENCODING, FEW).classes
    natural = classes.filter((pl.col("texts") == "natural") & (pl.col("unit") == "weight"))
    keys = ["member", "criterion", "draw", "k"]
    sums = natural.group_by(keys).agg(pl.col("share").sum(), pl.col("expected").sum())
    assert sums["share"].to_list() == pytest.approx([1.0] * len(sums))
    assert sums["expected"].to_list() == pytest.approx([1.0] * len(sums))
    revived = natural.filter((pl.col("criterion") == "saliency") & (pl.col("k") == 1))
    assert revived["share"].to_list() == revived["expected"].to_list()  # right on every text
    hidden = natural.filter((pl.col("criterion") == "saliency") & (pl.col("k") == 0))
    assert hidden["share"].to_list() != hidden["expected"].to_list()


def test_controls_prune_as_many_and_do_not_repeat_themselves() -> None:
    tables = prune(random_model(COMPILED, 2), TASK, ENCODING, FEW)
    keys = ["member", "unit", "criterion", "draw"]
    counts = tables.pruned.group_by(keys).agg(pl.col("name").n_unique())
    assert len(counts) == 2 * 2 * (1 + 1 + FEW.draws)
    assert counts["name"].to_list() == [10] * len(counts)
    ladders = tables.accuracy.group_by(keys).agg(pl.col("k").unique().sort())["k"].to_list()
    assert ladders == [[0, 1, 3, 10]] * len(counts)
    draws = tables.pruned.filter((pl.col("criterion") == "random") & (pl.col("unit") == "weight"))
    first, second = (draws.filter((pl.col("draw") == i) & (pl.col("member") == 0)) for i in (0, 1))
    assert set(first["name"]) != set(second["name"])


@pytest.mark.parametrize("config", [COMPILED, GPT], ids=["compiled", "gpt"])
def test_a_member_is_pruned_in_a_fleet_as_it_is_alone(config: TransformerConfig) -> None:
    model = random_model(config, 2)
    fleet, alone = prune(model, TASK, ENCODING, FEW), prune(model.member(1), TASK, ENCODING, FEW)
    for table in ("accuracy", "pruned", "classes"):
        in_fleet = getattr(fleet, table).filter(pl.col("member") == 1).drop("member")
        assert_frame_equal(in_fleet, getattr(alone, table).drop("member"), check_exact=False, abs_tol=1e-9)


def test_pruning_leaves_the_model_as_it_was() -> None:
    model = random_model(COMPILED, 1)
    flags = [p.requires_grad for p in model.parameters()]
    start = Layout.of(model).flatten(model)
    prune(model, TASK, ENCODING, FEW)
    assert torch.equal(Layout.of(model).flatten(model), start)
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())


def test_what_cannot_be_pruned_is_refused() -> None:
    model = random_model(COMPILED, 2)
    with pytest.raises(InputError, match="ks = "):
        prune(model, TASK, ENCODING, replace(FEW, ks=(0,)))
    with pytest.raises(InputError, match="samples = 0"):
        prune(model, TASK, ENCODING, replace(FEW, samples=0))
    with pytest.raises(InputError, match="residual_labels = '2 labels'"):
        prune(model, TASK, ENCODING, FEW, ["one", "two"])
    model.blocks[0].key.bias.data[1, 0] = torch.nan
    with pytest.raises(InputError, match=r"member 1.*diverged"):
        prune(model, TASK, ENCODING, FEW)
