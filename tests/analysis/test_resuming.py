"""Edited models read on from the first layer that their edit touches, and give what whole ones give."""

import pytest
import torch

from tests.analysis.test_pruning import COMPILED, GPT, random_model
from veneer.analysis.resuming import first_stages, read_on, stage_of, stream_before
from veneer.analysis.surgery import Layout, predictions
from veneer.models.config import TransformerConfig

ANSWER = 4
CONFIGS = pytest.mark.parametrize("config", [COMPILED, GPT], ids=["compiled", "GPT"])


def texts() -> torch.Tensor:
    return torch.randint(6, (1, 9, 6), generator=torch.Generator().manual_seed(1))


@CONFIGS
def test_every_parameter_alone_changes_nothing_before_its_stage(config: TransformerConfig) -> None:
    """One parameter of three models is drawn anew: reading on gives the logits of the whole models."""
    base, layout = random_model(config, 1), Layout.of(random_model(config, 1))
    tokens, flat = texts(), layout.flatten(base).repeat(3, 1)
    stages = {}
    for part in layout.parts:
        changed = flat.clone()
        changed[:, part.start : part.stop] += torch.randn(3, part.stop - part.start, dtype=flat.dtype)
        fleet = layout.build(base, changed)
        whole = fleet(tokens.expand(3, -1, -1), answer=ANSWER).logits
        stages[part.name] = stage = stage_of(part.block, part.matrix, config.blocks)
        if stage == 0:
            continue
        stream = stream_before(base, tokens, ANSWER, stage)
        torch.testing.assert_close(read_on(fleet, stream, tokens.shape[1], ANSWER, stage), whole)
    assert stages["blocks.0.mlp_out.bias"] == 1 and stages["blocks.1.key.weight"] == 2
    assert stages["token_embedding"] == 0
    assert config is COMPILED or stages["unembedding"] == 4


@CONFIGS
def test_edits_of_all_places_at_once_answer_as_whole_models_do(config: TransformerConfig) -> None:
    """In their order, with several addresses, and with none."""
    base = random_model(config, 1)
    layout, tokens = Layout.of(base), texts()
    zero = torch.zeros(1, layout.size, dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    edits = [torch.randint(layout.size, (n,), generator=generator) for n in (1, 0, 1, 3, 1, 1, 2, 1, 1)] * 4
    edits += [torch.arange(part.start, part.stop) for part in layout.parts]
    flat = layout.flatten(base).repeat(len(edits), 1)
    for row, edit in zip(flat, edits, strict=True):
        row[edit] = 0
    whole = layout.build(base, flat)(tokens.expand(len(edits), -1, -1), answer=ANSWER).logits.argmax(-1)
    assert torch.equal(predictions(base, zero, edits, tokens, ANSWER, size=4), whole)
    assert len(whole.unique(dim=0)) > 5, "the edits change answers"


def test_the_first_stage_is_that_of_the_earliest_address() -> None:
    layout = Layout.of(random_model(COMPILED, 1))
    starts = torch.tensor([part.start for part in layout.parts])
    stages = torch.tensor([stage_of(part.block, part.matrix, 2) for part in layout.parts])
    last = layout.size - 1
    assert first_stages([torch.tensor([last, 0]), torch.tensor([last])], starts, stages, 4) == [0, 3]
    assert first_stages([torch.tensor([], dtype=torch.int64)], starts, stages, 4) == [4]
