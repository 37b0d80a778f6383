"""Where a period of time lies among ascending times."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.ops import _check


def places_between(t: Tensor, low: float | Tensor, high: float | Tensor) -> tuple[int, int]:
    """Places (start, stop) of the times with ``low <= t < high``: exact, for whole times and fractional bounds too.

    Args:
        t: int64 or float64 [n], ascending.
        low: a number, or a tensor of one; may be infinite.
        high: likewise.

    Raises:
        ArgumentTypeError: a bound that is no number.
        ArgumentError: a bound that is NaN.
    """
    start, stop = (_count_below(t, name, bound) for name, bound in (("low", low), ("high", high)))
    return start, max(start, stop)


def _count_below(t: Tensor, name: str, bound: float | Tensor) -> int:
    number = bound.item() if isinstance(bound, Tensor | np.generic) and bound.ndim == 0 else bound
    if not isinstance(number, int | float) or isinstance(number, bool):
        raise ArgumentTypeError(f"{name}: expected a number, got {_check.describe(bound)}")
    if number != number:
        raise ArgumentError(f"{name}: expected a time, got nan")
    least = _least_of(t.dtype, number)
    if least is None:
        return t.numel()
    return int(torch.searchsorted(t, torch.tensor(least, dtype=t.dtype, device=t.device)))


def _least_of(dtype: torch.dtype, bound: float) -> float | None:
    """The least value of a dtype that is not below a bound: as many times are below it; ``None``: all are."""
    if dtype != torch.int64:
        try:
            nearest = float(bound)
        except OverflowError:
            nearest = math.inf if bound > 0 else -math.inf
        return nearest if nearest >= bound else math.nextafter(nearest, math.inf)
    limits = torch.iinfo(dtype)
    if bound > limits.max:
        return None
    return limits.min if bound < limits.min else math.ceil(bound)


__all__ = ["places_between"]
