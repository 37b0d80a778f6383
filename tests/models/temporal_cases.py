"""Streams and recent neighbours for the tests of temporal models."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from graphmem.nn.state import StateModule


@dataclasses.dataclass(frozen=True)
class Events:
    """The fields of an EventStream that models read."""

    src: Tensor
    dst: Tensor
    t: Tensor
    msg: Tensor
    first: int = 0
    weight: Tensor | None = None
    edge_type: Tensor | None = None
    node_events: None = None

    @property
    def sign(self) -> Tensor | None:
        return None if self.weight is None else self.weight.sign().long()

    @property
    def eid(self) -> Tensor:
        return torch.arange(self.first, self.first + len(self))

    def __len__(self) -> int:
        return self.src.numel()

    def batches(self, size: int) -> list[Events]:
        columns = {name: getattr(self, name) for name in ("src", "dst", "t", "msg", "weight")}
        parts = {name: column.split(size) for name, column in columns.items() if column is not None}
        rows = (dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True))
        return [Events(**row, first=self.first + k * size) for k, row in enumerate(rows)]


def random_events(
    seed: int, count: int, nodes: int, msg_dim: int, dtype: torch.dtype = torch.float64, bipartite: bool = False
) -> Events:
    generator = torch.Generator().manual_seed(seed)
    src, dst = (nodes * torch.rand(2, count, generator=generator) ** 2).long()
    if bipartite:
        src, dst = src // 2, nodes // 2 + dst // 2
    t = 1 + torch.randint(3, (count,), generator=generator).cumsum(0)
    msg = torch.randn(count, msg_dim, generator=generator, dtype=dtype)
    weight = torch.randint(1, 5, (count,), generator=generator) - 6.0 * (torch.rand(count, generator=generator) < 0.4)
    return Events(src, dst, t, msg, weight=weight + (weight == 0))


class ListNeighbors(StateModule):
    """The K latest events of each node, in order, by a loop over events."""

    def __init__(self, num_nodes: int, size: int) -> None:
        super().__init__()
        for name, fill in (("nbr", -1), ("eid", -1), ("t", 0)):
            self.register_state(name, (num_nodes, size), dtype=torch.int64, fill=fill)

    def insert(self, src: Tensor, dst: Tensor, t: Tensor, eid: Tensor) -> None:
        for i, j, *rest in zip(src.tolist(), dst.tolist(), t.tolist(), eid.tolist(), strict=True):
            for owner, other in ((i, j), (j, i)):
                for name, value in zip(("nbr", "t", "eid"), (other, *rest), strict=True):
                    row = getattr(self, name)[owner]
                    row.copy_(torch.cat((torch.tensor([value]), row[:-1].clone())))

    def query(self, ids: Tensor, k: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        return self.nbr[ids, :k], self.eid[ids, :k], self.t[ids, :k]
