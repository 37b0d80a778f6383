"""How fast the rows of a node memory move: running moments of rates, for each node and kind of event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.nn.state import StateModule
from graphmem.ops import _check
from graphmem.ops.pres import Clock, Rates, pres_observe

_UNCHOSEN = -2


def combine(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> dict[str, Tensor]:
    r"""Moments of two sets of observations together (Chan, Golub, LeVeque 1979).

    .. math:: n = n_1 + n_2, \quad \bar x = \bar x_1 + \tfrac{n_2}{n} (\bar x_2 - \bar x_1), \quad
        S = S_1 + S_2 + \tfrac{n_1 n_2}{n} (\bar x_2 - \bar x_1)^2

    Args:
        first: "n" [*], "mean" [*, d] and, where it is kept, "m2" [*, d].
        second: the same.
    """
    n = first["n"] + second["n"]
    share = (second["n"] / n.clamp(min=torch.finfo(n.dtype).tiny)).unsqueeze(-1)
    gap = second["mean"] - first["mean"]
    out = {"n": n, "mean": first["mean"] + share * gap}
    if "m2" in first:
        out["m2"] = first["m2"] + second["m2"] + first["n"].unsqueeze(-1) * share * gap.square()
    return out


class RateTracker(StateModule):
    r"""Count, mean and variance of what was observed of each node, for each kind of event.

    With weights w of the kinds, an observation x of a node does, elementwise and for each kind,

    .. math:: n \leftarrow \rho n + w, \quad \bar x' = \bar x + \tfrac{w}{n} (x - \bar x), \quad
        S \leftarrow \rho S + w (x - \bar x)(x - \bar x')

    (Welford 1962, with weights): for :math:`\rho = 1` the moments of all observations. Kept in float32 or wider,
    whatever the memory has.

    Args:
        num_nodes: N.
        dim: d.
        num_types: C, kinds of events.
        variance: keep S; without it half the memory.
        decay: :math:`\rho` in (0, 1].
        anchors: ``None``: every node is tracked; int64 [A]: these; K: those of most events, see :meth:`choose`.
        share: what is not tracked has the moments of all observations together, instead of none.

    Raises:
        ArgumentError: a value out of range.
    """

    n: Tensor
    mean: Tensor
    m2: Tensor
    slot: Tensor

    def __init__(
        self,
        num_nodes: int,
        dim: int,
        num_types: int = 1,
        *,
        variance: bool = True,
        decay: float = 1.0,
        anchors: int | Tensor | None = None,
        share: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("num_nodes", num_nodes), ("dim", dim)):
            _check.integer(name, value)
        _check.integer("num_types", num_types, 1)
        if not 0 < _check.real("decay", decay) <= 1:
            raise ArgumentError(f"decay: expected a number in (0, 1], got {decay}")
        self.num_types, self.decay, self.variance = num_types, decay, variance
        self.share = share and anchors is not None
        rows = num_nodes
        if isinstance(anchors, Tensor):
            _check.tensor("anchors", anchors, shape=(None,), dtypes=(torch.int64,))
            _check.in_range("anchors", anchors, num_nodes)
            rows = anchors.unique().numel()
        elif anchors is not None:
            _check.integer("anchors", anchors, 1)
            rows = min(anchors, num_nodes)
        self.register_state("n", (rows + self.share, num_types), per_node=anchors is None, exact=True)
        self.register_state("mean", (rows + self.share, num_types, dim), per_node=anchors is None, exact=True)
        if variance:
            self.register_state("m2", (rows + self.share, num_types, dim), per_node=anchors is None, exact=True)
        self.anchored = anchors is not None
        if self.anchored:
            self.register_buffer("slot", torch.full((num_nodes,), _UNCHOSEN))
        if isinstance(anchors, Tensor):
            self._assign(anchors.unique())

    @property
    def capacity(self) -> int:
        """Rows that belong to a node each."""
        return self.n.size(0) - self.share

    def _assign(self, anchors: Tensor) -> None:
        slot = torch.full_like(self.slot, self.capacity if self.share else -1)
        slot[anchors] = torch.arange(anchors.numel(), device=slot.device)
        self.slot = slot

    def choose(self, degree: Tensor) -> None:
        """Track the nodes of the largest degree int64 [N], where ``anchors`` was a number; of equal ones the first."""
        if self.anchored and bool((self.slot == _UNCHOSEN).any()):
            self._assign(degree.sort(descending=True, stable=True).indices[: self.capacity].sort().values)

    def slots(self, nodes: Tensor) -> Tensor:
        """Rows of nodes int64 [M]; negative for those about which nothing is kept.

        Raises:
            ArgumentError: the nodes that are tracked were not chosen yet.
        """
        slot = self.table().slot
        return nodes if slot is None else slot.index_select(0, nodes)

    def table(self) -> Rates:
        """All moments, for the operators; they write in place.

        Raises:
            ArgumentError: as for :meth:`slots`.
        """
        if self.anchored and self.slot.numel() and int(self.slot[0]) == _UNCHOSEN:
            raise ArgumentError("anchors: a number of them is chosen by fit(src, dst, t), which was not called")
        return Rates(self.n, self.mean, self.m2 if self.variance else None, self.slot if self.anchored else None)

    @torch.no_grad()
    def observe(
        self,
        nodes: Tensor,
        x: Tensor,
        weights: Tensor | None = None,
        *,
        prev: Tensor | None = None,
        clock: Clock | None = None,
        scale: Tensor | None = None,
        scale_rate: float = 0.0,
    ) -> None:
        """Take in an observation of each of some distinct nodes. Writes rows in place.

        Args:
            nodes: int64 [M].
            x: rates [M, d], or with ``prev`` the states that rows moved to.
            weights: of the kinds [M, C]; ``None``: one kind.
            prev: states that rows moved from [M, d].
            clock: of the time that this took; ``None``: one unit.
            scale: running mean square of the states [], written in place in steps of ``scale_rate``.
            scale_rate: see there.
        """
        dtype = self.mean.dtype
        x = pres_observe(
            self.table(),
            nodes,
            x.to(dtype),
            prev=None if prev is None else prev.to(dtype),
            clock=clock,
            weights=None if weights is None else weights.to(dtype),
            capacity=self.capacity,
            decay=self.decay,
            scale=scale,
            scale_rate=scale_rate,
        )
        written = [self.n, self.mean, *([self.m2] if self.variance else []), *([] if scale is None else [scale])]
        torch.autograd.graph.increment_version(written)  # the operator does not tell torch
        if self.share:
            self._observe_together(x, x.new_ones(nodes.numel(), 1) if weights is None else weights.to(dtype))

    def _observe_together(self, x: Tensor, weights: Tensor) -> None:
        n = weights.sum(0)
        mean = (weights.unsqueeze(2) * x.unsqueeze(1)).sum(0) / n.clamp(min=torch.finfo(n.dtype).tiny).unsqueeze(1)
        found = {"n": n, "mean": mean}
        if self.variance:
            found["m2"] = (weights.unsqueeze(2) * (x.unsqueeze(1) - mean).square()).sum(0)
        for name, value in combine({name: self.get_buffer(name)[-1] for name in found}, found).items():
            self.get_buffer(name)[-1] = value

    def merge(self, snapshot: Mapping[str, Tensor]) -> None:
        """Take in what another tracker of the same nodes observed, as its :meth:`snapshot` has it."""
        for name, value in combine(self.snapshot(), snapshot).items():
            setattr(self, name, value)

    def grow(self, num_nodes: int) -> None:
        """Make room for nodes ``0 .. num_nodes - 1``; where there are anchors, new nodes are none."""
        super().grow(num_nodes)
        if self.anchored and num_nodes > self.slot.numel():
            fill = self.capacity if self.share else -1
            self.slot = torch.cat((self.slot, self.slot.new_full((num_nodes - self.slot.numel(),), fill)))

    def forget(self, nodes: Tensor | None = None, events: Tensor | None = None) -> None:
        """Empty the rows of nodes; what they added to the moments of all together stays."""
        super().forget(nodes, events)
        if nodes is not None and self.anchored:
            slots = self.slots(nodes.to(self.slot.device))
            for name in self._state_fill:
                self.get_buffer(name)[slots[(slots >= 0) & (slots < self.capacity)]] = 0

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        slot = state_dict.get(prefix + "slot")
        if self.anchored and isinstance(slot, Tensor) and slot.dim() == 1:  # a checkpoint may know more nodes
            self.slot = self.slot.new_empty(slot.shape)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


__all__ = ["RateTracker", "combine"]
