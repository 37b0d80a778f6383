"""Events of single nodes: what happened to one without a partner."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graphmem.data.time_bounds import places_between
from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.ops import _check


@dataclass(frozen=True, eq=False)
class NodeEvents:
    r"""Events :math:`v_i(t)` of single nodes, ascending in time; equal times keep the order in which they are given.

    They are nobody's neighbours and nothing that is predicted: a model with a memory takes them into that of their node
    (:class:`~graphmem.nn.NodeMemory`). In a stream they have no numbers; which part of it one belongs to says its time,
    see :meth:`EventStream.with_node_events`.

    Args:
        node: int64 [M].
        t: int64 or float64 [M], ascending, of the dtype of the stream's times.
        msg: float32 [M, D], features, of the width of the stream's messages; without them zeros stand for them.

    Raises:
        ArgumentTypeError: a field that is no tensor.
        ArgumentError: wrong shapes, dtypes or devices, negative nodes, times that descend or are not finite, features
            that are not finite.

    Example:
        >>> joined = NodeEvents(torch.tensor([2, 0]), torch.tensor([5, 15]))
        >>> joined.between(0, 10).node.tolist()
        [2]
    """

    node: Tensor
    t: Tensor
    msg: Tensor | None = None

    def __post_init__(self) -> None:
        """Check everything once; parts are not checked again."""
        node = _check.tensor("node", self.node, shape=(None,), dtypes=(torch.int64,))
        count, device = node.numel(), node.device
        if count and int(node.min()) < 0:
            raise ArgumentError(f"node: expected ids of at least 0, found {int(node.min())}")
        t = _check.tensor("t", self.t, shape=(count,), dtypes=(torch.int64, torch.float64), device=device)
        columns = {"node": node, "t": t}
        if self.msg is not None:
            columns["msg"] = _check.tensor("msg", self.msg, shape=(count, None), dtypes=(torch.float32,), device=device)
        for name, value in columns.items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise ArgumentError(f"{name}: expected finite numbers")
            object.__setattr__(self, name, value)
        later = (t[1:] < t[:-1]).nonzero()
        if later.numel():
            raise ArgumentError(f"t: expected ascending times, got an earlier one in node event {int(later[0]) + 1}")

    def __len__(self) -> int:
        return self.node.numel()

    def __getitem__(self, index: slice) -> NodeEvents:
        """Node events of a slice without a step, as views."""
        if not isinstance(index, slice) or index.step not in (None, 1):
            raise ArgumentTypeError(f"index: expected a slice of consecutive node events, got {index!r}")
        out = object.__new__(NodeEvents)
        msg = None if self.msg is None else self.msg[index]
        out.__dict__.update(node=self.node[index], t=self.t[index], msg=msg)
        return out

    def between(self, low: float, high: float) -> NodeEvents:
        """Node events with ``low <= t < high``, as views; bounds may be fractions or infinite.

        Raises:
            ArgumentTypeError: a bound that is no number.
            ArgumentError: a bound that is NaN.
        """
        return self[slice(*places_between(self.t, low, high))]

    def select(self, keep: Tensor) -> NodeEvents:
        """Some of the node events.

        Args:
            keep: bool [M].
        """
        keep = _check.tensor("keep", keep, shape=(len(self),), dtypes=(torch.bool,), device=self.t.device)
        return replace(self, node=self.node[keep], t=self.t[keep], msg=None if self.msg is None else self.msg[keep])

    def to(self, device: torch.device | str) -> NodeEvents:
        """The same on another device."""
        msg = None if self.msg is None else self.msg.to(device)
        return replace(self, node=self.node.to(device), t=self.t.to(device), msg=msg)

    def extend(self, later: NodeEvents) -> NodeEvents:
        """Append node events that come later.

        Raises:
            ArgumentError: they begin before these end, or one of both only has features.
        """
        if (self.msg is None) != (later.msg is None):
            raise ArgumentError("later: msg is in one of the node events only")
        msg = None if self.msg is None or later.msg is None else torch.cat((self.msg, later.msg))
        return NodeEvents(torch.cat((self.node, later.node)), torch.cat((self.t, later.t)), msg)

    def part(self, t: Tensor, start: int, stop: int) -> NodeEvents:
        """What belongs to links ``start`` to ``stop`` - 1 of those at times ``t`` int64 or float64 [E], as views.

        A node event goes with the first link that is not earlier, one behind all links with the last. Parts that
        follow each other therefore have each one once, and a batch knows none that is later than its last link.
        """
        if start >= stop:
            return self[:0] if t.numel() else self
        ends = [t[start - 1] if start else None, t[stop - 1] if stop < t.numel() else None]
        low, high = (None if end is None else int(torch.searchsorted(self.t, end, right=True)) for end in ends)
        return self[low:high]


__all__ = ["NodeEvents"]
