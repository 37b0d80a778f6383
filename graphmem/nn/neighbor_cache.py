"""The N-cache: dictionaries of a few neighbours for every node, as state of a model.

Source: Y. Luo, P. Li, "Neighborhood-Aware Scalable Temporal Network Representation Learning", LoG 2022 (arXiv
2209.01084), repository Graph-COM/Neighborhood-Aware-Temporal-Network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.nn.state import StateModule, entries_of
from graphmem.ops import _check

EMPTY = -1
_MASK32 = (1 << 32) - 1


class CacheRows(NamedTuple):
    """Dictionaries of n nodes: hop 0, the node itself, then the slots of every hop side by side."""

    key: Tensor
    """int64 [n, L], nodes; -1 for an empty slot."""
    eid: Tensor
    """int64 [n, L], numbers of the events that put them there; -1 for none."""
    time: Tensor
    """[n, L], times of these events."""
    value: Tensor
    """[n, L, F]."""


class NeighborCache(StateModule):
    r"""For every node u a value of its own and, for each hop h, a dictionary of :math:`M_h` slots.

    A slot holds a key (a node), the number and time of the event that put it there, and a value of F numbers. A key has
    one place in the dictionaries of a hop, :math:`\mathrm{hash}(key) \bmod M_h`, the same for every owner, so that two
    nodes' dictionaries are compared by looking up, never by sorting. For events (u, v, t, e), in order
    (:meth:`commit`):

    1. every neighbour a of v, as :math:`Z_1(v)` held it before the batch, with its own event and value, is offered to
       the second dictionary of u, and the other way round (with three hops and more, :math:`Z_{h-1}` to the h-th);
    2. v is offered to the first dictionary of u with event and time, with the value of (u, v) where u knew v, else 0;
       likewise u to v;
    3. the node's own entry gets the event.

    An offer is taken if its slot was empty or held the same key before the batch, else with probability
    ``replace_prob``: a function of (``seed``, event, end, slot offered from) and of nothing else. Of the offers that
    one slot takes in a batch the last in the order of events stays (as in the released code, whose order is undefined).

    Where the released code differs: its hash maps the nodes to a fraction of the slots for every second seed
    (``hash="reference"``); keys, numbers and times lie in float32, so that nodes and events above 2^24 change and an
    event at time 0 counts as absent.

    Args:
        num_nodes: N.
        sizes: :math:`M_1, M_2, \ldots`, slots of each hop.
        value_dim: F.
        replace_prob: from 0 to 1, :math:`\alpha` of the paper.
        hash: "mix", MurmurHash3's finaliser of the key and the seed, or "reference",
            :math:`n s + n^2 (s + 1)` with n = key + 1 and s = seed mod 100.
        seed: of hash and offers.
        dtype: of times, int64 or float64.

    Memory: :math:`\sum_h M_h (24 + 4 F) + 24 + 4 F` bytes a node.

    Raises:
        ArgumentError: sizes, probability or hash that do not exist.
    """

    key: Tensor
    eid: Tensor
    time: Tensor
    value: Tensor

    def __init__(
        self,
        num_nodes: int,
        sizes: Sequence[int] = (32, 16),
        value_dim: int = 4,
        *,
        replace_prob: float = 0.9,
        hash: str = "mix",
        seed: int = 0,
        dtype: torch.dtype = torch.int64,
    ) -> None:
        super().__init__()
        _check.integer("num_nodes", num_nodes)
        _check.integer("value_dim", value_dim, 1)
        for size in sizes:
            _check.integer("sizes", size, 1)
        if dtype not in (torch.int64, torch.float64):
            raise ArgumentError(f"dtype: expected torch.int64 or torch.float64, got {dtype}")
        if not 0 <= _check.real("replace_prob", replace_prob) <= 1:
            raise ArgumentError(f"replace_prob: expected a number from 0 to 1, got {replace_prob}")
        _check.integer("seed", seed)
        self.sizes, self.value_dim, self.replace_prob, self.seed = tuple(sizes), value_dim, replace_prob, seed
        self.hash = _check.choice("hash", hash, ("mix", "reference"))
        self.num_slots = 1 + sum(sizes)
        for name, kind, fill in (("key", torch.int64, EMPTY), ("eid", torch.int64, EMPTY), ("time", dtype, 0)):
            self.register_state(name, (num_nodes, self.num_slots), dtype=kind, fill=fill)
        self.register_state("value", (num_nodes, self.num_slots, value_dim))

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.key.size(0)

    def rows(self, nodes: Tensor) -> CacheRows:
        """The dictionaries of nodes int64 [n]. The own entry has the node as its key, also before its first event.

        Raises:
            ArgumentError: wrong shape, dtype, device or range.
        """
        nodes = _check.tensor("nodes", nodes, shape=(None,), dtypes=(torch.int64,), device=self.key.device)
        _check.in_range("nodes", nodes, self.num_nodes)
        key = self.key[nodes]
        key[:, 0] = nodes
        return CacheRows(key, self.eid[nodes], self.time[nodes], self.value[nodes])

    def _begin(self, hop: int) -> int:
        """The first column of a hop's dictionary."""
        return 1 + sum(self.sizes[: hop - 1])

    def place(self, keys: Tensor, hop: int) -> Tensor:
        """Where keys int64 [*] lie in every row's dictionary of a hop, from 1 on: columns int64 [*] of the row."""
        first, size = self._begin(hop), self.sizes[hop - 1]
        if self.hash == "reference":
            n, s = keys + 1, self.seed % 100
            return first + (n * s + n * n * (s + 1)) % size
        return first + _mix32(keys ^ (keys >> 32) ^ _mix32_int(self.seed)) % size

    def events(self) -> Tensor:
        """Numbers of all events that fill a slot, distinct and ascending, int64 [m]."""
        found: Tensor = self.eid[self.eid >= 0].unique()
        return found

    @torch.no_grad()
    def commit(
        self, src: Tensor, dst: Tensor, t: Tensor, eid: Tensor, nodes: Tensor, at: Tensor, value: Tensor
    ) -> None:
        """Take in events that happened, in order.

        Args:
            src: int64 [E].
            dst: int64 [E].
            t: [E] of ``dtype``.
            eid: int64 [E], numbers of the events.
            nodes: int64 [n], distinct: all of src and dst.
            at: int64 [2 E], places of src, then of dst, among them.
            value: [n, L, F], what the slots of these nodes are worth now.

        Raises:
            ArgumentError: wrong shape, dtype, device or range. Nothing was written then.
        """
        before, device, size = self.rows(nodes), self.key.device, src.numel()
        for name, column in (("src", src), ("dst", dst), ("eid", eid)):
            _check.tensor(name, column, shape=(size,), dtypes=(torch.int64,), device=device)
        _check.tensor("t", t, shape=(size,), dtypes=(self.time.dtype,), device=device)
        at = _check.tensor("at", at, shape=(2 * size,), dtypes=(torch.int64,), device=device)
        _check.in_range("at", at, nodes.numel())
        shape = (nodes.numel(), self.num_slots, self.value_dim)
        value = _check.tensor("value", value, shape=shape, dtypes=(self.value.dtype,), device=device)
        if not at.is_cuda and not torch.equal(nodes[at], torch.cat((src, dst))):  # would stall the stream there
            raise ArgumentError("at: expected the places of src, then of dst, among nodes")
        owner, other = halves(src, dst), halves(dst, src)
        when, number = t.repeat_interleave(2), eid.repeat_interleave(2)
        own = halves(*at.chunk(2))
        theirs = own.view(-1, 2).flip(1).flatten()
        end = torch.arange(owner.numel(), device=owner.device) % 2
        for hop in range(2, len(self.sizes) + 1):
            # A dictionary reads the next smaller hop of the other end, as it was before the batch.
            low = self._begin(hop - 1)
            key = before.key[theirs, low : self._begin(hop)]
            half, slot = (key >= 0).nonzero(as_tuple=True)
            taken = theirs[half], low + slot
            offered = key[half, slot]
            self._offer(
                *(owner[half], self.place(offered, hop), offered, before.eid[taken], before.time[taken]),
                *(value[taken], number[half], 2 * taken[1] + end[half]),
            )
        column = self.place(other, 1)
        known = before.key[own, column] == other
        self._offer(owner, column, other, number, when, value[own, column] * known.unsqueeze(1), number, end)
        last = last_of(own, nodes.numel())
        entry = torch.zeros_like(owner[last])
        self._write(nodes, entry, nodes, number[last], when[last], value[:, 0])

    def _offer(
        self,
        owner: Tensor,
        column: Tensor,
        key: Tensor,
        eid: Tensor,
        time: Tensor,
        value: Tensor,
        event: Tensor,
        number: Tensor,
    ) -> None:
        """Offers [m] in order; ``event`` and ``number`` tell the draws of one offer from those of all others."""
        occupant = self.key[owner, column]
        taken = (occupant == EMPTY) | (occupant == key)
        taken |= _uniform(self.seed, event, number) < self.replace_prob
        chosen = taken.nonzero().view(-1)
        address, place = (owner[chosen] * self.num_slots + column[chosen]).unique(return_inverse=True)
        last = chosen[last_of(place, address.numel())]
        self._write(owner[last], column[last], key[last], eid[last], time[last], value[last])

    def _write(self, row: Tensor, column: Tensor, key: Tensor, eid: Tensor, time: Tensor, value: Tensor) -> None:
        for name, content in (("key", key), ("eid", eid), ("time", time), ("value", value)):
            self.get_buffer(name)[row, column] = content

    def forget(self, nodes: Tensor | None = None, events: Tensor | None = None) -> None:
        """Empty the rows of ``nodes`` and every slot that holds one of them, or that one of ``events`` has filled.

        Values of other slots, which were computed beside them, stay.

        Args:
            nodes: int64 [n].
            events: int64 [m].

        Raises:
            ArgumentError: wrong shape, dtype or range.
        """
        super().forget(nodes)
        gone = entries_of(nodes, self.key, events, self.eid)
        for name in ("key", "eid", "time", "value"):
            buffer = self.get_buffer(name).clone()
            buffer[gone] = self._state_fill[name]
            setattr(self, name, buffer)

    def extra_repr(self) -> str:
        """Show sizes."""
        return f"{self.num_nodes}, sizes={self.sizes}, value_dim={self.value_dim}, hash={self.hash!r}"


def halves(first: Tensor, second: Tensor) -> Tensor:
    """Half events [2 E] of events [E]: 2 e is that of the source of event e, 2 e + 1 that of its destination."""
    return torch.stack((first, second), dim=1).flatten()


def last_of(group: Tensor, count: int) -> Tensor:
    """The last place of each of ``count`` groups in a list of groups int64 [m]; every group is there."""
    order = torch.arange(group.numel(), device=group.device)
    return torch.zeros(count, dtype=torch.int64, device=group.device).scatter_reduce(0, group, order, "amax")


def _mix32(x: Tensor) -> Tensor:
    """MurmurHash3's finaliser (Appleby, public domain) of 32-bit numbers in int64, whose products wrap."""
    x = x & _MASK32
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & _MASK32
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & _MASK32
    return x ^ (x >> 16)


def _mix32_int(x: int) -> int:
    return int(_mix32(torch.tensor(x & _MASK32)))


def _uniform(seed: int, event: Tensor, number: Tensor) -> Tensor:
    """Draws in [0, 1), float64 [m], one for each (seed, event, number)."""
    low = _mix32(_mix32((event & _MASK32) + 0x9E3779B9) ^ _mix32(event >> 32) ^ _mix32_int(seed + 1))
    return _mix32(low + 0x9E3779B9 * (number + 1)).double() / 2.0**32


__all__ = ["CacheRows", "NeighborCache", "halves", "last_of"]
