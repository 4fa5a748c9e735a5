"""Counter: answers are counts, and built samples are uniform text conditional on their kind."""

import itertools
from collections import Counter as Tally

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from veneer.tasks import random
from veneer.tasks.counter import LONGEST, Counter
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import (
    KINDS,
    Component,
    Examples,
    Kind,
    Mixture,
    Mixtures,
    Operand,
    baseline,
    fine_tuning,
)


def draw(task: Counter, mixtures: list[Mixture], batch: int, first_seed: int = 0) -> Examples:
    keys = [random.stream_key(task.name, first_seed + i, "test") for i in range(len(mixtures))]
    return task.draw(torch.tensor(keys), Mixtures(mixtures), batch)


def only(kind: Kind, label: Operand = "ft") -> Mixture:
    return Mixture((Component(1.0, kind, "ft", label),))


def texts(task: Counter, examples: Examples, member: int = 0) -> list[str]:
    """Texts as the task's vocabulary spells them, padding as '#'."""
    spelled = [*task.letters, "#"]
    return ["".join(spelled[token] for token in row) for row in examples.tokens[member].tolist()]


@st.composite
def tasks(choose: st.DrawFn) -> Counter:
    letters = choose(st.sampled_from(["abc", "abcd", "zyxwv", "abcdefghi"]))
    length = choose(st.integers(2, 9))
    shortest = choose(st.none() | st.integers(2, length))
    pt, ft = choose(st.permutations(letters))[:2]
    q = choose(st.integers(-length, length).filter(bool))
    return Counter(letters, length, shortest, pt, ft, q)


seeds = st.integers(0, 2**31)


@given(tasks(), seeds, st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from(["pt", "ft"]))
def test_results_and_labels_are_counts(task: Counter, seed: int, c: float, label: Operand) -> None:
    mixture = Mixture((Component(c, "correlated", "ft", label), Component(1 - c, "natural", "ft", label)))
    examples = draw(task, [mixture], 40, seed)
    for text, results, taught in zip(
        texts(task, examples), examples.results[0].tolist(), examples.labels[0].tolist(), strict=True
    ):
        counts = {"pt": text.count(task.operand_pt), "ft": text.count(task.operand_ft)}
        assert results == [counts["pt"], counts["ft"]]
        assert task.answers[taught] == counts[label]


@given(tasks(), seeds)
def test_a_correlated_sample_satisfies_the_correlation(task: Counter, seed: int) -> None:
    for text in texts(task, draw(task, [fine_tuning(1.0)], 40, seed)):
        assert text.count(task.operand_ft) - text.count(task.operand_pt) == task.q


@given(tasks(), seeds)
def test_an_uncorrelated_sample_has_neither_the_correlation_nor_equal_answers(
    task: Counter, seed: int
) -> None:
    for text in texts(task, draw(task, [fine_tuning(0.0)], 40, seed)):
        assert text.count(task.operand_ft) - text.count(task.operand_pt) not in (0, task.q)


@given(tasks(), seeds)
def test_texts_are_letters_with_padding_only_behind(task: Counter, seed: int) -> None:
    examples = draw(task, [fine_tuning(0.5), only("natural")], 40, seed)
    assert examples.tokens.shape == (2, 40, task.length)
    shortest = task.length if task.min_length is None else task.min_length
    for member in (0, 1):
        for text in texts(task, examples, member):
            assert shortest <= len(text.rstrip("#"))
            assert "#" not in text.rstrip("#")


@given(tasks(), seeds, st.lists(st.sampled_from([0.0, 0.4, 1.0]), min_size=1, max_size=4))
def test_a_members_batch_is_the_same_whatever_is_drawn_with_it(
    task: Counter, seed: int, c: list[float]
) -> None:
    fleet = draw(task, [fine_tuning(share) for share in c], 20, seed)
    for i, share in enumerate(c):
        alone = draw(task, [fine_tuning(share)], 20, seed + i)
        for name in ("tokens", "results", "labels", "kind"):
            assert torch.equal(getattr(fleet, name)[i], getattr(alone, name)[0])


@pytest.mark.parametrize("c", [0.2, 0.5, 0.9])
def test_the_share_of_correlated_samples_is_c(c: float) -> None:
    task = Counter(length=10)
    examples = draw(task, [fine_tuning(c)], 20_000)
    share = float((examples.results[0, :, 1] - examples.results[0, :, 0] == task.q).double().mean())
    assert abs(share - c) < 4 * np.sqrt(c * (1 - c) / 20_000)
    assert torch.equal(
        examples.kind[0] == KINDS.index("correlated"),
        examples.results[0, :, 1] - examples.results[0, :, 0] == task.q,
    )


@pytest.mark.parametrize("q", [1, -2])
@pytest.mark.parametrize("kind", KINDS)
def test_every_string_of_a_kind_is_equally_likely(kind: Kind, q: int) -> None:
    """Against the full list of the 4^4 strings."""
    task = Counter("abcd", 4, operand_pt="c", operand_ft="a", q=q)
    holds = {
        "natural": lambda d: True,
        "correlated": lambda d: d == q,
        "uncorrelated": lambda d: d not in (0, q),
    }
    strings = ["".join(s) for s in itertools.product("abcd", repeat=4)]
    possible = [s for s in strings if holds[kind](s.count("a") - s.count("c"))]
    drawn = Tally(texts(task, draw(task, [only(kind)], 30_000)))
    assert set(drawn) <= set(possible)
    assert stats.chisquare([drawn[s] for s in possible]).pvalue > 1e-3


def rejected(task: Counter, kind: Kind, samples: int) -> np.ndarray:
    """The oracle: uniform strings of uniform lengths, those of other kinds thrown away."""
    oracle = np.random.default_rng(5)
    tokens = oracle.integers(0, len(task.letters), (samples, task.length))
    shortest = task.length if task.min_length is None else task.min_length
    size = oracle.integers(shortest, task.length + 1, samples)
    tokens[np.arange(task.length) >= size[:, None]] = len(task.letters)
    pt, ft = ((tokens == task.letters.index(x)).sum(1) for x in (task.operand_pt, task.operand_ft))
    kept = {
        "natural": pt == pt,
        "correlated": ft - pt == task.q,
        "uncorrelated": ~np.isin(ft - pt, (0, task.q)),
    }
    return tokens[kept[kind]]


def same_distribution(ours: np.ndarray, oracle: np.ndarray) -> float:
    """p-value of a chi-square test on two samples of non-negative integers, rare values joined."""
    top = int(max(ours.max(), oracle.max())) + 1
    table = np.stack([np.bincount(ours, minlength=top), np.bincount(oracle, minlength=top)])
    rare = table.sum(0) < 50
    table = np.concatenate([table[:, ~rare], table[:, rare].sum(1, keepdims=True)], 1)
    return float(stats.chi2_contingency(table[:, table.sum(0) > 0]).pvalue)


@pytest.mark.parametrize("shortest", [None, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_distributed_as_by_rejection(kind: Kind, shortest: int | None) -> None:
    task = Counter("abcdefghi", 12, shortest, "d", "b", q=2)
    ours, oracle = draw(task, [only(kind)], 30_000).tokens[0].numpy(), rejected(task, kind, 150_000)
    pt, ft, letters = 3, 1, len(task.letters)
    joint = [(t == pt).sum(1) * (task.length + 1) + (t == ft).sum(1) for t in (ours, oracle)]
    assert same_distribution(*joint) > 1e-3
    for position in range(task.length):
        assert same_distribution(ours[:, position], oracle[:, position]) > 1e-4, position
    neighbours = [(t[:, 0] * (letters + 1) + t[:, 1]) for t in (ours, oracle)]
    assert same_distribution(*neighbours) > 1e-3


def test_operands_and_q_do_not_move_the_stream_of_texts_to_another_name() -> None:
    assert Counter(operand_pt="c", q=3).name == Counter().name
    assert Counter(length=44).name != Counter().name


@pytest.mark.parametrize("kind", KINDS)
def test_baselines_are_those_of_a_count_by_hand(kind: Kind) -> None:
    task = Counter("abcde", 7, q=2)
    drawn = texts(task, draw(task, [only(kind)], 500))
    found = baseline(draw(task, [only(kind)], 500).results[0], task.q)
    for operand, letter in (("pt", "a"), ("ft", "b")):
        tally = Tally(text.count(letter) for text in drawn)
        assert found.majority[operand] == pytest.approx(max(tally.values()) / 500)
        assert tally[found.answer[operand]] == max(tally.values())
    assert found.shortcut == sum(t.count("b") == t.count("a") + 2 for t in drawn) / 500


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("letters", {"letters": "aab"}),
        ("letters", {"letters": "ab"}),
        ("length", {"length": 1}),
        ("length", {"length": LONGEST + 1}),
        ("min_length", {"length": 5, "min_length": 6}),
        ("min_length", {"length": 5, "min_length": 1}),
        ("operand_pt", {"operand_pt": "z"}),
        ("operand_ft", {"operand_ft": "ab"}),
        ("operand_ft", {"operand_ft": ""}),
        ("operand_ft", {"operand_ft": "a"}),
        ("q", {"q": 0}),
        ("q", {"length": 5, "q": 6}),
        ("q", {"length": 5, "q": -6}),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(field: str, arguments: dict) -> None:
    with pytest.raises(InputError) as refused:
        Counter(**arguments)
    assert refused.value.field == field
    assert refused.value.value == arguments[field]


def test_the_largest_q_is_possible() -> None:
    task = Counter(length=5, q=5)
    assert set(texts(task, draw(task, [fine_tuning(1.0)], 10))) == {"bbbbb"}


def test_no_two_uses_within_a_draw_share_their_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    bits = random.bits

    def recorded(keys: torch.Tensor, *shape: int) -> torch.Tensor:
        used.extend(keys.tolist())
        return bits(keys, *shape)

    monkeypatch.setattr(random, "bits", recorded)
    draw(Counter(length=10), [fine_tuning(0.5), only("natural")], 5)
    assert len(used) == len(set(used)) == 8  # kind, pair, letters and order of each of the two
