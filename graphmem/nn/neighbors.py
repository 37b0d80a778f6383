"""The latest events of every node, as state of a model."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.nn.state import StateModule, entries_of
from graphmem.ops import _check, ring_graph, ring_insert, ring_query


class Neighborhood(NamedTuple):
    """Events of n nodes, newest first; -1, -1 and 0 where there are fewer than k."""

    nbr: Tensor
    """int64 [n, k], other ends."""
    eid: Tensor
    """int64 [n, k], numbers of the events."""
    t: Tensor
    """int64 or float64 [n, k], their times."""


class RecentNeighbors(StateModule):
    r"""The K latest events of every node: in place of PyG's ``LastNeighborLoader``.

    An event (i, j, t) enters the row of i, then the row of j; an event from a node to itself enters twice. Inserting
    costs what a batch holds and a question what it asks for, whatever N is; rows are written in place.

    Where PyG 2.8.1 differs:

    * Its state is no part of a ``state_dict``, and it knows no times.
    * Of a node with more than K events in a batch it writes several, in the order of an unstable sort, to the same
      place: which ones stay is not defined. Here the last K stay, and batches of any size leave the same state.

    Args:
        num_nodes: N.
        size: K.
        dtype: of times, int64 or float64.
        state_device: "cpu": the rows stay in main memory where the module moves to a GPU; events are brought there, and
            answers go to where the question is.

    Example:
        >>> neighbors = RecentNeighbors(num_nodes=3, size=2)
        >>> neighbors.insert(torch.tensor([0, 0, 0]), torch.tensor([1, 2, 1]), t=torch.tensor([5, 6, 9]))
        >>> neighbors.query(torch.tensor([0, 2])).nbr.tolist()
        [[1, 2], [0, -1]]
    """

    nbr: Tensor
    eid: Tensor
    time: Tensor
    count: Tensor
    incomplete: Tensor
    next_event: Tensor
    latest: Tensor

    _per_entry: tuple[str, ...] = ("nbr", "eid", "time")

    def __init__(
        self, num_nodes: int, size: int, *, dtype: torch.dtype = torch.int64, state_device: str | None = None
    ) -> None:
        super().__init__()
        _check.integer("num_nodes", num_nodes)
        _check.integer("size", size, 1)
        if dtype not in (torch.int64, torch.float64):
            raise ArgumentError(f"dtype: expected torch.int64 or torch.float64, got {dtype}")
        self.size = size
        for name, kind, fill in (("nbr", torch.int64, -1), ("eid", torch.int64, -1), ("time", dtype, 0)):
            self.register_state(name, (num_nodes, size), dtype=kind, fill=fill)
        self.register_state("count", (num_nodes,), dtype=torch.int64)
        # Whether events older than those of the row are gone, though the row is not full.
        self.register_state("incomplete", (num_nodes,), dtype=torch.bool)
        self.register_state("next_event", (), dtype=torch.int64, per_node=False)
        self.register_state("latest", (), dtype=dtype, fill=_least(dtype), per_node=False)
        self.keep_state(state_device)

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.count.numel()

    def reset_state(self) -> None:
        """Forget everything (PyG's name)."""
        self.reset()

    @torch.no_grad()
    def insert(self, src: Tensor, dst: Tensor, t: Tensor | None = None, eid: Tensor | None = None) -> None:
        """Take in the events of a batch, in order.

        Args:
            src: int64 [E].
            dst: int64 [E].
            t: [E] of ``dtype``, ascending, from the last batch on; by default the numbers of the events.
            eid: int64 [E], numbers of the events; by default they go on behind the largest number so far, from 0.

        Raises:
            ArgumentError: wrong shape, dtype, device or range, or times that go back (``reset`` comes before a replay).
        """
        if eid is not None:
            eid = _check.tensor("eid", eid, shape=(None,), dtypes=(torch.int64,))
        if self._state_stays:
            home = self.nbr.device
            src, dst = src.to(home), dst.to(home)
            t, eid = (None if x is None else x.to(home) for x in (t, eid))
        ring_insert(*self._rows(), self.next_event, self.latest, src, dst, t, eid)

    def _rows(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The rows. An attribute of a module takes half a microsecond, a batch of 200 events takes five."""
        state: dict[str, Any] = self._buffers
        return state["nbr"], state["eid"], state["time"], state["count"]

    def query(self, ids: Tensor, k: int | None = None, *, before: Tensor | None = None) -> Neighborhood:
        """Find the k latest events of nodes.

        Args:
            ids: int64 [n].
            k: at most ``size``, which is the default.
            before: [n] of ``dtype``: only events before these times.

        Raises:
            ArgumentError: wrong shape, dtype, device or range, or a time in ``before`` of which the answer is not known
                any more, see :meth:`exact_from`.
        """
        k = self.size if k is None else k
        if not self._state_stays:
            return self._find(ids, k, before)
        home = self.nbr.device
        found = self._find(ids.to(home), k, None if before is None else before.to(home))
        return Neighborhood(*(column.to(ids.device) for column in found))

    def _find(self, ids: Tensor, k: int, before: Tensor | None) -> Neighborhood:
        found = ring_query(*self._rows(), ids, k, before)
        if before is not None:
            self._check_known(ids, k, before)
        return Neighborhood(*found)

    def _check_known(self, ids: Tensor, k: int, before: Tensor) -> None:
        exact_from = self.exact_from(ids, k)
        early = (before < exact_from).nonzero().view(-1)
        if early.numel():
            n = int(early[0])
            raise ArgumentError(
                f"before: expected times from {exact_from[n].item()} on, where the row of node {int(ids[n])} still "
                f"knows the latest {k} events, got {before[n].item()}"
            )

    def exact_from(self, ids: Tensor, k: int | None = None) -> Tensor:
        """Earliest time t from which :meth:`query` knows the k latest events before t.

        As long as nothing has left a node's row that is the smallest time of ``dtype``. Afterwards it is the next time
        behind the k-th oldest event of the row: k events of the row are earlier then, and what left it is older still.
        It is the largest time where fewer than k are left in the row (see :meth:`forget`).

        Args:
            ids: int64 [n].
            k: from 1 to ``size``, which is the default.

        Returns:
            [n] of ``dtype``.

        Raises:
            ArgumentError: wrong shape, dtype, device or range.
        """
        k = self.size if k is None else k
        _check.integer("k", k, 1, self.size)
        time = ring_query(self.nbr, self.eid, self.time, self.count, ids, self.size)[2]
        count = self.count[ids]
        held = count.clamp(max=self.size)
        kth_oldest = time.gather(1, (held - k).clamp(min=0).unsqueeze(1)).squeeze(1)
        known = torch.where(held < k, _largest(time.dtype), _next(kth_oldest))
        return torch.where(self.incomplete[ids] | (count > self.size), known, _least(time.dtype))

    def events(self) -> Tensor:
        """Numbers of all events in the rows, distinct and ascending, int64 [m]."""
        found: Tensor = self.eid[self.eid >= 0].unique()
        return found

    def forward(self, n_id: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Find the latest events of some nodes as a graph, as PyG's loader does.

        Args:
            n_id: int64 [n].

        Returns:
            The nodes and their neighbours, ascending, int64 [u]; edges int64 [2, m] from neighbours to nodes, as places
            among these; numbers of their events int64 [m].

        Raises:
            ArgumentError: wrong shape, dtype, device or range.
        """
        nbr, eid, _, count = self._rows()
        found = ring_graph(nbr, eid, count, n_id.to(nbr.device) if self._state_stays else n_id)
        nodes, edges, events = (part.to(n_id.device) for part in found) if self._state_stays else found
        return nodes, edges, events

    def forget(self, nodes: Tensor | None = None, events: Tensor | None = None) -> None:
        """Remove events: all of ``nodes``, from their rows and those of others, and ``events`` by their numbers.

        What had left a full row does not come back: such a row then holds fewer than ``size`` events though the node
        had more, and :meth:`exact_from` says so.

        Args:
            nodes: int64 [n].
            events: int64 [m].

        Raises:
            ArgumentError: wrong shape, dtype or range.
        """
        super().forget(nodes)
        gone = entries_of(nodes, self.nbr, events, self.eid)
        gone &= torch.arange(self.size, device=gone.device) < self.count.unsqueeze(1)
        self._compact(gone.any(1).nonzero().view(-1), gone)

    def _compact(self, rows: Tensor, gone: Tensor) -> None:
        """Remove entries from rows; those that stay go to columns 0, 1, ..., oldest first."""
        size, count = self.size, self.count[rows]
        held = count.clamp(max=size)
        column = torch.arange(size, device=rows.device)
        oldest_first = (column + (count - held).unsqueeze(1)) % size
        stays = (column < held.unsqueeze(1)) & ~gone[rows].gather(1, oldest_first)
        order = oldest_first.gather(1, (~stays).to(torch.uint8).argsort(dim=1, stable=True))
        left = stays.sum(1)
        for name in self._per_entry:
            buffer = self.get_buffer(name)
            kept = buffer[rows.unsqueeze(1), order]
            kept[column >= left.unsqueeze(1)] = self._state_fill[name]
            buffer[rows] = kept
        self.incomplete[rows] |= count > size
        self.count[rows] = left

    def extra_repr(self) -> str:
        """Show sizes."""
        return f"{self.num_nodes}, size={self.size}, dtype={self.time.dtype}"


def _least(dtype: torch.dtype) -> float:
    return torch.iinfo(dtype).min if dtype == torch.int64 else -torch.inf


def _largest(dtype: torch.dtype) -> float:
    return torch.iinfo(dtype).max if dtype == torch.int64 else torch.inf


def _next(t: Tensor) -> Tensor:
    """The smallest time behind t."""
    return t + 1 if t.dtype == torch.int64 else t.nextafter(torch.full_like(t, torch.inf))
