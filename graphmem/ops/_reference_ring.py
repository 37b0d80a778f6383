"""Rings of latest events, for :mod:`graphmem.ops.reference`; the loops are in :mod:`graphmem.ops._reference_loops`."""

from __future__ import annotations

import torch
from torch import Tensor


def ring_insert(
    nbr: Tensor,
    eid: Tensor,
    time: Tensor,
    count: Tensor,
    next_event: Tensor,
    latest: Tensor,
    src: Tensor,
    dst: Tensor,
    t: Tensor | None,
    event: Tensor | None,
) -> None:
    """Enter each event with both its ends, in order; writes the first six."""
    from graphmem.ops import _reference_loops

    number = next_event + torch.arange(src.numel()) if event is None else event
    times = number.to(time.dtype) if t is None else t
    _reference_loops.ring_insert(*(x.detach().numpy() for x in (nbr, eid, time, count, src, dst, times, number)))
    if src.numel():
        latest.copy_(times[-1])
        next_event.copy_(torch.cat((next_event.view(1), number + 1)).max())


def ring_query(
    nbr: Tensor, eid: Tensor, time: Tensor, count: Tensor, ids: Tensor, before: Tensor | None, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The k latest events of each id, newest first, of those before a time where one is given."""
    from graphmem.ops import _reference_loops

    found = nbr.new_full((ids.size(0), k), -1), eid.new_full((ids.size(0), k), -1), time.new_zeros(ids.size(0), k)
    limits = time.new_empty(0) if before is None else before
    arrays = (x.detach().numpy() for x in (nbr, eid, time, count, ids, limits, *found))
    _reference_loops.ring_query(before is not None, *arrays)
    return found


def ring_graph(nbr: Tensor, eid: Tensor, count: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The latest entries as edges between places among the nodes met, and how many nodes and edges there are.

    In torch's operations: they serve CUDA tensors, too.
    """
    size = nbr.size(1)
    other, event, _ = torch.ops.graphmem.ring_query(nbr, eid, eid, count, ids, None, size)
    held = torch.arange(size, device=nbr.device) < _held(count[ids], size).unsqueeze(1)
    met, place = torch.cat((ids, other[held])).unique(return_inverse=True)
    ends = place[: ids.numel()].unsqueeze(1).expand_as(held)[held]
    total = ends.numel()
    room = other.numel()
    nodes, edges, events = (nbr.new_full((n,), -1) for n in (min(ids.numel() + room, nbr.size(0)), 2 * room, room))
    nodes[: met.numel()] = met
    edges[:total], edges[total : 2 * total] = place[ids.numel() :], ends
    events[:total] = event[held]
    return nodes, edges, events, torch.tensor([met.numel(), total], device=nbr.device)


def _held(count: Tensor, size: int) -> Tensor:
    """Entries in rows whose counts are unsigned."""
    return torch.where(count < 0, size, count.clamp(max=size))
