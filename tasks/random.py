"""Counter-based random numbers: every draw is a pure function of a key and an index.

A key names (task, seed, stream, step); the i-th number under a key is a hash of (key, i), as in
Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3". The hash is the finalizer of
SplitMix64 (Steele, Lea & Flood 2014) in 64-bit integer tensor operations, so a whole fleet draws
in one call, nothing is stored, and the CPU and a GPU make the same numbers.
"""

import hashlib

import torch
from jaxtyping import Float, Int
from torch import Tensor

_WORD = 1 << 64
_GAMMA = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, SplitMix64's increment
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def _signed(word: int) -> int:
    """The two's-complement reading of a 64-bit word (torch has no arithmetic on uint64)."""
    word %= _WORD
    return word - _WORD if word >= _WORD // 2 else word


def _mix_word(word: int) -> int:
    word %= _WORD
    word = (word ^ (word >> 30)) * _MIX_1 % _WORD
    word = (word ^ (word >> 27)) * _MIX_2 % _WORD
    return word ^ (word >> 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical right shift (torch's ``>>`` on int64 keeps the sign)."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finalizer, element-wise; integer overflow wraps, as it must."""
    x = (x ^ _shift_right(x, 30)) * _signed(_MIX_1)
    x = (x ^ _shift_right(x, 27)) * _signed(_MIX_2)
    return x ^ _shift_right(x, 31)


def stream_key(task: str, seed: int, stream: str) -> int:
    """The root key of a stream of data, a signed 64-bit integer.

    Streams with different names ("train", "evaluate", "probe", ...) never share a draw.
    """
    digest = hashlib.sha256(f"{task}\0{seed}\0{stream}".encode()).digest()
    return _signed(int.from_bytes(digest[:8], "little"))


def step_key(key: int, step: int) -> int:
    """The key of one training step (or of one chunk of a long draw) of a stream."""
    return _signed(_mix_word(key + (step + 1) * _GAMMA))


def step_keys(keys: Int[Tensor, "*lead"], step: Int[Tensor, "*#lead"]) -> Int[Tensor, "*lead"]:
    """The same of many streams, on their device; ``step`` is a tensor."""
    return _mix(keys + (step + 1) * _signed(_GAMMA))


def fold(keys: Int[Tensor, "*lead"], number: int) -> Int[Tensor, "*lead"]:
    """Independent keys for the ``number``-th use within one step (labels, fill, shuffle, ...)."""
    return _mix(keys ^ _signed(_mix_word((number + 1) * _GAMMA)))


def bits(keys: Int[Tensor, "*lead"], *shape: int) -> Int[Tensor, "..."]:
    """64 random bits (as int64) per element: the numbers 0, 1, ... under each key."""
    count = 1
    for size in shape:
        count *= size
    counter = torch.arange(1, count + 1, device=keys.device, dtype=torch.int64) * _signed(_GAMMA)
    return _mix(keys.unsqueeze(-1) + counter).view(*keys.shape, *shape)


def uniform(keys: Int[Tensor, "*lead"], *shape: int) -> Float[Tensor, "..."]:
    """Uniform float64 numbers in [0, 1) with 53 random bits each."""
    return _shift_right(bits(keys, *shape), 11).to(torch.float64) * 2.0**-53


def uniform_number(key: int) -> float:
    """The first number of ``uniform`` under one key, without tensors, which take 80 times as long for one."""
    return (_mix_word(key + _GAMMA) >> 11) * 2.0**-53


def integers(keys: Int[Tensor, "*lead"], high: int, *shape: int) -> Int[Tensor, "..."]:
    """Uniform integers in 0 .. high - 1 (bias below high / 2^53)."""
    return (uniform(keys, *shape) * high).to(torch.int64)


def shuffled_order(keys: Int[Tensor, "*lead"], rows: int, size: int) -> Int[Tensor, "*lead rows size"]:
    """Uniformly random permutations of 0 .. size - 1, one per row."""
    return bits(keys, rows, size).argsort(dim=-1)


def normal(keys: Int[Tensor, "..."], *shape: int) -> Float[Tensor, "..."]:
    """Standard normal float64 numbers, by the inverse of the distribution function."""
    centred = uniform(keys, *shape) + 2.0**-54
    return torch.erfinv(2 * centred - 1) * 2**0.5
