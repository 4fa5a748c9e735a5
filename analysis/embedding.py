"""Hidden states on a plane, and whether a variable separates there (Lin 2024, Fig. 2; Zhao 2024, Fig. 4).

Principal components come first; t-SNE and UMAP take what these leave, from scikit-learn and umap-learn (the
extra ``embeddings``), with fixed seeds. A picture is no number: ``separation`` is, the mean silhouette of a
variable's classes (Rousseeuw 1987), and ``stability`` says how far two pictures agree on who is near whom.
"""

from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from veneer.tasks.errors import InputError

Way = Literal["pca", "tsne", "umap"]
WAYS: tuple[Way, ...] = get_args(Way)
COMPONENTS = 50  # that t-SNE and UMAP take
NEIGHBOURS = 15  # of a point; UMAP's default, and what stability looks at
UNSTABLE = 0.5  # of the neighbours are others with another seed: the picture is not to be read

Points = Float[np.ndarray, "sample axis"]
Features = Float[np.ndarray, "sample unit"]


def principal_components(features: Features, count: int) -> Float[np.ndarray, "sample component"]:
    """Coordinates along the first principal axes, each axis turned so that its largest weight is positive."""
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:count]
    sign = np.sign(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1))
    return centred @ (axes * np.where(sign == 0, 1, sign)).T


def plane(features: Features, way: Way = "pca", seed: int = 0) -> Points:
    """Two coordinates for each sample.

    Args:
        features: hidden states.
        way: "pca", "tsne" (perplexity 30, or less for few samples) or "umap" (15 neighbours, distance 0.1).
        seed: of t-SNE and UMAP.

    Raises:
        InputError: a way that does not exist or is not installed; fewer than 8 samples; not finite.
    """
    if way not in WAYS:
        raise InputError("way", way, ", ".join(WAYS))
    if len(features) < 8:
        raise InputError("samples", len(features), "8 or more")
    if not np.isfinite(features).all():
        raise InputError("features", "not finite", "finite activations")
    if way == "pca":
        return principal_components(features, 2)
    reduced = principal_components(features, min(COMPONENTS, *features.shape))
    if way == "tsne":
        perplexity = min(30, (len(features) - 1) / 3)
        module: Any = _import("sklearn.manifold", "scikit-learn")
        embedder = module.TSNE(perplexity=perplexity, init="pca", random_state=seed)
    else:
        module = _import("umap", "umap-learn")
        neighbours = min(NEIGHBOURS, len(features) - 1)
        embedder = module.UMAP(n_neighbors=neighbours, min_dist=0.1, random_state=seed, n_jobs=1)
    return np.asarray(embedder.fit_transform(reduced), dtype=np.float64)


def silhouettes(points: Points, labels: Int[np.ndarray, "sample"]) -> Float[np.ndarray, "sample"]:
    """How much nearer each point is to its own class than to the next one: from -1 to 1, 0 on the border.

    A point that is alone in its class has 0.

    Raises:
        InputError: fewer than two classes.
    """
    known, index = np.unique(labels, return_inverse=True)
    if len(known) < 2:
        raise InputError("labels", known.tolist(), "two classes or more")
    member = np.eye(len(known))[index]
    counts = member.sum(0)
    sums = _distances(points) @ member
    own = index[:, None] == np.arange(len(known))
    others = np.where(own, np.inf, sums / counts).min(1)
    alone = counts[index] == 1
    within = sums[own] / np.maximum(counts[index] - 1, 1)
    largest = np.maximum(within, others)
    return np.where(alone | (largest == 0), 0.0, (others - within) / np.where(largest == 0, 1, largest))


def separation(points: Points, labels: Int[np.ndarray, "sample"]) -> float:
    """The mean silhouette of a variable's classes.

    Raises:
        InputError: as ``silhouettes``.
    """
    return float(silhouettes(points, labels).mean())


def stability(one: Points, other: Points, neighbours: int = NEIGHBOURS) -> float:
    """The share of each point's nearest neighbours that two pictures of the same samples have in common.

    Below ``UNSTABLE`` a picture depends on its seed more than on the data.
    """
    count = min(neighbours, len(one) - 1)
    first, second = (_nearest(points, count) for points in (one, other))
    return float(np.mean([len(np.intersect1d(a, b)) for a, b in zip(first, second, strict=True)]) / count)


def _distances(points: Points) -> Float[np.ndarray, "sample sample"]:
    squares = (points**2).sum(1)
    return np.sqrt(np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0))


def _nearest(points: Points, count: int) -> Int[np.ndarray, "sample count"]:
    distances = _distances(points)
    np.fill_diagonal(distances, np.inf)
    return np.argpartition(distances, count - 1, axis=1)[:, :count]


def _import(module: str, package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError("way", package, "an installed package: pip install veneer[embeddings]") from error
