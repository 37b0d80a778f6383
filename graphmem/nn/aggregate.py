"""Messages of a node memory, and how a node's are combined."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from graphmem.ops import _check


class ConcatMessage(nn.Module):
    """The message of TGN: ``[memory of the node, memory of the other end, raw message, time code]``.

    Args:
        raw_msg_dim: D.
        memory_dim: d.
        time_dim: T.
    """

    def __init__(self, raw_msg_dim: int, memory_dim: int, time_dim: int) -> None:
        super().__init__()
        self.out_channels = raw_msg_dim + 2 * memory_dim + time_dim

    def forward(self, own: Tensor, other: Tensor, raw_msg: Tensor, time_code: Tensor) -> Tensor:
        """Rows of the four parts to [M, out_channels]."""
        return torch.cat((own, other, raw_msg, time_code), -1)


class NodeMessage(nn.Module):
    r"""The message of an event of one node: ``[memory of the node, a, raw message, time code]``.

    Where a link has the other end's memory stands :math:`a`, a vector that is learned: a node without a partner is not
    one whose partner is unknown yet, of whom the memory is zeros, too. It begins as zeros.

    Args:
        raw_msg_dim: D.
        memory_dim: d.
        time_dim: T.
    """

    def __init__(self, raw_msg_dim: int, memory_dim: int, time_dim: int) -> None:
        super().__init__()
        self.out_channels = raw_msg_dim + 2 * memory_dim + time_dim
        self.alone = nn.Parameter(torch.zeros(memory_dim))

    def reset_parameters(self) -> None:
        """Begin with zeros again."""
        nn.init.zeros_(self.alone)

    def forward(self, own: Tensor, raw_msg: Tensor, time_code: Tensor) -> Tensor:
        """Rows of the three parts to [M, out_channels]."""
        return torch.cat((own, self.alone.expand_as(own), raw_msg, time_code), -1)


def place_rows(rows: Tensor, index: Tensor, count: int) -> Tensor:
    """Rows at the distinct places ``index`` of ``count`` rows; zeros elsewhere."""
    if index.numel() == count:  # distinct and ascending: every row is there
        return rows
    return rows.new_zeros(count, *rows.shape[1:]).index_copy(0, index, rows)


def is_pyg(module: Any, name: str) -> bool:
    """Whether a module is of a class of this name among the parts of PyG's ``TGNMemory``."""
    kind = type(module)
    return kind.__module__ == "torch_geometric.nn.models.tgn" and kind.__name__ == name


def aggregator_name(module: nn.Module | str) -> str:
    """How mail is combined: "last", "mean", "sequence", or "module" for one of the caller's own."""
    if isinstance(module, str):
        return _check.choice("aggregator_module", module, ("last", "mean", "sequence"))
    if is_pyg(module, "LastAggregator"):
        return "last"
    return "mean" if is_pyg(module, "MeanAggregator") else "module"


__all__ = ["ConcatMessage", "NodeMessage", "aggregator_name", "is_pyg", "place_rows"]
