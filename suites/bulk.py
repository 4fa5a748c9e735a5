"""Counter texts by the million: the distribution of ``tasks.counter.Counter`` at some 10^6 texts a second.

``Counter.draw`` sorts random keys to shuffle every text, which is the right thing for batches on any
device and too slow for files of ten million texts on one core. Here the letters of a text are drawn
from left to right instead: with i copies of O_PT among the k letters still to come, the next one is
O_PT with probability i / k, which gives every arrangement the same probability. The random numbers
are those of ``veneer.tasks.random``, in numpy.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Integer, UInt8, UInt64

from veneer.tasks import random
from veneer.tasks.counter import Counter
from veneer.tasks.errors import InputError
from veneer.tasks.mixture import KINDS, PairTable

_GAMMA, _MIX_1, _MIX_2 = (np.uint64(x) for x in (random._GAMMA, random._MIX_1, random._MIX_2))
_SHIFTS = tuple(np.uint64(x) for x in (30, 27, 31))
_WORDS = 1 << 64
_ROWS = 8192  # rows drawn together: their columns stay in a core's cache
_MOST_ENTRIES = 1 << 17


def bits(key: int, count: int, first: int = 0) -> UInt64[np.ndarray, "count"]:
    """64 random bits each: the numbers ``first``, ``first + 1``, ... under a key, as ``random.bits``."""
    words = np.arange(first + 1, first + count + 1, dtype=np.uint64)
    words *= _GAMMA
    words += np.uint64(key % _WORDS)
    return _mix(words)


def uniform(key: int, count: int) -> np.ndarray:
    """Uniform float64 numbers in [0, 1), as ``random.uniform``."""
    return (bits(key, count) >> np.uint64(11)) * 2.0**-53


def shuffled(key: int, count: int) -> Integer[np.ndarray, "count"]:
    """A uniformly random permutation of 0 .. count - 1."""
    return bits(key, count).argsort()  # no two are equal


def fingerprints(texts: Integer[np.ndarray, "text position"]) -> UInt64[np.ndarray, "text"]:
    """A 64-bit hash of every text; equal texts have equal hashes.

    Different texts share one with probability 2^-64, so among ten million some two do with a
    probability of 3e-6; such a text counts as known and another is drawn in its place.
    """
    rows, width = len(texts), texts.shape[1] * texts.itemsize
    padded = np.zeros((rows, -(-width // 8) * 8), dtype=np.uint8)
    padded[:, :width] = np.ascontiguousarray(texts).view(np.uint8).reshape(rows, width)
    state = np.full(rows, _GAMMA, dtype=np.uint64)
    for column in padded.view(np.uint64).T:
        state ^= column
        state *= _MIX_1
        state ^= state >> _SHIFTS[1]
        state *= _MIX_2
        state ^= state >> _SHIFTS[2]
    return _mix(state)


def _mix(words: UInt64[np.ndarray, "count"]) -> UInt64[np.ndarray, "count"]:
    """SplitMix64's finalizer, in place."""
    words ^= words >> _SHIFTS[0]
    words *= _MIX_1
    words ^= words >> _SHIFTS[1]
    words *= _MIX_2
    words ^= words >> _SHIFTS[2]
    return words


@dataclass(frozen=True)
class Texts:
    """Many texts and the answers for both operands.

    Attributes:
        letters: indices into the alphabet; what is behind a short text's end is the alphabet's size.
        sizes: letters per text.
        results: indices of the answers for O_PT and O_FT.
    """

    letters: Integer[np.ndarray, "text position"]
    sizes: Integer[np.ndarray, "text"]
    results: Integer[np.ndarray, "text 2"]


class CounterBulk:
    """Draws texts of a Counter, each of a kind asked for.

    Args:
        task: what is counted.
        allowed: which rows of the table (size, count of O_PT, count of O_FT) may occur; None: all.
    """

    def __init__(self, task: Counter, allowed: np.ndarray | None = None) -> None:
        self.task = task
        keep = torch.ones(len(task._rows), dtype=torch.bool) if allowed is None else torch.from_numpy(allowed)
        if not keep.any():
            raise InputError(
                "held_out", "everything", "labels or lengths that some texts have", "none is left"
            )
        self.rows = task._rows[keep].numpy().astype(np.int32)
        natural = task._table.probability[KINDS.index("natural")][keep]
        self.table = PairTable(task._rows[keep][:, 1:], natural, task.q)
        others = [i for i, x in enumerate(task.letters) if x not in (task.operand_pt, task.operand_ft)]
        self._group = next(n for n in (4, 2, 1) if len(others) ** n <= _MOST_ENTRIES)
        places = np.indices((len(others),) * self._group).reshape(self._group, -1).T
        packed = np.ascontiguousarray(np.array(others, dtype=np.uint8)[places])
        self._others = packed.view(f"u{self._group}").ravel()

    def draw(self, key: int, kind: Integer[np.ndarray, "text"]) -> Texts:
        """Texts of the given kinds (indices into KINDS), a pure function of the key."""
        length = self.task.length
        letters = np.empty((len(kind), length), dtype=np.uint8)
        chosen = torch.from_numpy(kind.astype(np.int64)).unsqueeze(0)
        keys = torch.tensor([random.step_key(key, 0)])
        row = self.table.draw(keys, chosen)[0].numpy()
        found = self.rows[row]
        for number, start in enumerate(range(0, len(kind), _ROWS)):
            block = slice(start, min(start + _ROWS, len(kind)))
            letters[block] = self._write(random.step_key(key, number + 1), found[block])
        return Texts(letters, found[:, 0], found[:, 1:])

    def _write(self, key: int, wanted: Integer[np.ndarray, "text 3"]) -> UInt8[np.ndarray, "text position"]:
        """Texts with the given size and counts."""
        place = self._places(random.step_key(key, 0), wanted.astype(np.int64))
        text = self._fill(random.step_key(key, 1), len(wanted))
        special = [self.task.letters.index(x) for x in (self.task.operand_ft, self.task.operand_pt)]
        for code, letter in enumerate([*special, len(self.task.letters)], start=1):
            chosen = (place == code).view(np.uint8)
            text += chosen * (np.uint8(letter) - text)  # bytes wrap
        return text

    def _places(self, key: int, wanted: Integer[np.ndarray, "text 3"]) -> UInt8[np.ndarray, "text position"]:
        """What stands where: 1 for O_FT, 2 for O_PT, 3 behind the end, 0 for any other letter."""
        count, length = len(wanted), self.task.length
        code = np.empty((length, count), dtype=np.uint8)
        left, pt = wanted[:, 0].copy(), wanted[:, 1].copy()
        both = pt + wanted[:, 2]
        full = bool((left == length).all())
        for place in range(length):
            if place % 2 == 0:
                words = bits(key, count, place // 2 * count)
                drawn = words >> np.uint64(32)
            else:
                drawn = words & np.uint64(0xFFFFFFFF)
            drawn *= np.uint64(length - place) if full else left.view(np.uint64)
            drawn >>= np.uint64(32)  # uniform among the letters left, but for 2^-26 of it
            rank = drawn.view(np.int64)
            is_pt, is_either = rank < pt, rank < both
            np.add(is_pt.view(np.uint8), is_either.view(np.uint8), out=code[place])
            if not full:
                ended = left == 0
                code[place] += ended.view(np.uint8) * np.uint8(3)
                left -= ~ended
            pt -= is_pt
            both -= is_either
        return torch.from_numpy(code).t().contiguous().numpy()

    def _fill(self, key: int, count: int) -> UInt8[np.ndarray, "text position"]:
        """Uniform letters other than the operands, several from each random number."""
        words = -(-self.task.length // self._group)
        entry = uniform(key, count * words) * len(self._others)
        letters = self._others[entry.astype(np.int64)].view(np.uint8).reshape(count, -1)
        return np.ascontiguousarray(letters[:, : self.task.length])
