"""What a memory needs so that PRES can correct it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from graphmem.errors import ArgumentError
from graphmem.nn.last_read import LastRead
from graphmem.nn.pres import PRES


class Correctable(nn.Module):
    """A memory with a row a node, whose updates may be corrected. ``pres`` is ``None`` where they are not.

    A subclass passes what its updater makes of rows through :meth:`corrected`, and what it is about to store through
    :meth:`committed`, and marks the mail that it leaves with :meth:`mark`.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.pres: PRES | None = None
        self._seen: LastRead | None = None

    def _stored(self) -> Tensor:
        """The memory [N, d]."""
        raise NotImplementedError

    def _since(self, nodes: Tensor) -> Tensor:
        """Times [n] of the memory's rows of nodes int64 [n]."""
        raise NotImplementedError

    def _read(self, nodes: Tensor) -> Tensor:
        """States [n, d] of nodes int64 [n] with their mail applied."""
        raise NotImplementedError

    @property
    def width(self) -> int:
        """d, of the memory's rows."""
        return self._stored().size(1)

    def correct_by(self, pres: PRES) -> None:
        """Let ``pres`` correct the memory from now on; it becomes a part of this module, with its state and weights.

        Raises:
            ArgumentError: ``pres`` is for another number of nodes or width.
        """
        nodes, dim = self._stored().shape
        found = (pres.waiting.count.numel(), pres.rates.mean.size(2))
        if found != (nodes, dim):
            raise ArgumentError(f"pres: expected one of {nodes} nodes and width {dim}, got {found[0]} and {found[1]}")
        self.pres = pres.to(self._stored().device)

    def fit_pres(self, src: Tensor, dst: Tensor, t: Tensor) -> None:
        """Show PRES the training events; see :meth:`graphmem.nn.PRES.fit`."""
        if self.pres is not None:
            self.pres.fit(src, dst, t)

    def aux_loss(self, share: Callable[[Tensor], Tensor] | None = None) -> Tensor | None:
        """What PRES adds to a loss, ``None`` where that is nothing; see :meth:`graphmem.nn.PRES.aux_loss`.

        It shares the graph of the states that were read last, if any: one backward pass for both.
        """
        if self.pres is None:
            return None
        loss = self.pres.aux_loss(self._stored(), self._read_once, share)
        self._seen = None
        return loss

    def corrected(self, nodes: Tensor, new: Tensor, t: Tensor) -> Tensor:
        """What reading rows gives; see :meth:`graphmem.nn.PRES.forward`."""
        if self.pres is None:
            return new
        out: Tensor = self.pres(nodes, new, t, self._stored(), self._since(nodes))
        return out

    def committed(self, nodes: Tensor, new: Tensor, t: Tensor) -> Tensor:
        """What storing rows stores; see :meth:`graphmem.nn.PRES.commit`."""
        if self.pres is None:
            return new
        return self.pres.commit(nodes, new, t, self._stored(), self._since(nodes))

    def mark(self, src: Tensor, dst: Tensor, types: Tensor | None) -> None:
        """Note the events of a batch whose mail waits now; see :meth:`graphmem.nn.waiting.WaitingEvents.mark`."""
        self._seen = None  # read before the update
        if self.pres is not None:
            self.pres.waiting.mark(src, dst, types)

    def also(self, nodes: Tensor) -> Tensor:
        """Further nodes, int64 [m], of which :meth:`aux_loss` will ask, to be read with nodes int64 [n] in one go."""
        if self.pres is None or self._seen is not None or not (self.training and torch.is_grad_enabled()):
            return nodes[:0]
        asked = self.pres.asked()
        return asked[~torch.isin(asked, nodes)] if asked.numel() else asked

    def remember(self, nodes: Tensor, states: Tensor) -> None:
        """Keep states [n, d] that were read for the loss, until :meth:`aux_loss` or the next update."""
        if self.pres is not None and self.pres.beta > 0 and states.requires_grad:
            self._seen = LastRead(nodes, states)

    def _read_once(self, nodes: Tensor) -> Tensor:
        """States of distinct nodes; those that were read for the loss are not computed again."""
        if self._seen is None:
            return self._read(nodes)
        row, hit = self._seen.find(nodes)
        states, self._seen = self._seen.states, None
        if bool(hit.all()):
            return states.index_select(0, row)
        first, rest = hit.nonzero().view(-1), (~hit).nonzero().view(-1)
        both = torch.cat((states.index_select(0, row[first]), self._read(nodes[rest])))
        return both.index_select(0, torch.cat((first, rest)).argsort())


__all__ = ["Correctable"]
