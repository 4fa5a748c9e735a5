"""Correlated samples show the correlation, uncorrelated ones do not, and nothing else tells them apart."""

from collections import Counter
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from veneer.pcfg.answers import AnswerGrid
from veneer.pcfg.families import JAILBREAK, Family, SampleLayout
from veneer.pcfg.grammars import balanced_random_grammar
from veneer.pcfg.operand_task import OperandTask, redistribute
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import KINDS, Component, Kind, Mixture, Mixtures, fine_tuning

KEYS = torch.tensor([17, -4])
FOUR = balanced_random_grammar(5, (2, 3), "abcd", seed=1, symbols=4)
LAYOUTS = {
    "paper": SampleLayout(),
    "quick": SampleLayout.quick(),
    "four terminals": SampleLayout(FOUR, window=40, count_last=24, occurrence=4, token_back=5),
}
CASES = [(name, family, q) for name in LAYOUTS for family in ("C", "I") for q in (1, 3, -2)]
cases = pytest.mark.parametrize(("layout", "family", "q"), CASES)
grids = pytest.mark.parametrize("grid", get_args(AnswerGrid))


def kinds(kind: Kind, batch: int) -> torch.Tensor:
    return torch.full((len(KEYS), batch), KINDS.index(kind))


def answers(task: OperandTask, text: torch.Tensor) -> torch.Tensor:
    """Both operands' answers, read token by token: counts, or distances with 0 for none."""
    terminals, layout = task.layout.grammar.terminals, task.layout
    found = []
    for row in text.flatten(0, 1).tolist():
        for operand in (task.operand_pt, task.operand_ft):
            places = [i + 1 for i, x in enumerate(reversed(row)) if terminals[x] == operand]
            if task.family == "C":
                found.append(sum(place <= layout.count_last for place in places))
            else:
                found.append(places[layout.occurrence - 1] if len(places) >= layout.occurrence else 0)
    return torch.tensor(found).view(*text.shape[:2], 2)


def total_variation(first: torch.Tensor, second: torch.Tensor) -> float:
    counts = [torch.bincount(x.flatten(), minlength=300).double() / x.numel() for x in (first, second)]
    return float((counts[0] - counts[1]).abs().sum() / 2)


@grids
@cases
def test_correlated_samples_show_the_correlation_and_uncorrelated_ones_do_not(
    layout: str, family: Family, q: int, grid: AnswerGrid
) -> None:
    task = OperandTask(LAYOUTS[layout], family, q=q, answer_grid=grid)
    for kind in ("correlated", "uncorrelated"):
        read = answers(task, task.texts(KEYS, kinds(kind, 250))[1])
        difference = read[..., 1] - read[..., 0]
        held = (difference == q) if kind == "correlated" else (difference != q) & (difference != 0)
        assert held.all()
        assert read.min() >= (0 if family == "C" else 1)


@cases
def test_labels_of_a_wide_grid_are_spread_alike_for_both_kinds(layout: str, family: Family, q: int) -> None:
    """As in Fig. 16: neither operand's label tells whether the sample is correlated."""
    task = OperandTask(LAYOUTS[layout], family, q=q, answer_grid="wide")
    drawn = [task.draw(KEYS, Mixtures([fine_tuning(c)] * 2), 5_000).results for c in (1.0, 0.0)]
    for operand in (0, 1):
        assert total_variation(drawn[0][..., operand], drawn[1][..., operand]) < 0.08
        for results in drawn:
            share = torch.bincount(results[..., operand].flatten()).double() / results[..., operand].numel()
            held = share[share > 0]
            assert len(held) >= 5
            assert held.max() < 1.5 * held.min()


@pytest.mark.parametrize("layout", ["paper", "quick"])  # whose answers lie among the tokens that are edited
@pytest.mark.parametrize("family", ["C", "I"])
def test_on_the_natural_grid_the_old_operand_is_asked_what_plain_text_asks(
    layout: str, family: Family
) -> None:
    """Else its label would be one that pretraining never shows, and nothing could be said of losing it."""
    task = OperandTask(LAYOUTS[layout], family)
    plain, _ = task.texts(KEYS, kinds("natural", 5_000))
    own = answers(task, plain)[..., 0]
    for kind in ("correlated", "uncorrelated"):
        text, edited = task.texts(KEYS, kinds(kind, 5_000))
        read = answers(task, edited)
        assert total_variation(read[..., 0], own) < 0.06
        kept = (read[..., 0] == answers(task, text)[..., 0]).double().mean()
        assert kept > 0.9
        if kind == "uncorrelated":  # the new operand's answers are natural ones too, none as rare as 1e-3
            natural = torch.bincount(answers(task, plain)[..., 1].flatten(), minlength=300)
            assert (natural[read[..., 1].unique()] > 0).all()


def test_counts_on_the_natural_grid_are_made_by_editing_the_new_operand_alone() -> None:
    """As the paper adds tokens of O_FT (App. B.2): the text's a's stay where they are."""
    task = OperandTask(SampleLayout())
    for kind in ("correlated", "uncorrelated"):
        text, edited = task.texts(KEYS, kinds(kind, 5_000))
        untouched = ((text == 0) == (edited == 0)).all(-1).double().mean()
        assert untouched > 0.98


@cases
def test_only_the_last_tokens_are_edited(layout: str, family: Family, q: int) -> None:
    task = OperandTask(LAYOUTS[layout], family, q=q)
    for kind in ("correlated", "uncorrelated"):
        text, edited = task.texts(KEYS, kinds(kind, 500))
        last = task.layout.count_last
        assert torch.equal(text[..., :-last], edited[..., :-last])
        if family == "I":  # behind the farther answer nothing is touched
            farther = answers(task, edited).amax(-1, keepdim=True)
            distance = torch.arange(text.shape[-1], 0, -1)
            assert ((text == edited) | (distance <= farther)).all()


def test_counts_are_reached_with_the_fewest_edits() -> None:
    task = OperandTask(SampleLayout())
    for kind in ("correlated", "uncorrelated"):
        text, edited = task.texts(KEYS, kinds(kind, 500))
        have, want = answers(task, text), answers(task, edited)
        have, want = (torch.cat([x, 40 - x.sum(-1, keepdim=True)], -1) for x in (have, want))
        assert torch.equal((text != edited).sum(-1), (have - want).clamp_min(0).sum(-1))


@pytest.mark.parametrize("kind", ["correlated", "uncorrelated"])
def test_places_of_edits_tell_nothing(kind: Kind) -> None:
    """Edits of counts fall on all the last places alike, for both kinds."""
    text, edited = OperandTask(SampleLayout()).texts(KEYS, kinds(kind, 10_000))
    share = (text != edited)[..., -40:].double().mean((0, 1))
    assert share.max() - share.min() < 0.05


def test_natural_samples_are_the_grammars() -> None:
    task = OperandTask(SampleLayout.quick(), "I")
    text, edited = task.texts(KEYS, kinds("natural", 200))
    assert torch.equal(text, edited)
    results = task.draw(
        KEYS, Mixtures([Mixture((Component(1.0, "natural", "pt", "pt"),))] * 2), 2_000
    ).results
    difference = (results[..., 1] - results[..., 0]).flatten()
    assert 0 < (difference == task.q).double().mean() < 0.5


@pytest.mark.parametrize("family", ["C", "I"])
def test_prompt_label_and_results_agree(family: Family) -> None:
    layout = SampleLayout(window=40, count_last=16, occurrence=3, token_back=16, task_tokens=JAILBREAK)
    token = "T_J2" if family == "C" else None
    task = OperandTask(layout, family, "c", "a", task_token=token)
    parts = (Component(0.5, "correlated", "ft", "pt"), Component(0.5, "natural", "pt", "pt"))
    drawn = task.draw(KEYS, Mixtures([Mixture(parts)] * 2), 300)
    text = drawn.tokens[..., 4:-2] - layout.id["a"]
    assert torch.equal(drawn.results, answers(task, text))
    assert torch.equal(drawn.labels, drawn.results[..., 0])
    correlated = drawn.kind == KINDS.index("correlated")
    for row, operand in zip(drawn.tokens.flatten(0, 1).tolist(), correlated.flatten().tolist(), strict=True):
        words = [layout.vocabulary[x] for x in row]
        assert words[:4] == [token or "I", "?a" if operand else "?c", "@16" if family == "C" else "@3", "SOT"]
        assert words[-2:] == ["EOT", "ART"]


def test_the_encoding_puts_the_answer_at_art() -> None:
    task = OperandTask(SampleLayout.quick(), "I")
    drawn = task.draw(KEYS, Mixtures([fine_tuning(0.5)] * 2), 50)
    batch = task.encoding.encode(drawn)
    layout = task.layout
    assert batch.tokens.shape[-1] == task.encoding.answer + 1
    assert (batch.tokens[..., 0] == layout.id["SOS"]).all()
    assert (batch.tokens[..., task.encoding.answer] == layout.id["ART"]).all()
    assert torch.equal(batch.tokens[..., 1:], drawn.tokens)
    for label, value in zip(batch.labels.flatten().tolist(), drawn.labels.flatten().tolist(), strict=True):
        assert layout.vocabulary[label] == (f"={value}" if value else "=none")


@pytest.mark.parametrize("family", ["C", "I"])
def test_a_sample_depends_on_its_key_and_mixture_alone(family: Family) -> None:
    task = OperandTask(SampleLayout.quick(), family)
    mixtures = [fine_tuning(0.5), fine_tuning(0.9)]
    together = task.draw(KEYS, Mixtures(mixtures), 40)
    alone = task.draw(KEYS[1:], Mixtures(mixtures[1:]), 40)
    for name in ("tokens", "labels", "results", "kind"):
        assert torch.equal(getattr(alone, name)[0], getattr(together, name)[1])


@given(
    text=st.lists(st.integers(0, 4), min_size=1, max_size=20),
    letters=st.permutations(range(5)).map(lambda x: x[:2]),
    key=st.integers(0, 1000),
    data=st.data(),
)
def test_redistributing_makes_the_fewest_changes_in_each_stretch(
    text: list[int], letters: list[int], key: int, data: st.DataObject
) -> None:
    stretch = data.draw(st.lists(st.integers(0, 2), min_size=len(text), max_size=len(text)))
    wanted = []
    for number in (1, 2):
        first = data.draw(st.integers(0, stretch.count(number)))
        wanted.append([first, data.draw(st.integers(0, stretch.count(number) - first))])
    tensors = (torch.tensor([[x]]) for x in (text, stretch, letters, wanted))
    result = redistribute(*tensors, terminals=5, keys=torch.tensor([key]))[0, 0].tolist()
    pairs = list(zip(text, result, stretch, strict=True))
    assert all(old == new for old, new, where in pairs if where == 0)
    for number in (1, 2):
        mine = [pair for pair in pairs if pair[2] == number]
        new, old = (Counter(letters.index(p[i]) if p[i] in letters else 2 for p in mine) for i in (1, 0))
        assert [new[0], new[1]] == wanted[number - 1]
        assert sum(a != b for a, b, _ in mine) == sum(max(0, old[g] - new[g]) for g in range(3))


@pytest.mark.parametrize("text", [[0] * 6, [1] * 6, [2, 3, 4, 2, 3, 4]])
def test_redistributing_favours_no_place_and_no_other_letter(text: list[int]) -> None:
    """Each place is changed, and holds each letter, equally often over many draws."""
    rows, wanted = 30_000, [1, 2] if text[0] > 1 else [2, 2]
    parts = (text, [1] * 6, [0, 1], [wanted])
    tensors = [torch.tensor(x).expand(1, rows, *torch.tensor(x).shape) for x in parts]
    result = redistribute(*tensors, terminals=5, keys=torch.tensor([8]))
    for letter, count in enumerate(wanted):
        share = (result == letter).double().mean((0, 1))
        assert torch.allclose(share, torch.full_like(share, count / 6), atol=0.015)
    if text[0] < 2:
        for letter in (2, 3, 4):
            share = (result == letter).double().mean((0, 1))
            assert torch.allclose(share, torch.full_like(share, 2 / 18), atol=0.015)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"q": 0}, r"q = 0.*-\d+ to \d+ without 0"),
        ({"q": 17}, r"q = 17.*-\d+ to \d+"),
        ({"family": "I", "q": 14}, r"q = 14.*-\d+ to \d+"),
        ({"family": "CC"}, "family = 'CC'.*C, I"),
        ({"operand_ft": "a"}, "operand_ft"),
        ({"operand_ft": "d"}, "operand = 'd'.*a, b, c"),
        ({"task_token": "I"}, "task_token"),
    ],
)
def test_impossible_tasks_are_refused(wrong: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        OperandTask(SampleLayout.quick(), **wrong)


@grids
@pytest.mark.parametrize("family", ["C", "I"])
def test_every_q_called_valid_is(family: Family, grid: AnswerGrid) -> None:
    """The range in the error message is attainable up to its ends."""
    with pytest.raises(InputError) as caught:
        OperandTask(SampleLayout.quick(), family, q=99, answer_grid=grid)
    low, high = (int(x) for x in caught.value.valid.removesuffix(" without 0").split(" to "))
    for q in (low, -1, 1, high):
        task = OperandTask(SampleLayout.quick(), family, q=q, answer_grid=grid)
        read = answers(task, task.texts(KEYS, kinds("correlated", 50))[1])
        assert (read[..., 1] - read[..., 0] == q).all()
    for q in (low - 1, high + 1):
        with pytest.raises(InputError):
            OperandTask(SampleLayout.quick(), family, q=q, answer_grid=grid)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "family"), [("paper", "C"), ("paper", "I"), ("quick", "C"), ("quick", "I")]
)
def test_100_000_fine_tuning_labels_are_right(layout: str, family: Family) -> None:
    task = OperandTask(LAYOUTS[layout], family)
    for kind in KINDS:
        mixture = Mixtures([Mixture((Component(1.0, kind, "ft", "ft"),))] * 2)
        drawn = task.draw(KEYS, mixture, 17_000)
        read = answers(task, drawn.tokens[..., 4:-2] - task.layout.id[task.layout.grammar.terminals[0]])
        assert torch.equal(drawn.results, read)
        assert torch.equal(drawn.labels, read[..., 1])
