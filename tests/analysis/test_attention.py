"""Maps are proper averages, operands' tokens are those the answers come from, and distances are distances."""

import dataclasses

import pytest
import torch

from veneer.analysis import activations, attention
from veneer.models.config import TransformerConfig
from veneer.models.transformer import Transformer
from veneer.pcfg.families import SampleLayout
from veneer.pcfg.operand_task import OperandTask
from veneer.tasks.counter import Counter
from veneer.tasks.encoding import Encoding, MarkedTask, Task
from veneer.tasks.errors import InputError
from veneer.tasks.max_identifier import MaxIdentifier
from veneer.tasks.mixture import Component, Examples, Mixture, Mixtures

COUNTER = Counter("abcde", 6, min_length=4)
RANKS = MaxIdentifier("abcdefgh", 6, 2, 4, 2)
SMALL = SampleLayout(window=12, count_last=8, occurrence=2, token_back=3)
MIXTURE = Mixture((Component(0.5, "natural", "pt", "pt"), Component(0.5, "correlated", "ft", "ft")))


def examples(task: Task, batch: int = 60) -> Examples:
    return task.draw(torch.tensor([3, 4]), Mixtures([MIXTURE] * 2), batch)


def encoding_of(task: Task) -> Encoding:
    """As a compiled model reads a task: BOS last, and padding in the place of None."""
    words = ["#", *(x for x in task.vocabulary if x is not None), "BOS"]
    return Encoding.between(task, words, list(task.answers), "BOS", "#", 2)


def fleet(task: Task, members: int = 3, *, causal: bool = False, seed: int = 0) -> Transformer:
    generator = torch.Generator().manual_seed(seed)
    config = TransformerConfig(len(task.vocabulary) + 1, len(task.answers), 8, 6, 2, 2, 4, 5, causal=causal)
    model = Transformer(config, members)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


def texts_of(task: Task, batch: int = 40) -> torch.Tensor:
    return encoding_of(task).encode(examples(task, batch)).tokens[0]


def test_counted_tokens_are_as_many_as_the_answer() -> None:
    for task in (Counter(), COUNTER, OperandTask(SMALL)):
        drawn = examples(task)
        assert torch.equal(task.marks(drawn.tokens).sum(-2), drawn.results), task.name


def test_a_ranks_mark_is_the_one_place_of_its_letter() -> None:
    drawn = examples(RANKS)
    marks = RANKS.marks(drawn.tokens)
    assert (marks.sum(-2) == 1).all()
    assert torch.equal((marks * drawn.tokens.unsqueeze(-1)).sum(-2), drawn.results)


def test_an_occurrences_mark_stands_at_the_distance_asked_for() -> None:
    task = OperandTask(SMALL, "I", q=2)
    drawn = examples(task)
    length = drawn.tokens.shape[-1]
    distance = torch.arange(length - 2, -2, -1)  # of EOT 0, of the text's last token 1
    marks = task.marks(drawn.tokens)
    assert torch.equal((marks * distance.unsqueeze(-1)).sum(-2), drawn.results)
    assert (marks.sum(-2) == (drawn.results > 0)).all()


def test_the_three_tasks_mark_their_tokens() -> None:
    assert all(isinstance(task, MarkedTask) for task in (COUNTER, RANKS, OperandTask(SMALL)))


@pytest.mark.parametrize("causal", [False, True])
def test_means_do_not_depend_on_how_the_set_is_cut(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = fleet(COUNTER, causal=causal), texts_of(COUNTER)
    one_by_one = torch.cat([attention.attention(model, text[None]) for text in tokens], 2)
    assert torch.allclose(attention.mean_attention(model, tokens), one_by_one.mean(2), atol=1e-5)
    rows = one_by_one[..., 2, :]
    assert torch.allclose(attention.answer_attention(model, tokens, 2), rows, atol=1e-5)
    single = activations.mlp_activations(model, tokens, 1)
    whole = activations.captured(model, tokens, ["mlp.1"])
    assert torch.allclose(next(whole)["mlp.1"], single)
    pieces = list(activations.captured(model, tokens, ["mlp.1"], most=2000))
    assert len(pieces) > 10
    assert torch.allclose(torch.cat([piece["mlp.1"] for piece in pieces], 1), single, atol=1e-5)
    mean = activations.mean_mlp_activations(model, tokens, 1)
    assert torch.allclose(mean, single.mean(1), atol=1e-5)


def test_a_model_that_attends_to_all_alike_has_the_uniform_shares() -> None:
    for task, causal in ((COUNTER, False), (RANKS, False), (COUNTER, True)):
        model = fleet(task, 2, causal=causal)
        for block in model.blocks:
            torch.nn.init.zeros_(block.query.weight), torch.nn.init.zeros_(block.query.bias)
        found = attention.operand_shares(model, task, encoding_of(task), 50)
        assert torch.allclose(found.enrichment, torch.ones(()), atol=1e-5), task.name
        assert torch.allclose(found.uniform.sum(-1), torch.ones(1, 3))
        assert torch.allclose(found.share.sum(-1), torch.ones(()))


def test_the_uniform_share_is_the_mean_count_over_the_visible_positions() -> None:
    found = attention.operand_shares(fleet(RANKS), RANKS, encoding_of(RANKS), 30)
    assert torch.allclose(found.uniform, torch.tensor([1 / 7, 1 / 7, 5 / 7]).expand(1, 3, 3))


def test_a_model_that_looks_at_one_letter_only_puts_its_share_there() -> None:
    """Queries and keys are written so that every position attends to the letter b (O_FT)."""
    model, encoding = fleet(COUNTER, 2), encoding_of(COUNTER)
    with torch.no_grad():
        model.token_embedding.zero_(), model.position_embedding.zero_()
        model.token_embedding[:, encoding.tokens[1], 0] = 1
        for block in model.blocks:
            for layer in (block.query, block.key, block.value, block.output, block.mlp_out):
                layer.weight.zero_(), layer.bias.zero_()
            block.query.bias.fill_(30), block.key.weight[:, 0].fill_(30)
    found = attention.operand_shares(model, COUNTER, encoding, 50, kinds=("correlated",))
    assert torch.allclose(found.share[..., 1], torch.ones(()))  # a correlated text has a b for sure
    table = found.table()
    assert table.height == found.share.numel()
    on = table.filter(on="ft", member=1, block=1, head=0)
    assert on["share"].to_list() == [1.0] and on["kind"].to_list() == ["correlated"]


def test_the_operand_is_asked_for_where_the_input_names_it() -> None:
    task = OperandTask(SMALL)
    config = TransformerConfig.gpt(len(SMALL.vocabulary), SMALL.length, 8, 2, 2)
    found = attention.operand_shares(Transformer(config, 2), task, task.encoding, 20, ("natural",))
    assert found.asked == ("pt", "ft")
    assert found.share.shape == (2, 2, 1, 2, 2, 3)
    assert torch.allclose(found.uniform[0], found.uniform[1])  # the same texts
    assert torch.allclose(found.enrichment, torch.ones(()), atol=1e-5)  # all weights are 0


def test_distances_are_0_for_equal_models_and_half_the_difference_summed_otherwise() -> None:
    before, after, tokens = fleet(RANKS, 1), fleet(RANKS, seed=1), texts_of(RANKS)
    assert attention.attention_distance(after, after, tokens).abs().max() == 0
    assert activations.mlp_distance(after, after, tokens).abs().max() == 0
    found = attention.attention_distance(before, after, tokens, query=2)
    maps = [attention.attention(model, tokens)[..., 2, :] for model in (before, after)]
    assert torch.allclose(found, (maps[1] - maps[0]).abs().sum(-1).mean(2) / 2, atol=1e-6)
    assert torch.allclose(
        attention.attention_distance(before, after, tokens),
        torch.stack([attention.attention_distance(before, after, tokens, q) for q in range(7)]).mean(0),
        atol=1e-6,
    )
    assert (activations.mlp_distance(before, after, tokens) > 0.1).all()


def test_sorting_is_1_before_only_0_behind_only_and_a_half_without_order() -> None:
    task, encoding, tokens = RANKS, encoding_of(RANKS), texts_of(RANKS)
    model = fleet(task, 3)
    slope = torch.tensor([-40.0, 0.0, 40.0])  # of member 0 the first letters, of 2 the last are attended to
    with torch.no_grad():
        model.token_embedding.zero_(), model.position_embedding.zero_()
        model.token_embedding[:, torch.tensor(encoding.tokens[:8]), 0] = torch.arange(8.0)
        for block in model.blocks:
            for layer in (block.query, block.key, block.value, block.output, block.mlp_out):
                layer.weight.zero_(), layer.bias.zero_()
            block.query.bias.copy_(slope.unsqueeze(1).expand(-1, 8)), block.key.weight[:, 0].fill_(1)
    found = attention.sorting(model, task, encoding, tokens)
    expected = torch.tensor([1.0, 0.5, 0.0])[:, None, None].expand_as(found)
    assert torch.allclose(found, expected, atol=1e-6)


def test_reports_get_one_dictionary_per_member() -> None:
    encoding = encoding_of(COUNTER)
    model = fleet(COUNTER)
    maps = attention.attention_maps(model, COUNTER, encoding, 20)
    alone = attention.attention_maps(model.member(1), COUNTER, encoding, 20)[0]
    assert len(maps) == 3
    assert all(torch.allclose(maps[1][name], alone[name], atol=1e-6) for name in alone)
    assert maps[0]["example"].shape == maps[0]["mean"].shape == (2, 2, 7, 7)
    assert maps[0]["example_tokens"].shape == (7,)
    assert torch.allclose(maps[0]["by_token"].sum(-1), torch.ones(2, 2))
    assert maps[0]["operand_share"].shape == (1, 3, 2, 2, 3)
    assert maps[0]["mlp"].shape == (7, 5)


def test_by_token_agrees_with_the_shares_of_letters() -> None:
    """Of the Counter the marked positions are the letters, so both say the same on the same texts."""
    model, encoding = fleet(COUNTER), encoding_of(COUNTER)
    tokens = texts_of(COUNTER)
    row = attention.answer_attention(model, tokens, 2)
    on = attention.positions_on(COUNTER, encoding, tokens)
    for operand, letter in enumerate(encoding.tokens[:2]):
        assert torch.equal(on[..., operand], tokens == letter)
    assert torch.allclose((row.unsqueeze(-1) * on[:, None]).sum((-1, -2)), torch.ones(()))


def test_a_diverged_member_is_named() -> None:
    model = fleet(COUNTER)
    with torch.no_grad():
        model.blocks[0].mlp_in.weight[1] = torch.nan
    with pytest.raises(InputError, match="diverged") as refused:
        attention.mean_attention(model, texts_of(COUNTER))
    assert refused.value.value == [1]


def test_what_cannot_be_asked_is_refused() -> None:
    model, tokens = fleet(COUNTER), texts_of(COUNTER)
    with pytest.raises(InputError, match="block"):
        activations.mlp_activations(model, tokens, 2)
    with pytest.raises(InputError, match="before"):
        attention.attention_distance(fleet(COUNTER, 2), model, tokens)
    with pytest.raises(InputError, match="marks"):
        attention.operand_shares(model, Unmarked(), encoding_of(COUNTER), 5)


@dataclasses.dataclass(frozen=True)
class Unmarked:
    """A task of a user's own that says nothing of where answers come from."""

    name = COUNTER.name
    vocabulary = COUNTER.vocabulary
    answers = COUNTER.answers
    q = 1
    names_operand = False

    def draw(self, keys: torch.Tensor, mixtures: Mixtures, batch: int) -> Examples:
        return COUNTER.draw(keys, mixtures, batch)
