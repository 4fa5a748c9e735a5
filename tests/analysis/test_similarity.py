"""CKA is what its definition says, sees what it should and nothing else, and streams."""

import numpy as np
import pytest
import torch
from torch import Tensor

from veneer.analysis.similarity import Sums, cka, dimensions, effective_rank, spectrum
from veneer.tasks.errors import InputError

BOTH = pytest.mark.parametrize("unbiased", [False, True], ids=["biased", "unbiased"])


def drawn(*shape: int, seed: int = 0, mean: float = 0.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + mean


def pair(samples: int = 200, mean: float = 3.0) -> tuple[Tensor, Tensor]:
    first = drawn(samples, 12, seed=1, mean=mean)
    return first, first[:, :7] @ drawn(7, 9, seed=2) + drawn(samples, 9, seed=3) - mean


def hsic(first: np.ndarray, second: np.ndarray, unbiased: bool) -> float:
    """From the kernels' own matrices, as Gretton et al. 2005 and Song et al. 2012 define it."""
    n = len(first)
    k, m = first @ first.T, second @ second.T
    if not unbiased:
        h = np.eye(n) - np.ones((n, n)) / n
        return float(np.trace(k @ h @ m @ h))
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    ones = np.ones(n)
    value = np.trace(k @ m) + (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2))
    return float(value - 2 / (n - 2) * (ones @ k @ m @ ones))


def independent(first: Tensor, second: Tensor, unbiased: bool) -> float:
    x, y = first.numpy(), second.numpy()
    return hsic(x, y, unbiased) / np.sqrt(hsic(x, x, unbiased) * hsic(y, y, unbiased))


@BOTH
@pytest.mark.parametrize("samples", [8, 200])
def test_it_equals_the_definition_by_kernel_matrices(unbiased: bool, samples: int) -> None:
    first, second = pair(samples)
    assert abs(float(cka(first, second, unbiased)) - independent(first, second, unbiased)) < 1e-10


@BOTH
def test_pieces_give_what_the_whole_gives(unbiased: bool) -> None:
    first, second = pair(mean=1000.0)
    sums = Sums()
    for size in (slice(0, 1), slice(1, 70), slice(70, 200)):
        sums.add(first[size], second[size])
    assert sums.samples == 200
    centred = first - first.mean(0), second - second.mean(0)  # kernels of large means lose digits
    assert abs(float(sums.cka(unbiased)) - independent(*centred, unbiased)) < 1e-10
    assert abs(float(sums.cka(unbiased) - cka(first, second, unbiased))) < 1e-10
    torch.testing.assert_close(sums.spectrum(), spectrum(first), rtol=1e-10, atol=0)


@BOTH
def test_a_representation_is_like_itself_rotated_scaled_and_moved(unbiased: bool) -> None:
    first, second = pair()
    rotation = torch.linalg.qr(drawn(12, 12, seed=5)).Q
    assert abs(float(cka(first, 3 * first @ rotation + 5, unbiased)) - 1) < 1e-10
    plain, turned = cka(first, second, unbiased), cka(first @ rotation - 7, 0.1 * second, unbiased)
    assert abs(float(plain - turned)) < 1e-10
    assert abs(float(plain - cka(second, first, unbiased))) < 1e-10


def test_it_is_not_blind_to_what_is_no_rotation() -> None:
    first, _ = pair()
    stretched = first * torch.logspace(0, 2, 12, dtype=torch.float64)
    assert float(cka(first, stretched)) < 0.9


def test_independent_features_are_alike_only_by_the_bias() -> None:
    first, second = drawn(400, 200, seed=1), drawn(400, 200, seed=2)
    assert float(cka(first, second)) > 0.3
    assert abs(float(cka(first, second, unbiased=True))) < 0.01


def test_single_precision_and_groups_give_the_same() -> None:
    first, second = pair()
    whole = cka(torch.stack([first, second.flip(0) @ drawn(9, 12)]), torch.stack([second, second]))
    assert abs(float(whole[0] - cka(first, second))) < 1e-12
    assert abs(float(cka(first.float(), second.float()) - cka(first, second))) < 1e-6


def test_what_is_constant_is_not_compared() -> None:
    first, second = pair()
    assert cka(torch.full((200, 4), 0.1), second).isnan()
    assert cka(first, torch.zeros(200, 4), unbiased=True).isnan()


def test_wide_features_go_by_blocks() -> None:
    wide = drawn(30, 1200)
    assert abs(float(cka(wide, wide[:, ::2])) - independent(wide, wide[:, ::2], False)) < 1e-10


def test_dimensions_and_effective_rank_of_planted_spectra() -> None:
    axes = torch.linalg.qr(drawn(2000, 10)).Q
    axes = torch.linalg.qr(axes - axes.mean(0)).Q
    variances = torch.tensor([90.0, 6.0, 2.0, 1.5, 0.4, 0.1, 0, 0, 0, 0], dtype=torch.float64)
    features = axes * (2000 * variances).sqrt() @ torch.linalg.qr(drawn(10, 10, seed=4)).Q + 4
    found = spectrum(features)
    torch.testing.assert_close(found, variances, rtol=1e-9, atol=1e-9)
    assert dimensions(found).item() == 4
    assert dimensions(variances, 1.0).item() == 6
    assert dimensions(variances, 0.9).item() == 1
    singular = variances[:6].sqrt() / variances.sqrt().sum()
    assert effective_rank(variances).item() == pytest.approx(float((-singular * singular.log()).sum().exp()))
    assert effective_rank(torch.ones(3, 7, dtype=torch.float64)).tolist() == pytest.approx([7, 7, 7])
    assert dimensions(torch.zeros(5, dtype=torch.float64)).item() == 0


def test_bad_input_is_refused() -> None:
    first, second = pair(3)
    with pytest.raises(InputError, match="4 or more"):
        cka(first, second, unbiased=True)
    with pytest.raises(InputError, match="one sample or more"):
        cka(first[:0], second[:0])
    with pytest.raises(InputError, match="finite"):
        cka(first, torch.full_like(second, torch.inf))
    with pytest.raises(InputError, match="share"):
        dimensions(torch.ones(3), 0.0)
