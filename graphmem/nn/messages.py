"""Messages of past events, for a model that is shown events without an end."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from graphmem.nn.state import StateModule


class EventMessages(StateModule):
    """Messages of the events that something still refers to, found by the events' numbers.

    Rows ascend by number and are appended; where there is no room, the messages that nothing refers to any more are
    dropped first. With m messages referred to and a spare room of n that is at most 2 m + n + (a batch) rows of 4 D + 8
    bytes, and every event is copied a constant number of times on the average.

    Args:
        msg_dim: D.
    """

    eid: Tensor
    msg: Tensor
    count: Tensor

    def __init__(self, msg_dim: int) -> None:
        super().__init__()
        # One row at least: absent events read it.
        self.register_state("eid", (1,), dtype=torch.int64, per_node=False)
        self.register_state("msg", (1, msg_dim), per_node=False)
        self.register_state("count", (), dtype=torch.int64, per_node=False)

    def __len__(self) -> int:
        return int(self.count)

    def reset(self) -> None:
        """Forget everything."""
        self.eid, self.msg = self.eid.new_zeros(1), self.msg.new_zeros(1, self.msg.size(1))
        self.count = torch.zeros_like(self.count)

    @torch.no_grad()
    def append(self, eid: Tensor, msg: Tensor, referred: Callable[[], Tensor] | None = None, spare: int = 0) -> None:
        """Take in the messages of events.

        Args:
            eid: int64 [E], ascending, behind all numbers so far.
            msg: [E, D].
            referred: returns the numbers that are still referred to, in any order; ``None``: all are.
            spare: least number of free rows after room was made.
        """
        count, more = len(self), eid.numel()
        if count + more > self.eid.numel():
            count = self._make_room(count, more, referred, spare)
        self.eid[count : count + more] = eid
        self.msg[count : count + more] = msg
        self.count.fill_(count + more)

    def _make_room(self, count: int, more: int, referred: Callable[[], Tensor] | None, spare: int) -> int:
        eid, msg = self.eid[:count], self.msg[:count]
        if referred is not None:
            kept = torch.isin(eid, referred()).nonzero().view(-1)
            eid, msg, count = eid.index_select(0, kept), msg.index_select(0, kept), kept.numel()
        free = more + max(count, spare)
        self.eid = torch.cat((eid, eid.new_zeros(free)))
        self.msg = torch.cat((msg, msg.new_zeros(free, msg.size(1))))
        return count

    def find(self, eid: Tensor) -> Tensor:
        """Rows of ``msg`` of events int64 [*] that are referred to; any row for -1."""
        return torch.searchsorted(self.eid[: len(self)], eid)
