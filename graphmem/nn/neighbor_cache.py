"""The N-cache: dictionaries of a few neighbours for every node, as state of a model.

Source: Y. Luo, P. Li, "Neighborhood-Aware Scalable Temporal Network Representation Learning", LoG 2022 (arXiv
2209.01084), repository Graph-COM/Neighborhood-Aware-Temporal-Network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.nn.state import StateModule, entries_of
from graphmem.ops import CellWeights, JoinedKeys, Layout, _check, ncache_commit, ncache_join
from graphmem.ops.ncache import ncache_refresh_unchecked

EMPTY = -1


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
        seed: of hash and offers. A state that is loaded brings its own, and its hash: they say where its keys lie.
        semantics: "prebatch" or "sequential", see above.
        dtype: of times, int64 or float64.
        key_dtype: int64, or int32 for less memory and at most 2^31 - 1 nodes; a dtype or its name, "int32".
        value_dtype: float32, bfloat16 for less memory, float16 or float64; likewise.

    Memory: :math:`(1 + \sum_h M_h) (k + 16 + v F)` bytes a node, k and v bytes of a key and of a number.

    Raises:
        ArgumentError: sizes, probability, hash or dtypes that do not exist, or more nodes than 32 bits can name.
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
        semantics: str = "prebatch",
        dtype: torch.dtype = torch.int64,
        key_dtype: str | torch.dtype = torch.int64,
        value_dtype: str | torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        _check.integer("num_nodes", num_nodes)
        _check.integer("value_dim", value_dim, 1)
        if dtype not in (torch.int64, torch.float64):
            raise ArgumentError(f"dtype: expected torch.int64 or torch.float64, got {dtype}")
        key_dtype = _check.dtype("key_dtype", key_dtype, _check.INDEX_DTYPES)
        value_dtype = _check.dtype("value_dtype", value_dtype, _check.FLOAT_DTYPES)
        if key_dtype == torch.int32 and num_nodes > _check.MAX_INT32:
            raise ArgumentError(f"key_dtype: expected torch.int64 for {num_nodes} nodes, got torch.int32")
        if not 0 <= _check.real("replace_prob", replace_prob) <= 1:
            raise ArgumentError(f"replace_prob: expected a number from 0 to 1, got {replace_prob}")
        self.layout = Layout(tuple(sizes), hash, seed)
        self.layout.checked()
        self.value_dim, self.replace_prob = value_dim, replace_prob
        self.semantics = _check.choice("semantics", semantics, ("prebatch", "sequential"))
        self.num_slots = 1 + sum(sizes)
        for name, kind, fill in (("key", key_dtype, EMPTY), ("eid", torch.int64, EMPTY), ("time", dtype, 0)):
            self.register_state(name, (num_nodes, self.num_slots), dtype=kind, fill=fill)
        self.register_state("value", (num_nodes, self.num_slots, value_dim), dtype=value_dtype)

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.key.size(0)

    def get_extra_state(self) -> Tensor:
        """What says where keys lie, for ``state_dict``: whether the hash is the released one, and the seed."""
        return torch.tensor([self.layout.hash == "reference", self.layout.seed], dtype=torch.int64)

    def set_extra_state(self, state: Tensor) -> None:
        """Look for keys where those of a loaded state lie."""
        reference, seed = state.tolist()
        self.layout = self.layout._replace(hash="reference" if reference else "mix", seed=seed)

    def check_size(self, num_nodes: int) -> None:
        """Raise an ArgumentError unless keys can name so many nodes."""
        if self.key.dtype == torch.int32 and num_nodes > _check.MAX_INT32:
            raise ArgumentError(
                f"grow: num_nodes must be at most {_check.MAX_INT32} for keys of 32 bits, got {num_nodes}; "
                "load the state into a cache with key_dtype=torch.int64"
            )

    def grow(self, num_nodes: int) -> None:
        """Make room for nodes ``0 .. num_nodes - 1``; new rows are empty.

        Raises:
            ArgumentError: fewer than there are, or more than keys of 32 bits can name. Nothing has changed then.
        """
        self.check_size(num_nodes)
        super().grow(num_nodes)

    def refresh(
        self,
        nodes: Tensor,
        state: Tensor,
        weights: CellWeights,
        messages: Tensor | None = None,
        row: Tensor | None = None,
        *,
        delta: bool = True,
    ) -> Tensor:
        """What the slots of nodes int64 [n] are worth, [n, L, F]: :func:`graphmem.ops.ncache_refresh`, unchecked."""
        cells = self.key, self.eid, self.time, self.value
        return ncache_refresh_unchecked(*cells, nodes, state, messages, row, delta, *weights)

    def lookup(self, nodes: Tensor, keys: Tensor) -> Tensor:
        """Look for keys in the dictionaries of nodes.

        Args:
            nodes: int64 [n], whose.
            keys: int64 [n], nodes to look for.

        Returns:
            int64 [n, H + 1], by hop (hop 0 is the node itself): the cell that holds the key, as a place in [N, L] of
            ``key``, ``eid``, ``time`` and, flattened likewise, ``value``; -1 where none does.

        Raises:
            ArgumentError: wrong shape, dtype or range.
        """
        device = self.key.device
        nodes = _check.tensor("nodes", nodes, shape=(None,), dtypes=(torch.int64,), device=device)
        keys = _check.tensor("keys", keys, shape=(nodes.numel(),), dtypes=(torch.int64,), device=device)
        for name, ids in (("nodes", nodes), ("keys", keys)):
            _check.in_range(name, ids, self.num_nodes)
        hops = range(1, len(self.layout.sizes) + 1)
        column = torch.stack([torch.zeros_like(keys), *(self.layout.place(keys, hop) for hop in hops)], 1)
        cell = nodes.unsqueeze(1) * self.num_slots + column
        found = self.key.view(-1)[cell].long()
        found[:, 0] = nodes  # also before its first event
        return torch.where(found == keys.unsqueeze(1), cell, -1)

    def join(self, nodes: Tensor, capacity: int | None = None) -> JoinedKeys:
        """The keys that tuples of nodes int64 [P, q] hold together: :func:`graphmem.ops.ncache_join`.

        For heads of one's own; with the cells' ages, values or numbers of events, and whatever reads them. With a
        ``capacity`` nothing waits for the device.
        """
        return ncache_join(self.key, self.layout, nodes, capacity)

    def events(self) -> Tensor:
        """Numbers of all events that fill a slot, distinct and ascending, int64 [m]."""
        found: Tensor = self.eid[self.eid >= 0].unique()
        return found

    @torch.no_grad()
    def commit(
        self, src: Tensor, dst: Tensor, t: Tensor, event: Tensor, nodes: Tensor, at: Tensor, now: Tensor
    ) -> None:
        """Take in events that happened, in order.

        Args:
            src: int64 [E].
            dst: int64 [E].
            t: [E] of ``dtype``.
            event: int64 [E], numbers of the events.
            nodes: int64 [n], distinct: all of src and dst.
            at: int64 [2 E], places of src, then of dst, among them.
            now: [n, L, F], what the slots of these nodes are worth now.

        Raises:
            ArgumentError: wrong shape, dtype, device or range. Nothing was written then.
        """
        ncache_commit(
            *(self.key, self.eid, self.time, self.value, src, dst, t, event, nodes, at, now, self.layout),
            replace_prob=self.replace_prob,
            sequential=self.semantics == "sequential",
        )
        torch.autograd.graph.increment_version((self.key, self.eid, self.time, self.value))

    def forget(self, nodes: Tensor | None = None, events: Tensor | None = None) -> None:
        """Empty the rows of ``nodes`` and every slot that holds one of them, or that one of ``events`` has filled.

        Values of other slots, which were computed beside them, stay.

        Args:
            nodes: int64 [n].
            events: int64 [m].

        Raises:
            ArgumentError: wrong shape, dtype or range.
        """
        gone = entries_of(nodes, self.key, events, self.eid)
        if nodes is not None:
            _check.in_range("nodes", nodes, self.num_nodes)
            gone[nodes] = True
        for name in ("key", "eid", "time", "value"):
            buffer = self.get_buffer(name).clone()
            buffer[gone] = self._state_fill[name]
            setattr(self, name, buffer)

    def extra_repr(self) -> str:
        """Show sizes."""
        sizes, hash, _ = self.layout
        return f"{self.num_nodes}, sizes={sizes}, value_dim={self.value_dim}, hash={hash!r}"


def halves(first: Tensor, second: Tensor) -> Tensor:
    """Half events [2 E] of events [E]: 2 e is that of the source of event e, 2 e + 1 that of its destination."""
    return torch.stack((first, second), dim=1).flatten()


__all__ = ["NeighborCache", "halves"]
