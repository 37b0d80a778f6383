"""All events of every node, as state of a model: neighbours at any time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.nn.neighbors import Neighborhood
from graphmem.nn.state import StateModule, entries_of
from graphmem.ops import _check, temporal_append, temporal_sample
from graphmem.ops.temporal import rooms

ENTRIES_AT_ONCE = 2**22
"""Entries that are copied in one go when rows move: bounds what that needs beside old and new rows."""


class TemporalNeighbors(StateModule):
    r"""All events of every node in order of time; a question about any time is answered exactly.

    An event (i, j, t) enters the row of i, then the row of j. Rows lie in a pool and grow in place
    (:func:`graphmem.ops.temporal_append`): there is no log to be merged, a batch costs what it holds and a question a
    binary search. When the pool is full, rows are copied into one with half as much again as they take; over a stream
    that is O(1) an event.

    Memory: 24 bytes a place. A row of four entries or more takes at most 1.5 places an entry (1.2 in the mean over
    lengths), the pool at most 1.5 times what the rows take, besides the needs of one batch; while rows are copied, both
    pools are there.

    Args:
        num_nodes: N.
        dtype: of times, int64 or float64.

    Example:
        >>> neighbors = TemporalNeighbors(num_nodes=3)
        >>> neighbors.insert(torch.tensor([0, 0, 0]), torch.tensor([1, 2, 1]), t=torch.tensor([5, 6, 9]))
        >>> neighbors.query(torch.tensor([0, 0]), torch.tensor([9, 6]), k=2).nbr.tolist()
        [[2, 1], [1, -1]]
    """

    start: Tensor
    length: Tensor
    nbr: Tensor
    eid: Tensor
    time: Tensor
    used: Tensor
    next_event: Tensor
    latest: Tensor

    def __init__(self, num_nodes: int, *, dtype: torch.dtype = torch.int64) -> None:
        super().__init__()
        _check.integer("num_nodes", num_nodes)
        if dtype not in (torch.int64, torch.float64):
            raise ArgumentError(f"dtype: expected torch.int64 or torch.float64, got {dtype}")
        for name in ("start", "length"):
            self.register_state(name, (num_nodes,), dtype=torch.int64)
        for name, kind in (("nbr", torch.int64), ("eid", torch.int64), ("time", dtype)):
            self.register_state(name, (0,), dtype=kind, per_node=False)
        for name in ("used", "next_event"):
            self.register_state(name, (), dtype=torch.int64, per_node=False)
        least = torch.iinfo(dtype).min if dtype == torch.int64 else -torch.inf
        self.register_state("latest", (), dtype=dtype, fill=least, per_node=False)

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.length.numel()

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
        needed = self._append(src, dst, t, eid)
        if needed > self.nbr.numel():
            self._move_rows(needed - int(self.used))
            self._append(src, dst, t, eid)

    def _append(self, src: Tensor, dst: Tensor, t: Tensor | None, eid: Tensor | None) -> int:
        state: dict[str, Any] = self._buffers  # attributes of a module take longer than a small batch
        progress = (state["used"], state["next_event"], state["latest"])
        return temporal_append(*self._rows(), *progress, src, dst, t, eid)

    def _rows(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        state: dict[str, Any] = self._buffers
        return state["start"], state["length"], state["nbr"], state["eid"], state["time"]

    def query(
        self,
        ids: Tensor,
        t: Tensor,
        k: int,
        strategy: str = "recent",
        *,
        inclusive: bool = False,
        window: float | None = None,
        decay: float = 0.0,
        seed: int = 0,
        key: Tensor | None = None,
    ) -> Neighborhood:
        r"""Find k events of nodes before some times, newest first.

        Args:
            ids: int64 [n].
            t: [n] of ``dtype``: only events before these times.
            k: at least 1.
            strategy: ``"recent"``, the newest k; ``"uniform"`` or ``"decayed"``, k drawn without replacement, all alike
                or in proportion to :math:`e^{-\lambda (t - t_e)}`. See :func:`graphmem.ops.temporal_sample`.
            inclusive: whether events at the time of the question count.
            window: only events from ``t - window`` on; a whole number where times are.
            decay: :math:`\lambda`, per unit of time.
            seed: of draws.
            key: int64 [n]; a question's draws are a function of ``seed`` and its key, by default its place in ``ids``.

        Raises:
            ArgumentError: wrong shape, dtype, device or number.
        """
        since = None if window is None else self._since(t, window)
        options: dict[str, Any] = {
            "strategy": strategy,
            "inclusive": inclusive,
            "decay": decay,
            "seed": seed,
            "key": key,
        }
        return Neighborhood(*temporal_sample(*self._rows(), ids, t, k, since=since, **options))

    def _since(self, t: Tensor, window: float) -> Tensor:
        t = _check.tensor("t", t, shape=(None,), dtypes=(self.time.dtype,))
        if t.dtype == torch.float64:
            if _check.real("window", window) < 0:
                raise ArgumentError(f"window: expected a number of at least 0, got {window}")
            return t - window
        _check.integer("window", window, 0, 2**63 - 1)
        least = torch.iinfo(t.dtype).min
        return torch.where(t < least + window, least, t - window)

    def forget(self, nodes: Tensor | None = None, events: Tensor | None = None) -> None:
        """Remove events: all of ``nodes``, from their rows and those of others, and ``events`` by their numbers.

        Args:
            nodes: int64 [n].
            events: int64 [m].

        Raises:
            ArgumentError: wrong shape, dtype or range.
        """
        super().forget(nodes)
        gone = entries_of(nodes, self.nbr, events, self.eid)
        left = self.length.clone()
        origin = self.start - (self.length.cumsum(0) - self.length)
        for rows, owner, number in _some_at_once(self.length):
            place = number + origin[owner]
            stays = ~gone[place]
            place, owner = place[stays], owner[stays]
            left[rows] = torch.bincount(owner, minlength=self.num_nodes)[rows]
            begins = torch.zeros_like(left)
            begins[rows] = left[rows].cumsum(0) - left[rows]
            target = self.start[owner] + torch.arange(owner.numel(), device=owner.device) - begins[owner]
            for name in ("nbr", "eid", "time"):
                pool = self.get_buffer(name)
                pool[target] = pool[place]
        self.length = left

    def _move_rows(self, more: int) -> None:
        """Copy the rows into a new pool, ordered by node, with room for them to grow and ``more`` places."""
        places = rooms(self.length)
        start = places.cumsum(0) - places
        taken = int(places.sum())
        origin, last = self.start - start, self.nbr.numel() - 1
        names = ("nbr", "eid", "time")
        pools = [self.get_buffer(name).new_zeros(taken + max(taken // 2, 1024) + more) for name in names]
        done = 0
        for _, owner, number in _some_at_once(places):
            # Free places take along whatever is there; behind the last row that may be the end of the pool.
            old = (number + origin[owner]).clamp_(max=last)
            for name, pool in zip(names, pools, strict=True):
                pool[done : done + old.numel()] = self.get_buffer(name).index_select(0, old)
            done += old.numel()
        self.start, self.used = start, self.used.new_tensor(taken)
        for name, pool in zip(names, pools, strict=True):
            setattr(self, name, pool)

    def extra_repr(self) -> str:
        """Show sizes."""
        return f"{self.num_nodes}, dtype={self.time.dtype}"


def _some_at_once(lengths: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows of these lengths, some at a time: their nodes, and for each entry the owner and its number in all rows."""
    ends = lengths.cumsum(0)
    first = before = 0
    while first < ends.numel():
        last = max(int(torch.searchsorted(ends, before + ENTRIES_AT_ONCE, right=True)), first + 1)
        rows = torch.arange(first, last, device=ends.device)
        number = torch.arange(before, int(ends[last - 1]), device=ends.device)
        yield rows, rows.repeat_interleave(lengths[first:last], output_size=number.numel()), number
        first, before = last, before + number.numel()
