r"""Negatives of events: pairs that did not happen then.

Kinds:

- `"random"`: the event's source with a uniform destination, of `dst_range` where the stream has one, else of all nodes
  that are a destination anywhere in the stream.
- `"random_new"`: the same, of the nodes that are a destination of an event with a new node (`split.new_nodes`) in the
  event's own period, validation or test: DyGLib's negatives of the inductive setting. In training as `"random"`.
- `"historical"`: a uniform distinct pair that happened before the batch, and is not in it.
- `"inductive"`: the same, of pairs that happened for the first time behind the training period. Both after Poursafaei
  et al., "Towards Better Evaluation for Dynamic Link Prediction", NeurIPS 2022; where there is none, a random negative.
- `"hist_rnd"`: TGB's (Huang et al., NeurIPS 2023): up to half of an event's negatives are destinations that its source
  met in training, the others any nodes between the smallest and the largest destination that it did not; without
  repetition, and never a destination that the source meets at that very time.

A draw is a function of (seed, epoch, event), for the two kinds of pairs also of where the batch begins and ends.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from graphmem.data._random import I64, below, draws
from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import StreamSplit
from graphmem.errors import ArgumentError
from graphmem.ops import _check

KINDS = ("random", "random_new", "historical", "inductive", "hist_rnd")

Flags = npt.NDArray[np.bool_]

# A pair of the batch is drawn again so often; then those that are not in the batch are listed.
_ROUNDS = 16
# Largest key of a pair.
MAX_KEY = 2**63 - 1
# Events whose numbers of possible negatives are counted together.
_CHUNK = 4096
# Streams of draws of one (seed, epoch).
_STREAMS = 64


class EventNegatives:
    """Draws negatives for the events of a split's stream.

    Args:
        split: the stream and its training period.
        kind: "random", "random_new", "historical", "inductive" or "hist_rnd".
        seed: of all draws.
        k: negatives of an event.

    Raises:
        ArgumentError: an unknown kind, a stream without events, or more nodes and events than pairs of them have keys.
    """

    def __init__(self, split: StreamSplit, kind: str = "random", *, seed: int = 0, k: int = 1) -> None:
        self.kind, self.seed, self.k = _check.choice("kind", kind, KINDS), seed, k
        _check.seed("seed", seed)
        _check.integer("k", k, 1)
        stream = split.stream
        self._num_nodes = stream.num_nodes
        src, dst = stream.src.cpu().numpy(), stream.dst.cpu().numpy()
        if dst.size == 0:
            raise ArgumentError("split: expected a stream with events, got none")
        self._destinations: I64 | None = None if stream.dst_range is not None else _distinct(dst)
        self._range = stream.dst_range or (int(dst.min()), int(dst.max()) + 1)
        if max(self._num_nodes, src.size) * self._num_nodes > MAX_KEY:
            raise ArgumentError(
                f"split: pairs of {self._num_nodes} nodes and {src.size} events have no keys of 64 bits"
            )
        num_train = len(split.train)
        self._of_new = _destinations_of_new(split, dst) if kind == "random_new" else []
        if kind in ("historical", "inductive"):
            keys, first = np.unique(src * self._num_nodes + dst, return_index=True)
            order = np.argsort(first)
            self._pairs, self._first_seen = keys[order], first[order]
            self._num_train_pairs = int(np.searchsorted(self._first_seen, num_train))
        elif kind == "hist_rnd":
            self._met = _distinct(src[:num_train] * self._num_nodes + dst[:num_train])
            # Events of one source at one time form a group; none of them may have another's destination as a negative.
            t = stream.t.cpu().numpy()
            order = np.argsort(src, kind="stable")  # and by time, which ascends
            new = np.ones(src.size, dtype=bool)
            new[1:] = (np.diff(src[order]) != 0) | (np.diff(t[order]) != 0)
            self._group = np.empty(src.size, dtype=np.int64)
            self._group[order] = np.cumsum(new) - 1
            self._happened = _distinct(self._group * self._num_nodes + dst)

    def draw(self, events: EventStream, epoch: int) -> tuple[Tensor | None, Tensor]:
        """Negatives of consecutive events of the stream.

        Args:
            events: a slice of the split's stream.
            epoch: from 0 on.

        Returns:
            Sources int64 [B, k], ``None`` where they are the events' own; destinations int64 [B, k].

        Raises:
            ArgumentError: an epoch below 0; for "hist_rnd", too few destinations for k, or events out of the stream.
        """
        _check.integer("epoch", epoch)
        if self.kind == "random":
            return None, self._tensor(self._random(events, epoch, 0), events)
        if self.kind == "random_new":
            return None, self._tensor(self._random_of_new(events, epoch), events)
        if self.kind == "hist_rnd":
            return None, self._tensor(self._historical_and_random(events, epoch), events)
        pairs = self._pair_negatives(events, epoch)
        return self._tensor(pairs // self._num_nodes, events), self._tensor(pairs % self._num_nodes, events)

    def _tensor(self, values: I64, events: EventStream) -> Tensor:
        return torch.from_numpy(values.reshape(len(events), self.k)).to(events.device)

    def _draws(self, events: EventStream, epoch: int, stream: int, width: int) -> npt.NDArray[np.uint64]:
        """``width`` draws for each event, [B * width]."""
        return draws(self.seed, epoch * _STREAMS + stream, len(events) * width, start=events.first * width)

    def _random(self, events: EventStream, epoch: int, stream: int) -> I64:
        drawn = self._draws(events, epoch, stream, self.k)
        if self._destinations is not None:
            return self._destinations[below(drawn, self._destinations.size)]
        low, high = self._range
        return low + below(drawn, high - low)

    def _random_of_new(self, events: EventStream, epoch: int) -> I64:
        out, drawn = self._random(events, epoch, 0), self._draws(events, epoch, 0, self.k)
        number = np.repeat(events.first + np.arange(len(events)), self.k)
        for low, high, nodes in self._of_new:
            inside = (low <= number) & (number < high)
            if nodes.size:
                out[inside] = nodes[below(drawn[inside], nodes.size)]
        return out

    def _pair_negatives(self, events: EventStream, epoch: int) -> I64:
        """Pairs as keys, [B * k]."""
        src, dst = events.src.cpu().numpy(), events.dst.cpu().numpy()
        own = _distinct(src * self._num_nodes + dst)
        low = 0 if self.kind == "historical" else self._num_train_pairs
        high = int(np.searchsorted(self._first_seen, events.first))
        out = np.repeat(src, self.k) * self._num_nodes + self._random(events, epoch, 0)
        left = np.arange(out.size)
        for number in range(1, 1 + _ROUNDS):
            if high <= low or left.size == 0:
                break
            found = self._pairs[low + below(self._draws(events, epoch, number, self.k)[left], high - low)]
            fits = ~_contains(own, found)
            out[left[fits]] = found[fits]
            left = left[~fits]
        if left.size and high > low:  # nearly all that happened is in the batch, so it is not more than a few batches
            others = self._pairs[low:high]
            others = others[~_contains(own, others)]
            if others.size:
                out[left] = others[below(self._draws(events, epoch, 1 + _ROUNDS, self.k)[left], others.size)]
        return out

    def _historical_and_random(self, events: EventStream, epoch: int) -> I64:
        count, k = len(events), self.k
        if events.first + count > self._group.size:
            raise ArgumentError(
                f"events: expected events of the stream, 0 to {self._group.size - 1}, got {events.first} to "
                f"{events.first + count - 1}"
            )
        src, group = events.src.cpu().numpy(), self._group[events.first : events.first + count]
        row, met = self._destinations_met(src, group)
        out, filled = np.empty((count, k), dtype=np.int64), np.zeros(count, dtype=np.int64)
        # A random order of each row's candidates, of which the first half of k are taken.
        rank = _rank_in_rows(row, self._draws_of_rows(events, epoch, 1, row), count)
        taken = rank < k // 2
        out[row[taken], rank[taken]] = met[taken]
        filled += np.bincount(row[taken], minlength=count)
        self._fill_random(events, epoch, out, filled, src, group)
        return out.ravel()

    def most(self, events: EventStream) -> int:
        """How many negatives each of these events can have at least, where they are distinct ("hist_rnd")."""
        if self.kind != "hist_rnd":
            raise ArgumentError(f'kind: expected "hist_rnd", whose negatives are distinct, got {self.kind!r}')
        return min((self._most(events[i : i + _CHUNK]) for i in range(0, len(events), _CHUNK)), default=MAX_KEY)

    def _most(self, events: EventStream) -> int:
        src, group = events.src.cpu().numpy(), self._group[events.first : events.first + len(events)]
        historical = np.bincount(self._destinations_met(src, group)[0], minlength=len(events))
        random = self._range[1] - self._range[0] - self._num_excluded(src, group)
        # Of k negatives k // 2 are historical, or as many as there are; the others are random.
        return int((random + np.minimum(random, historical)).min())

    def _destinations_met(self, src: I64, group: I64) -> tuple[I64, I64]:
        """Distinct training destinations of each event's source that it does not meet at that time: rows and nodes."""
        first = np.searchsorted(self._met, src * self._num_nodes)
        lengths = np.searchsorted(self._met, (src + 1) * self._num_nodes) - first
        row = np.repeat(np.arange(src.size), lengths)
        place = np.arange(row.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        met = self._met[first[row] + place] % self._num_nodes
        free = ~_contains(self._happened, group[row] * self._num_nodes + met)
        return row[free], met[free]

    def _draws_of_rows(self, events: EventStream, epoch: int, stream: int, row: I64) -> npt.NDArray[np.uint64]:
        """A draw for each entry of ragged rows: of an event's i-th entry, whatever the batch."""
        lengths = np.bincount(row, minlength=len(events))
        place = np.arange(row.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        base = draws(self.seed, epoch * _STREAMS + stream, len(events), start=events.first)
        return _mixed(base[row], place.astype(np.uint64) + np.uint64(1))

    def _fill_random(self, events: EventStream, epoch: int, out: I64, filled: I64, src: I64, group: I64) -> None:
        """Fill rows up with distinct nodes of the range that are neither met in training nor happen at that time."""
        low, high = self._range
        size, count, k = high - low, len(events), self.k
        excluded = self._num_excluded(src, group)
        short = size - excluded < k - filled
        if short.any():
            row = int(np.flatnonzero(short)[0])
            raise ArgumentError(
                f"k: expected at most {int(size - excluded[row] + filled[row])} negatives for event "
                f"{events.first + row}, whose source met or meets {int(excluded[row])} of {size} destinations; got {k}"
            )
        dense = size <= 8 * k
        width = size if dense else 2 * k + 16
        todo, number = np.arange(count), 2
        while todo.size:
            drawn = self._draws(events, epoch, number, width).reshape(count, width)[todo]
            if dense:  # all nodes in a random order: one round is enough
                nodes = low + np.argsort(drawn, axis=1, kind="stable")
            else:
                nodes = low + below(drawn.ravel(), size).reshape(drawn.shape)
            fits = self._allowed(nodes, src[todo], group[todo])
            fits &= ~_repeated(nodes, out[todo], filled[todo])
            place = filled[todo, None] + np.cumsum(fits, axis=1) - 1
            fits &= place < k
            at, column = np.nonzero(fits)
            out[todo[at], place[at, column]] = nodes[at, column]
            filled[todo] += fits.sum(axis=1)
            todo, number = todo[filled[todo] < k], number + 1
            if number == _STREAMS:
                raise ArgumentError(f"k: {k} distinct negatives were not found; choose fewer")

    def _num_excluded(self, src: I64, group: I64) -> I64:
        """Nodes that may not be random negatives of each event."""
        nodes = self._num_nodes
        met = np.searchsorted(self._met, (src + 1) * nodes) - np.searchsorted(self._met, src * nodes)
        first = np.searchsorted(self._happened, group * nodes)
        lengths = np.searchsorted(self._happened, (group + 1) * nodes) - first
        row = np.repeat(np.arange(src.size), lengths)
        place = np.arange(row.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        dst = self._happened[first[row] + place] % nodes
        new = ~_contains(self._met, src[row] * nodes + dst)
        return met + np.bincount(row[new], minlength=src.size)

    def _allowed(self, nodes: I64, src: I64, group: I64) -> Flags:
        met = _contains(self._met, src[:, None] * self._num_nodes + nodes)
        return ~(met | _contains(self._happened, group[:, None] * self._num_nodes + nodes))


def _destinations_of_new(split: StreamSplit, dst: I64) -> list[tuple[int, int, I64]]:
    """First event, event behind the last and destinations of events with a new node, of both later periods."""
    new = (split.new_nodes[split.stream.src] | split.new_nodes[split.stream.dst]).cpu().numpy()
    ends = [(events.first, events.first + len(events)) for events in (split.valid, split.test)]
    return [(low, high, _distinct(dst[low:high][new[low:high]])) for low, high in ends]


def _distinct(values: I64) -> I64:
    """Distinct values, ascending; several times as fast as `np.unique`, which hashes millions of keys."""
    ordered = np.sort(values)
    new = np.ones(ordered.size, dtype=bool)
    new[1:] = ordered[1:] != ordered[:-1]
    out: I64 = ordered[new]
    return out


def _contains(ordered: I64, values: I64) -> Flags:
    if ordered.size == 0:
        return np.zeros(values.shape, dtype=bool)
    place = np.minimum(np.searchsorted(ordered, values), ordered.size - 1)
    return np.asarray(ordered[place] == values)


def _mixed(a: npt.NDArray[np.uint64], b: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser of two numbers, see `graphmem.data._random`."""
    z = a ^ (b * np.uint64(0x9E3779B97F4A7C15))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    out: npt.NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return out


def _rank_in_rows(row: I64, key: npt.NDArray[np.uint64], count: int) -> I64:
    """Place of each entry among its row's entries, by ascending key; rows ascend."""
    order = np.lexsort((key, row))
    lengths = np.bincount(row, minlength=count)
    rank = np.empty(row.size, dtype=np.int64)
    rank[order] = np.arange(row.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return rank


def _repeated(nodes: I64, known: I64, filled: I64) -> Flags:
    """Entries that stand further left in their row, or among the first ``filled`` of ``known``."""
    whole = np.concatenate([np.where(np.arange(known.shape[1]) < filled[:, None], known, -1), nodes], axis=1)
    order = np.argsort(whole, axis=1, kind="stable")
    ordered = np.take_along_axis(whole, order, axis=1)
    again = np.zeros(whole.shape, dtype=bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    out = np.empty_like(again)
    np.put_along_axis(out, order, again, axis=1)
    return out[:, known.shape[1] :]


__all__ = ["KINDS", "EventNegatives"]
