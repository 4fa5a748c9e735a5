"""The gradient that is worked out by hand is autograd's, and a member's does not depend on its fleet."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from veneer.models.by_hand import can_work_out, cross_entropy_gradient
from veneer.models.config import TransformerConfig
from veneer.models.transformer import Transformer

CONFIG = TransformerConfig(
    vocabulary=6, classes=5, positions=9, width=13, blocks=3, heads=1, key_size=4, mlp_width=7
)


def _fleet(config: TransformerConfig, members: int) -> Transformer:
    generator = torch.Generator().manual_seed(0)
    model = Transformer(config, members)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=generator)
    return model


def _batch(members: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(CONFIG.vocabulary, (members, 8, length), generator=generator)
    return tokens, torch.randint(CONFIG.classes, (members, 8), generator=generator)


@pytest.mark.parametrize(
    ("blocks", "heads", "length", "answer"), [(1, 1, 9, 2), (3, 1, 9, 0), (3, 2, 7, 6), (2, 3, 4, 1)]
)
def test_it_is_the_gradient_of_the_cross_entropy(blocks: int, heads: int, length: int, answer: int) -> None:
    model = _fleet(replace(CONFIG, blocks=blocks, heads=heads), 3).double()
    tokens, labels = _batch(3, length)
    logits = model(tokens, answer=answer).logits
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(3, -1).mean(1)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(expected.sum(), trained, materialize_grads=True)
    loss, gradient = cross_entropy_gradient(model, tokens, labels, answer)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, torch.cat([g.flatten(1) for g in gradients], 1))


def test_a_members_gradient_has_the_same_bits_in_any_fleet() -> None:
    fleet, (tokens, labels) = _fleet(CONFIG, 5), _batch(5, 9)
    loss, gradient = cross_entropy_gradient(fleet, tokens, labels, 0)
    for i in range(5):
        alone = cross_entropy_gradient(fleet.member(i), tokens[i : i + 1], labels[i : i + 1], 0)
        assert torch.equal(alone[0], loss[i : i + 1])
        assert torch.equal(alone[1], gradient[i : i + 1])


def test_only_written_models_whose_weights_all_move_are_worked_out() -> None:
    frozen = _fleet(CONFIG, 1)
    frozen.blocks[0].requires_grad_(False)
    assert can_work_out(_fleet(CONFIG, 1))
    assert not can_work_out(frozen)
    assert not can_work_out(_fleet(replace(CONFIG, causal=True), 1))
    assert not can_work_out(_fleet(TransformerConfig.gpt(6, 9, 12, 2, 2), 1))
