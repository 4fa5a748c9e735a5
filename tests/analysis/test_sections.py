"""The rule finds planted sections, the paper's own, and none where there are none."""

import numpy as np
import pytest

from veneer.analysis.sections import Sections, estimate, sections
from veneer.tasks.errors import InputError

# Zhao et al. 2024, Figures 2 and 7, read off the figures; layers between those read are interpolated.
LAYERS = np.arange(1, 33)
SPREAD = 0.01 * np.interp(
    LAYERS,
    [1, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 20, 23, 24, 30, 31, 32],
    [1, 8, 15, 15, 13, 10, 5, 4, 3, 3, 3, 3, 5, 7, 8, 8, 7, 8, 5],
)
BASE = np.interp(
    LAYERS,
    [1, 4, 6, 8, 10, 12, 15, 20, 24, 28, 31, 32],
    [1, 0.99, 0.98, 0.94, 0.89, 0.85, 0.74, 0.64, 0.6, 0.6, 0.63, 0.53],
)
TUNED = np.interp(
    LAYERS,
    [1, 4, 6, 8, 9, 10, 12, 15, 20, 24, 28, 31, 32],
    [1, 0.95, 0.94, 0.93, 0.94, 0.96, 0.97, 0.97, 0.95, 0.94, 0.93, 0.94, 0.91],
)


def planted(tasks: int = 12, seeds: int = 3, noise: float = 0.003) -> tuple[np.ndarray, np.ndarray]:
    """Eight layers: two shared, then a gap; the spread collapses in the fourth and fifth."""
    generator = np.random.default_rng(0)
    place = np.linspace(-1, 1, tasks)[:, None]
    tuned = np.array([0.9, 0.88, 0.9, 0.93, 0.93, 0.92, 0.91, 0.9])
    tuned = tuned + place * np.array([0.04, 0.08, 0.06, 0.02, 0.01, 0.03, 0.03, 0.03])
    base = np.array([0.95, 0.93, 0.88, 0.8, 0.75, 0.7, 0.65, 0.6]) + 0.05 * place
    return tuple(m + noise * generator.normal(size=(seeds, tasks, 8)) for m in (tuned, base))  # pyright: ignore


def test_the_rule_reads_the_papers_own_sections_off_its_figures() -> None:
    found = sections(TUNED - BASE, SPREAD)
    assert found is not None
    assert (LAYERS[found.transition], LAYERS[found.refinement]) == (10, 16)


def test_unseen_tasks_show_none_as_in_the_paper() -> None:
    """Figure 7: the gap turns above 0 at layer 13, but the spread only grows."""
    gap = np.where(LAYERS < 13, -0.04, 0.1)
    assert sections(gap, np.linspace(0.02, 0.5, 32)) is None


def test_planted_sections_are_found_with_an_interval() -> None:
    found = estimate(*planted(), resamples=200)
    assert found.sections == Sections(3, 5)
    assert found.found >= 0.95
    assert found.transition is not None
    assert found.transition[0] <= 3 <= found.transition[1] <= 4


def test_there_are_none_where_both_models_are_alike() -> None:
    tuned, base = planted()
    assert estimate(tuned, tuned + 0.0 * base, resamples=60).sections is None
    assert estimate(base, tuned, resamples=60).sections is None


def test_noise_alone_makes_no_sections() -> None:
    generator = np.random.default_rng(1)
    for _ in range(8):
        tuned, base = 0.9 + 0.02 * generator.normal(size=(2, 3, 12, 8))
        assert estimate(tuned, base, resamples=60).sections is None


def test_bad_input_is_refused() -> None:
    tuned, base = planted()
    with pytest.raises(InputError, match="shape"):
        estimate(tuned, base[:, :, :4])
    with pytest.raises(InputError, match="4 or more"):
        estimate(tuned[:, :3], base[:, :3])
    with pytest.raises(InputError, match="finite"):
        estimate(np.full_like(tuned, np.nan), base)
