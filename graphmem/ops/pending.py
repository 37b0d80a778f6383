"""Which events of a batch have earlier events of the same batch at one of their ends."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphmem.ops import _check
from graphmem.ops._autograd import Operator


class PendingEvents(NamedTuple):
    """What :func:`pending_events` found."""

    mask: Tensor
    """bool [E], the events with a pending event."""
    nodes: Tensor
    """int64 [n], the distinct ends, in the order in which they first appear (event by event, source first)."""
    events: Tensor
    """int64 [n], number of each node's events in the batch; a self-loop is one."""
    affected: Tensor
    """bool [n], whether one of a node's events has a pending event."""
    place: Tensor
    """int64 [2 E], where the ends of the events are among the nodes: source, destination, source, ..."""


def pending_events(src: Tensor, dst: Tensor) -> PendingEvents:
    r"""Find the events that a batch, read all at once, gets wrong.

    Event f is *pending* for a later event e of the same batch if they share an end: whoever predicts or applies e from
    the state before the batch does not know of f. With :math:`\mathrm{first}(v)` the first event of node v,

    .. math:: \mathrm{mask}_e = [\min(\mathrm{first}(i_e), \mathrm{first}(j_e)) < e]

    A batch of one event has none. Takes time and memory by the size of the batch; no result depends on threads.

    Source: J. Su, D. Zou, C. Wu, "PRES: Toward Scalable Memory-Based Dynamic Graph Neural Networks", ICLR 2024 (arXiv
    2402.04284), definition of pending events.

    Args:
        src: int64 [E], in the order of the events.
        dst: int64 [E].

    Raises:
        ArgumentError: wrong shape, dtype, device or range.
    """
    out = _find(src, dst) if _check.by_operator(src, dst) else None
    if out is None:  # the checks say why, or make what does not fit contiguous
        src = _check.valued("src", _check.tensor("src", src, shape=(None,), dtypes=(torch.int64,)))
        dst = _check.tensor("dst", dst, shape=(src.numel(),), dtypes=(torch.int64,), device=src.device)
        for name, ends in (("src", src), ("dst", dst)):
            _check.in_range(name, ends, torch.iinfo(torch.int64).max)
        out = _pending_events(src, dst)
    mask, nodes, events, affected, place, count = out
    size = int(count)
    return PendingEvents(mask, nodes[:size], events[:size], affected[:size], place)


def _find(src: Tensor, dst: Tensor) -> tuple[Tensor, ...] | None:
    try:
        return _pending_events(src, dst)  # type: ignore[no-any-return]
    except RuntimeError:
        return None


@torch.library.register_fake("graphmem::pending_events")
def _pending_events_fake(src: Tensor, dst: Tensor) -> tuple[Tensor, ...]:
    ends = 2 * src.size(0)
    nodes, count, place = (src.new_empty(ends) for _ in range(3))
    flags = [src.new_empty(rows, dtype=torch.bool) for rows in (src.size(0), ends)]
    return flags[0], nodes, count, flags[1], place, src.new_empty(1)


_pending_events = Operator("pending_events")


def t_batches(src: Tensor, dst: Tensor) -> list[Tensor]:
    """Split a batch into parts without pending events: in no part do two events share an end.

    An event is in the part behind those of its pending events, so that whoever applies the parts one by one has applied
    every event to the states that its ends have at that moment. There are as many parts as the longest chain of pending
    events has; each takes one pass over the events that are left.

    Source: S. Kumar, X. Zhang, J. Leskovec, "Predicting Dynamic Embedding Trajectory in Temporal Interaction Networks",
    KDD 2019, section 3.4.

    Args:
        src: int64 [E], in the order of the events.
        dst: int64 [E].

    Returns:
        Events of each part, int64, ascending.

    Raises:
        ArgumentError: wrong shape, dtype or device.
    """
    found = pending_events(src, dst)
    ends, left = found.place.view(-1, 2), torch.arange(src.numel(), device=src.device)
    parts = []
    while left.numel():
        first = torch.full_like(found.nodes, src.numel())
        first.scatter_reduce_(0, ends[left].view(-1), left.repeat_interleave(2), "amin")
        ready = (first[ends[left]] == left.unsqueeze(1)).all(1)
        parts.append(left[ready])
        left = left[~ready]
    return parts


__all__ = ["PendingEvents", "pending_events", "t_batches"]
