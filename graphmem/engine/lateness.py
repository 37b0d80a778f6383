"""Events that come out of order: which are too late, and which wait until those before them are there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from graphmem.errors import ArgumentError, LateEventError
from graphmem.ops import _check

# Times and lateness of whole numbers stay below, so that their sums and differences do.
_MAX_TIME = 2**61


class Events(NamedTuple):
    """Columns of E events."""

    src: Tensor
    """int64 [E], nodes."""
    dst: Tensor
    """int64 [E], nodes."""
    t: Tensor
    """int64 or float64 [E]."""
    msg: Tensor | None
    """float32 [E, D]."""
    weight: Tensor | None = None
    """float32 [E]."""

    def __len__(self) -> int:
        return self.t.numel()

    def select(self, index: Tensor | slice) -> Events:
        """Some of the events."""
        return self.map(lambda column: column[index])

    def map(self, function: Callable[[Tensor], Tensor]) -> Events:
        """The columns that are there, each changed."""
        return Events(*(None if column is None else function(column) for column in self))  # type: ignore[arg-type]

    def extend(self, later: Events) -> Events:
        """The events, then others."""
        pairs = zip(self, later, strict=True)
        return Events(*(None if a is None or b is None else torch.cat((a, b)) for a, b in pairs))  # type: ignore[arg-type]


class LatenessBuffer:
    r"""Brings events into the order of time, as far as they are late by no more than ``lateness``.

    The watermark is the latest time that was seen, minus ``lateness``. An event waits until the watermark has reached
    its time; then it is released, in the order of time, equal times in the order in which they came. An event that is
    older than the watermark of the events before it, or than one that was released, is an error. All of this depends
    on the order of the events, not on how they are cut into batches. With ``lateness`` 0 nothing ever waits, and times
    have to ascend.

    Args:
        lateness: in units of time; whole for int64 times.
        latest: the latest time so far; ``None``: any may come.
        dtype: of times, int64 or float64.

    Raises:
        ArgumentError: a negative lateness, or a fraction for whole times.
    """

    def __init__(self, lateness: float = 0, latest: float | None = None, dtype: torch.dtype = torch.int64) -> None:
        whole = dtype == torch.int64
        if not _check.real("lateness", lateness) >= 0 or (whole and not (lateness < _MAX_TIME and lateness % 1 == 0)):
            kind = "whole number" if whole else "number"
            raise ArgumentError(f"lateness: expected a {kind} from 0 on, in units of time, got {lateness!r}")
        self.lateness = int(lateness) if whole else float(lateness)
        self.latest = latest
        self.released = latest
        self.dtype = dtype
        self.waiting: Events | None = None

    def __len__(self) -> int:
        """Number of events that wait."""
        return 0 if self.waiting is None else len(self.waiting)

    def check(self, t: npt.NDArray[Any]) -> None:
        """Look whether events at times [E], in the order in which they came, may be pushed.

        Raises:
            LateEventError: one is too late.
            ArgumentError: times that are not finite, or too large to be told apart from others by the lateness.
        """
        if t.size == 0:
            return
        limit = _MAX_TIME if self.dtype == torch.int64 else torch.finfo(torch.float64).max
        if not (-limit <= t.min() and t.max() <= limit):  # NaN is neither
            raise ArgumentError(f"t: expected finite times, whole ones below 2^61, got {t.min()} to {t.max()}")
        seen = np.maximum.accumulate(np.append(t[0] if self.latest is None else self.latest, t[:-1]))
        oldest = seen - self.lateness
        if self.released is not None:
            oldest = np.maximum(oldest, self.released)
        late = t < oldest
        if late.any():
            event = int(late.argmax())
            raise LateEventError(
                f"t: expected times from {oldest[event]} on ({seen[event]} is the latest, with a lateness of "
                f"{self.lateness}), got {t[event]} for event {event}",
                event,
            )

    def push(self, events: Events) -> Events:
        """Take in events that :meth:`check` has passed; returns those whose time has come, in the order of time."""
        if len(events) == 0:
            return events
        newest = events.t.max().item()
        self.latest = newest if self.latest is None else max(self.latest, newest)
        if self.lateness == 0 and self.waiting is None:
            self.released = self.latest
            return events
        if self.waiting is not None:
            events = self.waiting.extend(events)
        events = events.select(events.t.argsort(stable=True))
        watermark = torch.tensor(self.latest - self.lateness, dtype=self.dtype, device=events.t.device)
        return self._release(events, int(torch.searchsorted(events.t, watermark, right=True)))

    def flush(self) -> Events | None:
        """Release everything; from now on the latest time is the oldest that may come."""
        waiting = self.waiting
        return None if waiting is None else self._release(waiting, len(waiting))

    def _release(self, events: Events, count: int) -> Events:
        """The first events of those that wait."""
        if count:
            self.released = events.t[count - 1].item()
        self.waiting = events.select(slice(count, None)) if count < len(events) else None
        return events.select(slice(count))

    def to_plain(self) -> dict[str, Any]:
        """Tensors and plain values for a checkpoint."""
        waiting = None if self.waiting is None else list(self.waiting)
        return {"lateness": self.lateness, "latest": self.latest, "released": self.released, "waiting": waiting}

    def restore(self, values: Mapping[str, Any], device: torch.device) -> None:
        """Go on from what :meth:`to_plain` wrote."""
        self.lateness, self.latest, self.released = values["lateness"], values["latest"], values["released"]
        waiting = values["waiting"]
        self.waiting = None if waiting is None else Events(*waiting).map(lambda column: column.to(device))


__all__ = ["Events", "LatenessBuffer"]
