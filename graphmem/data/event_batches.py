"""Where a stream is cut into batches."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
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
        ArgumentTypeError: one that is no number.
    """
    if size is not None and window is not None:
        raise ArgumentError("window: expected a size or a window, got both")
    if size is not None:
        _check.integer("size", size, 1)
    if window is not None and not _check.real("window", window) > 0:
        raise ArgumentError(f"window: expected a positive length of time, got {window!r}")
    count, t = len(stream), stream.t.cpu().numpy()
    if count == 0:
        return torch.zeros(1, dtype=torch.int64)
    if window is not None:
        # In numpy, where whole times by a fractional length are float64; torch's are float32.
        return torch.from_numpy(_ends((t - t[0]) // window))
    if size is None:
        return torch.from_numpy(_ends(t))
    if not keep_ties:
        return torch.cat((torch.arange(0, count, size), torch.tensor([count])))
    ends = _ends(t)
    # For each end of a group the first end that is `size` events away; then a walk from batch to batch.
    following = np.searchsorted(ends, np.minimum(ends + size, count)).tolist()
    chosen = [0]
    while ends[chosen[-1]] < count:
        chosen.append(following[chosen[-1]])
    return torch.from_numpy(ends[chosen])


def _ends(key: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """0, and the end of each run of equal keys."""
    changes = np.flatnonzero(key[1:] != key[:-1]) + 1
    return np.concatenate(([0], changes, [key.size]))


__all__ = ["batch_bounds"]
