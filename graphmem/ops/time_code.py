"""Codes of time differences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphmem.ops import _check
from graphmem.ops._autograd import Operator

_DTYPES = (torch.float32, torch.float64)


def time_code(dt: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    r"""Compute :math:`\cos(w\,\Delta t + b)`, the phase in float64.

    In float32 the phase of a difference of 10^7 seconds would be off by half a radian. The float32 cosine is within
    2e-7 of the one of that phase, however large. Sums of the gradients run over blocks of 64 differences, in order.

    Args:
        dt: float64 [R].
        weight: float32 or float64 [T], frequencies.
        bias: [T], dtype of ``weight``.

    Returns:
        [R, T], dtype of ``weight``. Differentiable, once, with respect to weight and bias.

    Raises:
        ArgumentError: wrong shape, dtype or device.
    """
    weight = _check.tensor("weight", weight, shape=(None,), dtypes=_DTYPES)
    bias = _check.tensor("bias", bias, shape=(weight.numel(),), dtypes=(weight.dtype,), device=weight.device)
    dt = _check.tensor("dt", dt, shape=(None,), dtypes=(torch.float64,), device=weight.device)
    out: Tensor = time_code_operator(dt, weight, bias)
    return out


@torch.library.register_fake("graphmem::time_code")
def _time_code_fake(dt: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return weight.new_empty(dt.size(0), weight.size(0))


@torch.library.register_fake("graphmem::time_code_backward")
def _time_code_backward_fake(grad: Tensor, dt: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(weight), torch.empty_like(bias)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return None, *_time_code_backward(grad.contiguous(), *ctx.saved_tensors)


time_code_operator = Operator("time_code", _backward, _setup_context)
_check.differentiable_once("graphmem::time_code_backward")
_time_code_backward = Operator("time_code_backward")
