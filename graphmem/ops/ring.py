"""The latest events of every node, in rings that a batch of events updates in place."""

from __future__ import annotations

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.ops import _check

TIMES = (torch.int64, torch.float64)


def ring_insert(
    nbr: Tensor,
    eid: Tensor,
    time: Tensor,
    count: Tensor,
    next_event: Tensor,
    latest: Tensor,
    src: Tensor,
    dst: Tensor,
    t: Tensor | None = None,
    event: Tensor | None = None,
) -> None:
    """Give the events of a batch to both ends, in place: the source's row gets (dst, event, t), then the other way.

    The entry of a node's c-th event, counted from 0, lies in column c mod K, so that of more than K events the last K
    stay. An event from a node to itself enters twice. Cost: O(n), whatever N is.

    Args:
        nbr: int64 [N, K], other ends.
        eid: int64 [N, K], numbers of events.
        time: int64 or float64 [N, K].
        count: int64 [N], events that each node was given.
        next_event: int64 [], one more than the largest number so far.
        latest: [], dtype of ``time``, the latest time so far.
        src: int64 [n], in event order.
        dst: int64 [n].
        t: [n], dtype of ``time``, ascending, from ``latest`` on; by default the numbers of the events.
        event: int64 [n], numbers; by default they go on from ``next_event``.

    Raises:
        ArgumentError: wrong shape, dtype or device, ids outside of [0, N), times that go back, or state that is not
            contiguous. Nothing was written then.
    """
    state = (nbr, eid, time, count, next_event, latest)
    if _check.by_operator(*state, src, dst, t, event):
        try:
            torch.ops.graphmem.ring_insert(*state, *_check.contiguous(src, dst, t, event))
            return
        except RuntimeError:
            pass  # the checks say why
    _check_rows(nbr, eid, time, count)
    _check.tensor("next_event", next_event, shape=(), dtypes=(torch.int64,), device=nbr.device)
    _check.tensor("latest", latest, shape=(), dtypes=(time.dtype,), device=nbr.device)
    src, dst, t, event = _check.events(src, dst, t, event, nodes=nbr.size(0), next_event=next_event, latest=latest)
    torch.ops.graphmem.ring_insert(*state, src, dst, t, event)


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
    found: tuple[Tensor, Tensor, Tensor]
    if _check.by_operator(nbr, eid, time, count, ids, before):
        try:
            found = torch.ops.graphmem.ring_query(nbr, eid, time, count, *_check.contiguous(ids, before), k)
            return found
        except RuntimeError:
            pass
    _check_rows(nbr, eid, time, count)
    ids = _check.tensor("ids", ids, shape=(None,), dtypes=(torch.int64,), device=nbr.device)
    _check.in_range("ids", ids, nbr.size(0))
    if before is not None:
        before = _check.tensor("before", before, shape=(ids.numel(),), dtypes=(time.dtype,), device=nbr.device)
    _check.integer("k", k, 1, nbr.size(1))
    found = torch.ops.graphmem.ring_query(nbr, eid, time, count, ids, before, k)
    return found


def ring_graph(nbr: Tensor, eid: Tensor, count: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the latest events of some nodes as a graph.

    Args:
        nbr: int64 [N, K], see :func:`ring_insert`.
        eid: int64 [N, K].
        count: int64 [N].
        ids: int64 [n].

    Returns:
        The ids and the other ends of their events, distinct and ascending, int64 [u]; edges int64 [2, m] from other
        ends to ids, as places among these, in the order of ids, newest first; numbers of their events int64 [m].

    Raises:
        ArgumentError: wrong shape, dtype or device, or ids or other ends outside of [0, N).
    """
    graph = None
    if _check.by_operator(nbr, eid, count, ids):
        try:
            graph = torch.ops.graphmem.ring_graph(nbr, eid, count, *_check.contiguous(ids))
        except RuntimeError:
            pass
    if graph is None:
        _check_rows(nbr, eid, eid, count)
        ids = _check.valued("ids", _check.tensor("ids", ids, shape=(None,), dtypes=(torch.int64,), device=nbr.device))
        _check.in_range("ids", ids, nbr.size(0))
        if nbr.is_cpu:
            entered = count[ids].unsqueeze(1)
            there = (torch.arange(nbr.size(1)) < entered) | (entered < 0)
            _check.in_range("nbr", nbr[ids][there], nbr.size(0))
        graph = torch.ops.graphmem.ring_graph(nbr, eid, count, ids)
    nodes, edges, events, sizes = graph
    u, m = sizes.tolist()
    return nodes[:u], edges[: 2 * m].view(2, m), events[:m]


def _check_rows(nbr: Tensor, eid: Tensor, time: Tensor, count: Tensor) -> None:
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
def _ring_insert_fake(*_: Tensor | None) -> None:
    return None


@torch.library.register_fake("graphmem::ring_query")
def _ring_query_fake(
    nbr: Tensor, eid: Tensor, time: Tensor, count: Tensor, ids: Tensor, before: Tensor | None, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    shape = (ids.size(0), k)
    return nbr.new_empty(shape), eid.new_empty(shape), time.new_empty(shape)


@torch.library.register_fake("graphmem::ring_graph")
def _ring_graph_fake(nbr: Tensor, eid: Tensor, count: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n, room = ids.size(0), ids.size(0) * nbr.size(1)
    return (
        nbr.new_empty(torch.sym_min(n + room, nbr.size(0))),
        nbr.new_empty(2 * room),
        nbr.new_empty(room),
        nbr.new_empty(2),
    )
