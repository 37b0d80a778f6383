"""Events that a node memory has not read yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from graphmem.nn.state import StateModule, fetch
from graphmem.ops import _check, distinct
from graphmem.ops._joint import last_of

FIELDS = ("other", "t", "msg", "is_source", "event")


@dataclass(frozen=True, eq=False)
class Mail:
    """M half events, grouped by the nodes that were asked for, in event order inside a group.

    Of an event (i, j), node i has the source's half and j the destination's. Fields are looked up when asked for.
    """

    row: Tensor
    """int64 [M], ascending: which of the nodes."""
    node: Tensor
    """int64 [M], that node."""
    columns: Mapping[str, Tensor]
    """Fields of more half events."""
    at: Tensor
    """int64 [M], places of these in ``columns``."""

    def __len__(self) -> int:
        return self.row.numel()

    @property
    def other(self) -> Tensor:
        """int64 [M], the other end; -1 for an event of one node."""
        return self.columns["other"].index_select(0, self.at)

    @property
    def t(self) -> Tensor:
        """int64 or float64 [M], time of the event."""
        return self.columns["t"].index_select(0, self.at)

    @property
    def msg(self) -> Tensor:
        """[M, D], its raw message."""
        return self.columns["msg"].index_select(0, self.at)

    @property
    def is_source(self) -> Tensor:
        """bool [M], whether the node is the event's source."""
        return self.columns["is_source"].index_select(0, self.at)

    @property
    def event(self) -> Tensor:
        """int64 [M], number of the event; -1 where it was not given."""
        return self.columns["event"].index_select(0, self.at)

    def copy_to(self, device: torch.device) -> dict[str, Tensor]:
        """The fields of these half events, on a device."""
        return {name: fetch(self.columns[name], self.at, device) for name in FIELDS}

    def select(self, place: Tensor) -> Mail:
        """The half events int64 [*] of these."""
        return Mail(self.row[place], self.node[place], self.columns, self.at[place])

    def in_turn(self) -> list[Mail]:
        """The first half event of each group, then the second of those that have one, and so on."""
        length = torch.bincount(self.row)
        rank = torch.arange(len(self), device=self.row.device) - (length.cumsum(0) - length)[self.row]
        rank, order = rank.sort(stable=True)
        return [self.select(part) for part in order.split(torch.bincount(rank).tolist()) if part.numel()]

    def newest(self) -> Mail:
        """The last half event of each group."""
        is_last = torch.ones_like(self.row, dtype=torch.bool)
        torch.ne(self.row[1:], self.row[:-1], out=is_last[:-1])
        return self.select(is_last.nonzero().view(-1))


def by_time(first: Mail, second: Mail) -> Mail:
    """Mail of the same nodes from two stores together, ascending in time inside a group."""
    columns = {name: torch.cat((getattr(first, name), getattr(second, name))) for name in FIELDS}
    row, node = torch.cat((first.row, second.row)), torch.cat((first.node, second.node))
    both = Mail(row, node, columns, torch.arange(row.numel(), device=row.device))
    both = both.select(columns["t"].argsort(stable=True))
    return both.select(both.row.argsort(stable=True))


def half_events(src: Tensor, dst: Tensor, t: Tensor, msg: Tensor, event: Tensor) -> dict[str, Tensor]:
    """The columns of a batch: event by event the source's half, then the destination's; with the owner of each."""
    ends = torch.stack((src, dst), 1)
    return {
        "owner": ends.view(-1),
        "other": ends.flip(1).view(-1),
        "t": t.repeat_interleave(2),
        "msg": msg.repeat_interleave(2, 0),
        "is_source": torch.tensor((True, False), device=src.device).repeat(src.numel()),
        "event": event.repeat_interleave(2),
    }


def with_lone(columns: dict[str, Tensor], node: Tensor, t: Tensor, msg: Tensor) -> dict[str, Tensor]:
    """The columns with events of single nodes among them, as halves without another end (-1) and without a number.

    In the order of time; of equal times those of single nodes come first, as in a stream.

    Args:
        columns: see :func:`half_events`, ascending in time.
        node: int64 [M].
        t: [M], ascending.
        msg: [M, D].
    """
    nobody = torch.full_like(node, -1)
    lone = {"owner": node, "other": nobody, "t": t, "msg": msg, "event": nobody}
    lone["is_source"] = torch.ones_like(node, dtype=torch.bool)
    order = torch.cat((t, columns["t"])).argsort(stable=True)
    return {name: torch.cat((lone[name], column))[order] for name, column in columns.items()}


def group(columns: Mapping[str, Tensor], at: Tensor, limit: int) -> tuple[Tensor, Mail]:
    """Group half events by their owners.

    Args:
        columns: see :func:`half_events`.
        at: int64 [H], those that count, ascending.
        limit: keep so many of an owner's, the last ones.

    Returns:
        The owners, int64, and their mail.
    """
    nodes, row = distinct(columns["owner"].index_select(0, at))
    if limit == 1:
        last = last_of(row, nodes.numel())
        return nodes, Mail(torch.arange(nodes.numel(), device=at.device), nodes, columns, at.index_select(0, last))
    row, order = row.sort(stable=True)
    age = torch.bincount(row).cumsum(0)[row] - 1 - torch.arange(row.numel(), device=at.device)  # 0 is the newest
    kept = (age < limit).nonzero().view(-1)
    row = row[kept]
    return nodes, Mail(row, nodes[row], columns, at[order[kept]])


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
        count = self.count.index_select(0, nodes)
        columns = {name: self.get_buffer(name).flatten(0, 1) for name in FIELDS}
        if self.size == 1:
            row = count.nonzero().view(-1)
            node = nodes.index_select(0, row)
            return Mail(row, node, columns, node)
        row, slot = (torch.arange(self.size, device=nodes.device) < count.unsqueeze(1)).nonzero(as_tuple=True)
        node = nodes[row]
        return Mail(row, node, columns, node * self.size + slot)

    def put(self, nodes: Tensor, mail: Mail) -> None:
        """Replace the mail of distinct ``nodes`` by ``mail``, at most ``size`` a node. Writes rows in place."""
        if self.size > 1:
            self.clear(nodes)
        count = torch.bincount(mail.row, minlength=nodes.numel())
        slot = torch.arange(len(mail), device=nodes.device) - (count.cumsum(0) - count)[mail.row]
        at = mail.node * self.size + slot
        for name in FIELDS:
            self.get_buffer(name).flatten(0, 1)[at] = getattr(mail, name)
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
        mail = self.read(rows).select(kept[rows][filled[rows]].nonzero().view(-1))
        columns = {name: getattr(mail, name) for name in FIELDS}  # copies, before their rows are emptied
        self.clear(rows)
        self.put(rows, Mail(mail.row, mail.node, columns, torch.arange(len(mail), device=rows.device)))
