"""Rings of latest events, for :mod:`graphmem.ops.reference`; the loops are in :mod:`graphmem.ops._reference_loops`."""

from __future__ import annotations

from torch import Tensor


def ring_insert(
    nbr: Tensor, eid: Tensor, time: Tensor, count: Tensor, src: Tensor, dst: Tensor, t: Tensor, event: Tensor
) -> None:
    """Enter each event with both its ends, in order; writes the first four."""
    from graphmem.ops import _reference_loops

    _reference_loops.ring_insert(*(x.detach().numpy() for x in (nbr, eid, time, count, src, dst, t, event)))


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
