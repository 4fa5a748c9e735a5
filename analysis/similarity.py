"""How alike two representations of the same inputs are: linear centred kernel alignment (CKA).

After Kornblith et al. 2019, as Zhao, Ziser & Cohen 2024 used it to compare layers of language models:
linear kernel, feature form, in double precision. The biased estimator is the one that they ran; it grows with
the number of features where samples are few. The unbiased one (Song et al. 2012; Nguyen et al. 2021)
does not. Neither sees a rotation, an offset, or one factor on all features.

``Sums`` streams: samples go in by pieces, and memory is the square of the widths whatever their number.
Inputs are plain activations, so that they may come from any model.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from veneer.tasks.errors import InputError

SHARE = 0.99  # of the variance, in Zhao et al.'s Figure 5
NEGLIGIBLE = 1e-20  # of the mean square: a variance below is rounding, and the features are constant
BLOCK = 512  # side of the blocks in which a symmetric product is made: large enough to be fast

Side = Literal["first", "second"]
Features = Float[Tensor, "*group sample width"]


class Sums:
    """Running sums over samples of two paired representations: all that CKA and spectra are made of.

    Leading axes are pairs of their own (members of a fleet, layers). Samples are taken relative to the
    mean of the first piece, so that nothing cancels where features have large means.
    """

    def __init__(self) -> None:
        self._offsets: tuple[Tensor, Tensor] | None = None

    def add(self, first: Features, second: Float[Tensor, "*group sample other"]) -> "Sums":
        """Take in one piece: the same samples, in the same order, of both representations.

        Raises:
            InputError: no samples, or others than those of the first; activations that are not finite.
        """
        if first.shape[-2] < 1:
            raise InputError("first", tuple(first.shape), "one sample or more")
        for name, value in (("first", first), ("second", second)):
            if not value.isfinite().all():
                raise InputError(name, "activations that are not finite", "finite numbers")
        x, y = first.double(), second.double()
        if self._offsets is None:
            self._offsets = x.mean(-2, keepdim=True), y.mean(-2, keepdim=True)
        x, y = _extended(x - self._offsets[0]), _extended(y - self._offsets[1])
        products = [_gram(x), _gram(y), x.mT @ y]
        if not hasattr(self, "_sums"):
            self._sums = products
        else:
            for total, product in zip(self._sums, products, strict=True):
                total += product
        return self

    @property
    def samples(self) -> int:
        """How many samples have been taken in."""
        return round(float(self._sums[2][..., -1, -1].flatten()[0])) if self._offsets is not None else 0

    def cka(self, unbiased: bool = False) -> Float[Tensor, "*group"]:
        """Linear CKA of the two representations, 1 for equal ones.

        Args:
            unbiased: take the estimator whose expectation is 0 for independent features, and which may
                therefore be negative; else the one that Zhao et al. ran.

        Returns:
            NaN where a representation is constant: then there is nothing to compare.

        Raises:
            InputError: fewer than two samples, or than four for the unbiased estimator.
        """
        least = 4 if unbiased else 2
        if self.samples < least:
            raise InputError("samples", self.samples, f"{least} or more")
        same, other, both = (_alignment(total, unbiased) for total in self._sums)
        value = both / (same * other).clamp_min(0).sqrt()
        constant = (_variance(self._sums[0]) <= 0) | (_variance(self._sums[1]) <= 0)
        return torch.where(constant, torch.nan, value)

    def spectrum(self, side: Side = "first") -> Float[Tensor, "*group width"]:
        """Variances along the principal axes of one representation, largest first."""
        total = self._sums[0 if side == "first" else 1]
        return torch.linalg.eigvalsh(_centred(total)).flip(-1).clamp_min(0) / self.samples


def cka(
    first: Features, second: Float[Tensor, "*group sample other"], unbiased: bool = False
) -> Float[Tensor, "*group"]:
    """Linear CKA of two representations held whole; see ``Sums.cka``.

    Raises:
        InputError: as ``Sums.add`` and ``Sums.cka``.
    """
    return Sums().add(first, second).cka(unbiased)


def spectrum(features: Features) -> Float[Tensor, "*group width"]:
    """Variances along the principal axes of a representation held whole, largest first.

    Raises:
        InputError: as ``Sums.add``.
    """
    return Sums().add(features, features[..., :1]).spectrum()


def dimensions(variances: Float[Tensor, "*group width"], share: float = SHARE) -> Float[Tensor, "*group"]:
    """The fewest principal axes that hold a share of the variance (0 for a constant representation).

    Args:
        variances: of ``spectrum``.
        share: of the total variance, above 0 and at most 1. (Zhao et al. print no formula for their
            Figure 5; this is our reading of it.)

    Raises:
        InputError: a share outside that range.
    """
    if not 0 < share <= 1:
        raise InputError("share", share, "above 0 and at most 1")
    total = variances.sum(-1, keepdim=True)
    before = variances.cumsum(-1) - variances
    # One part in 10^12 is rounding: all of the variance is then held by the axes that have any.
    return ((before < share * total * (1 - 1e-12)) & (total > 0)).sum(-1).double()


def effective_rank(variances: Float[Tensor, "*group width"]) -> Float[Tensor, "*group"]:
    """The exponential of the entropy of the singular values' shares (Roy & Vetterli 2007).

    Returns:
        From 1 (one direction) to the width (all alike); NaN for a constant representation.
    """
    singular = variances.sqrt()
    shares = singular / singular.sum(-1, keepdim=True)
    return torch.special.entr(shares).sum(-1).exp()


def _extended(x: Features) -> Float[Tensor, "*group sample extended"]:
    """A sample with its squared norm and a 1: products of such rows hold every sum that is needed."""
    return torch.cat([x, x.square().sum(-1, keepdim=True), torch.ones_like(x[..., :1])], -1)


def _gram(x: Features) -> Float[Tensor, "*group width width"]:
    """``x.mT @ x`` at little more than half of its price: blocks below the diagonal are copied."""
    width = x.shape[-1]
    if width <= BLOCK:
        return x.mT @ x
    total = x.new_empty(*x.shape[:-2], width, width)
    for start in range(0, width, BLOCK):
        rows = slice(start, start + BLOCK)
        total[..., rows, start:] = x[..., rows].mT @ x[..., start:]
        total[..., start:, rows] = total[..., rows, start:].mT
    return total


def _variance(total: Float[Tensor, "*group extended extended"]) -> Float[Tensor, "*group"]:
    """The sum of squared deviations of a representation with itself; 0 where it is rounding only."""
    value = _squares(total[..., -1, :-2], total[..., -2, -1], total[..., -1, -1])
    return torch.where(value <= NEGLIGIBLE * total[..., -2, -1], 0.0, value)


def _squares(
    sums: Float[Tensor, "*group width"], squares: Float[Tensor, "*group"], samples: Float[Tensor, "*group"]
) -> Float[Tensor, "*group"]:
    """Squared deviations from the mean, summed, from sums and squared norms."""
    return squares - sums.square().sum(-1) / samples


def _centred(total: Float[Tensor, "*group left right"]) -> Float[Tensor, "*group width other"]:
    """The product of the centred features."""
    samples = total[..., -1:, -1:]
    return total[..., :-2, :-2] - total[..., :-2, -1:] * total[..., -1:, :-2] / samples


def _alignment(total: Float[Tensor, "*group left right"], unbiased: bool) -> Float[Tensor, "*group"]:
    """HSIC of two linear kernels up to a factor that cancels in CKA.

    The biased one is the squared Frobenius norm of the centred product. The unbiased one takes away what the
    diagonals of both kernels add (Kornblith et al. 2019, in feature form): n / (n - 2) times the sum over
    samples of the product of both squared norms, less the product of their sums / (n - 1)(n - 2).
    """
    value = _centred(total).square().sum((-2, -1))
    if not unbiased:
        return value
    samples = total[..., -1, -1]
    first, second = total[..., :-2, -1] / samples[..., None], total[..., -1, :-2] / samples[..., None]
    long, wide = first.square().sum(-1), second.square().sum(-1)
    squares_first, squares_second = total[..., -2, -1], total[..., -1, -2]
    crossed = torch.einsum("...i,...ij,...j->...", first, total[..., :-2, :-2], second)
    # The sum over samples of |x - m|^2 |y - n|^2, multiplied out.
    both = (
        total[..., -2, -2]
        - 2 * (total[..., -2, :-2] * second).sum(-1)
        - 2 * (total[..., :-2, -2] * first).sum(-1)
        + wide * squares_first
        + long * squares_second
        + 4 * crossed
        - 3 * samples * long * wide
    )
    norms = (squares_first - samples * long) * (squares_second - samples * wide)
    return value - samples / (samples - 2) * both + norms / ((samples - 1) * (samples - 2))
