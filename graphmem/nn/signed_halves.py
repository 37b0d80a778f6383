"""Halves of signed events, and how those of a node become one."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from graphmem.nn.functional import gather_sum


class Halves(NamedTuple):
    """Half events of U nodes, in event order: an event has one at its source and one at its destination."""

    nodes: Tensor
    """int64 [U], distinct."""
    row: Tensor
    """int64 [H], which of them owns the half."""
    other: Tensor
    """int64 [H], the other end."""
    t: Tensor
    """[H]."""
    msg: Tensor
    """[H, D]."""
    negative: Tensor
    """bool [H]."""


class Pool(NamedTuple):
    """Sums over half events in an order in which those of a node stand together."""

    ptr: Tensor
    """int64 [U + 1], where those of each node begin in the order."""
    order: Tensor
    """int64 [G], half events."""
    share: Tensor | None
    """[G], by what each is multiplied."""
    any: Tensor
    """bool [U], whether a node has one."""

    def __call__(self, rows: Tensor, table: Tensor) -> Tensor:
        """[U, C], of rows int64 [H] of a table [*, C]: one row a half event."""
        return gather_sum(self.ptr, rows[self.order], table, self.share)


__all__ = ["Halves", "Pool"]
