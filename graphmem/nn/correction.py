"""What a memory needs so that PRES can correct it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from graphmem.errors import ArgumentError
from graphmem.nn.last_read import LastRead
from graphmem.nn.pres import PRES
from graphmem.ops import distinct


class Correctable(nn.Module):
    """A memory with a row a node, whose updates may be corrected. ``pres`` is ``None`` where they are not.

    A subclass passes what its updater makes of rows through :meth:`corrected`, and what it is about to store through
    :meth:`committed`, and marks the mail that it leaves with :meth:`mark`.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.pres: PRES | None = None
        # What the loss has read, and the nodes that aux_loss will ask of, with their rows in it.
        self._seen: LastRead | None = None
        self._asked: tuple[Tensor, Tensor] | None = None

    def _stored(self) -> Tensor:
        """The memory [N, d]."""
        raise NotImplementedError

    def _since(self, nodes: Tensor) -> Tensor:
        """Times [n] of the memory's rows of nodes int64 [n]; anything where there was no event."""
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
        asked = self.pres.asked() if self._asked is None else self._asked[0]
        loss = self.pres.aux_loss(asked, self._stored(), self._read_once, share)
        self._forget_read()
        return loss

    def corrected(self, nodes: Tensor, new: Tensor, t: Tensor) -> Tensor:
        """What reading rows gives; see :meth:`graphmem.nn.PRES.forward`."""
        if self.pres is None:
            return new
        out: Tensor = self.pres(nodes, new, t, self._stored(), self._since(nodes))
        return out

    def committed(self, nodes: Tensor, states: Tensor, t: Tensor, raw: Tensor | None = None) -> Tensor:
        """What storing stores of states after and ``raw`` before correction; see :meth:`graphmem.nn.PRES.commit`."""
        self._forget_read()
        if self.pres is None:
            return states
        assert raw is not None
        return self.pres.commit(nodes, states, raw, t, self._stored(), self._since(nodes))

    def sources_of_corrections(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Tables and weights that :meth:`corrected` reads, besides the memory."""
        return ((), ()) if self.pres is None else self.pres.sources()

    def check_kinds(self, types: Tensor | None, count: int) -> None:
        """See whether :meth:`mark` takes these kinds of events; call this before anything is written.

        Raises:
            ArgumentError: PRES tells kinds apart, and these do not fit it.
        """
        if self.pres is not None:
            self.pres.waiting.check_kinds(types, count)

    def mark(self, src: Tensor, dst: Tensor, types: Tensor | None) -> None:
        """Note the events of a batch whose mail waits now; see :meth:`graphmem.nn.PRES.mark`."""
        self._forget_read()
        if self.pres is not None:
            self.pres.mark(src, dst, types)

    def _forget_read(self) -> None:
        self._seen = self._asked = None

    def also(self, nodes: Tensor) -> Tensor:
        """Further nodes, int64 [m], of which :meth:`aux_loss` will ask, to be read with nodes int64 [n] in one go."""
        self._asked = None  # rows of another read
        if self.pres is None or self._seen is not None or not (self.training and torch.is_grad_enabled()):
            return nodes[:0]
        asked = self.pres.asked()
        if asked.numel() == 0:
            return asked
        # Distinct ids are numbered as they come: numbers of distinct nodes, and of others behind them, are their rows.
        ids, place = distinct(torch.cat((nodes, asked)))
        count = nodes.numel()
        if not torch.equal(ids[:count], nodes):
            return nodes[:0]
        self._asked = asked, place[count:]
        return ids[count:]

    def remember(self, nodes: Tensor, states: Tensor) -> None:
        """Keep states [n, d] that were read for the loss, until :meth:`aux_loss` or the next update."""
        if self.pres is not None and self.pres.beta > 0 and states.requires_grad:
            self._seen = LastRead(nodes, states)

    def _read_once(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """States, and the rows of distinct nodes in them; those that were read for the loss are not computed again."""
        if self._seen is None:
            return self._read(nodes), torch.arange(nodes.numel(), device=nodes.device)
        states = self._seen.states
        if self._asked is not None and nodes is self._asked[0]:
            return states, self._asked[1]
        row, hit = self._seen.find(nodes)
        rest = (~hit).nonzero().view(-1)
        if rest.numel() == 0:
            return states, row
        self._forget_read()
        row[rest] = torch.arange(states.size(0), states.size(0) + rest.numel(), device=nodes.device)
        return torch.cat((states, self._read(nodes[rest]))), row


__all__ = ["Correctable"]
