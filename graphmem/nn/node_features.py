"""Features of nodes beside the state of a temporal model."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from graphmem.nn.state import Snapshot, StateModule
from graphmem.ops import _check


class NodeFeatures(StateModule):
    """Rows of numbers that belong to nodes and not to what happened to them.

    They are saved with a model's state and grow with it (a new node's are 0), but a reset leaves them, and they are in
    no snapshot.

    Args:
        x: [N, d], floating point, finite; copied.
        num_nodes: N.

    Raises:
        ArgumentError: wrong shape or dtype.
    """

    x: Tensor

    def __init__(self, x: Tensor, num_nodes: int) -> None:
        super().__init__()
        x = _check.tensor("node_feat", x, shape=(num_nodes, None), dtypes=_check.FLOAT_DTYPES)
        _check.integer("node_feat: width", x.size(1), 1)
        self.register_state("x", x.shape, dtype=x.dtype, device=x.device)
        self.x.copy_(x.detach())

    def reset(self) -> None:
        """Nothing: features are not memories."""

    def snapshot(self) -> Snapshot:
        """Nothing, likewise."""
        return {}

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Nothing, likewise."""

    def beside(self, nodes: Tensor, values: Tensor) -> Tensor:
        """Rows of nodes int64 [*], in front of values [*, F]: [*, d + F]."""
        return torch.cat((self.x[nodes].to(values.dtype), values), dim=-1)


__all__ = ["NodeFeatures"]
