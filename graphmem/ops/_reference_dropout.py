"""Dropout and the layers around it, for :mod:`graphmem.ops.reference`; the loops are in ``_reference_dense``."""

from __future__ import annotations

import functools
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphmem.ops._check import accumulate_dtype

_UINT64 = (1 << 64) - 1


@functools.cache
def dense_loops() -> ModuleType:
    """Import numba only when a loop is needed."""
    from graphmem.ops import _reference_dense

    return _reference_dense


def array_of(tensor: Tensor) -> NDArray[np.generic]:
    """The array of a tensor."""
    return tensor.detach().contiguous().numpy()


def _dropout_scale(p: float, dtype: torch.dtype) -> np.generic:
    return np.float64(1 / (1 - p)) if dtype == torch.float64 else np.float32(1 / (1 - p))


def dropout(x: Tensor, p: float, seed: int, relu: bool) -> Tensor:
    """``x / (1 - p)`` where kept, else 0; with ``relu`` also 0 where ``x <= 0``; the mask follows from the seed."""
    dtype = accumulate_dtype(x.dtype)
    out = torch.zeros(x.shape, dtype=dtype)
    dense_loops().dropout(
        array_of(x.to(dtype)).reshape(-1),
        np.uint64(int(p * 2**32)),
        _dropout_scale(p, dtype),
        np.uint64(seed & _UINT64),
        relu,
        out.numpy().reshape(-1),
    )
    return out.to(x.dtype)


def dropout_relu_backward(grad: Tensor, y: Tensor, p: float) -> Tensor:
    """``grad / (1 - p)`` where the output ``y`` of dropout with ReLU is positive, else 0."""
    dtype = accumulate_dtype(y.dtype)
    out = torch.zeros(y.shape, dtype=dtype)
    dense_loops().dropout_relu_backward(
        array_of(grad.to(dtype)).reshape(-1),
        array_of(y.to(dtype)).reshape(-1),
        _dropout_scale(p, dtype),
        out.numpy().reshape(-1),
    )
    return out.to(y.dtype)


def norm_dropout_relu(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, p: float, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """``(y, mean, rstd)``: ReLU of dropout of LayerNorm of each row of ``x`` [R, F]."""
    dtype = accumulate_dtype(x.dtype)
    y = torch.zeros(x.shape, dtype=dtype)
    mean, rstd = torch.empty(x.size(0), dtype=dtype), torch.empty(x.size(0), dtype=dtype)
    number = np.float64 if dtype == torch.float64 else np.float32
    dense_loops().norm_dropout_relu(
        array_of(x.to(dtype)),
        array_of(weight),
        array_of(bias),
        number(eps),
        np.uint64(int(p * 2**32)),
        _dropout_scale(p, dtype),
        np.uint64(seed & _UINT64),
        y.numpy(),
        mean.numpy(),
        rstd.numpy(),
    )
    return y.to(x.dtype), mean, rstd


def norm_dropout_relu_backward(
    grad: Tensor, y: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, p: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``(dx, dweight, dbias)`` of :func:`norm_dropout_relu`."""
    dtype = accumulate_dtype(x.dtype)
    dx = torch.empty(x.shape, dtype=dtype)
    dweight, dbias = torch.zeros(x.size(1), dtype=dtype), torch.zeros(x.size(1), dtype=dtype)
    arrays = [array_of(t.to(dtype)) for t in (grad, y, x)]
    dense_loops().norm_dropout_relu_backward(
        *arrays,
        array_of(mean),
        array_of(rstd),
        array_of(weight),
        _dropout_scale(p, dtype),
        dx.numpy(),
        dweight.numpy(),
        dbias.numpy(),
    )
    return dx.to(x.dtype), dweight, dbias
