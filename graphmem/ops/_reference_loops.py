"""The loops behind :mod:`graphmem.ops.reference`: every operator as plain Python over NumPy arrays, compiled by numba.

numba compiles at the first call, in memory only, unless NUMBA_CACHE_DIR says where to keep the code. Import this module
where a loop is about to run, not before: importing numba takes longer than importing all of ``graphmem.ops``. Outputs
are arguments, filled in place; sums arrive zeroed.
Arrays ``keep`` and ``weight`` are always there (ones where the operator got none).

Sums take ``out += weight * x`` in the dtype of ``out``, one entry after the other: without ``fastmath`` LLVM neither
reorders nor contracts, which is what makes the compiled kernels comparable bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]
_Function = TypeVar("_Function", bound=Callable[..., Any])

CN, LEFT, RIGHT = 1, 2, 4
"""Bits of the argument ``parts``; also the order in which parts are laid out."""

MAX_ATTEMPTS = 1024
"""Rejections after which an event of ``sample_non_edges`` gives up and yields ``-1, -1``."""


def _loop(function: _Function) -> _Function:
    # error_model: a division by zero is inf or nan, as in C++, not an exception
    kept = "NUMBA_CACHE_DIR" in os.environ
    compiled: _Function = njit(cache=kept, fastmath=False, error_model="numpy")(function)
    return compiled


# ------------------------------------------------------------------------------------------------------- neighbour sets


@_loop
def _entries(
    rowptr_a: Array,
    col_a: Array,
    keep_a: Array,
    rowptr_b: Array,
    col_b: Array,
    keep_b: Array,
    i: int,
    j: int,
    exclude_endpoints: bool,
) -> Iterator[tuple[Any, ...]]:
    """Yield ``(part, node, slot in a or -1, slot in b or -1)`` of one pair, nodes ascending."""
    p, p_end = rowptr_a[i], rowptr_a[i + 1]
    q, q_end = rowptr_b[j], rowptr_b[j + 1]
    while p < p_end or q < q_end:
        from_a = q == q_end or (p < p_end and col_a[p] <= col_b[q])
        from_b = p == p_end or (q < q_end and col_b[q] <= col_a[p])
        node = col_a[p] if from_a else col_b[q]
        slot_a, slot_b = np.int64(-1), np.int64(-1)
        if from_a:
            if keep_a[p]:
                slot_a = p
            p += 1
        if from_b:
            if keep_b[q]:
                slot_b = q
            q += 1
        if exclude_endpoints and (node == i or node == j):
            continue
        if slot_a >= 0 and slot_b >= 0:
            yield CN, node, slot_a, slot_b
        elif slot_a >= 0:
            yield LEFT, node, slot_a, slot_b
        elif slot_b >= 0:
            yield RIGHT, node, slot_a, slot_b


@_loop
def _part_row(parts: int, part: int) -> int:
    """Which row of the output a wanted part is written to: parts that are not wanted leave no gap."""
    row = 0
    if part > CN and parts & CN:
        row += 1
    if part > LEFT and parts & LEFT:
        row += 1
    return row


@_loop
def _weight_of(part: int, slot_a: int, slot_b: int, weight_a: Array, weight_b: Array) -> Any:
    if part == CN:
        return weight_a[slot_a] * weight_b[slot_b]
    return weight_a[slot_a] if part == LEFT else weight_b[slot_b]


@_loop
def cn_count(
    rowptr_a: Array,
    col_a: Array,
    keep_a: Array,
    rowptr_b: Array,
    col_b: Array,
    keep_b: Array,
    pairs: Array,
    exclude_endpoints: bool,
    out: Array,
) -> None:
    for b in range(pairs.shape[1]):
        for part, _, _, _ in _entries(
            rowptr_a, col_a, keep_a, rowptr_b, col_b, keep_b, pairs[0, b], pairs[1, b], exclude_endpoints
        ):
            out[_part_row(CN | LEFT | RIGHT, part), b] += 1


@_loop
def cn_index(
    rowptr_a: Array,
    col_a: Array,
    keep_a: Array,
    rowptr_b: Array,
    col_b: Array,
    keep_b: Array,
    pairs: Array,
    exclude_endpoints: bool,
    parts: int,
    cursor: Array,
    idx: Array,
    slot: Array,
    slot_of_cn_in_b: Array,
) -> None:
    """``cursor`` [P, B] starts as the offset of each row and moves on with every entry written."""
    for b in range(pairs.shape[1]):
        for part, node, slot_a, slot_b in _entries(
            rowptr_a, col_a, keep_a, rowptr_b, col_b, keep_b, pairs[0, b], pairs[1, b], exclude_endpoints
        ):
            if parts & part:
                row = _part_row(parts, part)
                at = cursor[row, b]
                cursor[row, b] += 1
                idx[at] = node
                slot[at] = slot_b if part == RIGHT else slot_a
                if part == CN:
                    slot_of_cn_in_b[at] = slot_b


@_loop
def cn_gather_sum(
    rowptr_a: Array,
    col_a: Array,
    keep_a: Array,
    weight_a: Array,
    rowptr_b: Array,
    col_b: Array,
    keep_b: Array,
    weight_b: Array,
    pairs: Array,
    x: Array,
    exclude_endpoints: bool,
    parts: int,
    out: Array,
) -> None:
    for b in range(pairs.shape[1]):
        for part, node, slot_a, slot_b in _entries(
            rowptr_a, col_a, keep_a, rowptr_b, col_b, keep_b, pairs[0, b], pairs[1, b], exclude_endpoints
        ):
            if parts & part:
                row = _part_row(parts, part)
                weight = _weight_of(part, slot_a, slot_b, weight_a, weight_b)
                for f in range(x.shape[1]):
                    out[row, b, f] += weight * x[node, f]


@_loop
def cn_gather_sum_backward(
    rowptr_a: Array,
    col_a: Array,
    keep_a: Array,
    weight_a: Array,
    rowptr_b: Array,
    col_b: Array,
    keep_b: Array,
    weight_b: Array,
    pairs: Array,
    grad: Array,
    exclude_endpoints: bool,
    parts: int,
    out: Array,
) -> None:
    for b in range(pairs.shape[1]):
        for part, node, slot_a, slot_b in _entries(
            rowptr_a, col_a, keep_a, rowptr_b, col_b, keep_b, pairs[0, b], pairs[1, b], exclude_endpoints
        ):
            if parts & part:
                row = _part_row(parts, part)
                weight = _weight_of(part, slot_a, slot_b, weight_a, weight_b)
                for f in range(grad.shape[2]):
                    out[node, f] += weight * grad[row, b, f]


# ------------------------------------------------------------------------------------------------------------- segments


@_loop
def segment_gather_sum(ptr: Array, idx: Array, slot: Array, weight: Array, keep: Array, x: Array, out: Array) -> None:
    for s in range(len(ptr) - 1):
        for k in range(ptr[s], ptr[s + 1]):
            q = slot[k]
            # An absent entry is skipped, not multiplied by zero: its row of x may hold inf or nan.
            if keep[q]:
                for f in range(x.shape[1]):
                    out[s, f] += weight[q] * x[idx[k], f]


@_loop
def segment_gather_dot(ptr: Array, idx: Array, keep: Array, x: Array, grad: Array, out: Array) -> None:
    for s in range(len(ptr) - 1):
        for k in range(ptr[s], ptr[s + 1]):
            if keep[k]:
                for f in range(x.shape[1]):
                    out[k] += grad[s, f] * x[idx[k], f]


@_loop
def csr_transpose(ptr: Array, idx: Array, tptr: Array, trow: Array, tslot: Array) -> None:
    """Sort stably by counting: rows are visited in order, so entries of one column keep their order."""
    for k in range(len(idx)):
        tptr[idx[k] + 1] += 1
    for c in range(len(tptr) - 1):
        tptr[c + 1] += tptr[c]
    cursor = tptr.copy()
    for r in range(len(ptr) - 1):
        for k in range(ptr[r], ptr[r + 1]):
            at = cursor[idx[k]]
            cursor[idx[k]] += 1
            trow[at] = r
            tslot[at] = k


# ------------------------------------------------------------------------------------------- edges and random numbers


@_loop
def _find(rowptr: Array, col: Array, i: int, j: int) -> int:
    """Slot of the edge ``(i, j)`` or -1; binary search, because rows are ascending."""
    low, high = rowptr[i], rowptr[i + 1]
    while low < high:
        middle = (low + high) // 2
        if col[middle] < j:
            low = middle + 1
        else:
            high = middle
    return low if low < rowptr[i + 1] and col[low] == j else -1


@_loop
def find_edges(rowptr: Array, col: Array, pairs: Array, out: Array) -> None:
    for b in range(pairs.shape[1]):
        out[b] = _find(rowptr, col, pairs[0, b], pairs[1, b])


# Every operand below is uint64: with one signed operand numba, like NumPy, would compute in float64.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_KEY = np.uint64(0xD1342543DE82EF95)
_LOW = np.uint64(0xFFFFFFFF)
_ONE, _27, _30, _31, _32 = np.uint64(1), np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


@_loop
def _mix(z: np.uint64) -> np.uint64:
    z = (z ^ (z >> _30)) * _MIX_1
    z = (z ^ (z >> _27)) * _MIX_2
    return z ^ (z >> _31)


@_loop
def _stream(seed: np.uint64, key: np.uint64) -> Any:
    return _mix(_mix(seed + _GOLDEN) ^ (key * _KEY + _GOLDEN))


@_loop
def _draw_below(state: np.uint64, number: int, bound: int) -> Any:
    """Map one number of a stream to ``[0, bound)``: the high half of a 64 x 64 bit product, in 32-bit limbs."""
    h = _mix(state + (np.uint64(number) + _ONE) * _GOLDEN)
    m = np.uint64(bound)
    h_high, h_low, m_high, m_low = h >> _32, h & _LOW, m >> _32, m & _LOW
    middle = h_high * m_low + ((h_low * m_low) >> _32)
    cross = h_low * m_high + (middle & _LOW)
    return np.int64(h_high * m_high + (middle >> _32) + (cross >> _32))


@_loop
def sample_rows(
    ptr: Array, out_ptr: Array, k: int, seed: np.uint64, row_key: Array, replace: bool, pos: Array, weight: Array
) -> None:
    for s in range(len(ptr) - 1):
        first, length = ptr[s], ptr[s + 1] - ptr[s]
        row = pos[out_ptr[s] : out_ptr[s + 1]]
        if length <= k:
            for n in range(length):
                row[n] = first + n
                weight[out_ptr[s] + n] = np.float32(1)
            continue
        state = _stream(seed, row_key[s])
        for n in range(k):
            if replace:
                t = _draw_below(state, n, length)
            else:  # Floyd: equally likely subsets, one draw each
                last = length - k + n
                t = _draw_below(state, n, last + 1)
                for earlier in range(n):
                    if row[earlier] == first + t:
                        t = last
                        break
            row[n] = first + t
            weight[out_ptr[s] + n] = np.float32(length) / np.float32(k)
        row.sort()


@_loop
def sample_non_edges(rowptr: Array, col: Array, num_nodes: int, start: np.uint64, seed: np.uint64, out: Array) -> None:
    for c in range(out.shape[1]):
        state = _stream(seed, start + np.uint64(c))
        out[:, c] = -1
        for n in range(MAX_ATTEMPTS):
            u = _draw_below(state, 2 * n, num_nodes)
            v = _draw_below(state, 2 * n + 1, num_nodes)
            if u != v and _find(rowptr, col, u, v) < 0 and _find(rowptr, col, v, u) < 0:
                out[0, c], out[1, c] = u, v
                break
