"""What is constructed is what it is said to be: an exact wrapper, or nothing of the capability."""

from dataclasses import replace

import pytest
import torch

from veneer.analysis.constructed import (
    TRUTHS,
    confusion,
    constant_answer,
    construct,
    cycle,
    differing_entries,
    flipped_weight,
    from_scratch,
    permuted_outputs,
    redrawn,
    shuffled,
)
from veneer.models.config import TransformerConfig
from veneer.models.transformer import Transformer
from veneer.tasks.encoding import Batch
from veneer.tasks.errors import InputError

COMPILED = TransformerConfig(
    vocabulary=6, classes=4, positions=6, width=12, blocks=2, heads=2, key_size=5, mlp_width=14
)
GPT = replace(COMPILED, causal=True, normalization="pre", activation="gelu", unembedding="trained")
ANSWER = 2


def random_model(config: TransformerConfig) -> Transformer:
    generator = torch.Generator().manual_seed(5)
    model = Transformer(config)
    for parameter in model.parameters():
        parameter.data += 0.4 * torch.randn(parameter.shape, generator=generator)
    if config.unembedding == "fixed":
        model.unembedding.data = torch.eye(config.width)[None, :, 3 : 3 + config.classes].clone()
    return model


def texts(model: Transformer, rows: int = 60) -> Batch:
    """Random strings, labelled with what the model says: on them it is always right."""
    tokens = torch.randint(6, (1, rows, 6), generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        labels = model(tokens, answer=ANSWER).logits.argmax(-1)
    return Batch(tokens, labels, labels.unsqueeze(-1).expand(-1, -1, 2))


@torch.no_grad()
def logits(model: Transformer, batch: Batch) -> torch.Tensor:
    return model(batch.tokens, answer=ANSWER).logits


def accuracy(model: Transformer, batch: Batch) -> float:
    return float((logits(model, batch).argmax(-1) == batch.labels).double().mean())


def weights(model: Transformer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize("config", [COMPILED, GPT], ids=["compiled", "gpt"])
def test_permuted_outputs_are_the_outputs_permuted_and_nothing_else(config: TransformerConfig) -> None:
    model = random_model(config)
    batch, classes = texts(model), (3, 0, 2)
    source = {**{c: c for c in range(4)}, **cycle(classes, seed=1)}
    order = [source[c] for c in range(4)]
    changed = permuted_outputs(model, classes, seed=1)
    torch.testing.assert_close(logits(changed, batch), logits(model, batch)[..., order])


def test_every_permuted_class_is_sent_elsewhere() -> None:
    for seed in range(20):
        sent = cycle((1, 4, 5, 9), seed)
        assert sorted(sent) == sorted(sent.values()) == [1, 4, 5, 9]
        assert all(a != b for a, b in sent.items())
    with pytest.raises(InputError):
        cycle((1,), 0)


def test_a_model_whose_outputs_are_all_permuted_is_always_wrong() -> None:
    model = random_model(COMPILED)
    assert accuracy(permuted_outputs(model, range(4), 0), texts(model)) == 0


def test_a_fixed_unembedding_stays_fixed() -> None:
    model = random_model(COMPILED)
    assert torch.equal(permuted_outputs(model, range(4), 0).unembedding, model.unembedding)


def test_the_constant_answer_is_constant_and_costs_one_bias() -> None:
    model = random_model(COMPILED)
    batch = texts(model)
    changed = constant_answer(model, 1, batch, ANSWER)
    assert (logits(changed, batch).argmax(-1) == 1).all()
    assert (weights(changed) != weights(model)).sum() == 1
    normed = random_model(GPT)
    said = logits(constant_answer(normed, 1, batch, ANSWER), batch)
    assert (said.argmax(-1) == 1).all()
    others = [0, *range(2, said.shape[-1])]
    torch.testing.assert_close(said[..., others], logits(normed, batch)[..., others], atol=1e-4, rtol=0)


def test_one_flipped_weight_differs_in_one_entry_by_its_sign_and_breaks_the_behaviour() -> None:
    model = random_model(COMPILED)
    batch = texts(model)
    changed = flipped_weight(model, batch, ANSWER)
    differs = weights(changed) != weights(model)
    assert differs.sum() == 1
    assert torch.equal(weights(changed)[differs], -weights(model)[differs])
    assert (
        accuracy(changed, batch) < accuracy(flipped_weight(model, batch, ANSWER, candidates=1), batch) + 1e-9
    )
    assert accuracy(changed, batch) < 1


def test_weights_too_large_to_be_turned_back_are_not_flipped() -> None:
    model = random_model(COMPILED)
    changed = flipped_weight(model, texts(model), ANSWER, largest=0.3)
    differs = weights(changed) != weights(model)
    assert (weights(model)[differs].abs() <= 0.3).all()


def test_a_rewrite_shares_no_weights() -> None:
    model = random_model(COMPILED)
    assert (differing_entries(model, redrawn(model, 0)) == 1).all()
    assert differing_entries(model, shuffled(model, 0)).mean() > 0.9


def test_a_rewrite_keeps_the_scales_and_a_shuffle_every_value() -> None:
    model = random_model(COMPILED)
    for old, new, mixed in zip(
        model.parameters(), redrawn(model, 0).parameters(), shuffled(model, 0).parameters(), strict=True
    ):
        assert torch.equal(old.flatten().sort().values, mixed.flatten().sort().values)
        if old.numel() > 100:
            assert float((new.norm() / old.norm()).detach()) == pytest.approx(1, abs=0.3)


def test_a_fixed_unembedding_is_no_part_of_a_rewrite() -> None:
    model = random_model(COMPILED)
    for changed in (redrawn(model, 0), shuffled(model, 0), from_scratch(model, [0])):
        assert torch.equal(changed.unembedding, model.unembedding)


def test_what_is_drawn_depends_on_the_seed_alone() -> None:
    model = random_model(COMPILED)
    for make in (redrawn, shuffled):
        assert torch.equal(weights(make(model, 3)), weights(make(model, 3)))
        assert not torch.equal(weights(make(model, 3)), weights(make(model, 4)))
    fleet = from_scratch(model, [3, 4])
    assert torch.equal(weights(fleet.member(1)), weights(from_scratch(model, [4])))


def test_a_fresh_model_lets_the_signal_through() -> None:
    """Through GPT-2's initialization, without norms, next to nothing of the text reaches the output."""
    config = replace(COMPILED, width=64, mlp_width=34, key_size=18, blocks=3)
    like = random_model(config)
    batch = texts(like)
    assert logits(from_scratch(like, [0]), batch).std(1).mean() > 0.05


def test_the_capability_is_left_as_it_was() -> None:
    model = random_model(COMPILED)
    before = weights(model).clone()
    made = [construct(name, model, 0, texts(model), ANSWER) for name in TRUTHS]
    assert torch.equal(weights(model), before)
    assert list(TRUTHS.values()) == ["wrapped"] * 4 + ["rewritten"] * 2
    assert all(accuracy(altered, texts(model)) < 0.7 for altered in made)
    with pytest.raises(InputError, match="construction"):
        construct("undone", model, 0, texts(model), ANSWER)


def test_confusion_counts_each_truth_by_verdict() -> None:
    table = confusion(
        ["wrapped", "wrapped", "rewritten", "wrapped"], ["wrapped", "undecided", "rewritten", "wrapped"]
    )
    assert table.rows(named=True) == [
        {"truth": "wrapped", "wrapped": 2, "rewritten": 0, "undecided": 1, "models": 3, "right": 2 / 3},
        {"truth": "rewritten", "wrapped": 0, "rewritten": 1, "undecided": 0, "models": 1, "right": 1.0},
    ]
