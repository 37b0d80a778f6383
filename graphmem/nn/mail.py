"""Events that a node memory has not read yet."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphmem.nn.state import StateModule
from graphmem.ops import _check


class Mail(NamedTuple):
    """M half events, grouped by the nodes that were asked for, in event order inside a group."""

    row: Tensor
    """int64 [M], ascending: which of the nodes."""
    node: Tensor
    """int64 [M], that node."""
    other: Tensor
    """int64 [M], the other end."""
    t: Tensor
    """int64 or float64 [M], time of the event."""
    msg: Tensor
    """float32 [M, D], its raw message."""
    is_source: Tensor
    """bool [M], whether the node is the event's source."""
    event: Tensor
    """int64 [M], number of the event; -1 where it was not given."""

    def at(self, place: Tensor) -> Mail:
        """The half events int64 [*] of these."""
        return Mail(*(field[place] for field in self))

    def newest(self) -> Tensor:
        """Places, int64 [number of nodes with mail], of the last half event of each group."""
        is_last = torch.ones_like(self.is_source)
        torch.ne(self.row[1:], self.row[:-1], out=is_last[:-1])
        return is_last.nonzero().view(-1)


def newest_half_events(
    src: Tensor, dst: Tensor, t: Tensor, msg: Tensor, event: Tensor, ends: tuple[bool, ...], limit: int
) -> tuple[Tensor, Mail]:
    """Sort the half events of a batch by node: event by event, the source's half before the destination's.

    Args:
        src: int64 [E].
        dst: int64 [E].
        t: int64 or float64 [E].
        msg: [E, D].
        event: int64 [E].
        ends: halves that count: ``(True, False)`` for sources and destinations, ``(True,)`` for sources only.
        limit: keep so many of a node's, the last ones.

    Returns:
        The nodes that have a half event, int64 ascending, and their mail.
    """
    is_source = torch.tensor(ends, device=src.device)
    owner = torch.where(is_source, src.unsqueeze(1), dst.unsqueeze(1)).view(-1)
    owner, half = owner.sort(stable=True)
    nodes, length = torch.unique_consecutive(owner, return_counts=True)
    row = torch.repeat_interleave(length)
    age = length.cumsum(0)[row] - 1 - torch.arange(owner.numel(), device=owner.device)  # 0 is the newest
    kept = (age < limit).nonzero().view(-1)
    half, row = half[kept], row[kept]
    at = half // len(ends)
    is_source = is_source[half % len(ends)]
    other = torch.where(is_source, dst[at], src[at])
    return nodes, Mail(row, owner[kept], other, t[at], msg[at], is_source, event[at])


class MailStore(StateModule):
    """The last half events of every node, waiting to be read: raw, so that reading them again gives gradients.

    Row v holds ``count[v]`` half events, oldest first; what lies behind them is empty.

    Args:
        num_nodes: N.
        size: S, half events a node.
        msg_dim: D, width of raw messages.
        time_dtype: int64 or float64.
    """

    other: Tensor
    t: Tensor
    msg: Tensor
    is_source: Tensor
    event: Tensor
    count: Tensor

    def __init__(self, num_nodes: int, size: int, msg_dim: int, time_dtype: torch.dtype = torch.int64) -> None:
        super().__init__()
        self.size = size
        self.register_state("other", (num_nodes, size), dtype=torch.int64, fill=-1)
        self.register_state("t", (num_nodes, size), dtype=time_dtype)
        self.register_state("msg", (num_nodes, size, msg_dim))
        self.register_state("is_source", (num_nodes, size), dtype=torch.bool)
        self.register_state("event", (num_nodes, size), dtype=torch.int64, fill=-1)
        self.register_state("count", (num_nodes,), dtype=torch.int64)

    def read(self, nodes: Tensor) -> Mail:
        """The mail of ``nodes``, int64 [n]."""
        count = self.count[nodes]
        if self.size == 1:
            row = count.nonzero().view(-1)
            node = nodes[row]
            at = node
        else:
            row, slot = (torch.arange(self.size, device=nodes.device) < count.unsqueeze(1)).nonzero(as_tuple=True)
            node = nodes[row]
            at = node * self.size + slot
        fields = (getattr(self, name).flatten(0, 1)[at] for name in Mail._fields[2:])
        return Mail(row, node, *fields)

    def put(self, nodes: Tensor, mail: Mail) -> None:
        """Replace the mail of distinct ``nodes`` by ``mail``, at most ``size`` a node. Writes rows in place."""
        if self.size > 1:
            self.clear(nodes)
        count = torch.bincount(mail.row, minlength=nodes.numel())
        slot = torch.arange(mail.row.numel(), device=nodes.device) - (count.cumsum(0) - count)[mail.row]
        at = mail.node * self.size + slot
        for name in Mail._fields[2:]:
            getattr(self, name).flatten(0, 1)[at] = getattr(mail, name)
        self.count[nodes] = count

    def clear(self, nodes: Tensor) -> None:
        """Empty the rows of ``nodes``, in place."""
        for name, fill in self._state_fill.items():
            self.get_buffer(name).index_fill_(0, nodes, fill)

    def forget(self, nodes: Tensor | None = None, events: Tensor | None = None) -> None:
        """Remove the mail of ``nodes``, the mail that others have from them, and the mail about ``events``.

        An event whose mail was read before is part of the memory by now, and nothing here finds it there.

        Args:
            nodes: int64 [n].
            events: int64 [m], as numbered in :meth:`NodeMemory.update_state`.

        Raises:
            ArgumentError: wrong shape, dtype or range.
        """
        super().forget(nodes)
        gone = torch.zeros_like(self.is_source)
        if nodes is not None:
            gone |= torch.isin(self.other, nodes.to(self.other.device))
        if events is not None:
            events = _check.tensor("events", events, shape=(None,), dtypes=(torch.int64,)).to(self.event.device)
            gone |= torch.isin(self.event, events)
        filled = torch.arange(self.size, device=gone.device) < self.count.unsqueeze(1)
        kept = filled & ~gone
        rows = (filled & gone).any(1).nonzero().view(-1)
        if rows.numel() == 0:
            return
        mail = self.read(rows).at(kept[rows][filled[rows]].nonzero().view(-1))
        self.clear(rows)
        self.put(rows, mail)
