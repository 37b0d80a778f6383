"""Signs of events, from their weights."""

from __future__ import annotations

from torch import Tensor

from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError


def signed_weights(events: EventStream, name: str = "events") -> tuple[Tensor, Tensor]:
    """Weights [E] of events, and their signs int64 [E], -1 or 1.

    Raises:
        ArgumentError: no weights, or weights of 0, which have no sign.
    """
    wanted = f"{name}: expected weights other than 0, whose signs are those of the events"
    weight, sign = events.weight, events.sign
    if weight is None or sign is None:
        raise ArgumentError(f"{wanted}, got None")
    neutral = (sign == 0).nonzero().view(-1)
    if neutral.numel():
        raise ArgumentError(
            f"{wanted}, got {neutral.numel()} that are 0, the first in event {events.first + int(neutral[0])}; leave "
            "neutral events out (read_events(..., drop_neutral=True)), or write -1 and 1 where 0 and 1 are two classes"
        )
    return weight, sign


__all__ = ["signed_weights"]
