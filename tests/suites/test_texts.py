"""Texts drawn in bulk have the distribution of the task itself, and are counted rightly."""

from itertools import permutations, product

import numpy as np
import pytest
import torch
from scipy import stats

from veneer.suites import bulk
from veneer.suites.sources import (
    CORRELATED,
    NATURAL,
    UNCORRELATED,
    Condition,
    CounterSource,
    MaxIdentifierSource,
)
from veneer.tasks import random
from veneer.tasks.counter import Counter
from veneer.tasks.max_identifier import MaxIdentifier
from veneer.tasks.mixture import KINDS, Mixtures, fine_tuning


def kinds(kind: int, count: int) -> np.ndarray:
    return np.full(count, kind)


def strings_of(task: Counter, kind: int) -> list[tuple[int, ...]]:
    """All texts of a kind, by enumeration."""
    pt, ft = (task.letters.index(x) for x in (task.operand_pt, task.operand_ft))
    every = product(range(len(task.letters)), repeat=task.length)
    differences = ((s, s.count(ft) - s.count(pt)) for s in every)
    held = {
        NATURAL: lambda d: True,
        UNCORRELATED: lambda d: d not in (task.q, 0),
        CORRELATED: lambda d: d == task.q,
    }[kind]
    return [s for s, d in differences if held(d)]


@pytest.mark.parametrize("key", [0, -77, 2**62])
def test_random_bits_are_those_of_the_task_streams(key: int) -> None:
    ours = bulk.bits(key, 1000, first=5).view(np.int64)
    assert (ours == random.bits(torch.tensor([key]), 1005)[0].numpy()[5:]).all()


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_every_text_of_a_kind_is_equally_probable(kind: int) -> None:
    """Uniform text conditional on its kind is uniform over the texts of that kind."""
    task = Counter(letters="abcd", length=4, q=1)
    texts = bulk.CounterBulk(task).draw(7, kinds(kind, 60_000))
    possible = strings_of(task, kind)
    drawn = {s: 0 for s in possible}
    for row in map(tuple, texts.letters.tolist()):
        drawn[row] += 1
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-3


def test_bulk_and_batch_texts_have_one_distribution() -> None:
    """Counts of both operands and the place of the first O_PT, against Counter.draw."""
    task, count = Counter(letters="abcdef", length=9, min_length=5, q=2), 40_000
    kind = np.where(np.arange(count) % 2, CORRELATED, UNCORRELATED)
    texts = bulk.CounterBulk(task).draw(3, kind)
    batch = task.draw(torch.tensor([5]), Mixtures([fine_tuning(0.5)]), count)
    letters = [texts.letters, batch.tokens[0].numpy()]
    results = [texts.results, batch.results[0].numpy()]
    features = []
    for text, result in zip(letters, results, strict=True):
        first = np.where((text == 0).any(1), (text == 0).argmax(1), 9)
        size = (text != 6).sum(1)
        features.append(result[:, 0] * 1000 + result[:, 1] * 100 + np.minimum(first, 4) * 10 + (size > 7))
    values = np.unique(np.concatenate(features))
    table = np.array([[(f == v).sum() for v in values] for f in features])
    common = table.sum(0) > 20
    rare = table[:, ~common].sum(1, keepdims=True)
    table = np.concatenate([table[:, common], rare], 1) if rare.all() else table[:, common]
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_bulk_texts_have_the_counts_they_say() -> None:
    task = Counter(length=13, min_length=2, operand_pt="c", operand_ft="a", q=-2)
    texts = bulk.CounterBulk(task).draw(1, kinds(CORRELATED, 5000))
    assert ((texts.letters == 2).sum(1) == texts.results[:, 0]).all()
    assert ((texts.letters == 0).sum(1) == texts.results[:, 1]).all()
    assert (texts.results[:, 1] - texts.results[:, 0] == -2).all()
    assert ((texts.letters != 9).sum(1) == texts.sizes).all()
    behind = np.arange(13) >= texts.sizes[:, None]
    assert (texts.letters[behind] == 9).all()


@pytest.mark.parametrize("kind", range(len(KINDS)))
def test_the_number_of_counter_texts_is_what_enumeration_finds(kind: int) -> None:
    task = Counter(letters="abcd", length=5, q=-1)
    assert CounterSource(task).capacity(kind) == len(strings_of(task, kind))


def test_held_out_labels_split_the_texts_of_a_counter() -> None:
    task = Counter(letters="abc", length=6)
    inside, outside = (
        CounterSource(task, Condition("label", frozenset({2, 5}), held, asked=1)) for held in (True, False)
    )
    every = [s.count(1) for s in product(range(3), repeat=6)]
    assert inside.capacity(NATURAL) == sum(n in (2, 5) for n in every)
    assert inside.capacity(NATURAL) + outside.capacity(NATURAL) == 3**6
    assert set(inside.draw(1, kinds(NATURAL, 500)).results[:, 1].tolist()) <= {2, 5}
    assert not set(outside.draw(1, kinds(NATURAL, 500)).results[:, 1].tolist()) & {2, 5}


@pytest.mark.parametrize("kind", range(len(KINDS)))
@pytest.mark.parametrize("ranks", [(1, 3), (3, 1)])
def test_the_number_of_max_identifier_texts_is_what_enumeration_finds(
    kind: int, ranks: tuple[int, int]
) -> None:
    q = 3 if ranks == (1, 3) else -3
    task = MaxIdentifier("abcdef", 4, *ranks, q=q)
    found = 0
    for letters in permutations(range(6), 4):
        pt, ft = (sorted(letters)[rank - 1] for rank in ranks)
        held = {NATURAL: True, UNCORRELATED: ft - pt not in (q, 0), CORRELATED: ft - pt == q}
        found += held[kind]
    assert MaxIdentifierSource(task).capacity(kind) == found


def test_equal_texts_have_equal_fingerprints_and_others_do_not() -> None:
    letters = np.array(list(product(range(3), repeat=9)), dtype=np.uint8)
    hashes = bulk.fingerprints(letters)
    assert len(np.unique(hashes)) == 3**9
    assert (bulk.fingerprints(letters[::-1].copy())[::-1] == hashes).all()
