"""A part that is taken out of a text model costs what it costs when the whole model runs without it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.analysis.test_constructed import random_model
from tests.analysis.test_text_insides import AT, LAST, TOKENS, gpt, labels
from tests.models.text_models import WORDS, make
from veneer.analysis.ablation import HOWS, How, Part, ablation_effects
from veneer.analysis.text_ablation import text_ablation_effects, text_loss_effects, text_parts
from veneer.language.encoding import Encoded
from veneer.models.config import TransformerConfig
from veneer.models.export import to_huggingface
from veneer.models.huggingface import HuggingFaceModel
from veneer.tasks.errors import InputError

GENERATOR = torch.Generator().manual_seed(2)
PROMPTS = torch.randint(WORDS, (20, 9), generator=GENERATOR)
ENDS = torch.randint(4, 9, (20,), generator=GENERATOR)


@pytest.mark.parametrize("how", ["zero", "mean"])
def test_ablations_cost_what_they_cost_our_own_models(how: str) -> None:
    model = gpt()
    right = labels(model)
    expected = ablation_effects(model, TOKENS, right, LAST, how)  # pyright: ignore[reportArgumentType]
    text = HuggingFaceModel(to_huggingface(model))
    found = text_ablation_effects(text, TOKENS, AT, right, how, piece=25)  # pyright: ignore[reportArgumentType]
    assert found.select("kind", "block", "head").equals(expected.select("kind", "block", "head"))
    assert len(text_parts(text)) == expected.height
    for column in ("accuracy", "difference"):
        assert found[column].to_list() == pytest.approx(expected[column].to_list(), abs=1e-4)
    if how == "zero":  # the hooks are gone again
        again = text_ablation_effects(text, TOKENS, AT, right, "zero", piece=25)
        assert again.equals(found)


def test_answers_may_be_few() -> None:
    model = HuggingFaceModel(to_huggingface(gpt()))
    right = torch.tensor([2, 5]).repeat(30)
    chosen = text_parts(model, ["mlp"])
    table = text_ablation_effects(model, TOKENS, AT, right, answers=[5, 2], chosen=chosen)
    assert table.height == 2
    with pytest.raises(InputError, match="labels"):
        text_ablation_effects(model, TOKENS, AT, right, answers=[1, 2], chosen=chosen)


def plainly_without(model: HuggingFaceModel, part: Part, mean: dict[str, Tensor]) -> Tensor:
    """Logits of all prompts of the whole model, with one part's contribution replaced by hooks of our own."""
    block = model.block(part.block)
    attention, mlp = (block.get_submodule(name) for name in model.places.writers)
    size = int(model.module.config.hidden_size) // int(model.module.config.num_attention_heads)
    handles: list[Any] = []
    if part.head is not None:
        own = slice(part.head * size, (part.head + 1) * size)

        def take_out(module: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            mixed = given[0].clone()
            mixed[..., own] = mean[f"heads {part.block}"][own] if mean else 0.0
            return (mixed,)

        handles.append(attention.register_forward_pre_hook(take_out))
    else:
        replaced = {"mlp": mlp} if part.kind == "mlp" else {"mlp": mlp, "attention": attention}
        for name, writer in replaced.items():
            instead = mean[f"{name} {part.block}"] if mean else torch.zeros(())
            handles.append(
                writer.register_forward_hook(lambda m, g, output, v=instead: v.expand_as(output).clone())
            )
    logits = model.see(PROMPTS).logits
    for handle in handles:
        handle.remove()
    return logits


def means(model: HuggingFaceModel) -> dict[str, Tensor]:
    """Means over prompts and their positions of what heads give and parts write."""
    found: dict[str, Tensor] = {}
    inside = torch.arange(PROMPTS.shape[1]) <= ENDS[:, None]
    handles = []
    for index in range(model.blocks):
        attention, mlp = (model.block(index).get_submodule(name) for name in model.places.writers)

        def keep(module: Any, given: tuple[Tensor, ...], output: Tensor, index: int = index) -> None:
            found[f"attention {index}"] = output[inside].mean(0)
            found[f"heads {index}"] = given[0][inside].mean(0)

        def keep_mlp(module: Any, given: Any, output: Tensor, index: int = index) -> None:
            found[f"mlp {index}"] = output[inside].mean(0)

        handles += [attention.register_forward_hook(keep), mlp.register_forward_hook(keep_mlp)]
    model.see(PROMPTS)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
@torch.no_grad()
def test_beginning_at_a_part_gives_what_the_whole_model_gives(family: str, how: How) -> None:
    model = HuggingFaceModel(make(family))
    right = torch.randint(WORDS, (20,), generator=torch.Generator().manual_seed(3))
    table = text_ablation_effects(model, PROMPTS, ENDS, right, how, piece=7)
    mean = means(model) if how == "mean" else {}
    rows, costs = torch.arange(20), []
    for row, part in zip(table.iter_rows(named=True), text_parts(model), strict=True):
        logits = plainly_without(model, part, mean)[rows, ENDS].double()
        other = logits.scatter(1, right[:, None], -torch.inf).amax(1)
        assert row["difference"] == pytest.approx(float((logits[rows, right] - other).mean()), abs=1e-5), part
        assert row["accuracy"] == float((logits.argmax(1) == right).double().mean()), part
        costs.append(row["difference_lost"])
    assert len({round(cost, 6) for cost in costs}) == len(costs)  # every part does something of its own


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@torch.no_grad()
def test_loss_without_a_part_is_that_of_the_whole_model_without_it(family: str, how: How) -> None:
    model = HuggingFaceModel(make(family))
    places = [(item, place) for item, end in enumerate(ENDS.tolist()) for place in range(2, end + 1)]
    items, positions = torch.tensor(places).T
    targets = torch.randint(WORDS, (len(places),), generator=torch.Generator().manual_seed(4))
    table = text_loss_effects(model, Encoded(PROMPTS, items, positions, targets), how, piece=6)
    mean = means(model) if how == "mean" else {}
    whole = torch.nn.functional.cross_entropy(model.see(PROMPTS).logits[items, positions], targets)
    assert table["loss"][0] == pytest.approx(float(whole), abs=1e-5)
    for row, part in zip(table[1:].iter_rows(named=True), text_parts(model), strict=True):
        logits = plainly_without(model, part, mean)[items, positions]
        loss = float(torch.nn.functional.cross_entropy(logits, targets))
        assert row["loss"] == pytest.approx(loss, abs=1e-5), part
        assert row["loss_gained"] == pytest.approx(loss - float(whole), abs=2e-5), part


def test_what_lies_before_a_part_is_computed_once() -> None:
    config = TransformerConfig.gpt(vocabulary=9, positions=7, width=16, blocks=3, heads=4)
    model = HuggingFaceModel(to_huggingface(random_model(config)))
    read = [0, 0, 0]
    for block in range(3):

        def count(module: Any, given: Any, block: int = block) -> None:
            read[block] += 1

        model.block(block).get_submodule(model.places.hidden).register_forward_pre_hook(count)
    chosen = [Part("head", 1, head) for head in range(4)]
    model.logits_at(TOKENS, torch.arange(60), AT)  # looks whether decoder and head can be split
    read[:] = [0, 0, 0]
    text_ablation_effects(model, TOKENS, AT, torch.zeros(60, dtype=torch.int64), chosen=chosen)
    assert read == [1, 5, 5]
