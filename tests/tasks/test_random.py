"""Random numbers are a pure function of task, seed, stream and step, and behave like random ones."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from veneer.tasks import random

WORD = 1 << 64


def splitmix64(state: int, count: int) -> list[int]:
    """Steele, Lea & Flood 2014 on unsigned Python integers, from the published constants."""
    numbers = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % WORD
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % WORD
        numbers.append(z ^ (z >> 31))
    return numbers


def key_of(*keys: int) -> torch.Tensor:
    return torch.tensor(keys)


def bits_of(words: torch.Tensor) -> np.ndarray:
    """The 64 bits of each word, in a new last axis."""
    return ((words.numpy().view(np.uint64)[..., None] >> np.arange(64, dtype=np.uint64)) & 1).astype(np.int64)


def test_numbers_under_a_key_are_the_published_splitmix64_sequence() -> None:
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert splitmix64(1234567, 5) == published
    assert [x % WORD for x in random.bits(key_of(1234567), 5)[0].tolist()] == published


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 40))
def test_every_key_gives_its_splitmix64_sequence(key: int, count: int) -> None:
    assert [x % WORD for x in random.bits(key_of(key), count)[0].tolist()] == splitmix64(key % WORD, count)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 10**6))
def test_a_step_key_is_the_stream_keys_number_of_that_step(key: int, step: int) -> None:
    assert random.step_key(key, step) % WORD == splitmix64((key + step * 0x9E3779B97F4A7C15) % WORD, 1)[0]


def test_a_uniform_number_is_the_upper_53_bits() -> None:
    expected = [(x >> 11) / 2**53 for x in splitmix64(99, 50)]
    assert random.uniform(key_of(99), 50)[0].tolist() == expected


@given(st.integers(-(2**63), 2**63 - 1))
def test_one_number_without_tensors_is_the_first_of_many(key: int) -> None:
    assert random.uniform_number(key) == random.uniform(key_of(key), 3)[0, 0].item()


def test_the_same_key_gives_the_same_numbers_whatever_the_other_keys_and_the_shape() -> None:
    together = random.bits(key_of(5, 6, 7), 3, 4)
    assert torch.equal(together[1], random.bits(key_of(6), 12)[0].view(3, 4))
    assert torch.equal(random.bits(key_of(6), 100)[0, :12], random.bits(key_of(6), 12)[0])


def test_task_seed_stream_step_and_fold_each_change_the_numbers() -> None:
    root = random.stream_key("counter", 0, "train")
    keys = [
        root,
        random.stream_key("max-identifier", 0, "train"),
        random.stream_key("counter", 1, "train"),
        random.stream_key("counter", 0, "evaluate"),
        *(random.step_key(root, step) for step in range(5)),
        *(int(random.fold(key_of(root), number)) for number in range(5)),
    ]
    for one, other in itertools.combinations(keys, 2):
        assert not torch.isin(random.bits(key_of(one), 50), random.bits(key_of(other), 50)).any()
    assert root == random.stream_key("counter", 0, "train")


def test_stream_keys_do_not_confuse_names_that_join_to_the_same_text() -> None:
    assert random.stream_key("a", 1, "1b") != random.stream_key("a", 11, "b")


@pytest.mark.parametrize("key", [0, 1, -1, 12345])
def test_each_bit_is_one_half_of_the_time(key: int) -> None:
    share = bits_of(random.bits(key_of(key), 20_000)).mean((0, 1))
    assert (np.abs(share - 0.5) < 4.5 / np.sqrt(4 * 20_000)).all()


def test_flipping_one_bit_of_the_key_flips_half_of_the_bits() -> None:
    keys = [0x1234_5678_9ABC ^ (1 << i) for i in range(63)]
    changed = bits_of(random.bits(key_of(*keys), 200) ^ random.bits(key_of(0x1234_5678_9ABC), 200))
    assert np.abs(changed.mean((1, 2)) - 0.5).max() < 4.5 / np.sqrt(4 * 200 * 64)


def test_uniform_numbers_fill_the_unit_interval_evenly() -> None:
    numbers = random.uniform(key_of(42), 100_000)[0].numpy()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert stats.chisquare(np.histogram(numbers, 100, (0, 1))[0]).pvalue > 1e-3
    assert stats.kstest(numbers, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("high", [2, 3, 9, 26])
def test_integers_are_uniform(high: int) -> None:
    counts = torch.bincount(random.integers(key_of(7), high, 50_000)[0], minlength=high)
    assert len(counts) == high
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("related", ["neighbouring keys", "neighbouring steps", "neighbouring folds"])
def test_related_keys_give_independent_numbers(related: str) -> None:
    pairs = {
        "neighbouring keys": [(k, k + 1) for k in range(100)],
        "neighbouring steps": [(random.step_key(3, k), random.step_key(3, k + 1)) for k in range(100)],
        "neighbouring folds": [
            (int(random.fold(key_of(k), 0)), int(random.fold(key_of(k), 1))) for k in range(100)
        ],
    }[related]
    one, other = (random.integers(key_of(*keys), 8, 1000).flatten() for keys in zip(*pairs, strict=True))
    table = torch.bincount(one * 8 + other, minlength=64).view(8, 8).numpy()
    assert stats.chi2_contingency(table).pvalue > 1e-3
    same_index = np.corrcoef(one.numpy(), other.numpy())[0, 1]
    assert abs(same_index) < 4.5 / np.sqrt(len(one))


def test_successive_numbers_are_independent() -> None:
    numbers = random.integers(key_of(11), 8, 100_000)[0]
    table = torch.bincount(numbers[:-1] * 8 + numbers[1:], minlength=64).view(8, 8).numpy()
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_shuffled_orders_are_all_permutations_equally_often() -> None:
    orders = random.shuffled_order(key_of(13), 24_000, 4)[0]
    assert torch.equal(orders.sort(-1).values, torch.arange(4).expand_as(orders))
    _, counts = orders.unique(dim=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
