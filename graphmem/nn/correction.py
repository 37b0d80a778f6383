"""What a memory needs so that PRES can correct it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from graphmem.errors import ArgumentError
from graphmem.nn.pres import PRES


class Correctable(nn.Module):
    """A memory with a row a node, whose updates may be corrected. ``pres`` is ``None`` where they are not.

    A subclass passes what its updater makes of rows through :meth:`corrected`, and what it is about to store through
    :meth:`committed`, and marks the mail that it leaves (``pres.waiting.mark``).
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.pres: PRES | None = None

    def _stored(self) -> Tensor:
        """The memory [N, d]."""
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
        """What PRES adds to a loss, ``None`` where that is nothing; see :meth:`graphmem.nn.PRES.aux_loss`."""
        return None if self.pres is None else self.pres.aux_loss(self._stored(), self._read, share)

    def corrected(self, nodes: Tensor, prev: Tensor, new: Tensor, dt: Tensor) -> Tensor:
        """What reading rows gives; see :meth:`graphmem.nn.PRES.forward`."""
        if self.pres is None:
            return new
        out: Tensor = self.pres(nodes, prev, new, dt)
        return out

    def committed(self, nodes: Tensor, prev: Tensor, new: Tensor, dt: Tensor) -> Tensor:
        """What storing rows stores; see :meth:`graphmem.nn.PRES.commit`."""
        return new if self.pres is None else self.pres.commit(nodes, prev, new, dt)


__all__ = ["Correctable"]
