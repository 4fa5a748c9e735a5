"""Which rows of which files have a text that an earlier row has, found by fingerprints.

Equal fingerprints (64 bits of a hash) count as equal texts: a false alarm costs one sample its text.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt64

_PART = 1 << 20  # fingerprints compared at once


def repeated_rows(files: Sequence[Path]) -> dict[int, Integer[np.ndarray, "row"]]:
    """Rows whose fingerprint occurred before, by file; in memory are a million fingerprints at a time."""
    sizes = [len(np.load(file, mmap_mode="r")) for file in files]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    part_bits = max(0, (int(starts[-1]) // _PART).bit_length())
    found = []
    for part in range(1 << part_bits):
        chosen = [_of_part(np.load(file), part, part_bits) for file in files]
        hashes = np.concatenate([h for h, _ in chosen])
        places = np.concatenate([start + p for start, (_, p) in zip(starts, chosen, strict=False)])
        order = hashes.argsort(kind="stable")
        again = hashes[order[1:]] == hashes[order[:-1]]
        found.append(places[order[1:][again]])
    everything = np.sort(np.concatenate(found))
    owner = np.searchsorted(starts, everything, side="right") - 1
    return {int(i): everything[owner == i] - starts[i] for i in np.unique(owner)}


def _of_part(
    hashes: UInt64[np.ndarray, "row"], part: int, part_bits: int
) -> tuple[UInt64[np.ndarray, "chosen"], Integer[np.ndarray, "chosen"]]:
    """Fingerprints that begin with the given bits, and where they stand."""
    if part_bits == 0:
        return hashes, np.arange(len(hashes))
    places = np.flatnonzero((hashes >> np.uint64(64 - part_bits)) == part)
    return hashes[places], places
