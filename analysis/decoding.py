"""What can be read from hidden states: task variables, by population and by unit (after Lin 2024, Fig. 3).

Readers are fitted on some groups of trials and judged on others (a group is what must not be known from
training, as a pair of numbers), so nothing is read from memory. Beside every accuracy stands that of
shuffled labels. Accuracies are balanced: the mean over the classes of the share read rightly, so chance is
1 / classes.

- ``decode``: ridge regression on one-hot labels from all units of a place; the largest output answers.
- ``decode_units``: one unit at a time; the class whose mean is nearest answers. The shuffled accuracies of
  all units are the null, taken as normal; Benjamini & Hochberg (1995) hold the rate of false discoveries.

They take activations from any model: places by samples by units.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from veneer.tasks import random
from veneer.tasks.errors import InputError

FOLDS = 5
PENALTY = 1e-2  # on features of variance 1, times the samples
NUMBERS = 1 << 20  # of units held at once: what a core's cache holds

Labels = Int[Tensor, "sample"]


def decode(
    features: Float[Tensor, "place sample unit"],
    variables: Mapping[str, Labels],
    groups: Labels,
    folds: int = FOLDS,
    shuffles: int = 5,
    penalty: float = PENALTY,
    seed: int = 0,
) -> pl.DataFrame:
    """Read every variable from all units of every place (a layer, a token, or both).

    Args:
        features: activations.
        variables: classes of each sample, by the variable's name.
        groups: samples of one group are never on both sides of a fold.
        folds: how many.
        shuffles: how many times labels are shuffled.
        penalty: of the ridge.
        seed: of folds and shuffles.

    Returns:
        A row per place and variable: place, variable, classes; ``accuracy`` and ``deviation`` (mean and
        standard deviation over folds); ``shuffled`` and ``shuffled_deviation`` (over folds and shuffles).

    Raises:
        InputError: labels that do not fit the samples, one class only, too few groups.
    """
    parts = _folds(groups, folds, seed)
    rows = []
    for name, labels in variables.items():
        classes = _classes(name, labels, features.shape[1])
        known, index = labels.unique(return_inverse=True)
        drawn = torch.stack([index, *_shuffled(index, groups, shuffles, name, seed)])
        found = torch.stack([_ridge(features.double(), drawn, classes, test, penalty) for test in parts])
        real, null = found[..., 0], found[..., 1:].flatten(2) if shuffles else found[..., :0]
        for place in range(len(features)):
            rows.append(
                {
                    "place": place,
                    "variable": name,
                    "classes": len(known),
                    "accuracy": float(real[:, place].mean()),
                    "deviation": float(real[:, place].std(correction=1)),
                    "shuffled": float(null[:, place].mean()) if shuffles else None,
                    "shuffled_deviation": float(null[:, place].std()) if shuffles else None,
                }
            )
    return pl.DataFrame(rows, infer_schema_length=None).sort("place", maintain_order=True)


def decode_units(
    features: Float[Tensor, "sample unit"],
    variables: Mapping[str, Labels],
    groups: Labels,
    folds: int = FOLDS,
    shuffles: int = 5,
    rate: float = 0.05,
    seed: int = 0,
) -> pl.DataFrame:
    """Read every variable from every unit alone.

    Args:
        features: activations of all units, of as many places as wanted, side by side.
        variables: classes of each sample, by the variable's name.
        groups: samples of one group are never on both sides of a fold.
        folds: how many.
        shuffles: how many times labels are shuffled; all units' shuffled accuracies are one null.
        rate: of false discoveries among the significant units of a variable.
        seed: of folds and shuffles.

    Returns:
        A row per unit and variable: unit, variable, ``accuracy`` over all folds, ``shuffled`` (the mean of
        the null), ``p`` (how much of the null is as high) and ``significant``.

    Raises:
        InputError: as ``decode``; no shuffles.
    """
    if shuffles < 1:
        raise InputError("shuffles", shuffles, "1 or more")
    parts = _folds(groups, folds, seed)
    tables = []
    for name, labels in variables.items():
        classes = _classes(name, labels, len(features))
        index = labels.unique(return_inverse=True)[1]
        drawn = torch.stack([index, *_shuffled(index, groups, shuffles, name, seed)])
        found = _nearest(features, drawn, classes, parts)
        null = found[1:].flatten()
        p = torch.special.ndtr((null.mean() - found[0]) / null.std()).numpy()
        tables.append(
            pl.DataFrame(
                {
                    "unit": np.arange(features.shape[1]),
                    "variable": [name] * features.shape[1],
                    "accuracy": found[0].numpy(),
                    "shuffled": np.full(features.shape[1], float(null.mean())),
                    "p": p,
                    "significant": false_discovery(p, rate),
                }
            )
        )
    return pl.concat(tables)


def mixed_selectivity(table: pl.DataFrame) -> pl.DataFrame:
    """How many units are significant for how many variables, of ``decode_units``'s table.

    Returns:
        A row for each number of variables from 0 to all: variables, units.
    """
    each = table.group_by("unit").agg(variables=pl.col("significant").sum().cast(pl.Int64))
    counts = each.group_by("variables").agg(units=pl.len().cast(pl.Int64))
    every = pl.DataFrame(
        {"variables": range(table["variable"].n_unique() + 1)}, schema={"variables": pl.Int64}
    )
    return every.join(counts, on="variables", how="left").fill_null(0).sort("variables")


def false_discovery(p: Float[np.ndarray, "test"], rate: float) -> np.ndarray:
    """Which tests are significant at a rate of false discoveries (Benjamini & Hochberg 1995).

    Raises:
        InputError: a rate outside 0 to 1.
    """
    if not 0 < rate < 1:
        raise InputError("rate", rate, "between 0 and 1")
    order = np.sort(p)
    passed = np.flatnonzero(order <= rate * np.arange(1, len(p) + 1) / len(p))
    return p <= (order[passed[-1]] if len(passed) else -1.0)


def _folds(groups: Labels, folds: int, seed: int) -> list[Bool[Tensor, "sample"]]:
    """Which samples are judged in each fold: groups in random order, dealt out one by one."""
    known, index = groups.unique(return_inverse=True)
    if not 2 <= folds <= len(known):
        raise InputError("folds", folds, f"2 to the number of groups, {len(known)}")
    key = torch.tensor([random.stream_key("decoding", seed, "folds")])
    order = random.shuffled_order(key, 1, len(known))[0, 0].argsort()
    return [order[index] % folds == fold for fold in range(folds)]


def _classes(name: str, labels: Labels, samples: int) -> int:
    if len(labels) != samples:
        raise InputError(name, len(labels), f"a label for each of the {samples} samples")
    if (count := len(labels.unique())) < 2:
        raise InputError(name, labels.unique().tolist(), "two classes or more")
    return count


def _shuffled(index: Labels, groups: Labels, shuffles: int, name: str, seed: int) -> list[Labels]:
    """Labels shuffled over samples; over groups where each has one label, so that their ties remain."""
    known, member = groups.unique(return_inverse=True)
    first = torch.zeros(len(known), dtype=index.dtype)
    first[member] = index
    units = first if bool((first[member] == index).all()) else index
    found = []
    for shuffle in range(shuffles):
        key = torch.tensor([random.stream_key("decoding", seed, f"{name}/{shuffle}")])
        moved = units[random.shuffled_order(key, 1, len(units))[0, 0]]
        found.append(moved[member] if units is first else moved)
    return found


def _ridge(
    features: Float[Tensor, "place sample unit"],
    labels: Int[Tensor, "set sample"],
    classes: int,
    test: Bool[Tensor, "sample"],
    penalty: float,
) -> Float[Tensor, "place set"]:
    """Balanced accuracy on test samples of ridge readers fitted on the others."""
    seen, unseen = features[:, ~test], features[:, test]
    mean, deviation = seen.mean(1, keepdim=True), seen.std(1, keepdim=True, correction=0)
    factor = torch.where(deviation > 1e-6 * deviation.amax(-1, keepdim=True), 1 / deviation, 0.0)
    factor = factor.nan_to_num(0.0, 0.0, 0.0)
    seen, unseen = (seen - mean) * factor, (unseen - mean) * factor
    wanted = F.one_hot(labels[:, ~test], classes).double()
    offset = wanted.mean(1)
    targets = (wanted - offset[:, None]).permute(1, 0, 2).flatten(1)
    samples, units = seen.shape[1:]
    shrunk = penalty * samples * torch.eye(min(samples, units), dtype=torch.float64)
    if samples < units:  # the same outputs either way: the smaller system is solved
        outputs = unseen @ seen.mT @ torch.linalg.solve(seen @ seen.mT + shrunk, targets)
    else:
        outputs = unseen @ torch.linalg.solve(seen.mT @ seen + shrunk, seen.mT @ targets)
    outputs = outputs.unflatten(-1, (len(labels), classes)) + offset
    return _balanced(outputs.argmax(-1), labels[:, test].T.expand(len(features), -1, -1), classes)


def _nearest(
    features: Float[Tensor, "sample unit"],
    labels: Int[Tensor, "set sample"],
    classes: int,
    parts: list[Bool[Tensor, "sample"]],
) -> Float[Tensor, "set unit"]:
    """Balanced accuracy, over all folds together, of the nearest class mean of each unit.

    On a line the values nearest to a class mean lie between two midpoints. So a sample is read rightly if it
    lies between those of its own class, and no other distance is needed. On a midpoint the
    lower mean answers.
    """
    one_hot = F.one_hot(labels, classes).to(features).transpose(1, 2)
    counts = one_hot.sum(2)
    found = []
    for units in features.split(max(1, NUMBERS // len(features)), dim=1):
        hits = units.new_zeros(*counts.shape, units.shape[1])
        for test in parts:
            seen, unseen = one_hot[:, :, ~test], units[test]
            of = seen.sum(2)
            means = (seen.flatten(0, 1) @ units[~test]).unflatten(0, of.shape)
            means = torch.where(of[..., None] > 0, means / of.clamp_min(1)[..., None], torch.inf)
            bounds = _between(means)
            for place, own in enumerate(labels[:, test]):
                for label in range(classes):
                    values = unseen[own == label]
                    low, high = (bound[place, label] for bound in bounds)
                    hits[place, label] += ((values > low) & (values <= high)).sum(0)
        found.append((hits / counts[..., None]).nanmean(1))  # NaN where a class does not occur
    return torch.cat(found, 1).double()


def _between(
    means: Float[Tensor, "set class unit"],
) -> tuple[Float[Tensor, "set class unit"], Float[Tensor, "set class unit"]]:
    """The midpoints below and above each class mean; of equal means the first class answers alone."""
    means = means.clone()
    for label in range(1, means.shape[1]):
        again = (means[:, :label] == means[:, label : label + 1]).any(1)
        means[:, label].masked_fill_(again, torch.inf)
    ordered, order = means.sort(1)
    middle = (ordered[:, :-1] + ordered[:, 1:]) / 2
    end = torch.full_like(means[:, :1], torch.inf)
    place = order.argsort(1)
    low, high = torch.cat([-end, middle], 1), torch.cat([middle, end], 1)
    return low.gather(1, place), high.gather(1, place)


def _balanced(
    guessed: Int[Tensor, "place sample set"], labels: Int[Tensor, "place sample set"], classes: int
) -> Float[Tensor, "place set"]:
    """Mean over the classes that occur of the share guessed rightly."""
    right = (guessed == labels).double()
    shares = []
    for label in range(classes):
        mine = (labels == label).double()
        shares.append((right * mine).sum(1) / mine.sum(1))  # NaN where the class does not occur
    return torch.stack(shares).nanmean(0)
