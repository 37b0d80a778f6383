"""Temporal link prediction without parameters: what any trained model has to beat."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError
from graphmem.models.temporal import TemporalLinkModel
from graphmem.nn.pair_memory import MAX_NODES, PairMemory
from graphmem.nn.state import StateModule
from graphmem.ops import _check

# Below any age.
_NOBODY = -(2.0**62)


class EdgeBank(TemporalLinkModel):
    r"""1 for a pair that has met, 0 for any other.

    .. math::
        s_{uv}(t) = [\,(u, v) \in E(t^-)\,] \quad\text{or}\quad s_{uv}(t) = [\,t - t_{uv} \le \text{window}\,]

    with :math:`t_{uv}` the last time of the pair. Source: Poursafaei, Huang, Pelrine, Rabbany, "Towards Better
    Evaluation for Dynamic Link Prediction", NeurIPS 2022 (its window is as long as the test period).

    Args:
        window: in units of time; ``None`` for an unlimited memory.
        directed: whether (u, v) says nothing of (v, u).
        dtype: of times.

    Raises:
        ArgumentError: a negative window.
    """

    def __init__(self, window: float | None = None, *, directed: bool = True, dtype: torch.dtype = torch.int64) -> None:
        super().__init__()
        if window is not None and not window >= 0:
            raise ArgumentError(f"window: expected a length of time from 0 on, or None, got {window!r}")
        self.window = window
        # Ages of whole times are whole, and torch would take a fraction from them in float32.
        self._length: float | None = None
        if window is not None and window < -_NOBODY:
            self._length = math.floor(window) if dtype == torch.int64 else float(window)
        self.pairs = PairMemory(directed=directed, dtype=dtype)

    @property
    def time_dtype(self) -> torch.dtype:
        """Of times."""
        return self.pairs.last.dtype

    @property
    def _num_ids(self) -> int:
        return MAX_NODES

    def score(self, src: Tensor, dst: Tensor, t: Tensor) -> Tensor:
        """0 or 1 for every candidate, float64 [B, C]."""
        src, dst, t = self._checked(src, dst, t)
        known = self.pairs.find(src.unsqueeze(1).expand_as(dst), dst)
        seen = known.times > 0
        if self._length is not None:
            seen &= known.last >= (t - self._length).unsqueeze(1)
        return seen.double()

    def update(self, events: EventStream) -> None:
        """Remember the pairs."""
        self._check_links(events)
        self.pairs.insert(events.src, events.dst, events.t)
        self._advance(events)


class _NodeActivity(StateModule):
    """When a node was last met as a destination, and how often."""

    last: Tensor
    count: Tensor

    def __init__(self, num_nodes: int, dtype: torch.dtype) -> None:
        super().__init__()
        # Below any time: times may be negative.
        least = torch.iinfo(dtype).min if dtype == torch.int64 else -torch.inf
        self.register_state("last", (num_nodes,), dtype=dtype, fill=least)
        self.register_state("count", (num_nodes,), dtype=torch.int64)

    def insert(self, nodes: Tensor, t: Tensor) -> None:
        """Remember events in the order of time."""
        self.count = self.count.index_add(0, nodes, torch.ones_like(nodes))
        # Times ascend: the maximum is the last, whatever the order of writes.
        self.last = self.last.scatter_reduce(0, nodes, t.to(self.last.dtype), "amax")


class Recency(TemporalLinkModel):
    r"""Ranks candidates by when they were last met, by the source itself first.

    .. math::
        s_{uv}(t) = \begin{cases} 1 / (1 + t - t_{uv}) & \text{if u has met v} \\
                                  -1 - (t - t_v)       & \text{if anybody has met v} \\
                                  -2^{62}              & \text{else} \end{cases}

    with :math:`t_{uv}` and :math:`t_v` the last times of pair and destination. Whole ages differ in their scores up to
    :math:`2^{52}`, which is 52 days in nanoseconds, and beyond as far as float64 resolves them; for a time before the
    last event the age is 0. With ``kind="popularity"`` :math:`s_{uv} = 1 - 1 / (1 + n_v)`, :math:`n_v` the number of
    events of v.

    Heuristics of this kind lead several tables of TGB (see docs/temporal_models.md); the formula is ours.

    Args:
        num_nodes: nodes.
        kind: "recency" or "popularity".
        dtype: of times.
    """

    def __init__(self, num_nodes: int, kind: str = "recency", *, dtype: torch.dtype = torch.int64) -> None:
        super().__init__()
        self.kind = _check.choice("kind", kind, ("recency", "popularity"))
        self.nodes = _NodeActivity(num_nodes, dtype)
        self.pairs = PairMemory(dtype=dtype) if kind == "recency" else None

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.nodes.count.numel()

    @property
    def time_dtype(self) -> torch.dtype:
        """Of times."""
        return self.nodes.last.dtype

    def score(self, src: Tensor, dst: Tensor, t: Tensor) -> Tensor:
        """For every candidate, float64 [B, C]: positive if the source has met it, negative if not; or popularity."""
        src, dst, t = self._checked(src, dst, t)
        count = self.nodes.count[dst]
        if self.pairs is None:
            return 1 - 1 / (1 + count.double())
        now = t.unsqueeze(1)
        met = self.pairs.find(src.unsqueeze(1).expand_as(dst), dst)
        pair_age, age = ((now - last).double().clamp(min=0) for last in (met.last, self.nodes.last[dst]))
        anybody = torch.where(count > 0, (-1 - age).clamp(min=_NOBODY / 2), _NOBODY)
        return torch.where(met.times > 0, 1 / (1 + pair_age), anybody)

    def update(self, events: EventStream) -> None:
        """Remember destinations and pairs."""
        self._check_links(events)
        self.nodes.insert(events.dst, events.t)
        if self.pairs is not None:
            self.pairs.insert(events.src, events.dst, events.t)
        self._advance(events)


class LocalGlobal(TemporalLinkModel):
    r"""Ranks candidates by the source's own past, and by everybody's where the source has not met them.

    .. math::
        s_{uv} = \begin{cases} 1 / (1 + a_{uv} + 1 / (1 + n_{uv} + n_v / (1 + n_v))) & \text{if u has met v} \\
                               -1 - a_v - 1 / (1 + n_v) & \text{if anybody has met v} \\
                               -2^{62} & \text{else} \end{cases}

    with :math:`a` the age of the last event of pair or destination and :math:`n` the number of its events. Ages count
    distinct times, so that fractions below 1 only break ties: pairs are in the order of recency, then of their own
    popularity, then of the destination's; other candidates in that of the destination's recency, then popularity. There
    is no unit of time and nothing to choose.

    Recency and popularity, local and global, and popularity for ties are those of Cornell, Smirnov, Zarzar Gandler and
    Cao, "On the Power of Heuristics in Temporal Graphs", 2025; how they become one number is ours.

    Args:
        num_nodes: nodes.
        dtype: of times.

    Raises:
        ArgumentError: a dtype other than int64 and float64.
    """

    clock: Tensor
    now: Tensor

    def __init__(self, num_nodes: int, *, dtype: torch.dtype = torch.int64) -> None:
        super().__init__()
        if dtype not in (torch.int64, torch.float64):
            raise ArgumentError(f"dtype: expected torch.int64 or torch.float64, got {dtype}")
        self.nodes = _NodeActivity(num_nodes, torch.int64)
        self.pairs = PairMemory()
        self.register_state("clock", (), dtype=torch.int64, per_node=False)
        self.register_state("now", (), dtype=dtype, per_node=False)

    @property
    def num_nodes(self) -> int:
        """N."""
        return self.nodes.count.numel()

    @property
    def time_dtype(self) -> torch.dtype:
        """Of times."""
        return self.now.dtype

    def score(self, src: Tensor, dst: Tensor, t: Tensor) -> Tensor:
        """For every candidate, float64 [B, C]: positive if the source has met it, negative if not."""
        src, dst, t = self._checked(src, dst, t)
        met = self.pairs.find(src.unsqueeze(1).expand_as(dst), dst)
        count = self.nodes.count[dst].double()
        pair_age, age = ((self.clock - last).double() for last in (met.last, self.nodes.last[dst]))
        local = 1 / (1 + pair_age + 1 / (1 + met.times + count / (1 + count)))
        everybody = torch.where(count > 0, -1 - age - 1 / (1 + count), _NOBODY)
        return torch.where(met.times > 0, local, everybody)

    def update(self, events: EventStream) -> None:
        """Remember destinations and pairs."""
        self._check_links(events)
        times = torch.cat((self.now.view(1), events.t.to(self.now.dtype)))
        stamps = self.clock + (times[1:] != times[:-1]).cumsum(0)
        self.nodes.insert(events.dst, stamps)
        self.pairs.insert(events.src, events.dst, stamps)
        self.clock, self.now = torch.cat((self.clock.view(1), stamps))[-1].clone(), times[-1].clone()
        self._advance(events)
