"""What is planted is read where it was planted and nowhere else, by groups that were held out."""

import numpy as np
import pytest
import torch
from torch import Tensor

from veneer.analysis.decoding import _folds, decode, decode_units, false_discovery, mixed_selectivity
from veneer.tasks.errors import InputError

SAMPLES, UNITS = 600, 40


def trials() -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Units are noise but 3 (context), 7 (choice) and 9 (both); groups of six trials."""
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(SAMPLES) // 6
    context = torch.randint(2, (SAMPLES,), generator=generator)
    choice = torch.randint(3, (SAMPLES,), generator=generator)
    features = torch.randn(SAMPLES, UNITS, generator=generator)
    features[:, 3] += 3 * context
    features[:, 7] = 0.2 * features[:, 7] + choice
    features[:, 9] = 0.3 * features[:, 9] + 2 * choice + 1.5 * context
    return features, {"context": context, "choice": choice}, groups


def test_a_variable_in_one_unit_is_decoded_there_and_nowhere_else() -> None:
    features, variables, groups = trials()
    table = decode_units(features, variables, groups)
    for name, units in (("context", {3, 9}), ("choice", {7, 9})):
        found = set(table.filter(variable=name, significant=True)["unit"].to_list())
        assert units <= found and len(found) <= 4  # 5 % of those found may be false
    counts = mixed_selectivity(table)
    assert counts["variables"].to_list() == [0, 1, 2]
    assert counts["units"][2] >= 1 and counts["units"].sum() == UNITS


def test_a_units_accuracy_is_that_of_the_nearest_mean_found_by_distances() -> None:
    """Classes in an order that differs by unit, one that a fold lacks, and a unit that is constant."""
    features, variables, groups = trials()
    features, labels = features.double(), variables["choice"].clone()
    features[:, 0], features[:, 1] = 1.0, features[:, 7].neg()
    labels[groups == 5] = 3
    table = decode_units(features, {"choice": labels}, groups, seed=4)
    test = torch.stack(_folds(groups, 5, 4))
    for unit in range(UNITS):
        guessed = torch.empty_like(labels)
        for fold in test:
            means = torch.stack([features[~fold & (labels == label), unit].mean() for label in range(4)])
            gaps = (features[fold, unit, None] - means).abs().nan_to_num(torch.inf)
            guessed[fold] = gaps.argmin(1)
        shares = [float((guessed[labels == label] == label).double().mean()) for label in range(4)]
        assert table["accuracy"][unit] == pytest.approx(np.mean(shares)), unit
    assert table["accuracy"][0] == 0.25


def test_shuffled_labels_give_chance() -> None:
    features, variables, groups = trials()
    table = decode_units(features, variables, groups)
    for name, chance in (("context", 1 / 2), ("choice", 1 / 3)):
        rows = table.filter(variable=name)
        assert rows["shuffled"][0] == pytest.approx(chance, abs=0.01)
        quiet = rows.filter(~rows["unit"].is_in([3, 7, 9]))
        assert quiet["accuracy"].mean() == pytest.approx(chance, abs=0.02)


def test_units_that_say_nothing_change_nothing_however_many_they_are() -> None:
    features, variables, groups = trials()
    more = torch.cat([features, torch.ones(SAMPLES, SAMPLES)], 1)
    table = decode(torch.stack([features]), variables, groups)
    assert decode(torch.stack([more]), variables, groups).equals(table)


def test_a_population_is_read_at_the_place_that_has_it() -> None:
    features, variables, groups = trials()
    places = torch.stack([features, features.flip(0), torch.zeros_like(features)])
    table = decode(places, variables, groups)
    accuracy = {(row["place"], row["variable"]): row for row in table.iter_rows(named=True)}
    assert accuracy[0, "context"]["accuracy"] > 0.95
    assert accuracy[0, "choice"]["accuracy"] > 0.75
    for place in (1, 2):
        assert accuracy[place, "context"]["accuracy"] == pytest.approx(0.5, abs=0.08)
        assert accuracy[place, "choice"]["accuracy"] == pytest.approx(1 / 3, abs=0.08)
    assert table["shuffled"].drop_nulls().len() == 6
    assert accuracy[0, "context"]["shuffled"] == pytest.approx(0.5, abs=0.05)


def test_what_only_names_the_group_is_no_knowledge() -> None:
    """A label fixed by the group can be remembered, but not read in groups that were held out."""
    generator = torch.Generator().manual_seed(1)
    groups = torch.arange(SAMPLES) // 30
    names = torch.randn(20, UNITS, generator=generator)
    features = names[groups] + 0.01 * torch.randn(SAMPLES, UNITS, generator=generator)
    label = torch.randint(2, (20,), generator=generator)[groups]
    held_out = decode(features[None], {"label": label}, groups)["accuracy"][0]
    remembered = decode(features[None], {"label": label}, torch.arange(SAMPLES))["accuracy"][0]
    assert remembered > 0.95
    assert held_out < 0.8


def test_results_are_a_function_of_the_seed() -> None:
    features, variables, groups = trials()
    assert decode_units(features, variables, groups).equals(decode_units(features, variables, groups))
    other = decode_units(features, variables, groups, seed=1)
    assert not decode_units(features, variables, groups).equals(other)


def test_false_discoveries_are_held_as_benjamini_and_hochberg_say() -> None:
    p = np.array([0.01, 0.02, 0.03, 0.9, 0.04, 0.045])
    assert false_discovery(p, 0.05).tolist() == [False] * 6
    p = np.array([0.001, 0.02, 0.024, 0.9, 0.9, 0.9])
    assert false_discovery(p, 0.05).tolist() == [True, True, True, False, False, False]


def test_bad_input_is_refused() -> None:
    features, variables, groups = trials()
    with pytest.raises(InputError, match="folds"):
        decode_units(features, variables, torch.zeros(SAMPLES, dtype=torch.int64))
    with pytest.raises(InputError, match="two classes"):
        decode_units(features, {"x": torch.zeros(SAMPLES, dtype=torch.int64)}, groups)
    with pytest.raises(InputError, match="shuffles"):
        decode_units(features, variables, groups, shuffles=0)
