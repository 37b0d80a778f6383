r"""Chronological splits of a stream.

Protocols, all by quantiles of the time, with the default ratios :math:`t \le q_{0.70}` for training and
:math:`t \le q_{0.85}` for validation:

- `"time"`: PyG's `TemporalData.train_val_test_split`.
- `"tgb"`: TGB's `LinkPropPredDataset.generate_splits`: the same quantiles of the same times, so the same split, under
  the name by which results are compared.
- `"masked"`: also takes a tenth of the nodes out of training, chosen by counters among those that are active later:
  their events of the training period are left out of the stream, so that they are new when they are evaluated.
- `"dyglib"`: the same with the nodes that TGN's release and DyGLib choose, `random.seed(2020)` and a sample of the set
  of nodes that are active later. Their count is a tenth of the nodes that occur; `"masked"` counts all N.
- `"inductive"`: mode `i` of the releases of CAW-N and NAT. The nodes of `"masked"` are left out of training and of
  validation; only events with one of them are tested, from a state that has been shown all of the past, theirs too.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from graphmem.data._random import permutation
from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError
from graphmem.ops import _check

PROTOCOLS = ("time", "tgb", "masked", "dyglib", "inductive")

# Share of the nodes that a protocol hides, as the inductive ones of TGN, NAT and DyGLib do.
MASKED_SHARE = 0.1
DYGLIB_SEED = 2020


@dataclass(frozen=True, eq=False)
class StreamSplit:
    """A stream in three periods.

    Args:
        stream: all events.
        train: its first events.
        valid: those that follow.
        test: the rest.
        new_nodes: bool [N], nodes that are no end of a training event.
        protocol: how it was made; travels with every result.
        seed: of a random protocol, ``None`` for others.
        replay: what comes before the test, where it is more than ``train`` and ``valid``: a split with the same test
            events whose past a model is shown from its beginning, without learning, before it is tested.
    """

    stream: EventStream
    train: EventStream
    valid: EventStream
    test: EventStream
    new_nodes: Tensor
    protocol: str
    seed: int | None = None
    replay: StreamSplit | None = None

    def to(self, device: torch.device | str) -> StreamSplit:
        """The same split on another device."""
        stream, ends = self.stream.to(device), (len(self.train), len(self.train) + len(self.valid))
        train, valid, test = stream[: ends[0]], stream[ends[0] : ends[1]], stream[ends[1] :]
        new_nodes, replay = self.new_nodes.to(device), None if self.replay is None else self.replay.to(device)
        return replace(self, stream=stream, train=train, valid=valid, test=test, new_nodes=new_nodes, replay=replay)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}={len(getattr(self, name))}" for name in ("train", "valid", "test"))
        return f"StreamSplit({self.protocol!r}, {sizes}, new_nodes={int(self.new_nodes.sum())}, seed={self.seed})"


def split_stream(
    stream: EventStream,
    *,
    protocol: str = "time",
    val_ratio: float = 0.15,
    test_ratio: float = 0.15,
    seed: int = 0,
) -> StreamSplit:
    """Split a stream by time.

    Args:
        stream: events from the first on.
        protocol: one of :data:`PROTOCOLS`.
        val_ratio: share of the validation period, of the events.
        test_ratio: share of the test period.
        seed: of the nodes that "masked" and "inductive" hide.

    Raises:
        ArgumentError: an unknown protocol, ratios that leave a period empty, a stream that begins after event 0, or so
            few nodes that a protocol would hide none: fewer than 10 in all or, for "dyglib", with events.
    """
    _check.choice("protocol", protocol, PROTOCOLS)
    _check.seed("seed", seed)
    if stream.first != 0:
        raise ArgumentError(f"stream: expected one from its first event on, got one from {stream.first} on")
    for name, ratio in (("val_ratio", val_ratio), ("test_ratio", test_ratio)):
        if not 0 < _check.real(name, ratio) < 1:
            raise ArgumentError(f"{name}: expected a number between 0 and 1, got {ratio}")
    if val_ratio + test_ratio >= 1:
        raise ArgumentError(f"val_ratio + test_ratio: expected less than 1, got {val_ratio + test_ratio}")
    bounds = _bounds(stream, val_ratio, test_ratio)
    if protocol not in ("masked", "dyglib", "inductive"):
        return _periods(stream, *bounds, protocol, None)
    if protocol == "dyglib":
        return _hiding(stream, _dyglib_masked(stream, bounds[0]), bounds, protocol, DYGLIB_SEED)
    return _hiding(stream, _masked(stream, bounds[0], seed), bounds, protocol, seed)


def _periods(stream: EventStream, first_valid: int, first_test: int, protocol: str, seed: int | None) -> StreamSplit:
    train, valid, test = stream[:first_valid], stream[first_valid:first_test], stream[first_test:]
    new_nodes = torch.ones(stream.num_nodes, dtype=torch.bool, device=stream.device)
    new_nodes[train.src] = new_nodes[train.dst] = False
    return StreamSplit(stream, train, valid, test, new_nodes, protocol, seed)


def _hiding(stream: EventStream, nodes: Tensor, bounds: tuple[int, int], protocol: str, seed: int) -> StreamSplit:
    """The periods without events of some nodes: of training and, with "inductive", of validation."""
    hidden = torch.zeros(stream.num_nodes, dtype=torch.bool, device=stream.device)
    hidden[nodes] = True
    theirs = hidden[stream.src] | hidden[stream.dst]
    until, whole = bounds[0], None
    if protocol == "inductive":
        until = bounds[1]
        tested = theirs.clone()
        tested[:until] = True
        stream, theirs = stream.select(tested), theirs[tested]
        if len(stream) == until:
            raise ArgumentError(f"stream: the nodes that {protocol!r} hides have no event in 'test'")
        whole = _periods(stream, *bounds, protocol, seed)
    keep = ~theirs
    keep[until:] = True
    first_valid, first_test = (int(keep[:bound].sum()) for bound in bounds)
    for period, size in (("train", first_valid), ("valid", first_test - first_valid)):
        if size == 0:
            raise ArgumentError(f"stream: the nodes that {protocol!r} hides leave no event for {period!r}")
    split = _periods(_without(stream, hidden, keep, until), first_valid, first_test, protocol, seed)
    return split if whole is None else replace(split, replay=replace(whole, new_nodes=split.new_nodes))


def _bounds(stream: EventStream, val_ratio: float, test_ratio: float) -> tuple[int, int]:
    """Numbers of the first validation event and of the first test event."""
    t = stream.t.cpu().numpy()
    if t.size == 0:
        raise ArgumentError("stream: expected events to split, got none")
    quantiles = np.quantile(t, [1.0 - val_ratio - test_ratio, 1.0 - test_ratio])
    first_valid, first_test = (int((t <= q).sum()) for q in quantiles)
    sizes = {"train": first_valid, "valid": first_test - first_valid, "test": t.size - first_test}
    empty = [name for name, size in sizes.items() if size == 0]
    if empty:
        stamps = np.unique(t).size
        raise ArgumentError(
            f"stream: {t.size} events at {stamps} times leave no event for {empty[0]!r}; choose other ratios"
        )
    return first_valid, first_test


def _masked(stream: EventStream, first_valid: int, seed: int) -> Tensor:
    """Nodes that "masked" hides."""
    later = torch.unique(torch.cat((stream.src[first_valid:], stream.dst[first_valid:])))
    count = min(_num_hidden(stream.num_nodes, "nodes"), later.numel())
    chosen: Tensor = later[torch.from_numpy(permutation(seed, 0, later.numel())[:count]).to(later.device)]
    return chosen


def _dyglib_masked(stream: EventStream, first_valid: int) -> Tensor:
    """Nodes that DyGLib hides: its nodes are numbered from 1, and the order of a set of them decides."""
    num_active = torch.unique(torch.cat((stream.src, stream.dst))).numel()
    src, dst = ((end[first_valid:] + 1).tolist() for end in (stream.src, stream.dst))
    later = tuple(set(src) | set(dst))
    count = min(_num_hidden(num_active, "nodes with events"), len(later))
    return torch.tensor(random.Random(DYGLIB_SEED).sample(later, count), dtype=torch.int64, device=stream.device) - 1


def _num_hidden(count: int, what: str) -> int:
    """A tenth of the nodes, rounded down."""
    hidden = int(MASKED_SHARE * count)
    if hidden == 0:
        least = math.ceil(1 / MASKED_SHARE)
        raise ArgumentError(f"stream: expected at least {least} {what}, of which a tenth is hidden, got {count}")
    return hidden


def _without(stream: EventStream, hidden: Tensor, keep: Tensor, until: int) -> EventStream:
    """The events to keep, and those of single nodes but of hidden ones before event ``until``."""
    alone = stream.node_events
    if alone is not None:
        stays = ~hidden[alone.node]
        stays[len(alone.part(stream.t, 0, until)) :] = True
        stream = stream.with_node_events(alone.select(stays))
    return stream.select(keep)
