"""What the mail that waits at nodes stands for: how many events, and whether a batch read it too late."""

from __future__ import annotations

import torch
from torch import Tensor

from graphmem.nn.state import StateModule
from graphmem.ops import _check, distinct
from graphmem.ops.pending import pending_events


class WaitingEvents(StateModule):
    """For each node, the events of the last batch that left it mail.

    Args:
        num_nodes: N.
        num_types: C, kinds of events; their counts are kept where there are several.
        every: take all nodes for affected, those without pending events, too.
    """

    count: Tensor
    affected: Tensor
    kinds: Tensor
    recent: Tensor

    def __init__(self, num_nodes: int, num_types: int = 1, *, every: bool = False) -> None:
        super().__init__()
        _check.integer("num_types", num_types, 1)
        self.num_types, self.every = num_types, every
        self.register_state("count", (num_nodes,), dtype=torch.int64)
        self.register_state("affected", (num_nodes,), dtype=torch.bool)
        if num_types > 1:
            self.register_state("kinds", (num_nodes, num_types), dtype=torch.int64)
        # The affected nodes of the last batch.
        self.register_state("recent", (0,), dtype=torch.int64, per_node=False)

    def mark(self, src: Tensor, dst: Tensor, types: Tensor | None = None, known: Tensor | None = None) -> None:
        """Note the events of a batch at their ends; affected are the ends of events that have a pending event.

        Args:
            src: int64 [E].
            dst: int64 [E].
            types: int64 [E] in [0, C), kinds of the events; may be left out where C is 1.
            known: bool [N], nodes that may be affected; ``None``: all. ``recent`` has the others, too.

        Raises:
            ArgumentError: wrong shape, dtype or range.
        """
        found = pending_events(src, dst)
        kinds = None
        if self.num_types > 1:
            # A self-loop counts once.
            once = torch.stack((torch.ones_like(src, dtype=torch.bool), src != dst), 1).view(-1).nonzero().view(-1)
            self.check_kinds(types, src.numel())
            kinds = self._count_kinds(found.place[once], once // 2, types, found.nodes.numel())
        self._note(found.nodes, found.events, found.affected, kinds, known)

    def mark_mail(
        self,
        src: Tensor,
        dst: Tensor,
        owner: Tensor,
        event: Tensor,
        types: Tensor | None = None,
        known: Tensor | None = None,
    ) -> None:
        """:meth:`mark` where events leave mail at others than their ends: all who get it are affected by it.

        Args:
            src: int64 [E].
            dst: int64 [E].
            owner: int64 [H], who got mail.
            event: int64 [H], of which event; a pair may come more than once.
            types: int64 [E].
            known: bool [N].
        """
        mask = pending_events(src, dst).mask
        pair = (owner * src.numel() + event).unique()
        event = pair % src.numel()
        nodes, place = distinct(pair // src.numel())
        affected = torch.zeros_like(nodes, dtype=torch.bool)
        affected[place[mask[event]]] = True
        self.check_kinds(types, src.numel())
        kinds = self._count_kinds(place, event, types, nodes.numel()) if self.num_types > 1 else None
        self._note(nodes, torch.bincount(place, minlength=nodes.numel()), affected, kinds, known)

    def check_kinds(self, types: Tensor | None, count: int) -> None:
        """See whether :meth:`mark` takes these kinds of events, int64 [count], before anything is written.

        Raises:
            ArgumentError: wrong shape, dtype, device or range, where there are several kinds.
        """
        if self.num_types > 1:
            types = _check.tensor("types", types, shape=(count,), dtypes=(torch.int64,), device=self.count.device)
            _check.in_range("types", types, self.num_types)

    def _count_kinds(self, place: Tensor, event: Tensor, types: Tensor | None, num: int) -> Tensor:
        """Events of each kind [num, C], of entries each of which has a place and an event."""
        assert types is not None
        at = place * self.num_types + types[event]
        return torch.bincount(at, minlength=num * self.num_types).view(num, self.num_types)

    @torch.no_grad()
    def _note(self, nodes: Tensor, count: Tensor, affected: Tensor, kinds: Tensor | None, known: Tensor | None) -> None:
        if self.every:
            affected = torch.ones_like(affected)
        with torch.inference_mode(False):  # the next step's autograd will meet it
            self.recent = nodes[affected]
        if known is not None:
            affected = affected & known.index_select(0, nodes)
        self.count.index_copy_(0, nodes, count)
        self.affected.index_copy_(0, nodes, affected)
        if kinds is not None:
            self.kinds.index_copy_(0, nodes, kinds)

    def kinds_of(self, nodes: Tensor) -> Tensor | None:
        """Events of each kind of nodes int64 [n], [n, C]; ``None`` where there is one kind."""
        return self.kinds.index_select(0, nodes) if self.num_types > 1 else None

    def clear(self, nodes: Tensor) -> None:
        """The mail of these nodes, int64 [n], was read. Writes rows in place."""
        for name in self._state_per_node:
            self.get_buffer(name).index_fill_(0, nodes, 0)

    def reset(self) -> None:
        """No mail waits anywhere."""
        super().reset()
        self.recent = self.recent.new_empty(0)

    def forget(self, nodes: Tensor | None = None, events: Tensor | None = None) -> None:
        """Forget the mail of nodes int64 [n]."""
        super().forget(nodes, events)
        if nodes is not None:
            self.recent = self.recent[~torch.isin(self.recent, nodes.to(self.recent.device))]


__all__ = ["WaitingEvents"]
