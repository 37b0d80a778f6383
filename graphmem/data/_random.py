"""Counter-based random numbers on numpy arrays (SplitMix64), as `docs/architecture.md` defines them.

A draw is a function of `(seed, key, n)` in 64-bit integer arithmetic only, so it is the same on every machine and for
every numpy version. numpy's own `Generator` does not promise this for its distributions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def mix(z: int) -> int:
    """SplitMix64's finaliser of one number in [0, 2^64)."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def draws(seed: int, key: int, count: int, start: int = 0) -> U64:
    """`draw(seed, key, n)` for `n = start, ..., start + count - 1`, as uint64 [count].

    Args:
        seed: any integer; taken modulo 2^64.
        key: names the stream, so that two uses of one seed are independent.
        count: number of draws.
        start: index of the first draw.
    """
    stream = mix(mix((seed + GOLDEN) & MASK) ^ ((key * 0xD1342543DE82EF95 + GOLDEN) & MASK))
    n = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    z = n * np.uint64(GOLDEN) + np.uint64(stream)  # array arithmetic wraps modulo 2^64 without a warning
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def below(h: U64, bound: int | I64) -> I64:
    """Map draws to `[0, bound)`: the high 64 bits of the 128-bit product `h * bound`.

    Args:
        h: uint64 draws.
        bound: one positive bound, or one for each draw.
    """
    m = np.asarray(bound, dtype=np.uint64)
    low32, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    h_hi, h_lo = h >> shift, h & low32
    m_hi, m_lo = m >> shift, m & low32
    mid = h_hi * m_lo + ((h_lo * m_lo) >> shift)
    mid2 = h_lo * m_hi + (mid & low32)
    product: I64 = (h_hi * m_hi + (mid >> shift) + (mid2 >> shift)).astype(np.int64)
    return product


def permutation(seed: int, key: int, n: int) -> I64:
    """A uniform permutation of `0..n-1`: the stable order of `n` 64-bit draws."""
    order: I64 = np.argsort(draws(seed, key, n), kind="stable").astype(np.int64, copy=False)
    return order


def distinct_below(seed: int, key: int, bound: int, count: int) -> I64:
    """`count` distinct uniform integers of `[0, bound)`, in random order.

    Repeated draws are skipped. When more than half of the range is wanted the range is permuted instead, so the memory
    is O(count) in both cases.
    """
    if count > bound:
        raise ValueError(f"cannot draw {count} distinct numbers below {bound}")
    if 2 * count >= bound:
        return permutation(seed, key, bound)[:count]
    values, start = np.empty(0, dtype=np.int64), 0
    while values.size < count:
        size = count - values.size + 16
        fresh = below(draws(seed, key, size, start), bound)
        start += size
        values = first_occurrences(np.concatenate([values, fresh]))
    return values[:count]


def first_occurrences(values: I64) -> I64:
    """`values` without later repeats, in the original order."""
    _, first = np.unique(values, return_index=True)
    first.sort()
    kept: I64 = values[first]
    return kept
