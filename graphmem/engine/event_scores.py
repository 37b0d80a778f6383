"""What one pass over a period of a stream measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import StreamSplit
from graphmem.engine.metrics import auc, average_precision, check_metrics, ranks
from graphmem.engine.stream_task import GROUPS, event_groups
from graphmem.errors import ArgumentError
from graphmem.ops import _check

POOLED = ("ap", "auc", "ap_batch")


class EventMetrics:
    """Which metrics a pass reports, and under which names.

    "ap", "auc" and "ap_batch" are taken for each kind of negatives, the others against the ranking negatives. Names:
    ``[<kind>.][<group>.]<metric>``; the first kind, and all events together, go without.

    Args:
        metrics: names.
        kinds: of negatives, one for each event.
        ranking: kind of the many negatives of each event, or ``None``.
        groups: of events that are also reported apart.

    Raises:
        ArgumentError: an unknown name, or negatives that a metric needs are missing.
    """

    def __init__(
        self, metrics: Sequence[str], kinds: Sequence[str], ranking: str | None, groups: Sequence[str]
    ) -> None:
        self.pooled = tuple(name for name in metrics if name in POOLED)
        self.ranked = tuple(name for name in metrics if name not in POOLED)
        if self.ranked or not metrics:
            check_metrics(self.ranked)
        if self.ranked and ranking is None:
            raise ArgumentError(f"ranking_negatives: {self.ranked[0]!r} needs them, got None")
        if self.pooled and not kinds:
            raise ArgumentError(f"eval_negatives: {self.pooled[0]!r} needs them, got none")
        for group in groups:
            _check.choice("groups", group, GROUPS)
        self.kinds, self.groups = tuple(kinds), tuple(groups)

    def start(self, split: StreamSplit, events: EventStream) -> EventScores:
        """Begin a pass over a period."""
        return EventScores(self, split, events)


class EventScores:
    """The scores of a period, as they come."""

    def __init__(self, names: EventMetrics, split: StreamSplit, events: EventStream) -> None:
        self._names = names
        self._groups = event_groups(split, events, names.groups)
        self._pos: list[Tensor] = []
        self._neg: dict[str, list[Tensor]] = {kind: [] for kind in names.kinds}
        self._ranks: list[Tensor] = []

    def add(self, pos: Tensor, neg: Mapping[str, Tensor], ranking: Tensor | None) -> None:
        """Take the scores of the next events [B], of a negative of each kind [B, 1], and of the ranking ones [B, K]."""
        self._pos.append(pos)
        for kind, scores in self._neg.items():
            scores.append(neg[kind].squeeze(1))
        if ranking is not None:
            self._ranks.append(ranks(pos, ranking))

    def metrics(self) -> dict[str, float]:
        """All numbers of the pass; NaN where a group has no event."""
        out: dict[str, float] = {}
        pos, sizes = torch.cat(self._pos), [part.numel() for part in self._pos]
        neg = {kind: torch.cat(scores) for kind, scores in self._neg.items()}
        rank = torch.cat(self._ranks) if self._ranks else None
        for group, mask in self._groups.items():
            place = f"{group}." if group else ""
            for kind, scores in neg.items():
                prefix = place if kind == self._names.kinds[0] else f"{kind}.{place}"
                for name in self._names.pooled:
                    if name == "ap_batch":
                        out[prefix + name] = _batch_mean(pos, scores, mask, sizes)
                    else:
                        measure = average_precision if name == "ap" else auc
                        out[prefix + name] = _measured(measure, pos[mask], scores[mask])
            for name in self._names.ranked:
                assert rank is not None
                out[place + name] = _ranked(name, rank[mask])
        return out


def _measured(measure: Callable[[Tensor, Tensor], float], pos: Tensor, neg: Tensor) -> float:
    return measure(pos, neg) if pos.numel() else float("nan")


def _batch_mean(pos: Tensor, neg: Tensor, mask: Tensor, sizes: Sequence[int]) -> float:
    """Mean over the batches, each as one, of their own average precision."""
    parts = zip(pos.split(sizes), neg.split(sizes), mask.split(sizes), strict=True)
    found = [average_precision(p[keep], n[keep]) for p, n, keep in parts if bool(keep.any())]
    return sum(found) / len(found) if found else float("nan")


def _ranked(name: str, rank: Tensor) -> float:
    if rank.numel() == 0:
        return float("nan")
    if name == "mrr":
        return float(rank.reciprocal().mean())
    return float((rank <= int(name.removeprefix("hits@"))).double().mean())
