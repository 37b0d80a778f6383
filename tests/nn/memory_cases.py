"""Random streams, and a node memory that looks at one node and one event at a time."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from graphmem.nn import NodeMemory
from graphmem.nn.cells import TransformerCell

NODES, MSG, DIM, TIME = 9, 2, 6, 4


@dataclasses.dataclass(frozen=True)
class Batch:
    src: Tensor
    dst: Tensor
    t: Tensor
    msg: Tensor
    event: Tensor


def stream(seed: int, batches: int = 5, size: int = 8, nodes: int = NODES, step: int = 2) -> list[Batch]:
    """Batches with self-loops, nodes of many events, and equal times (the more of them, the smaller ``step``)."""
    generator = torch.Generator().manual_seed(seed)
    ends = (nodes * torch.rand(2, batches * size, generator=generator) ** 2).long()
    t = torch.randint(step, (batches * size,), generator=generator).cumsum(0)
    msg = torch.randn(batches * size, MSG, generator=generator)
    event = 100 + torch.arange(batches * size)
    return [Batch(*parts) for parts in zip(*(x.split(size) for x in (*ends, t, msg, event)), strict=True)]


def update(memory: NodeMemory, batch: Batch) -> None:
    memory.update_state(batch.src, batch.dst, batch.t, batch.msg, batch.event)


class SlowMemory:
    """What :class:`NodeMemory` promises in clean mode, in Python lists; weights are those of ``like``."""

    def __init__(self, like: NodeMemory, size: int, nodes: int = NODES) -> None:
        self.like, self.size = like, size
        self.memory = [torch.zeros(like.memory_dim) for _ in range(nodes)]
        self.last_update = [0] * nodes
        self.mail: list[list[tuple[int, int, Tensor]]] = [[] for _ in range(nodes)]

    def read(self, node: int) -> tuple[Tensor, int]:
        if not self.mail[node]:
            return self.memory[node], self.last_update[node]
        messages = []
        for other, t, msg in self.mail[node]:
            code = self.like.time_enc(torch.tensor([t - self.last_update[node]]))[0]
            messages.append(torch.cat((self.memory[node], self.memory[other], msg, code)))
        if isinstance(self.like.updater, TransformerCell):
            one = torch.zeros(len(messages), dtype=torch.int64)
            after = self.like.updater(torch.stack(messages), one, self.memory[node][None])
            return after[0], self.mail[node][-1][1]
        message = messages[-1] if self.like.aggregator == "last" else torch.stack(messages).mean(0)
        return self.like.updater(message[None], self.memory[node][None])[0], self.mail[node][-1][1]

    def commit(self, nodes: set[int]) -> None:
        for node, (memory, t) in {node: self.read(node) for node in nodes}.items():
            self.memory[node], self.last_update[node], self.mail[node] = memory.detach(), t, []

    def update(self, batch: Batch, at_once: bool) -> None:
        ends = list(zip(batch.src.tolist(), batch.dst.tolist(), batch.t.tolist(), batch.msg, strict=True))
        nodes = {node for i, j, _, _ in ends for node in (i, j)}
        self.commit(nodes)
        for i, j, t, msg in ends:
            for node, other in ((i, j), (j, i)):
                self.mail[node] = [*self.mail[node], (other, t, msg)][-self.size :]
        if at_once:
            self.commit(nodes)
