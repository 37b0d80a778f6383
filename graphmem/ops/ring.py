"""The latest events of every node, in rings that a batch of events updates in place."""

from __future__ import annotations

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.ops import _check

TIMES = (torch.int64, torch.float64)


def ring_insert(
    nbr: Tensor, eid: Tensor, time: Tensor, count: Tensor, src: Tensor, dst: Tensor, t: Tensor, event: Tensor
) -> None:
    """Give the events of a batch to both ends, in place: the source's row gets (dst, event, t), then the other way.

    The entry of a node's c-th event, counted from 0, lies in column c mod K, so that of more than K events the last K
    stay. An event from a node to itself enters twice. Cost: O(n), whatever N is.

    Args:
        nbr: int64 [N, K], other ends.
        eid: int64 [N, K], numbers of events.
        time: int64 or float64 [N, K].
        count: int64 [N], events that each node was given.
        src: int64 [n], in event order.
        dst: int64 [n].
        t: [n], dtype of ``time``.
        event: int64 [n], numbers.

    Raises:
        ArgumentError: wrong shape, dtype or device, ids outside of [0, N), or state that is not contiguous.
    """
    _check_state(nbr, eid, time, count)
    src = _check.tensor("src", src, shape=(None,), dtypes=(torch.int64,), device=nbr.device)
    n = src.numel()
    dst = _check.tensor("dst", dst, shape=(n,), dtypes=(torch.int64,), device=nbr.device)
    t = _check.tensor("t", t, shape=(n,), dtypes=(time.dtype,), device=nbr.device)
    event = _check.tensor("event", event, shape=(n,), dtypes=(torch.int64,), device=nbr.device)
    for name, ids in (("src", src), ("dst", dst)):
        _check.in_range(name, ids, nbr.size(0))
    torch.ops.graphmem.ring_insert(nbr, eid, time, count, src, dst, t, event)


def ring_query(
    nbr: Tensor, eid: Tensor, time: Tensor, count: Tensor, ids: Tensor, k: int, before: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Find the k latest events of each id, newest first.

    Args:
        nbr: int64 [N, K], see :func:`ring_insert`.
        eid: int64 [N, K].
        time: int64 or float64 [N, K].
        count: int64 [N].
        ids: int64 [n].
        k: from 1 to K.
        before: [n], dtype of ``time``: only events before these times.

    Returns:
        Other ends [n, k], numbers [n, k] and times [n, k] of the events; -1, -1 and 0 where there are fewer.

    Raises:
        ArgumentError: wrong shape, dtype, device or k, or ids outside of [0, N).
    """
    _check_state(nbr, eid, time, count)
    ids = _check.tensor("ids", ids, shape=(None,), dtypes=(torch.int64,), device=nbr.device)
    _check.in_range("ids", ids, nbr.size(0))
    if before is not None:
        before = _check.tensor("before", before, shape=(ids.numel(),), dtypes=(time.dtype,), device=nbr.device)
    _check.integer("k", k, 1, nbr.size(1))
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.graphmem.ring_query(nbr, eid, time, count, ids, before, k)
    return found


def _check_state(nbr: Tensor, eid: Tensor, time: Tensor, count: Tensor) -> None:
    _check.tensor("nbr", nbr, shape=(None, None), dtypes=(torch.int64,))
    _check.tensor("eid", eid, shape=tuple(nbr.shape), dtypes=(torch.int64,), device=nbr.device)
    _check.tensor("time", time, shape=tuple(nbr.shape), dtypes=TIMES, device=nbr.device)
    _check.tensor("count", count, shape=(nbr.size(0),), dtypes=(torch.int64,), device=nbr.device)
    if nbr.size(1) == 0:
        raise ArgumentError(f"nbr: expected at least one column, got {_check.describe(nbr)}")
    for name, state in (("nbr", nbr), ("eid", eid), ("time", time), ("count", count)):
        if not state.is_contiguous():  # a copy would take the events instead
            raise ArgumentError(f"{name}: expected a contiguous tensor, got strides {state.stride()}")


@torch.library.register_fake("graphmem::ring_insert")
def _ring_insert_fake(*_: Tensor) -> None:
    return None


@torch.library.register_fake("graphmem::ring_query")
def _ring_query_fake(
    nbr: Tensor, eid: Tensor, time: Tensor, count: Tensor, ids: Tensor, before: Tensor | None, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    shape = (ids.size(0), k)
    return nbr.new_empty(shape), eid.new_empty(shape), time.new_empty(shape)
