"""Where a stream is cut into batches."""

from __future__ import annotations

import torch
from torch import Tensor

from graphmem.data.stream import EventStream
from graphmem.errors import ArgumentError
from graphmem.ops import _check


def batch_bounds(
    stream: EventStream, *, size: int | None = None, window: float | None = None, keep_ties: bool = False
) -> Tensor:
    """Cut a stream into batches; with neither ``size`` nor ``window``, into groups of equal time.

    Args:
        stream: the events.
        size: number of events in a batch; the last one has the rest.
        window: length in time of a batch, counted from the first event. Windows without events give no batch.
        keep_ties: with ``size``: a batch goes on until the time changes, so that equal times stay together.

    Returns:
        Offsets into the stream, int64 [B + 1]: batch b holds events ``bounds[b]`` to ``bounds[b + 1] - 1``.

    Raises:
        ArgumentError: both ``size`` and ``window``, or one that is not positive.
    """
    if size is not None and window is not None:
        raise ArgumentError("window: expected a size or a window, got both")
    count, t = len(stream), stream.t
    if count == 0:
        return torch.zeros(1, dtype=torch.int64)
    if window is not None:
        if not window > 0:
            raise ArgumentError(f"window: expected a positive length of time, got {window!r}")
        number = torch.div(t - t[0], window, rounding_mode="floor")
        return _ends(number)
    if size is None:
        return _ends(t)
    _check.integer("size", size, 1)
    if not keep_ties:
        return torch.cat((torch.arange(0, count, size), torch.tensor([count])))
    groups = _ends(t)
    # The first end of a group that is `size` events away; a loop over batches, of which there are few.
    bounds = [0]
    while bounds[-1] < count:
        at = int(torch.searchsorted(groups, min(bounds[-1] + size, count)))
        bounds.append(int(groups[at]))
    return torch.tensor(bounds)


def _ends(key: Tensor) -> Tensor:
    """0, and the end of each run of equal keys."""
    changes = (key[1:] != key[:-1]).nonzero().squeeze(1).cpu() + 1
    return torch.cat((changes.new_zeros(1), changes, changes.new_full((1,), key.numel())))


__all__ = ["batch_bounds"]
