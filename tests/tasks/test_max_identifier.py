"""Max-identifier: answers are order statistics, and samples are uniform text conditional on their kind."""

import itertools
from collections import Counter as Tally

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from veneer.tasks import random
from veneer.tasks.errors import InputError
from veneer.tasks.max_identifier import MaxIdentifier
from veneer.tasks.mixture import KINDS, Component, Examples, Kind, Mixture, Mixtures, baseline, fine_tuning


def draw(task: MaxIdentifier, mixtures: list[Mixture], batch: int, first_seed: int = 0) -> Examples:
    keys = [random.stream_key(task.name, first_seed + i, "test") for i in range(len(mixtures))]
    return task.draw(torch.tensor(keys), Mixtures(mixtures), batch)


def only(kind: Kind) -> Mixture:
    return Mixture((Component(1.0, kind, "ft", "ft"),))


def texts(task: MaxIdentifier, examples: Examples, member: int = 0) -> list[str]:
    return ["".join(task.letters[token] for token in row) for row in examples.tokens[member].tolist()]


def of_rank(task: MaxIdentifier, text: str, rank: int) -> int:
    """Index of the letter of a rank, by sorting."""
    return sorted(task.letters.index(letter) for letter in text)[rank - 1]


def difference(task: MaxIdentifier, text: str) -> int:
    return of_rank(task, text, task.rank_ft) - of_rank(task, text, task.rank_pt)


@st.composite
def tasks(choose: st.DrawFn) -> MaxIdentifier:
    count = choose(st.integers(3, 26))
    letters = "abcdefghijklmnopqrstuvwxyz"[:count][:: choose(st.sampled_from([1, -1]))]
    length = choose(st.integers(2, count))
    pt, ft = choose(st.permutations(range(1, length + 1)))[:2]
    apart, room = abs(ft - pt), count - length
    assume(room > 0)
    q = choose(st.integers(apart, apart + room)) * (1 if ft > pt else -1)
    return MaxIdentifier(letters, length, pt, ft, q)


seeds = st.integers(0, 2**31)


@given(tasks(), seeds, st.sampled_from([0.0, 0.3, 1.0]))
def test_results_and_labels_are_order_statistics(task: MaxIdentifier, seed: int, c: float) -> None:
    mixture = Mixture((Component(c, "correlated", "ft", "ft"), Component(1 - c, "natural", "pt", "pt")))
    examples = draw(task, [mixture], 30, seed)
    for text, results, label, kind in zip(
        texts(task, examples),
        examples.results[0].tolist(),
        examples.labels[0].tolist(),
        examples.kind[0].tolist(),
        strict=True,
    ):
        assert results == [of_rank(task, text, task.rank_pt), of_rank(task, text, task.rank_ft)]
        asked = task.rank_ft if KINDS[kind] == "correlated" else task.rank_pt
        assert task.answers[label] == task.letters[of_rank(task, text, asked)]


@given(tasks(), seeds)
def test_strings_have_no_letter_twice(task: MaxIdentifier, seed: int) -> None:
    examples = draw(task, [fine_tuning(0.5), only("natural")], 30, seed)
    for member in (0, 1):
        for text in texts(task, examples, member):
            assert len(text) == len(set(text)) == task.length


@given(tasks(), seeds)
def test_a_correlated_sample_satisfies_the_correlation(task: MaxIdentifier, seed: int) -> None:
    for text in texts(task, draw(task, [fine_tuning(1.0)], 30, seed)):
        assert difference(task, text) == task.q


@given(tasks(), seeds)
def test_an_uncorrelated_sample_never_does(task: MaxIdentifier, seed: int) -> None:
    for text in texts(task, draw(task, [fine_tuning(0.0)], 30, seed)):
        assert difference(task, text) not in (0, task.q)


@given(tasks(), seeds, st.lists(st.sampled_from([0.0, 0.4, 1.0]), min_size=1, max_size=4))
def test_a_members_batch_is_the_same_whatever_is_drawn_with_it(
    task: MaxIdentifier, seed: int, c: list[float]
) -> None:
    fleet = draw(task, [fine_tuning(share) for share in c], 20, seed)
    for i, share in enumerate(c):
        alone = draw(task, [fine_tuning(share)], 20, seed + i)
        for name in ("tokens", "results", "labels", "kind"):
            assert torch.equal(getattr(fleet, name)[i], getattr(alone, name)[0])


def test_half_of_the_samples_are_correlated_where_c_is_one_half() -> None:
    task = MaxIdentifier()
    results = draw(task, [fine_tuning(0.5)], 20_000).results[0]
    share = float((results[:, 1] - results[:, 0] == task.q).double().mean())
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / 20_000)


@pytest.mark.parametrize(("pt", "ft", "q"), [(2, 3, 1), (3, 1, -3)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_string_of_a_kind_is_equally_likely(kind: Kind, pt: int, ft: int, q: int) -> None:
    """Against the full list of the 6 * 5 * 4 strings."""
    task = MaxIdentifier("abcdef", 3, pt, ft, q)
    holds = {
        "natural": lambda d: True,
        "correlated": lambda d: d == q,
        "uncorrelated": lambda d: d not in (0, q),
    }
    strings = ["".join(s) for s in itertools.permutations("abcdef", 3)]
    possible = [s for s in strings if holds[kind](difference(task, s))]
    drawn = Tally(texts(task, draw(task, [only(kind)], 20_000)))
    assert set(drawn) <= set(possible)
    assert stats.chisquare([drawn[s] for s in possible]).pvalue > 1e-3


def same_distribution(ours: np.ndarray, oracle: np.ndarray) -> float:
    """p-value of a chi-square test on two samples of non-negative integers, rare values joined."""
    top = int(max(ours.max(), oracle.max())) + 1
    table = np.stack([np.bincount(ours, minlength=top), np.bincount(oracle, minlength=top)])
    rare = table.sum(0) < 50
    table = np.concatenate([table[:, ~rare], table[:, rare].sum(1, keepdims=True)], 1)
    return float(stats.chi2_contingency(table[:, table.sum(0) > 0]).pvalue)


@pytest.mark.parametrize("kind", KINDS)
def test_the_papers_task_is_distributed_as_by_rejection(kind: Kind) -> None:
    task = MaxIdentifier()
    oracle = np.random.default_rng(5).random((120_000, 26)).argsort(1)[:, :10]
    ordered = np.sort(oracle, 1)
    apart = ordered[:, 6] - ordered[:, 4]
    kept = {"natural": apart == apart, "correlated": apart == 2, "uncorrelated": apart != 2}
    oracle, ordered = oracle[kept[kind]], ordered[kept[kind]]
    ours = draw(task, [only(kind)], 30_000).tokens[0].numpy()
    sorted_ours = np.sort(ours, 1)
    joint = [s[:, 4] * 26 + s[:, 6] for s in (sorted_ours, ordered)]
    assert same_distribution(*joint) > 1e-3
    for position in range(10):
        assert same_distribution(ours[:, position], oracle[:, position]) > 1e-4, position
        assert same_distribution(sorted_ours[:, position], ordered[:, position]) > 1e-4, position


@pytest.mark.parametrize("kind", KINDS)
def test_baselines_are_those_of_sorting_by_hand(kind: Kind) -> None:
    task = MaxIdentifier("abcdefgh", 4, 2, 3, 1)
    examples = draw(task, [only(kind)], 400)
    found = baseline(examples.results[0], task.q)
    drawn = texts(task, examples)
    for operand, rank in (("pt", 2), ("ft", 3)):
        tally = Tally(of_rank(task, text, rank) for text in drawn)
        assert found.majority[operand] == pytest.approx(max(tally.values()) / 400)
        assert tally[found.answer[operand]] == max(tally.values())
    assert found.shortcut == sum(difference(task, text) == 1 for text in drawn) / 400


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("letters", {"letters": "abca"}),
        ("length", {"length": 27}),
        ("length", {"length": 1}),
        ("rank_pt", {"rank_pt": 0}),
        ("rank_pt", {"rank_pt": 11}),
        ("rank_ft", {"rank_ft": 11}),
        ("rank_ft", {"rank_ft": 5}),
        ("q", {"q": 0}),
        ("q", {"q": 1}),  # the paper's, of which no string of distinct letters is an example
        ("q", {"q": 19}),
        ("q", {"q": -2}),
        ("q", {"letters": "abcd", "length": 4, "rank_pt": 1, "rank_ft": 2, "q": 1}),  # all strings show it
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(field: str, arguments: dict) -> None:
    with pytest.raises(InputError) as refused:
        MaxIdentifier(**arguments)
    assert refused.value.field == field
    assert refused.value.value == arguments[field]


def test_the_largest_possible_q_is_named_and_possible() -> None:
    with pytest.raises(InputError) as refused:
        MaxIdentifier(q=99)
    assert refused.value.valid == "2 to 18"
    task = MaxIdentifier(q=18)  # a to e, one between, w to z
    assert {difference(task, text) for text in texts(task, draw(task, [fine_tuning(1.0)], 50))} == {18}


def test_no_two_uses_within_a_draw_share_their_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    bits = random.bits

    def recorded(keys: torch.Tensor, *shape: int) -> torch.Tensor:
        used.extend(keys.tolist())
        return bits(keys, *shape)

    monkeypatch.setattr(random, "bits", recorded)
    draw(MaxIdentifier(), [fine_tuning(0.5), only("natural")], 5)
    assert len(used) == len(set(used)) == 8  # kind, pair, letters and order of each of the two
