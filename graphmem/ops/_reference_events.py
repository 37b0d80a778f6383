"""Events that enter rows, and questions about these, for :mod:`graphmem.ops.reference`.

The loops are in :mod:`graphmem.ops._reference_event_loops`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_UINT64 = (1 << 64) - 1


def _loops() -> Any:
    """Import numba only when a loop is needed."""
    from graphmem.ops import _reference_event_loops

    return _reference_event_loops


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
    number, times = _numbers_and_times(next_event, time.dtype, src, t, event)
    _loops().ring_insert(*_arrays(nbr, eid, time, count, src, dst, times, number))
    _advance(next_event, latest, times, number)


def _numbers_and_times(
    next_event: Tensor, dtype: torch.dtype, src: Tensor, t: Tensor | None, event: Tensor | None
) -> tuple[Tensor, Tensor]:
    number = next_event + torch.arange(src.numel()) if event is None else event
    return number, number.to(dtype) if t is None else t


def _advance(next_event: Tensor, latest: Tensor, times: Tensor, number: Tensor) -> None:
    if times.numel():
        latest.copy_(times[-1])
        next_event.copy_(torch.cat((next_event.view(1), number + 1)).max())


def _arrays(*tensors: Tensor) -> list[NDArray[Any]]:
    return [x.detach().numpy() for x in tensors]


def ring_query(
    nbr: Tensor, eid: Tensor, time: Tensor, count: Tensor, ids: Tensor, before: Tensor | None, k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The k latest events of each id, newest first, of those before a time where one is given."""
    found = nbr.new_full((ids.size(0), k), -1), eid.new_full((ids.size(0), k), -1), time.new_zeros(ids.size(0), k)
    limits = time.new_empty(0) if before is None else before
    rows = _arrays(nbr, eid, time, count, ids, limits, *found)
    _loops().ring_query(before is not None, *rows)
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


def temporal_append(
    start: Tensor,
    length: Tensor,
    nbr: Tensor,
    eid: Tensor,
    time: Tensor,
    used: Tensor,
    next_event: Tensor,
    latest: Tensor,
    src: Tensor,
    dst: Tensor,
    t: Tensor | None,
    event: Tensor | None,
) -> Tensor:
    """Events behind the rows of both ends; writes the first eight unless the pool is too small."""
    number, times = _numbers_and_times(next_event, time.dtype, src, t, event)
    rows = _arrays(start, length, nbr, eid, time)
    needed = _loops().temporal_append(*rows, int(used), *_arrays(src, dst, times, number))
    if needed <= nbr.numel():
        used.fill_(needed)
        _advance(next_event, latest, times, number)
    return torch.tensor([needed])


def temporal_sample(
    start: Tensor,
    length: Tensor,
    nbr: Tensor,
    eid: Tensor,
    time: Tensor,
    ids: Tensor,
    t: Tensor,
    since: Tensor | None,
    k: int,
    strategy: int,
    inclusive: bool,
    decay: float,
    seed: int,
    key: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """k earlier events of each id, newest first."""
    found = tuple(like.new_full((ids.numel(), k), fill) for like, fill in ((nbr, -1), (nbr, -1), (time, 0)))
    keys = torch.arange(ids.numel()) if key is None else key
    limits = time.new_empty(0) if since is None else since
    rows = _arrays(start, length, nbr, eid, time, ids, t, limits)
    options = time.dtype == torch.int64, strategy, inclusive, decay, np.uint64(seed & _UINT64)
    _loops().temporal_sample(*rows, *options, keys.numpy().view(np.uint64), *_arrays(*found))
    return found[0], found[1], found[2]
