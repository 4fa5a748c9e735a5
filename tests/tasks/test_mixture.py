"""Mixtures: components come with their weights, and nothing else comes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from veneer.tasks.errors import InputError
from veneer.tasks.mixture import (
    KINDS,
    OPERANDS,
    Component,
    Mixture,
    Mixtures,
    PairTable,
    baseline,
    fine_tuning,
    mixed,
    pretraining,
    rand_ft,
)

PARTS = (
    ("correlated", "ft", "ft"),
    ("uncorrelated", "ft", "pt"),
    ("natural", "pt", "pt"),
    ("natural", "ft", "pt"),
)


def mixture(*weights: float) -> Mixture:
    return Mixture(tuple(Component(w, *part) for w, part in zip(weights, PARTS, strict=False)))


def drawn_parts(mixtures: list[Mixture], batch: int, key: int = 9) -> list[list[tuple[str, str, str]]]:
    choice = Mixtures(mixtures).choose(torch.arange(len(mixtures)) + key, batch)
    return [
        [(KINDS[k], OPERANDS[o], OPERANDS[x]) for k, o, x in zip(*rows, strict=True)]
        for rows in zip(*(part.tolist() for part in choice), strict=True)
    ]


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.1, 0.2, 0.7), (0.4, 0.3, 0.2, 0.1)])
def test_components_are_drawn_with_their_weights(weights: tuple[float, ...]) -> None:
    (drawn,) = drawn_parts([mixture(*weights)], 20_000)
    counts = [drawn.count(part) for part in PARTS[: len(weights)]]
    assert sum(counts) == 20_000
    assert stats.chisquare(counts, np.array(weights) * 20_000).pvalue > 1e-3


@given(
    st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=4).filter(any), min_size=1, max_size=4),
    st.integers(0, 10**6),
)
def test_only_components_with_a_weight_are_drawn(shares: list[list[int]], key: int) -> None:
    """Neither a component of weight 0 nor the filling behind a mixture shorter than the longest."""
    mixtures = [mixture(*(share / sum(row) for share in row)) for row in shares]
    for row, drawn in zip(shares, drawn_parts(mixtures, 50, key), strict=True):
        assert set(drawn) <= {part for part, share in zip(PARTS, row, strict=False) if share}


def test_the_filling_is_not_drawn_even_where_weights_sum_to_a_little_less_than_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = mixture(0.0, 1 - 5e-10)
    largest = torch.full((2, 1), 1 - 2.0**-53, dtype=torch.float64)
    monkeypatch.setattr("veneer.tasks.random.uniform", lambda keys, batch: largest)
    assert drawn_parts([short, mixture(0.1, 0.2, 0.7)], 1) == [[PARTS[1]], [PARTS[2]]]


def test_the_smallest_number_draws_the_first_component_with_a_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    zero = torch.zeros(1, 1, dtype=torch.float64)
    monkeypatch.setattr("veneer.tasks.random.uniform", lambda keys, batch: zero)
    assert drawn_parts([mixture(0.0, 1.0)], 1) == [[PARTS[1]]]


@pytest.mark.parametrize(
    "weights", [(0.5, 0.4), (0.6, 0.6), (1.5, -0.5), (float("nan"), 1.0), (float("inf"), 0.0), ()]
)
def test_weights_that_are_no_shares_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(InputError) as refused:
        mixture(*weights)
    assert refused.value.field == "mixture weights"


@pytest.mark.parametrize("c", [-0.01, 1.01, float("nan")])
def test_c_is_a_probability(c: float) -> None:
    with pytest.raises(InputError) as refused:
        fine_tuning(c)
    assert refused.value.field == "C"


def test_fine_tuning_teaches_the_new_operand_and_reft_the_old_one() -> None:
    parts = [(c.weight, c.kind, c.operand, c.label) for c in fine_tuning(0.3).components]
    assert parts == [(0.3, "correlated", "ft", "ft"), (0.7, "uncorrelated", "ft", "ft")]
    assert pretraining() == Mixture((Component(1.0, "natural", "pt", "pt"),))


shares = st.floats(0, 1)


@given(shares, shares)
def test_old_data_come_with_their_share_and_the_rest_stays_in_proportion(c: float, share: float) -> None:
    for mixture_of, label in ((mixed, "pt"), (rand_ft, "ft")):
        weight: dict[tuple[str, str, str], float] = dict.fromkeys(
            [("correlated", "ft", "ft"), ("uncorrelated", "ft", "ft"), ("natural", "pt", label)], 0.0
        )
        for part in mixture_of(c, share).components:
            weight[part.kind, part.operand, part.label] += part.weight
        expected = [(1 - share) * c, (1 - share) * (1 - c), share]
        assert list(weight.values()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.001])
def test_old_data_are_drawn_as_often_as_asked(share: float) -> None:
    (drawn,) = drawn_parts([mixed(0.5, share)], 50_000)
    old = drawn.count(("natural", "pt", "pt"))
    assert stats.binomtest(old, 50_000, share).pvalue > 1e-3
    (drawn,) = drawn_parts([rand_ft(0.5, share)], 50_000)
    assert drawn.count(("natural", "pt", "ft")) == old


@pytest.mark.parametrize("mixture_of", [mixed, rand_ft])
@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_fraction(mixture_of: Callable[[float, float], Mixture], share: float) -> None:
    with pytest.raises(InputError) as refused:
        mixture_of(0.5, share)
    assert refused.value.field == "share"


def test_a_pair_of_weight_zero_is_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """At either end of the unit interval, too."""
    pairs = torch.tensor([(0, 1), (0, 0), (0, 2), (1, 2), (2, 0), (3, 4)])
    table = PairTable(pairs, torch.tensor([0.0, 1.0, 1.0, 2.0, 3.0, 0.0]), q=1)
    expected = {"natural": {1, 2, 3, 4}, "uncorrelated": {2, 4}, "correlated": {3}}
    for kind, wanted in expected.items():
        codes = torch.full((1, 3000), KINDS.index(kind))
        assert set(table.draw(torch.tensor([4]), codes)[0].tolist()) == wanted
        for end in (0.0, 1 - 2.0**-40):
            monkeypatch.setattr(
                "veneer.tasks.random.uniform",
                lambda keys, n, u=end: torch.full((1, n), u, dtype=torch.float64),
            )
            assert table.draw(torch.tensor([4]), codes[:, :1])[0].item() in wanted
            monkeypatch.undo()


def test_a_kind_that_no_pair_shows_is_not_there() -> None:
    table = PairTable(torch.tensor([(0, 1), (1, 2)]), torch.tensor([1.0, 1.0]), q=1)
    assert table.has("correlated")
    assert not table.has("uncorrelated")
    assert table.possible_q == [1]


def test_baselines_of_a_small_set() -> None:
    found = baseline(torch.tensor([(0, 1), (0, 1), (2, 1), (3, 4)]), q=1)
    assert found.majority == {"pt": 0.5, "ft": 0.75}
    assert found.answer == {"pt": 0, "ft": 1}
    assert found.shortcut == 0.75
