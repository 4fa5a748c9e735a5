"""Grafting exchanges exactly the weights it names, and finds where a planted change sits."""

from dataclasses import replace

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from veneer.analysis.grafting import Grafting, components, directions, graft, movement
from veneer.analysis.surgery import Layout
from veneer.finetune.fleet import evaluate, evaluation_sets
from veneer.models.config import TransformerConfig
from veneer.models.transformer import Transformer
from veneer.tasks.counter import Counter
from veneer.tasks.encoding import Encoding
from veneer.tasks.errors import InputError

TASK = Counter("abcd", 5)
ENCODING = Encoding.between(TASK, ("BOS", *"abcd", "#"), range(6), "BOS", "#", 2)
COMPILED = TransformerConfig(
    vocabulary=6, classes=6, positions=6, width=12, blocks=2, heads=2, key_size=5, mlp_width=14
)
GPT = replace(COMPILED, causal=True, normalization="pre", activation="gelu", unembedding="trained")
FEW = Grafting(singles=3, ks=(2, 20), samples=40)
CPU = torch.device("cpu")


def random_model(config: TransformerConfig, members: int, seed: int = 8) -> Transformer:
    generator = torch.Generator().manual_seed(seed)
    model = Transformer(config, members).double()
    for parameter in model.parameters():
        parameter.data += 0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def pair(config: TransformerConfig, members: int = 2) -> tuple[Transformer, Transformer]:
    before, after = random_model(config, members), random_model(config, members, seed=9)
    if config.unembedding == "fixed":
        before.unembedding.data[:] = before.unembedding.data[:1]
        after.unembedding.data[:] = before.unembedding.data
    return before, after


def accuracies(table: pl.DataFrame, member: int, direction: str, level: str, k: int) -> list[float]:
    """By kind of text and operand, as ``evaluate`` orders them."""
    kept = table.filter(
        (pl.col("member") == member)
        & (pl.col("direction") == direction)
        & (pl.col("level") == level)
        & (pl.col("k") == k)
    )
    assert len(kept) == 6
    return kept["accuracy"].to_list()


@pytest.mark.parametrize("config", [COMPILED, GPT], ids=["compiled", "gpt"])
def test_grafting_everything_is_the_other_model_and_nothing_is_the_model(config: TransformerConfig) -> None:
    before, after = pair(config)
    table = graft(before, after, TASK, ENCODING, FEW)
    sets = evaluation_sets(TASK, ENCODING, FEW.samples, CPU)
    size = Layout.of(after).size
    for member in (0, 1):
        scores = {
            name: evaluate(model, sets, ENCODING.answer)[0][member].flatten().tolist()
            for name, model in (("before", before), ("after", after))
        }
        assert scores["before"] != scores["after"]
        assert accuracies(table, member, "back", "none", 0) == scores["after"]
        assert accuracies(table, member, "back", "weights", size) == scores["before"]
        assert accuracies(table, member, "forward", "none", 0) == scores["before"]
        assert accuracies(table, member, "forward", "weights", size) == scores["after"]
    assert table.filter(pl.col("level") == "none")["change"].abs().max() == 0.0


@pytest.mark.parametrize("config", [COMPILED, GPT], ids=["compiled", "gpt"])
def test_a_layout_holds_every_trained_weight_once(config: TransformerConfig) -> None:
    model = random_model(config, 3)
    layout = Layout.of(model)
    assert layout.size == model.parameter_count
    rebuilt = layout.build(model, layout.flatten(model)).state_dict()
    assert config.unembedding == "trained" or torch.equal(rebuilt["unembedding"][0], model.unembedding[0])
    for part in layout.parts:
        assert torch.equal(rebuilt[part.name], model.state_dict()[part.name])
    key = next(part for part in layout.parts if part.name == "blocks.0.key.weight")
    assert layout.find(int(key.addresses(slice(2, 3), slice(4, 5)))) == (key, 2, 4)


def test_a_head_is_its_slices_of_query_key_value_and_output() -> None:
    model = random_model(COMPILED, 1)
    layout, ones = Layout.of(model), torch.ones(1, Layout.of(model).size, dtype=torch.float64)
    head = next(c for c in components(model) if c.name == "blocks.1.head.1")
    ones[0, head.addresses] = 0
    touched = {
        name
        for name, p in layout.build(model, ones).named_parameters()
        if name != "unembedding" and (p == 0).any()
    }
    layers = [f"blocks.1.{name}" for name in ("query", "key", "value")]
    assert touched == {f"{name}.{kind}" for name in layers for kind in ("weight", "bias")} | {
        "blocks.1.output.weight"
    }
    masked = dict(layout.build(model, ones).named_parameters())
    for name in layers:
        assert not masked[f"{name}.weight"][..., 5:].any() and masked[f"{name}.weight"][..., :5].all()
        assert not masked[f"{name}.bias"][..., 5:].any() and masked[f"{name}.bias"][..., :5].all()
    output = masked["blocks.1.output.weight"]
    assert not output[:, 5:].any() and output[:, :5].all()


@pytest.mark.parametrize("config", [COMPILED, GPT], ids=["compiled", "gpt"])
def test_matrices_embeddings_and_norms_share_out_all_weights(config: TransformerConfig) -> None:
    model = random_model(config, 1)
    parts = components(model)
    whole = [c for c in parts if c.level in ("matrix", "embedding", "norm", "unembedding")]
    addresses = torch.cat([c.addresses for c in whole]).sort().values
    assert torch.equal(addresses, torch.arange(Layout.of(model).size))
    blocks = [c for c in parts if c.level == "block"]
    inside = sum(c.k for c in whole if c.block == 1)
    assert [c.block for c in blocks] == [0, 1] and blocks[1].k == inside
    norms = [c.name for c in parts if c.level == "norm"]
    assert len(norms) == (5 if config.normalization == "pre" else 0)
    assert [c.name for c in parts if c.level == "embedding"] == ["token_embedding", "position_embedding"]


def test_a_single_planted_change_is_found_by_weight_matrix_and_block() -> None:
    before = random_model(COMPILED, 1)
    after = before.select([0])
    after.blocks[1].mlp_out.weight.data[0, 3, 7] += 30.0
    table = graft(before, after, TASK, ENCODING, FEW)
    full = accuracies(table, 0, "back", "weights", Layout.of(after).size)
    assert full != accuracies(table, 0, "back", "none", 0)
    assert accuracies(table, 0, "back", "weights", 2) == full
    rows = table.filter((pl.col("direction") == "back") & (pl.col("level") == "weight"))
    assert rows["name"][0] == "blocks.1.mlp_out.weight[3, 7]"
    assert rows["accuracy"][:6].to_list() == full
    moving = set(table.filter(pl.col("change").abs() > 0)["name"])
    expected = {"blocks.1.mlp_out.weight[3, 7]", "moved most", "blocks.1.mlp_out", "blocks.1.mlp", "blocks.1"}
    assert moving == expected


def test_forward_grafts_into_the_model_before() -> None:
    before, after = pair(COMPILED, 1)
    one = graft(before, after, TASK, ENCODING, replace(FEW, directions=("forward",)))
    swapped = graft(after, before, TASK, ENCODING, replace(FEW, directions=("back",)))
    assert_frame_equal(one.drop("direction"), swapped.drop("direction"))


@pytest.mark.parametrize("config", [COMPILED, GPT], ids=["compiled", "gpt"])
def test_a_member_is_grafted_in_a_fleet_as_it_is_alone(config: TransformerConfig) -> None:
    before, after = pair(config)
    fleet = graft(before, after, TASK, ENCODING, FEW)
    alone = graft(before.member(1), after.member(1), TASK, ENCODING, FEW)
    assert_frame_equal(fleet.filter(pl.col("member") == 1).drop("member"), alone.drop("member"))
    shared = graft(before.member(0), after, TASK, ENCODING, FEW)
    assert shared.filter(pl.col("member") == 0).equals(fleet.filter(pl.col("member") == 0))


def test_movement_is_measured_where_it_is_and_against_the_circuit() -> None:
    reference = Transformer(COMPILED).double()
    reference.blocks[0].query.weight.data[0, 2, 1] = 1.0
    after = reference.select([0])
    after.blocks[0].query.weight.data[0, 2, 1] += 3.0  # 9 of the squared change, in the circuit
    after.blocks[1].key.bias.data[0, 4] += 4.0  # 16, outside it
    table = movement(reference, after, reference)
    rows = {row["name"]: row for row in table.to_dicts()}
    assert rows["all"]["squared_change"] == pytest.approx(25)
    assert rows["all"]["change_in_used"] == pytest.approx(9 / 25)
    assert rows["all"]["used"] == pytest.approx(1 / Layout.of(after).size)
    assert rows["blocks.0.query"]["share_of_change"] == pytest.approx(9 / 25)
    assert rows["blocks.0.query"]["change_in_used"] == 1.0
    assert rows["blocks.1.key"]["change_in_used"] == 0.0
    assert rows["blocks.1.value"]["change_in_used"] is None
    assert movement(reference, after)["change_in_used"].null_count() == len(table)
    labels = [f"direction {i}" for i in range(12)]
    touched = directions(reference, after, reference, labels).filter(pl.col("squared_change") > 0)
    assert touched.select("label", "access", "used", "squared_change").rows() == [
        ("direction 2", "read", 1, pytest.approx(9))
    ]


def test_what_cannot_be_grafted_is_refused() -> None:
    before, after = pair(COMPILED)
    with pytest.raises(InputError, match="shape"):
        graft(random_model(GPT, 2), after, TASK, ENCODING, FEW)
    with pytest.raises(InputError, match=r"3 members.*1 or 2"):
        graft(random_model(COMPILED, 3), after, TASK, ENCODING, FEW)
    with pytest.raises(InputError, match="unembedding"):
        graft(random_model(COMPILED, 2, seed=1), after, TASK, ENCODING, FEW)
    with pytest.raises(InputError, match="ks = "):
        graft(before, after, TASK, ENCODING, replace(FEW, ks=(0,)))
    with pytest.raises(InputError, match="reference = "):
        movement(before, after, before)
    before.token_embedding.data[1, 0, 0] = torch.inf
    with pytest.raises(InputError, match="before = 'member 1'"):
        graft(before, after, TASK, ENCODING, FEW)
