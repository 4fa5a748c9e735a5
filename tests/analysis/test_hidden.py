"""Hiding keys changes the answers of a model that reads them, and no others."""

from dataclasses import replace

import polars as pl
import pytest
import torch

from tests.analysis.test_pruning import ENCODING, GPT, TASK, counting_model, random_model
from veneer.analysis.hidden import _answers, hidden_keys
from veneer.models.config import TransformerConfig


def shares(table: pl.DataFrame, texts: str) -> dict[str, float]:
    return dict(table.filter(texts=texts).select("hidden", "changed").iter_rows())


def test_a_counter_that_averages_all_tokens_alike_still_hangs_on_the_letter_that_it_counts() -> None:
    """Its attention is uniform, so shares of attention would call it indifferent."""
    found = hidden_keys(counting_model(), TASK, ENCODING)
    assert found["asked"].null_count() == len(found)
    changed = shares(found, "natural")
    assert changed["pt"] > 0.7  # 76 % of the texts have an a
    right = found.filter(texts="natural", hidden="pt")["right_pt"].item()
    assert right == pytest.approx(1 - changed["pt"], abs=1e-9)  # those without an a
    assert changed["ft"] < changed["pt"] / 2


@pytest.mark.parametrize("config", [GPT, replace(GPT, causal=False, normalization="none")])
def test_with_nothing_hidden_the_answers_are_the_models_own(config: TransformerConfig) -> None:
    model = random_model(config, 2)
    tokens = torch.randint(0, 6, (1, 40, 6), generator=torch.Generator().manual_seed(3))
    for answer in (2, 5):
        nothing = torch.zeros(40, 6, dtype=torch.bool)
        seen = model(tokens.expand(2, -1, -1), answer=answer, capture=("residual.0",))
        stream = seen.captured["residual.0"].flatten(1, 2)
        assert torch.equal(_answers(model, stream, nothing, answer), seen.logits.argmax(-1))
