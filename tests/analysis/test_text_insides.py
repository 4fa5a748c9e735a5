"""Through the interface of text models the analyses say what they say of our own models."""

import pytest
import torch

from tests.analysis.test_constructed import random_model
from veneer.analysis.layers import compare_layers, localized
from veneer.analysis.text_insides import compare_text_layers
from veneer.models.config import TransformerConfig
from veneer.models.export import to_huggingface
from veneer.models.huggingface import HuggingFaceModel
from veneer.models.text_model import OneTransformer
from veneer.models.transformer import Transformer
from veneer.tasks.encoding import Batch
from veneer.tasks.errors import InputError

CONFIG = TransformerConfig.gpt(vocabulary=9, positions=7, width=16, blocks=2, heads=4)
TOKENS = torch.randint(9, (60, 7), generator=torch.Generator().manual_seed(0))
LAST = 6
AT = torch.full((60,), LAST)


def gpt() -> Transformer:
    return random_model(CONFIG)


def labels(model: Transformer) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS[None], answer=LAST).logits[0].argmax(-1)


def test_layers_compare_as_those_of_our_own_models() -> None:
    model = gpt()
    told = labels(model)[None]
    batch = Batch(TOKENS[None], told, told.unsqueeze(-1).expand(-1, -1, 2))
    changed = localized("block redrawn", model, 1, 0, batch, LAST)
    expected = compare_layers(model, changed, TOKENS, LAST)
    for second in (OneTransformer(changed), HuggingFaceModel(to_huggingface(changed))):
        found = compare_text_layers(OneTransformer(model), second, TOKENS, AT)
        assert found["cka"].to_list() == pytest.approx(expected["cka"].to_list(), abs=1e-6)
        assert found["unbiased"].to_list() == pytest.approx(expected["unbiased"].to_list(), abs=1e-5)


def test_filling_behind_the_position_makes_no_difference() -> None:
    model = HuggingFaceModel(to_huggingface(gpt()))
    filled = TOKENS.clone()
    filled[:, 5:] = 0
    at = torch.full((60,), 4)
    table = compare_text_layers(model, model, filled, at)
    assert table["cka"].to_list() == pytest.approx([1.0] * 3)
    other = compare_text_layers(model, model, TOKENS, at)
    assert table["dimensions"].to_list() == other["dimensions"].to_list()


def test_models_of_other_depth_are_refused() -> None:
    other = random_model(TransformerConfig.gpt(vocabulary=9, positions=7, width=16, blocks=3, heads=4))
    with pytest.raises(InputError, match="2 blocks"):
        compare_text_layers(OneTransformer(gpt()), OneTransformer(other), TOKENS, AT)
