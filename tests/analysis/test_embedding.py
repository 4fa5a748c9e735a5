"""Planted clusters are separate on the plane, and a silhouette is what it is defined as."""

import importlib.util

import numpy as np
import pytest

from veneer.analysis.embedding import plane, principal_components, separation, silhouettes, stability
from veneer.tasks.errors import InputError


def planted(samples: int = 90, distance: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = np.arange(samples) % 3
    centres = distance * np.linalg.qr(generator.normal(size=(20, 3)))[0].T
    return generator.normal(size=(samples, 20)) + centres[labels], labels


WAYS = [
    "pca",
    pytest.param(
        "tsne",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(not importlib.util.find_spec("sklearn"), reason="extra"),
        ],
    ),
    pytest.param(  # umap compiles itself when it is imported
        "umap",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(not importlib.util.find_spec("umap"), reason="extra"),
        ],
    ),
]


@pytest.mark.parametrize("way", WAYS)
def test_planted_clusters_are_separated_and_shuffled_labels_are_not(way: str) -> None:
    features, labels = planted()
    points = plane(features, way)  # pyright: ignore[reportArgumentType]
    assert points.shape == (90, 2)
    assert separation(points, labels) > 0.5
    assert separation(points, np.random.default_rng(1).permutation(labels)) < 0.05
    assert np.array_equal(points, plane(features, way))  # pyright: ignore[reportArgumentType]


def test_silhouettes_are_as_defined() -> None:
    points = np.array([[0.0, 0], [0, 1], [3, 0], [3, 1], [9, 9]])
    labels = np.array([0, 0, 1, 1, 2])
    found = silhouettes(points, labels)
    within, across = 1.0, (3 + 10**0.5) / 2
    assert found[0] == pytest.approx((across - within) / across)
    assert found[4] == 0


def test_principal_components_hold_the_most_variance() -> None:
    features, _ = planted()
    found = principal_components(features, 20)
    assert np.all(np.diff(found.var(0)) <= 1e-9)
    assert found.var(0).sum() == pytest.approx(features.var(0).sum())


def test_stability_is_one_for_the_same_picture_turned_and_small_for_another() -> None:
    points = np.random.default_rng(0).normal(size=(200, 2))
    turned = points @ np.array([[0.0, 1], [-1, 0]]) * 3 + 1
    assert stability(points, turned) == 1
    assert stability(points, np.random.default_rng(1).normal(size=(200, 2))) < 0.2


def test_bad_input_is_refused() -> None:
    features, _ = planted()
    with pytest.raises(InputError, match="8 or more"):
        plane(features[:5])
    with pytest.raises(InputError, match="two classes"):
        separation(features[:, :2], np.zeros(90, dtype=int))
    with pytest.raises(InputError, match="finite"):
        plane(np.full((10, 3), np.nan))
