"""When a pair of nodes last met, and how often: memory of edges for heuristics and features."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.nn.state import StateModule

# Times of pairs that never met.
NEVER = torch.iinfo(torch.int64).min

# Ids are below.
MAX_NODES = 2**31

# Recent events are kept apart and merged when they are so many, or so large a share of what is known: a merge sorts
# everything, so that it has to be rare, and a lookup searches both, so that the second must stay small.
_MERGE_EVENTS, _MERGE_SHARE = 4096, 64


class Meetings(NamedTuple):
    """What is known of pairs."""

    last: Tensor
    """[n], time of the last event; :data:`NEVER` for none."""
    times: Tensor
    """int64 [n], number of events."""


class PairMemory(StateModule):
    """Last time and number of the events of every pair ``(src, dst)``.

    Memory is 24 bytes a distinct pair. A lookup is two binary searches, an insertion of n events O(n log n) and, now
    and then, a sort of all pairs. The keys ``src * 2^31 + dst`` are sorted, so that the state depends on the events
    alone.

    Args:
        directed: ``False`` to treat (u, v) and (v, u) as one pair.
        dtype: of times, int64 or float64.

    Raises:
        ArgumentError: another dtype.
    """

    keys: Tensor
    last: Tensor
    count: Tensor
    new_keys: Tensor
    new_last: Tensor
    new_count: Tensor

    def __init__(self, *, directed: bool = True, dtype: torch.dtype = torch.int64) -> None:
        super().__init__()
        if dtype not in (torch.int64, torch.float64):
            raise ArgumentError(f"dtype: expected torch.int64 or torch.float64, got {dtype}")
        self.directed = directed
        for prefix in ("", "new_"):
            self.register_state(f"{prefix}keys", (0,), dtype=torch.int64, per_node=False)
            self.register_state(f"{prefix}last", (0,), dtype=dtype, per_node=False)
            self.register_state(f"{prefix}count", (0,), dtype=torch.int64, per_node=False)

    def reset(self) -> None:
        """Forget everything."""
        for name in self._state_fill:
            setattr(self, name, self.get_buffer(name).new_empty(0))

    def insert(self, src: Tensor, dst: Tensor, t: Tensor) -> None:
        """Remember events, in the order of time.

        Args:
            src: int64 [n].
            dst: int64 [n].
            t: [n], ascending, not before what is known.
        """
        self.new_keys, self.new_last, self.new_count = _merged(
            (self.new_keys, self._keys(src, dst)),
            (self.new_last, t.to(self.last.dtype)),
            (self.new_count, torch.ones_like(src)),
        )
        if self.new_keys.numel() > max(_MERGE_EVENTS, self.keys.numel() // _MERGE_SHARE):
            self.keys, self.last, self.count = _merged(
                (self.keys, self.new_keys), (self.last, self.new_last), (self.count, self.new_count)
            )
            for name in ("new_keys", "new_last", "new_count"):
                setattr(self, name, self.get_buffer(name).new_empty(0))

    def find(self, src: Tensor, dst: Tensor) -> Meetings:
        """What is known of pairs.

        Args:
            src: int64.
            dst: int64, of a shape that broadcasts with that of ``src``.
        """
        keys = self._keys(src, dst)
        never = torch.finfo(torch.float64).min if self.last.is_floating_point() else NEVER
        last = torch.full(keys.shape, never, dtype=self.last.dtype, device=keys.device)
        count = torch.zeros_like(keys)
        # The newer events come second and overwrite the time.
        for known, times, counts in (
            (self.keys, self.last, self.count),
            (self.new_keys, self.new_last, self.new_count),
        ):
            if known.numel() == 0:
                continue
            place = torch.searchsorted(known, keys).clamp_(max=known.numel() - 1)
            found = known[place] == keys
            last = torch.where(found, times[place], last)
            count += torch.where(found, counts[place], 0)
        return Meetings(last, count)

    def _keys(self, src: Tensor, dst: Tensor) -> Tensor:
        if self.directed:
            return (src << 31) + dst
        return (torch.minimum(src, dst) << 31) + torch.maximum(src, dst)


def _merged(
    keys: tuple[Tensor, Tensor], last: tuple[Tensor, Tensor], count: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Sorted distinct keys with the latest time and the sum of the counts; the second of each comes later in time."""
    order = torch.cat(keys).argsort(stable=True)
    ordered = torch.cat(keys)[order]
    is_last = torch.ones_like(ordered, dtype=torch.bool)
    is_last[:-1] = ordered[1:] != ordered[:-1]
    ends = is_last.nonzero().squeeze(1)
    sums = torch.cat(count)[order].cumsum(0)[ends]
    return ordered[ends], torch.cat(last)[order][ends], sums.diff(prepend=sums.new_zeros(1))
