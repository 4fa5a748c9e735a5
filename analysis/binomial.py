"""The interval of a share: how far a count of hits pins down what it is a sample of (Wilson 1927)."""

import math

Z = 1.959963984540054  # of a two-sided interval of 95 %


def wilson(hits: int, samples: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, within 0 and 1.

    Args:
        hits: how many had it.
        samples: out of how many, 1 or more.
    """
    p = hits / samples
    middle = p + Z**2 / (2 * samples)
    spread = Z * math.sqrt(p * (1 - p) / samples + Z**2 / (4 * samples**2))
    low, high = ((middle + sign * spread) / (1 + Z**2 / samples) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)
