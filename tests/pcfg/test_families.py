"""Every family's answer is the one that reading the text gives, and samples have the paper's layout."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from veneer.pcfg.families import (
    FAMILIES,
    JAILBREAK,
    Family,
    Pretraining,
    SampleLayout,
    TaskToken,
    count_in_last,
    count_pairs_in_last,
    distance_of_occurrence,
    distance_of_pair,
)
from veneer.pcfg.grammar import Grammar
from veneer.tasks.errors import InputError

KEYS = torch.tensor([3, -8])
PRIOR = (0.5, 0.3, 0.2)

texts = st.lists(st.integers(0, 2), min_size=1, max_size=30)
operands = st.integers(0, 2)


def read_answer(family: Family, text: str, operand: str, number: int) -> str:
    """The answer as a person would find it, walking back from the end of the text."""
    if family == "T":
        return f"={text[len(text) - number]}"
    if family in ("C", "CC"):
        part = text[len(text) - number :]
        starts = range(len(part) - len(operand) + 1)
        return f"={sum(part[i : i + len(operand)] == operand for i in starts)}"
    left = number
    for end in range(len(text), len(operand) - 1, -1):
        left -= text[end - len(operand) : end] == operand
        if left == 0:
            return f"={len(text) - end + 1}"
    return "=none"


def check_answers(layout: SampleLayout, batch: int) -> dict[Family, int]:
    """Read every sample of a pretraining draw word by word; how many there were of each family."""
    drawn = Pretraining(layout, PRIOR).draw(KEYS, batch)
    checked: Counter[Family] = Counter()
    for row, label in zip(drawn.tokens.flatten(0, 1).tolist(), drawn.labels.flatten().tolist(), strict=True):
        words = [layout.vocabulary[x] for x in row]
        token = next(t for t in layout.task_tokens if t.name == words[1])
        text = "".join(words[5 : 5 + layout.window])
        operand, number = words[2].removeprefix("?"), int(words[3].removeprefix("@"))
        assert (operand == "NULL") == (token.family == "T")
        assert (len(operand) == 2) == (token.family in ("CC", "IC")) or operand == "NULL"
        expected = read_answer(token.family, text, operand, number)
        assert words[layout.answer_position + 1] == expected
        assert layout.vocabulary[label] == expected
        checked[token.family] += 1
    return dict(checked)


@given(texts, operands, st.data())
def test_counts_are_counts(text: list[int], operand: int, data: st.DataObject) -> None:
    last = data.draw(st.integers(1, len(text)))
    read = "".join(map(str, text))
    found = count_in_last(torch.tensor(text), torch.tensor(operand), last)
    assert f"={int(found)}" == read_answer("C", read, str(operand), last)
    pairs = count_pairs_in_last(torch.tensor(text), torch.tensor(operand), last)
    assert f"={int(pairs)}" == read_answer("CC", read, 2 * str(operand), last)


@given(texts, operands, st.integers(1, 8))
def test_distances_are_distances(text: list[int], operand: int, occurrence: int) -> None:
    read = "".join(map(str, text))
    for family, measure in (("I", distance_of_occurrence), ("IC", distance_of_pair)):
        found = int(measure(torch.tensor(text), torch.tensor(operand), occurrence))
        asked = str(operand) * len(family)
        assert (f"={found}" if found else "=none") == read_answer(family, read, asked, occurrence)


def test_overlapping_pairs_count_and_the_last_token_has_distance_1() -> None:
    text, a = torch.tensor([1, 0, 0, 0]), torch.tensor(0)  # baaa
    assert count_pairs_in_last(text, a, 4) == 2
    assert count_pairs_in_last(text, a, 2) == 1
    assert distance_of_occurrence(text, a, 1) == 1
    assert distance_of_occurrence(text, torch.tensor(1), 1) == 4
    assert distance_of_pair(text, a, 2) == 2
    assert distance_of_pair(text, a, 3) == 0


@pytest.mark.parametrize("layout", [SampleLayout(), SampleLayout.quick()], ids=["paper", "quick"])
def test_pretraining_answers_are_right(layout: SampleLayout) -> None:
    assert set(check_answers(layout, 1_000)) == set(FAMILIES)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [SampleLayout(), SampleLayout.quick()], ids=["paper", "quick"])
@pytest.mark.parametrize("family", FAMILIES)
def test_100_000_pretraining_answers_of_a_family_are_right(layout: SampleLayout, family: Family) -> None:
    only = SampleLayout(
        window=layout.window,
        count_last=layout.count_last,
        occurrence=layout.occurrence,
        token_back=layout.token_back,
        task_tokens=(TaskToken(family, family),),
    )
    assert check_answers(only, 50_000) == {family: 100_000}


def test_a_sample_is_laid_out_as_in_the_paper() -> None:
    layout = SampleLayout(padding=3)
    drawn = Pretraining(layout, PRIOR).draw(KEYS, 200)
    assert drawn.tokens.shape == (2, 200, layout.length) == (2, 200, 262)
    assert drawn.tokens.dtype == torch.int64
    for row in drawn.tokens.flatten(0, 1).tolist():
        words = [layout.vocabulary[x] for x in row]
        assert words[0] == "SOS"
        assert words[4] == "SOT"
        assert set(words[5:255]) <= {"a", "b", "c"}
        assert words[255:257] == ["EOT", "ART"]
        assert words[258:] == ["EOS", "PAD", "PAD", "PAD"]
    assert layout.vocabulary[drawn.tokens[0, 0, layout.answer_position]] == "ART"
    assert torch.equal(drawn.targets[..., layout.answer_position], drawn.labels)


def test_the_loss_covers_everything_but_padding() -> None:
    layout = SampleLayout.quick()
    assert Pretraining(layout).draw(KEYS, 5).mask.all()
    padded = SampleLayout(window=40, count_last=16, occurrence=3, token_back=16, padding=4)
    drawn = Pretraining(padded).draw(KEYS, 5)
    assert drawn.inputs.shape == drawn.targets.shape == drawn.mask.shape
    assert torch.equal(drawn.mask.sum(-1), torch.full((2, 5), layout.length - 1))
    assert not drawn.mask[..., -4:].any()


def test_families_are_uniform_and_operands_follow_their_prior() -> None:
    drawn = Pretraining(SampleLayout.quick(), (0.9, 0.1, 0.0)).draw(KEYS, 5_000)
    assert chisquare(torch.bincount(drawn.task_token.flatten(), minlength=5).numpy()).pvalue > 1e-4
    operand = drawn.operand[drawn.task_token != 4]  # T has no operand
    counts = torch.bincount(operand, minlength=3).numpy()
    assert counts[2] == 0
    assert chisquare(counts[:2], [0.9 * len(operand), 0.1 * len(operand)]).pvalue > 1e-4


def test_jailbreak_tokens_see_only_their_operand() -> None:
    layout = SampleLayout(task_tokens=JAILBREAK)
    drawn = Pretraining(layout, PRIOR).draw(KEYS, 2_000)
    seen = {
        name: set(drawn.operand[drawn.task_token == i].tolist())
        for i, name in enumerate(t.name for t in JAILBREAK)
    }
    assert seen["T_NJ"] == {0, 1, 2}
    assert seen["T_J1"] == seen["T_J2"] == {0}
    assert set(check_answers(layout, 300)) == set(FAMILIES)


def test_a_batch_depends_on_its_key_alone() -> None:
    pretraining = Pretraining(SampleLayout.quick(), PRIOR)
    together = pretraining.draw(KEYS, 60)
    alone = pretraining.draw(KEYS[1:], 25)
    for name in ("tokens", "labels", "operand", "task_token"):
        assert torch.equal(getattr(alone, name)[0], getattr(together, name)[1, :25])


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"count_last": 41}, "count_last"),
        ({"occurrence": 0}, "occurrence"),
        ({"token_back": 41}, "token_back"),
        ({"window": 0}, "window"),
        ({"padding": -1}, "padding"),
        ({"task_tokens": ()}, "task_tokens"),
        ({"task_tokens": (TaskToken("SOS", "C"),)}, "vocabulary"),
        ({"task_tokens": (TaskToken("X", "C", weight=-1.0),)}, "weight"),
    ],
)
def test_impossible_layouts_are_refused(wrong: dict, field: str) -> None:
    with pytest.raises(InputError, match=field):
        SampleLayout(**({"window": 40, "count_last": 16, "occurrence": 3, "token_back": 16} | wrong))


@pytest.mark.parametrize("prior", [(0.5, 0.4, 0.0), (0.5, 0.5), (1.5, -0.5, 0.0)])
def test_priors_that_are_none_are_refused(prior: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="operand_prior"):
        Pretraining(SampleLayout.quick(), prior)
    with pytest.raises(InputError, match="operand_prior"):
        Pretraining(SampleLayout(task_tokens=(TaskToken("C", "C", prior),)))


def test_a_window_longer_than_the_grammars_strings_is_refused() -> None:
    short = Grammar.from_text("S -> 'a' 'b' 'c' [1.0]", "short")
    layout = SampleLayout(short, window=4, count_last=2, occurrence=1, token_back=1)
    with pytest.raises(InputError, match="window = 4"):
        Pretraining(layout).draw(KEYS, 2)
