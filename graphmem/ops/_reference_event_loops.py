"""Loops of events that enter rows, and of questions about these; see :mod:`graphmem.ops._reference_loops`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphmem.ops._reference_loops import _GOLDEN, Array, _draw_below, _loop, _mix, _stream

RECENT, UNIFORM, DECAYED = 0, 1, 2
"""Values of the argument ``strategy``."""


@_loop
def ring_insert(
    nbr: Array, eid: Array, time: Array, count: Array, src: Array, dst: Array, t: Array, event: Array
) -> None:
    size = np.uint64(nbr.shape[1])
    for e in range(src.shape[0]):
        for owner, other in ((src[e], dst[e]), (dst[e], src[e])):
            column = np.int64(np.uint64(count[owner]) % size)
            nbr[owner, column], eid[owner, column], time[owner, column] = other, event[e], t[e]
            count[owner] += 1


@_loop
def ring_query(
    limited: bool,
    nbr: Array,
    eid: Array,
    time: Array,
    count: Array,
    ids: Array,
    before: Array,
    out_nbr: Array,
    out_eid: Array,
    out_time: Array,
) -> None:
    size, one = np.uint64(nbr.shape[1]), np.uint64(1)
    for n in range(ids.shape[0]):
        row, end = ids[n], np.uint64(count[ids[n]])
        found = 0
        for age in range(min(end, size)):
            column = np.int64((end - one - np.uint64(age)) % size)
            if found == out_nbr.shape[1]:
                break
            if limited and not time[row, column] < before[n]:
                continue
            out_nbr[n, found], out_eid[n, found] = nbr[row, column], eid[row, column]
            out_time[n, found] = time[row, column]
            found += 1


@_loop
def _room(length: int) -> int:
    """Places of a row in the pool: 0, 4, 6, 8, 12, 16, 24, ..."""
    places = 4 if length > 0 else 0
    while places < length:
        places += places // 3 if places % 3 == 0 else places // 2
    return places


@_loop
def temporal_append(
    start: Array,
    length: Array,
    nbr: Array,
    eid: Array,
    time: Array,
    used: int,
    src: Array,
    dst: Array,
    t: Array,
    event: Array,
) -> int:
    """Returns how much of the pool is needed; writes nothing if that is more than there is."""
    more, last = np.zeros_like(length), np.zeros_like(length)
    for half in range(2 * src.shape[0]):
        owner = src[half // 2] if half % 2 == 0 else dst[half // 2]
        more[owner] += 1
        last[owner] = half
    needed = used
    for write in (False, True):
        end = used
        for half in range(2 * src.shape[0]):
            owner = src[half // 2] if half % 2 == 0 else dst[half // 2]
            entries = length[owner] + more[owner]
            if last[owner] == half and _room(length[owner]) < entries:
                if write:
                    for k in range(length[owner]):
                        old, new = start[owner] + k, end + k
                        nbr[new], eid[new], time[new] = nbr[old], eid[old], time[old]
                    start[owner] = end
                end += _room(entries)
        needed = end
        if needed > nbr.shape[0]:
            return needed
    for e in range(src.shape[0]):
        for owner, other in ((src[e], dst[e]), (dst[e], src[e])):
            at = start[owner] + length[owner]
            nbr[at], eid[at], time[at] = other, event[e], t[e]
            length[owner] += 1
    return needed


@_loop
def _logarithm(x: float) -> float:
    """Sums, products and a quotient in a fixed order: the same bits everywhere, unlike those of libraries."""
    part, exponent = math.frexp(x)
    if part < 0.70710678118654752440:
        part, exponent = 2 * part, exponent - 1
    s = (part - 1) / (part + 1)
    z = s * s
    total = 1.0 / 21
    for n in range(19, 0, -2):
        total = total * z + 1.0 / n
    return exponent * 0.69314718055994530942 + 2 * s * total


@_loop
def _decayed_keys(t: Any, times: Array, whole: bool, decay: float, state: np.uint64, number: int, keys: Array) -> None:
    """Logarithm of the weight ``exp(-decay age)`` plus a Gumbel number, of entries numbered from ``number``."""
    for n in range(times.shape[0]):
        age = np.float64(np.uint64(t) - np.uint64(times[n])) if whole else np.float64(t - times[n])
        loss = decay * age
        draw = _mix(state + np.uint64(number + n + 1) * _GOLDEN)
        uniform = (np.float64(draw >> np.uint64(12)) + 0.5) * 2.0**-52
        keys[n] = -_logarithm(-_logarithm(uniform)) - (loss if loss >= 0 else 0.0)


@_loop
def temporal_sample(
    start: Array,
    length: Array,
    nbr: Array,
    eid: Array,
    time: Array,
    ids: Array,
    t: Array,
    since: Array,
    whole: bool,
    strategy: int,
    inclusive: bool,
    decay: float,
    seed: np.uint64,
    key: Array,
    out_nbr: Array,
    out_eid: Array,
    out_time: Array,
) -> None:
    """Outputs arrive as -1, -1, 0; ``since`` is empty where there is no limit, times are ``whole`` numbers or not."""
    k = out_nbr.shape[1]
    for q in range(ids.shape[0]):
        first = start[ids[q]]
        end = first
        for at in range(first, first + length[ids[q]]):
            if time[at] < t[q] or (inclusive and time[at] == t[q]):
                end = at + 1
        begin = first
        while since.shape[0] > 0 and begin < end and time[begin] < since[q]:
            begin += 1
        count = end - begin
        state = _stream(seed, key[q])
        if count <= k or strategy == RECENT:
            taken = np.arange(max(begin, end - k), end)
        elif strategy == UNIFORM:
            taken = np.empty(k, dtype=np.int64)
            for n in range(k):  # Floyd
                top = count - k + n
                place = begin + _draw_below(state, n, top + 1)
                taken[n] = begin + top if (taken[:n] == place).any() else place
            taken.sort()
        else:
            keys = np.empty(count)
            _decayed_keys(t[q], time[begin:end], whole, decay, state, begin - first, keys)
            newest_first = np.argsort(-keys[::-1], kind="mergesort")[:k]
            taken = np.sort(end - 1 - newest_first)
        for n in range(taken.shape[0]):
            at = taken[taken.shape[0] - 1 - n]
            out_nbr[q, n], out_eid[q, n], out_time[q, n] = nbr[at], eid[at], time[at]
