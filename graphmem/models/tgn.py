"""TGN: node memory and attention over recent events.

Source: E. Rossi, B. Chamberlain, F. Frasca, D. Eynard, F. Monti, M. Bronstein, "Temporal Graph Networks for Deep
Learning on Dynamic Graphs", 2020 (arXiv 2006.10637), in the form of PyG's ``examples/tgn.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError
from graphmem.models.messages import ReadsMessages
from graphmem.models.temporal import MemoryLinkModel
from graphmem.nn.memory import NodeMemory
from graphmem.nn.neighbors import RecentNeighbors
from graphmem.nn.temporal_attention import TemporalAttention
from graphmem.nn.temporal_neighbors import TemporalNeighbors
from graphmem.ops import _check, distinct

Memory = Callable[[Tensor], tuple[Tensor, Tensor]]


class _Read(NamedTuple):
    z: Tensor
    """[m, memory_dim], memories of all nodes that are looked at."""
    last_update: Tensor
    """[m], times of their last events."""
    root: Tensor
    """int64 [n], the nodes as places in z."""
    nbr: Tensor
    """int64 [n, K], other ends of their latest events; -1 where there are fewer."""
    place: Tensor
    """int64 [n, K], the same as places in z; anything where there are fewer."""
    eid: Tensor
    """int64 [n, K]."""
    when: Tensor
    """[n, K], times of the events."""


class TGN(ReadsMessages, MemoryLinkModel):
    r"""A memory of events, read through one layer of attention over each node's latest events.

    Equations in :class:`~graphmem.nn.NodeMemory`, :class:`~graphmem.nn.TemporalAttention` and
    :class:`~graphmem.nn.LinkPredictor`. With messages (``msg_dim`` > 0) call :meth:`prepare` with the stream first: the
    attention looks up the messages of past events by their numbers; where there is no whole stream, :meth:`follow`.

    Args:
        num_nodes: N.
        msg_dim: D.
        memory_dim: width of the memory.
        time_dim: of the time code, which memory and attention share.
        embedding_dim: width of the attention's output.
        num_neighbors: latest events of a node that it attends to.
        heads: of the attention.
        dropout: of the attention coefficients.
        delta: what the attention's time code reads of an event: "edge", the time of the neighbour's last event minus
            that of the event (PyG's example); or "query", the time of the question minus that of the event (the paper,
            whose nodes have one embedding for each time they are asked about).
        neighbors: what knows the latest events, with ``insert(src, dst, t, eid)`` and ``query(ids, k) -> (nbr, eid,
            t)``; default ``RecentNeighbors(num_nodes, num_neighbors)``. A
            :class:`~graphmem.nn.TemporalNeighbors` is asked for the latest events strictly before each question's time,
            which takes ``delta="query"``; :meth:`reveal` may show it events before their update. With ``events()``, the
            numbers of those it may still answer, a model that follows a stream drops the messages of others.
        time_dtype: of times, int64 or float64.
        state_device: "cpu": memory, mail and the default neighbours stay in main memory, see
            :class:`~graphmem.nn.NodeMemory`.
        **memory_options: of :class:`~graphmem.nn.NodeMemory`.

    Raises:
        ArgumentError: options that are unknown or do not fit each other.
    """

    def __init__(
        self,
        num_nodes: int,
        msg_dim: int = 0,
        *,
        memory_dim: int = 100,
        time_dim: int = 100,
        embedding_dim: int = 100,
        num_neighbors: int = 10,
        heads: int = 2,
        dropout: float = 0.1,
        delta: str = "edge",
        neighbors: nn.Module | None = None,
        time_dtype: torch.dtype = torch.int64,
        state_device: str | None = None,
        **memory_options: Any,
    ) -> None:
        memory_options |= {"time_dtype": time_dtype, "state_device": state_device}
        memory = NodeMemory(num_nodes, msg_dim, memory_dim, time_dim, **memory_options)
        super().__init__(memory, embedding_dim)
        _check.integer("num_neighbors", num_neighbors, 1)
        self.embeds_time = _check.choice("delta", delta, ("edge", "query")) == "query"
        self.num_neighbors = num_neighbors
        self.attention = TemporalAttention(
            memory_dim, embedding_dim, msg_dim, memory.time_enc, heads=heads, dropout=dropout
        )
        if neighbors is None:
            neighbors = RecentNeighbors(num_nodes, num_neighbors, dtype=time_dtype, state_device=state_device)
        if isinstance(neighbors, TemporalNeighbors) and not self.embeds_time:
            raise ArgumentError(f'delta: expected "query" with TemporalNeighbors, asked about a time, got {delta!r}')
        self.neighbors: Any = neighbors

    def reset_parameters(self) -> None:
        """Draw all weights anew and forget what the memory knows."""
        for module in (self.memory, self.attention, self.predictor):
            module.reset_parameters()

    def follow(self) -> None:
        """Keep the messages of the events that the neighbours refer to, and what is computed from weights alone."""
        self.attention.freeze()
        super().follow()

    @property
    def _referred(self) -> Callable[[], Tensor] | None:
        """What lists the events that the neighbours may still answer; ``None``: any."""
        found: Callable[[], Tensor] | None = getattr(self.neighbors, "events", None)
        return found

    def embed(self, nodes: Tensor, t: Tensor | None) -> Tensor:
        """Attend from nodes int64 [n] (at times [n] with ``delta="query"``) to their latest events."""
        return self._attend(self._read(nodes, t), t)

    def _read(self, nodes: Tensor, t: Tensor | None, memory: Memory | None = None) -> _Read:
        """Latest events of nodes, and the memories of both ends, read by ``memory`` in place of the model's own."""
        if isinstance(self.neighbors, TemporalNeighbors):
            assert t is not None
            nbr, eid, when = self.neighbors.query(nodes, t, self.num_neighbors)
        else:
            nbr, eid, when = self.neighbors.query(nodes, self.num_neighbors)
        read, place = distinct(torch.cat((nodes, nbr.view(-1))))
        z, last_update = self.memory(read) if memory is None else memory(read)
        root, place = place[: nodes.numel()], place[nodes.numel() :].view(nbr.shape)
        return _Read(z, last_update, root, nbr, place, eid, when)

    def _attend(self, read: _Read, t: Tensor | None) -> Tensor:
        # What stands for absent events is not looked at.
        dt = (read.last_update[read.place] if t is None else t.unsqueeze(1)) - read.when
        messages, eid = self._look_up(read.eid)
        # Distinct nodes are the first rows of what is read.
        out: Tensor = self.attention(read.z, read.place, dt, messages, eid, None if t is None else read.root)
        return out

    def update(self, events: EventStream) -> None:
        """Give the events to memory and neighbours."""
        super().update(events)
        self._remember(events)

    def _remember(self, events: EventStream) -> None:
        if isinstance(self.neighbors, TemporalNeighbors):
            self.reveal(events)
        else:
            self.neighbors.insert(events.src, events.dst, events.t, events.eid)
        self._keep_messages(events)

    def reveal(self, events: EventStream) -> None:
        """Insert those events that the neighbours do not know yet. Needs :class:`~graphmem.nn.TemporalNeighbors`."""
        if not isinstance(self.neighbors, TemporalNeighbors):
            super().reveal(events)
        fresh = events[max(int(self.neighbors.next_event) - events.first, 0) :]
        self.neighbors.insert(fresh.src, fresh.dst, fresh.t, fresh.eid)
