"""States that were read last, for whoever needs the same ones next."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from graphmem.ops import distinct

_STRIDE = 61


class LastRead:
    """States of nodes, found again by node.

    In training the loss reads the mail of a batch's nodes, and the update behind it stores their states: the same, as
    long as nothing has changed that they were computed from.

    Args:
        nodes: int64 [n]; where one is there twice, so are its states.
        states: [n, d].
        columns: [n, ...] each, what else was found of the nodes.
        tables: state that they were computed from; torch counts the writes into it.
        weights: likewise. Torch's fused optimizers, and writes into ``weight.data``, are not counted, so a part of the
            entries is kept to compare: a step that changes some of them changes nearly all.
    """

    def __init__(
        self,
        nodes: Tensor,
        states: Tensor,
        columns: Sequence[Tensor] = (),
        tables: Sequence[Tensor] = (),
        weights: Sequence[Tensor] = (),
    ) -> None:
        self.nodes, self.states, self.columns = nodes, states, (states, *columns)
        self._casts = _casts(states)
        self._sources = [(source, _writes(source)) for source in (*tables, *weights)]
        self._samples = [_sample(weight).clone() for weight in weights]

    def holds(self, tables: Sequence[Tensor], weights: Sequence[Tensor]) -> bool:
        """Whether these are the same tensors still, and nobody has written into them, with types as they were."""
        for now, (then, writes) in zip((*tables, *weights), self._sources, strict=True):
            if now is not then or writes is None or writes != _writes(now):
                return False
        if self._casts != _casts(self.states):
            return False
        return all(torch.equal(_sample(now), then) for now, then in zip(weights, self._samples, strict=True))

    def find(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Rows int64 [m] of nodes int64 [m], and which nodes are there, bool [m]; any row for others."""
        count = self.nodes.numel()
        known, asked = distinct(torch.cat((self.nodes, nodes)))[1].split((count, nodes.numel()))
        row = torch.zeros(count + nodes.numel(), dtype=torch.int64, device=nodes.device)
        row.index_copy_(0, known, torch.arange(count, device=nodes.device))
        # Ids are numbered as they come, so that those of nodes that were read are the smallest.
        return row.index_select(0, asked), asked <= (known.amax() if count else -1)

    def complete(self, nodes: Tensor, compute: Callable[[Tensor], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """States and columns of nodes int64 [m], without gradient; what is not here is computed."""
        row, hit = self.find(nodes)
        row = row.to(self.states.device)
        found = tuple(column.index_select(0, row) for column in self.columns)
        rest = (~hit).nonzero().view(-1)
        if rest.numel():
            for column, new in zip(found, compute(nodes.index_select(0, rest)), strict=True):
                column.index_copy_(0, rest.to(column.device), new)
        return found


def _casts(tensor: Tensor) -> bool:
    """Whether operators on the tensor's device choose types of their own."""
    kind = tensor.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def _sample(weight: Tensor) -> Tensor:
    return weight.detach().reshape(-1)[::_STRIDE]


def _writes(tensor: Tensor) -> int | None:
    """How often a tensor was written into; ``None`` where torch does not count."""
    return None if tensor.is_inference() else tensor._version


__all__ = ["LastRead"]
