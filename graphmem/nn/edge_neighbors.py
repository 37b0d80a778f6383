"""The latest events of every node, with features of each as that node sees it."""

from __future__ import annotations

import torch
from torch import Tensor

from graphmem.nn.neighbors import Neighborhood, RecentNeighbors
from graphmem.ops import _check


class EdgeNeighbors(RecentNeighbors):
    r"""The K latest events of every node, each with features of its own half.

    An event's source and destination may keep different features of it, such as its direction. They lie in the rows of
    the nodes, so that nothing has to be looked up by the numbers of events, and a stream may have no end.

    Args:
        num_nodes: N.
        size: K.
        edge_dim: A, width of the features.
        dtype: of times, int64 or float64.

    Example:
        >>> neighbors = EdgeNeighbors(num_nodes=3, size=2, edge_dim=1)
        >>> ends = torch.tensor([0]), torch.tensor([1])
        >>> neighbors.insert_edges(*ends, torch.tensor([5]), torch.tensor([[1.0], [-1.0]]))
        >>> neighbors.query_edges(torch.tensor([1]))[1].tolist()
        [[[-1.0], [0.0]]]
    """

    edge: Tensor

    _per_entry = (*RecentNeighbors._per_entry, "edge")

    def __init__(self, num_nodes: int, size: int, edge_dim: int, *, dtype: torch.dtype = torch.int64) -> None:
        super().__init__(num_nodes, size, dtype=dtype)
        _check.integer("edge_dim", edge_dim)
        self.register_state("edge", (num_nodes, size, edge_dim))

    @torch.no_grad()
    def insert_edges(self, src: Tensor, dst: Tensor, t: Tensor, edge: Tensor, eid: Tensor | None = None) -> None:
        """Take in the events of a batch, in order.

        Args:
            src: int64 [E].
            dst: int64 [E].
            t: [E] of ``dtype``, ascending, from the last batch on.
            edge: float32 [2 E, A], event by event the features of the source's half, then of the destination's.
            eid: int64 [E], numbers of the events, see :meth:`insert`.

        Raises:
            ArgumentError: wrong shape, dtype, device or range, or times that go back.
        """
        shape, dtypes = (2 * src.numel(), self.edge.size(2)), (self.edge.dtype,)
        edge = _check.tensor("edge", edge, shape=shape, dtypes=dtypes, device=self.edge.device)
        self.insert(src, dst, t, eid)
        owner, order = torch.stack((src, dst), 1).view(-1).sort(stable=True)
        # How many of a node's halves of this batch are newer; those that left the row again are not written.
        age = torch.searchsorted(owner, owner, right=True) - 1 - torch.arange(owner.numel(), device=owner.device)
        stays = (age < self.size).nonzero().view(-1)
        owner, age = owner[stays], age[stays]
        self.edge[owner, (self.count[owner] - 1 - age) % self.size] = edge[order[stays]]

    def query_edges(self, ids: Tensor, k: int | None = None) -> tuple[Neighborhood, Tensor]:
        """Find the k latest events of nodes, and their features.

        Args:
            ids: int64 [n].
            k: at most ``size``, which is the default.

        Returns:
            What :meth:`query` returns; float32 [n, k, A], 0 where there are fewer.

        Raises:
            ArgumentError: wrong shape, dtype, device or range.
        """
        found = self.query(ids, k)
        age = torch.arange(found.nbr.size(1), device=ids.device)
        column = (self.count[ids].unsqueeze(1) - 1 - age) % self.size
        return found, self.edge[ids.unsqueeze(1), column].masked_fill((found.nbr < 0).unsqueeze(2), 0)
