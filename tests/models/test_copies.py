"""A module made like another one has its own parameters and hooks, and the same function."""

import pytest
import torch

from veneer.models.config import TransformerConfig
from veneer.models.copies import with_parameters
from veneer.models.transformer import Transformer, fleet_of

CONFIG = TransformerConfig(
    vocabulary=5, classes=4, positions=6, width=8, blocks=2, heads=2, key_size=4, mlp_width=12, causal=True
)


def made(members: int) -> Transformer:
    model = Transformer(CONFIG, members)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    return model


def test_it_computes_the_same_and_shares_the_memory_of_what_is_given() -> None:
    model, tokens = made(3), torch.tensor([[[0, 1, 2, 3, 4, 0]]])
    values = {name: own.detach().clone() for name, own in model.named_parameters()}
    copy = fleet_of(CONFIG, values)
    given = tokens.expand(3, -1, -1)
    assert torch.equal(copy(given).logits, model(given).logits)
    assert list(dict(copy.named_parameters())) == list(dict(model.named_parameters()))
    values["unembedding"].zero_()
    assert not copy(given).logits.any()


def test_members_that_are_selected_are_copies_trained_as_a_new_model_is() -> None:
    model = made(3).requires_grad_(False)
    chosen = model.select([2, 0, 2])
    assert torch.equal(chosen.token_embedding, model.token_embedding[[2, 0, 2]])
    assert {n for n, p in chosen.named_parameters() if p.requires_grad} == {
        n for n, p in Transformer(CONFIG).named_parameters() if p.requires_grad
    }
    with torch.no_grad():
        chosen.token_embedding.zero_()
    assert model.token_embedding.any()


def test_hooks_on_a_copy_do_not_run_in_another_one() -> None:
    first, second, seen = made(1).member(0), made(1).member(0), []
    for module in first.modules():
        module.register_forward_hook(lambda *given: seen.append(given))
    second(torch.zeros(1, 1, 6, dtype=torch.int64))
    assert not seen


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"token_embedding": torch.zeros(1, 5, 9)}, r"token_embedding is \(1, 5, 9\), not \(1, 5, 8\)"),
        ({"another": torch.zeros(1)}, "no parameter another"),
    ],
)
def test_values_that_do_not_fit_are_refused(change: dict[str, torch.Tensor], told: str) -> None:
    values = {name: own.detach() for name, own in made(1).named_parameters()}
    with pytest.raises(ValueError, match=told):
        with_parameters(Transformer(CONFIG), {**values, **change})
    del values["token_embedding"]
    with pytest.raises(ValueError, match="token_embedding is missing"):
        with_parameters(Transformer(CONFIG), values)
