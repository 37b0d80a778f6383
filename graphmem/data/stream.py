"""`EventStream`: what happened between nodes, in the order of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy.typing as npt
import torch
from torch import Tensor

from graphmem.data.node_events import NodeEvents
from graphmem.data.stream_columns import longer_names, of_temporal_data, of_tgb
from graphmem.data.time_bounds import places_between
from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.ops import _check

TIME_DTYPES = (torch.int64, torch.float64)


@dataclass(frozen=True, eq=False)
class EventStream:
    r"""Events (src, dst, t), ascending in time; equal times keep the order in which they are given.

    A slice shares memory with the whole: ``stream[a:b]`` holds events a to b - 1 as views, and ``first`` says that its
    event i is event ``first + i`` of the whole. Event numbers are what samplers, negatives and memories refer to.

    Args:
        src: int64 [E].
        dst: int64 [E].
        t: int64 or float64 [E], ascending and finite; they may be negative. Float32 resolves 128 s at today's Unix time
            and is refused.
        num_nodes: N; ids are in [0, N).
        msg: float32 [E, D], features of the events.
        weight: float32 [E]; its sign is the sign of the event.
        edge_type: int64 [E].
        y: labels [E].
        first: number of the first event in the whole stream.
        dst_range: (low, high), destinations come from [low, high); ``None``: from all nodes.
        node_names: the publisher's ids; entry k names node k.
        name: of the stream.
        node_events: what happened to single nodes meanwhile, see :meth:`with_node_events`.
        node_features: float32 [N, F] of the nodes. No temporal model reads them; they are there for others.
        left_out: what a reader was asked to leave out, and of how many events that was; ``None`` for nothing.

    Raises:
        ArgumentTypeError: a field that is no tensor.
        ArgumentError: wrong shapes, dtypes or devices, ids out of range, times that descend or are not finite, or
            features, weights or labels that are not finite (a stream knows no missing labels).

    Example:
        >>> stream = EventStream(torch.tensor([0, 1]), torch.tensor([2, 2]), torch.tensor([10, 20]), num_nodes=3)
        >>> stream[1:].eid.tolist()
        [1]
    """

    src: Tensor
    dst: Tensor
    t: Tensor
    num_nodes: int
    msg: Tensor | None = None
    weight: Tensor | None = None
    edge_type: Tensor | None = None
    y: Tensor | None = None
    first: int = 0
    dst_range: tuple[int, int] | None = None
    node_names: Sequence[Any] | npt.NDArray[Any] | None = None
    name: str = "stream"
    node_events: NodeEvents | None = None
    node_features: Tensor | None = None
    left_out: Mapping[str, int] | None = None
    _is_bipartite: ClassVar[bool] = False  # an instance has its own where it is true

    def __post_init__(self) -> None:
        """Check everything once; slices are not checked again."""
        _check.integer("num_nodes", self.num_nodes)
        _check.integer("first", self.first)
        device, count = _check.tensor("src", self.src, shape=(None,), dtypes=(torch.int64,)).device, self.src.numel()
        for name in ("src", "dst"):
            ends = _check.tensor(name, getattr(self, name), shape=(count,), dtypes=(torch.int64,), device=device)
            _check.in_range(name, ends, self.num_nodes)
        _check.tensor("t", self.t, shape=(count,), dtypes=TIME_DTYPES, device=device)
        if self.msg is not None:
            _check.tensor("msg", self.msg, shape=(count, None), dtypes=(torch.float32,), device=device)
        if self.weight is not None:
            _check.tensor("weight", self.weight, shape=(count,), dtypes=(torch.float32,), device=device)
        if self.edge_type is not None:
            _check.tensor("edge_type", self.edge_type, shape=(count,), dtypes=(torch.int64,), device=device)
        if self.y is not None and not (_is_dense(self.y) and self.y.shape[:1] == (count,)):
            raise ArgumentError(f"y: expected a tensor with {count} rows, one for each event")
        for name in ("t", "msg", "weight", "y"):
            _check_finite(name, getattr(self, name))
        for name in _COLUMNS:  # operators read rows one behind the other
            value = getattr(self, name)
            if value is not None and not value.is_contiguous():
                object.__setattr__(self, name, value.contiguous())
        later = self.t[1:] < self.t[:-1]
        if bool(later.any()):
            at = int(later.nonzero()[0]) + 1
            raise ArgumentError(
                f"t: expected ascending times, got {self.t[at].item()} behind {self.t[at - 1].item()} (event {at}, "
                f"{int(later.sum())} such places); sort the events by time with a stable sort"
            )
        if self.dst_range is not None:
            pair = self.dst_range
            if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(type(end) is int for end in pair)):
                raise ArgumentError(f"dst_range: expected (low, high), got {pair!r}")
            low, high = pair
            if not 0 <= low < high <= self.num_nodes:
                raise ArgumentError(f"dst_range: expected 0 <= low < high <= {self.num_nodes}, got {self.dst_range}")
            if count and not (low <= int(self.dst.min()) and int(self.dst.max()) < high):
                raise ArgumentError(
                    f"dst: expected destinations in [{low}, {high}), got {int(self.dst.min())}..{int(self.dst.max())}"
                )
            apart = (low, high) != (0, self.num_nodes) and not bool(((self.src >= low) & (self.src < high)).any())
            object.__setattr__(self, "_is_bipartite", apart)
        if self.node_names is not None and len(self.node_names) != self.num_nodes:
            raise ArgumentError(f"node_names: expected {self.num_nodes} names, got {len(self.node_names)}")
        if self.node_events is not None:
            self._check_node_events(self.node_events)
        if self.node_features is not None:
            shape = (self.num_nodes, None)
            _check.tensor("node_features", self.node_features, shape=shape, dtypes=(torch.float32,), device=device)
            if not bool(torch.isfinite(self.node_features).all()):
                raise ArgumentError("node_features: expected finite numbers")

    def _check_node_events(self, events: NodeEvents) -> None:
        if not isinstance(events, NodeEvents):
            raise ArgumentTypeError(f"node_events: expected NodeEvents, got {_check.describe(events)}")
        if (events.t.dtype, events.t.device) != (self.t.dtype, self.device):
            raise ArgumentError(
                f"node_events: expected times as those of the stream, {self.t.dtype} on {self.device}, got "
                f"{_check.describe(events.t)}"
            )
        _check.in_range("node_events.node", events.node, self.num_nodes)

    def __len__(self) -> int:
        return self.src.numel()

    def __getitem__(self, index: slice) -> EventStream:
        """Events of a slice without a step, as views."""
        if not isinstance(index, slice) or index.step not in (None, 1):
            raise ArgumentTypeError(f"index: expected a slice of consecutive events, got {index!r}")
        low, high, _ = index.indices(len(self))
        return self._part(slice(low, max(low, high)))

    def _part(self, part: slice) -> EventStream:
        """A slice, made without the checks, which it passes as the whole did."""
        out = object.__new__(EventStream)
        out.__dict__.update(self.__dict__)
        for name in _COLUMNS:
            value = getattr(self, name)
            if value is not None:
                out.__dict__[name] = value[part]
        out.__dict__["first"] = self.first + part.start
        if self.node_events is not None:
            out.__dict__["node_events"] = self.node_events.part(self.t, part.start, part.stop)
        return out

    def with_node_events(self, events: NodeEvents | None) -> EventStream:
        """The same stream with other events of single nodes, or with ``None``: without them.

        They have no numbers, ``len`` does not count them, and nothing predicts them. A slice has those that go with its
        links: with the first link that is not earlier, or with the last one of the stream. The slices of a partition
        thus have each once, and no batch knows one that is later than its last link. Only models with
        ``reads_node_events`` take a stream that has any; others raise.

        Raises:
            ArgumentError: nodes out of range, or times of another dtype or device.
        """
        return replace(self, node_events=events)

    @classmethod
    def trusted(
        cls,
        src: Tensor,
        dst: Tensor,
        t: Tensor,
        num_nodes: int,
        *,
        msg: Tensor | None = None,
        weight: Tensor | None = None,
        first: int = 0,
    ) -> EventStream:
        """A stream made without the checks, which take longer than a model takes to see one event.

        For columns that were checked where they come from.
        """
        out = object.__new__(cls)
        out.__dict__.update(src=src, dst=dst, t=t, num_nodes=num_nodes, msg=msg, weight=weight, first=first)
        return out

    @property
    def num_events(self) -> int:
        """E."""
        return len(self)

    @property
    def msg_dim(self) -> int:
        """D; 0 without features."""
        return 0 if self.msg is None else self.msg.size(1)

    @property
    def eid(self) -> Tensor:
        """Numbers of the events in the whole stream, int64 [E]."""
        return torch.arange(self.first, self.first + len(self), device=self.device)

    @property
    def sign(self) -> Tensor | None:
        """Sign of the weights, int64 [E]: -1, 0 or 1."""
        return None if self.weight is None else self.weight.sign().long()

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        return self.src.device

    @property
    def is_bipartite(self) -> bool:
        """Whether no node is both a source and a destination: ``dst_range`` is not all nodes and holds no source.

        A fact of the whole stream, which its slices share, empty ones too.
        """
        return self._is_bipartite

    def between(self, low: float, high: float) -> EventStream:
        """Events, those of single nodes too, with ``low <= t < high``, as views.

        Bounds may be fractions or infinite, whatever the dtype of the times.

        Raises:
            ArgumentTypeError: a bound that is no number.
            ArgumentError: a bound that is NaN.
        """
        start, stop = places_between(self.t, low, high)
        if self.node_events is None:
            return self[start:stop]
        out = self._part(slice(start, stop))
        out.__dict__["node_events"] = self.node_events.between(low, high)
        return out

    def select(self, keep: Tensor) -> EventStream:
        """A stream of some of the events, numbered anew from 0. All events of single nodes stay.

        Args:
            keep: bool [E].
        """
        keep = _check.tensor("keep", keep, shape=(len(self),), dtypes=(torch.bool,), device=self.device)
        columns = {name: v[keep] for name in _COLUMNS if (v := getattr(self, name)) is not None}
        return replace(self, **columns, first=0)

    def to(self, device: torch.device | str) -> EventStream:
        """The same stream on another device."""
        moved = {name: v.to(device) for name in _COLUMNS if (v := getattr(self, name)) is not None}
        for name in ("node_events", "node_features"):
            moved[name] = None if (v := getattr(self, name)) is None else v.to(device)
        return replace(self, **moved)

    def extend(self, later: EventStream) -> EventStream:
        """Append events that come later; node k is the same in both streams.

        Where they have ``node_names``, the names of one are the first of those of the other, which the result has.

        Raises:
            ArgumentError: the later events begin before this stream ends, have other columns, or name nodes otherwise.
        """
        if len(self) and len(later) and later.t[0] < self.t[-1]:
            raise ArgumentError(f"later: expected events from time {self.t[-1].item()} on, got {later.t[0].item()}")
        columns: dict[str, Any] = {}
        for name in _COLUMNS:
            parts = getattr(self, name), getattr(later, name)
            if (parts[0] is None) != (parts[1] is None):
                raise ArgumentError(f"later: {name} is in one of the streams only")
            columns[name] = None if parts[0] is None else torch.cat(parts)
        if later.num_nodes > self.num_nodes and self.node_features is not None:
            raise ArgumentError(f"later: expected {self.num_nodes} nodes, those with features, got {later.num_nodes}")
        names = longer_names(self.node_names, later.node_names)
        alone = [events for stream in (self, later) if (events := stream.node_events) is not None]
        columns["node_events"] = alone[0].extend(alone[1]) if len(alone) == 2 else alone[0] if alone else None
        return replace(self, **columns, num_nodes=max(self.num_nodes, later.num_nodes), node_names=names)

    def with_signed_messages(self) -> EventStream:
        """The same events with messages [sign, ln(1 + |weight|), message], for models that know no signs.

        Raises:
            ArgumentError: a stream without weights.
        """
        if self.weight is None:
            raise ArgumentError(f"stream: expected weights, whose signs are those of the events; {self.name} has none")
        parts = [self.weight.sign().unsqueeze(1), self.weight.abs().log1p().unsqueeze(1)]
        alone = self.node_events
        if alone is not None and alone.msg is not None:
            alone = replace(alone, msg=torch.nn.functional.pad(alone.msg, (2, 0)))
        return replace(self, msg=torch.cat(parts if self.msg is None else [*parts, self.msg], 1), node_events=alone)

    def to_temporal_data(self) -> Any:
        """PyG's ``TemporalData``: src, dst, t, msg ([E, 0] without features), and weight, edge_type and y if there.

        What is not one row for each event has no place there and does not travel: ``num_nodes``, ``node_names``,
        ``dst_range``, ``node_features``, ``name``, ``first`` and ``left_out``. :meth:`from_temporal_data` takes them as
        options, and reads messages of width 0 as none.

        Raises:
            ArgumentError: a stream with events of single nodes, for which PyG has no place.
        """
        if self.node_events is not None:
            raise ArgumentError("node_events: TemporalData has none; take stream.with_node_events(None)")
        from torch_geometric.data import TemporalData

        columns = {name: value for name in _COLUMNS if (value := getattr(self, name)) is not None}
        columns.setdefault("msg", torch.empty(len(self), 0, device=self.device))
        return TemporalData(**columns)

    @classmethod
    def from_temporal_data(cls, data: Any, num_nodes: int | None = None, **options: Any) -> EventStream:
        """Read PyG's ``TemporalData``; columns that it does not have by name stay out.

        Args:
            data: with src, dst, t and perhaps msg, weight, edge_type, y.
            num_nodes: N; by default one more than the largest id, too few where the last nodes have no event.
            **options: other fields of the stream, such as ``node_names`` and ``dst_range``.

        Raises:
            ArgumentError: times of another dtype than int64 or float64, or anything that the stream refuses.

        Example:
            >>> one = torch.tensor([0])
            >>> data = EventStream(one, one + 1, one, 3, node_names=["ada", "bob", "eve"]).to_temporal_data()
            >>> EventStream.from_temporal_data(data, num_nodes=3, node_names=["ada", "bob", "eve"]).num_nodes
            3
        """
        return cls(**of_temporal_data(data, _COLUMNS, num_nodes), **options)

    @classmethod
    def from_tgb(cls, data: dict[str, Any], num_nodes: int | None = None, **options: Any) -> EventStream:
        """Read the dictionary of numpy arrays of TGB's ``LinkPropPredDataset.full_data``.

        ``edge_feat`` becomes msg, ``w`` the weight, ``edge_label`` y. Ids are whole numbers, the nodes themselves.

        Args:
            data: arrays in any order of rows and bytes.
            num_nodes: N; one more than the largest id by default.
            **options: other fields of the stream.

        Raises:
            ArgumentError: a column is missing or holds something else than numbers, ids that are not whole, or anything
                that the stream refuses.
        """
        return cls(**of_tgb(data, num_nodes), **options)

    def __repr__(self) -> str:
        parts = [f"{self.name!r}", f"num_events={len(self)}", f"num_nodes={self.num_nodes}"]
        if len(self):
            parts.append(f"t={self.t[0].item()}..{self.t[-1].item()}")
        parts += [f"{name}={list(v.shape)}" for name in _COLUMNS[3:] if (v := getattr(self, name)) is not None]
        parts += [] if self.node_events is None else [f"node_events={len(self.node_events)}"]
        parts += [] if self.node_features is None else [f"node_features={list(self.node_features.shape)}"]
        parts += [f"left_out={dict(self.left_out)}"] if self.left_out else []
        return f"EventStream({', '.join(parts)})"


_COLUMNS = ("src", "dst", "t", "msg", "weight", "edge_type", "y")
assert set(_COLUMNS) <= {field.name for field in fields(EventStream)}


def _is_dense(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided


def _check_finite(name: str, value: Tensor | None) -> None:
    if value is None or not value.is_floating_point():
        return
    bad = ~torch.isfinite(value)
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        raise ArgumentError(f"{name}: expected finite numbers, got {int(bad.sum())} others, the first in event {row}")
