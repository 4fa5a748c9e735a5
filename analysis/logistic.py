"""Linear classifiers fitted side by side: multinomial logistic regression, solved or trained.

Groups have features of their own; the label sets of a group share them, so that all are the columns of
one matrix product. ``solve`` minimizes the L2-regularized loss by L-BFGS (Liu & Nocedal 1989) until its
gradient vanishes; ``train`` runs a fixed AdamW schedule on minibatches, as probes usually are.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from veneer.tasks import random

Features = Float[Tensor, "group sample width"]
Labels = Int[Tensor, "set sample"]
Weights = Float[Tensor, "group width_and_one set class"]
"""Weight matrices with the bias as last row."""

HISTORY = 10  # pairs of steps that L-BFGS remembers
ARMIJO, ROUNDING = 1e-4, 1e-14
TOLERANCE = 1e-5
_Objective = Callable[[Weights], tuple[Float[Tensor, "group set"], Weights]]


def predict(weights: Weights, features: Features) -> Int[Tensor, "group set sample"]:
    """The most probable class."""
    return _logits(_with_one(features).to(weights.dtype), weights).argmax(-1).transpose(1, 2)


def solve(
    features: Features, labels: Labels, classes: int, penalty: float, iterations: int = 1000
) -> tuple[Weights, Bool[Tensor, "group set"]]:
    """Minimize mean cross-entropy + penalty / 2 * |weights|^2 (the bias is free) exactly, in float64.

    Features are first turned onto their principal axes, where directions without variance drop out, and
    weights are measured in units of the loss's curvature at weight 0, of which L-BFGS then has less to
    learn. The minimum is that of the problem as given.

    Args:
        features: best with mean 0 and variance 1, so that the penalty means the same for all.
        labels: below ``classes``; one that a label set lacks is left out of it.
        classes: number of classes.
        penalty: above 0.
        iterations: at most so many.

    Returns:
        The weights, and whether the gradient's largest element (in the scaled directions) came below
        ``TOLERANCE``.
    """
    x = features.double()
    variance, axes = torch.linalg.eigh(x.mT @ x / x.shape[1])
    kept = (variance > 1e-10 * variance.amax(-1, keepdim=True)).any(0)
    kept[-1] = True
    variance, axes = variance[:, kept].clamp_min(0), axes[:, :, kept]
    turned = _with_one(x @ axes)
    columns = turned.mT.contiguous()  # samples last: sums over classes then run along them
    one_hot, absent = _targets(labels, classes, torch.float64)
    taught = (turned.mT @ one_hot.flatten(1) / x.shape[1]).unflatten(-1, one_hot.shape[1:])
    right_class = labels[None, :, None].expand(len(x), -1, -1, -1)
    ridge = torch.full_like(turned[0, 0], penalty)
    ridge[-1] = 0
    ridge = ridge[:, None, None]
    curvature = torch.cat([variance, torch.ones_like(variance[:, :1])], -1)[..., None, None]
    scale = (curvature / classes + ridge).rsqrt()

    def objective(scaled: Weights) -> tuple[Float[Tensor, "group set"], Weights]:
        weights = scale * scaled
        logits = (weights.flatten(2).mT @ columns).unflatten(1, absent.shape).add_(absent[..., None])
        right = logits.gather(2, right_class)
        top = logits.amax(2, keepdim=True)
        odds = logits.sub_(top).exp_()
        whole = odds.sum(2, keepdim=True)
        probability = odds.div_(whole).flatten(1, 2)
        mean = (columns @ probability.mT / x.shape[1]).view_as(weights)
        loss = (whole.log_() + top - right).mean((2, 3)) + 0.5 * _dot(ridge * weights, weights)
        return loss, scale * (mean - taught + ridge * weights)

    start = x.new_zeros(len(x), turned.shape[-1], len(labels), classes)
    found, converged = _minimize(objective, start, iterations)
    found = found * scale
    turned_back = (axes @ found[:, :-1].flatten(2)).unflatten(-1, found.shape[2:])
    return torch.cat([turned_back, found[:, -1:]], 1), converged


def _minimize(
    objective: _Objective, start: Weights, iterations: int
) -> tuple[Weights, Bool[Tensor, "group set"]]:
    """L-BFGS with backtracking for many convex problems at once, each with its own history and step."""
    point, (value, gradient) = start, objective(start)
    steps, changes = [], []
    active = _largest(gradient) > TOLERANCE
    for _ in range(iterations):
        if not active.any():
            break
        direction = -_scaled_by_history(gradient, steps, changes)
        slope = _dot(direction, gradient)
        length = active.to(value)
        while True:
            moved = point + _spread(length) * direction
            new_value, new_gradient = objective(moved)
            enough = value + ARMIJO * length * slope + ROUNDING * value.abs()
            too_far = active & (new_value > enough) & (length > 1e-10)
            if not too_far.any():
                break
            length = torch.where(too_far, length / 2, length)
        steps, changes = [*steps, moved - point][-HISTORY:], [*changes, new_gradient - gradient][-HISTORY:]
        point, value, gradient = moved, new_value, new_gradient
        active = active & (_largest(gradient) > TOLERANCE) & (length > 1e-10)
    return point, _largest(gradient) <= TOLERANCE


def _scaled_by_history(gradient: Weights, steps: list[Tensor], changes: list[Tensor]) -> Weights:
    """The inverse Hessian's estimate times the gradient (the two-loop recursion)."""
    curvature = [_dot(s, y) for s, y in zip(steps, changes, strict=True)]
    inverse = [torch.where(c > 0, 1 / c.clamp_min(1e-300), 0.0) for c in curvature]
    shares = []
    for s, y, rho in reversed(list(zip(steps, changes, inverse, strict=True))):
        share = rho * _dot(s, gradient)
        gradient = gradient - _spread(share) * y
        shares.append(share)
    if steps:
        norm = _dot(changes[-1], changes[-1])
        gradient = gradient * _spread(torch.where(norm > 0, curvature[-1] / norm.clamp_min(1e-300), 1.0))
    for s, y, rho, share in zip(steps, changes, inverse, reversed(shares), strict=True):
        gradient = gradient + _spread(share - rho * _dot(y, gradient)) * s
    return gradient


def train(
    features: Features,
    labels: Labels,
    classes: int,
    key: int,
    *,
    iterations: int,
    batch: int,
    learning_rate: float,
    divided_after: tuple[int, ...],
    weight_decay: float = 0.01,
) -> Weights:
    """AdamW with torch's defaults on the cross-entropy of minibatches, from zero, all groups at once.

    Args:
        features: of the fixed training set.
        labels: below ``classes``; one that a label set lacks is left out of it.
        classes: number of classes.
        key: seeds the order of the samples, a fresh permutation for every pass, the same for all.
        iterations: number of updates.
        batch: samples per update.
        learning_rate: the first rate.
        divided_after: updates after which the rate is divided by 10.
        weight_decay: AdamW's.
    """
    x = _with_one(features)
    one_hot, absent = _targets(labels, classes, x.dtype)
    samples = x.shape[1]
    batch = min(batch, samples)
    passes = -(-iterations // (samples // batch))
    order = random.shuffled_order(torch.tensor(key), passes, samples).to(x.device)
    order = order[:, : samples // batch * batch].reshape(-1, batch)[:iterations]
    weights = x.new_zeros(len(x), x.shape[-1], len(labels), classes).requires_grad_()
    optimizer = torch.optim.AdamW([weights], learning_rate, weight_decay=weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(divided_after))
    with torch.no_grad():
        for chosen in order:
            seen = x.index_select(1, chosen)
            probability = (_logits(seen, weights) + absent).softmax(-1)
            error = (probability - one_hot.index_select(0, chosen)) / batch
            weights.grad = (seen.mT @ error.flatten(2)).view_as(weights)
            optimizer.step()
            schedule.step()
    return weights.detach()


def _with_one(x: Features) -> Float[Tensor, "group sample width_and_one"]:
    return torch.cat([x, torch.ones_like(x[..., :1])], -1)


def _logits(x: Tensor, weights: Weights) -> Float[Tensor, "group sample set class"]:
    return (x @ weights.flatten(2)).unflatten(-1, weights.shape[2:])


def _targets(
    labels: Labels, classes: int, dtype: torch.dtype
) -> tuple[Float[Tensor, "sample set class"], Float[Tensor, "set class"]]:
    """Labels as rows of 0 and 1, and what removes the classes that a set lacks from its softmax."""
    one_hot = torch.nn.functional.one_hot(labels.T, classes).to(dtype)
    present = one_hot.sum(0) > 0
    return one_hot, torch.zeros_like(one_hot[0]).masked_fill(~present, -torch.inf)


def _dot(a: Weights, b: Weights) -> Float[Tensor, "group set"]:
    """Inner product of each problem's weights."""
    return (a * b).sum((1, 3))


def _largest(gradient: Weights) -> Float[Tensor, "group set"]:
    return gradient.abs().amax((1, 3))


def _spread(number: Float[Tensor, "group set"]) -> Float[Tensor, "group 1 set 1"]:
    return number[:, None, :, None]
