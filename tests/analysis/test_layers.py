"""A change is where it is said to be, and layers tell of it what they can."""

import pytest
import torch

from tests.analysis.test_constructed import ANSWER, COMPILED, GPT, accuracy, random_model, texts
from veneer.analysis.constructed import permuted_outputs
from veneer.analysis.layers import CHANGES, Change, changed_block, compare_layers, localized
from veneer.analysis.similarity import cka
from veneer.models.transformer import Transformer
from veneer.tasks.errors import InputError

EVERY_CHANGE = pytest.mark.parametrize("change", CHANGES)


@EVERY_CHANGE
@pytest.mark.parametrize("block", [0, 1])
def test_a_change_touches_its_block_only(change: Change, block: int) -> None:
    model = random_model(COMPILED)
    changed = localized(change, model, block, 0, texts(model), ANSWER)
    moved = {
        name
        for (name, old), new in zip(model.named_parameters(), changed.parameters(), strict=True)
        if not torch.equal(old, new)
    }
    assert moved and all(name.startswith(f"blocks.{block}.") for name in moved)
    assert accuracy(changed, texts(model)) < 1


@EVERY_CHANGE
def test_layers_before_a_change_are_alike_and_one_after_it_is_not(change: Change) -> None:
    for config in (COMPILED, GPT):
        model = random_model(config)
        changed = localized(change, model, 1, 0, texts(model), ANSWER)
        table = compare_layers(model, changed, texts(model).tokens[0], None)
        before, after = table["cka"].to_list()[:2], table["cka"].to_list()[2:]
        assert before == pytest.approx([1, 1], abs=1e-9)
        if change == "offset":  # an offset in the last stream is what CKA cannot see
            assert after == pytest.approx([1], abs=1e-5)
        else:
            assert after[0] < 1 - 1e-5


def test_permuted_outputs_are_invisible_although_every_answer_differs() -> None:
    model = random_model(COMPILED)
    changed = permuted_outputs(model, range(4), 0)
    assert accuracy(changed, texts(model)) == 0
    table = compare_layers(model, changed, texts(model).tokens[0], ANSWER)
    assert table["cka"].to_list() == pytest.approx([1] * 3, abs=1e-6)


def test_the_table_is_the_similarity_of_the_streams_by_member() -> None:
    first = random_model(COMPILED)
    second = Transformer.gather(
        [localized("block redrawn", first, b, 0, texts(first), ANSWER) for b in (0, 1)]
    )
    tokens = torch.randint(6, (700, 6), generator=torch.Generator().manual_seed(1))
    table = compare_layers(first, second, tokens, ANSWER)
    assert table["samples"].unique().to_list() == [700]
    name = "residual.2"
    with torch.no_grad():
        before, after = (
            model(tokens.expand(model.members, -1, -1), capture=[name]).captured[name][:, :, ANSWER]
            for model in (first, second)
        )
    expected = [float(cka(before[0], after[member])) for member in (0, 1)]
    assert table.filter(residual=2)["cka"].to_list() == pytest.approx(expected, abs=1e-6)


def test_a_constant_stream_is_not_compared() -> None:
    model = random_model(COMPILED)
    tokens = texts(model).tokens[0].clone()
    tokens[:, ANSWER] = 0
    table = compare_layers(model, model, tokens, ANSWER)
    assert table["cka"][0] is None
    assert table["dimensions"][0] == 0
    assert table["cka"].to_list()[1:] == pytest.approx([1, 1])


def test_the_first_layer_below_the_ceiling_names_the_block() -> None:
    ceiling = [0.99, 0.98, 0.97, 0.96]
    assert changed_block([1.0, 0.99, 0.9, 0.5], ceiling) == 1
    assert changed_block([0.5, 0.99, 0.9, 0.5], ceiling) == -1
    assert changed_block([None, 0.99, 0.98, 0.97], ceiling) is None


def test_bad_input_is_refused() -> None:
    model = random_model(COMPILED)
    with pytest.raises(InputError, match="block = 2"):
        localized("offset", model, 2, 0, texts(model), ANSWER)
    with pytest.raises(InputError, match="1 member"):
        compare_layers(model.select([0, 0]), model.select([0, 0, 0]), texts(model).tokens[0], ANSWER)
