"""The step of a node memory: messages and GRU cell in one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.ops import _check
from graphmem.ops._autograd import Operator
from graphmem.ops.matmul import matmul

_DTYPES = (torch.float32, torch.float64)


def memory_gru(
    memory: Tensor,
    node: Tensor,
    other: Tensor,
    msg: Tensor,
    dt: Tensor,
    time_weight: Tensor,
    time_bias: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
) -> Tensor:
    r"""Compute the next states of nodes: ``torch.nn.GRUCell`` on messages :math:`[s_i, s_j, m, \cos(w\,\Delta t + b)]`.

    Rows go from the gather to the gates 48 at a time, in a core's cache. The states themselves have no gradient: they
    are what a memory has kept from earlier batches.

    Args:
        memory: float32 or float64 [N, d], s; without gradient.
        node: int64 [M], i.
        other: int64 [M], j; -1: none, the node's state stays as it is.
        msg: [M, D], m; without gradient.
        dt: float64 [M].
        time_weight: [T], w.
        time_bias: [T], b.
        weight_ih: [3 d, 2 d + D + T]; or [3 d, d + D + T]: the message is :math:`[s_j, m, \cos(w\,\Delta t + b)]`.
        weight_hh: [3 d, d].
        bias_ih: [3 d].
        bias_hh: [3 d].

    Returns:
        [M, d]. Differentiable, once, with respect to the weights and biases.

    Raises:
        ArgumentError: wrong shape, dtype, device or range, or a state or message that requires a gradient.
    """
    memory = _check.tensor("memory", memory, shape=(None, None), dtypes=_DTYPES)
    device, kind, d = memory.device, (memory.dtype,), memory.size(1)
    node = _check.tensor("node", node, shape=(None,), dtypes=(torch.int64,), device=device)
    rows = node.numel()
    other = _check.tensor("other", other, shape=(rows,), dtypes=(torch.int64,), device=device)
    _check.in_range("node", node, memory.size(0))
    _check.in_range("other", other, memory.size(0), other >= 0)
    msg = _check.tensor("msg", msg, shape=(rows, None), dtypes=kind, device=device)
    for name, value in (("memory", memory), ("msg", msg)):
        if value.requires_grad:
            raise ArgumentError(f"{name}: expected a tensor that requires no gradient")
    dt = _check.tensor("dt", dt, shape=(rows,), dtypes=(torch.float64,), device=device)
    time_weight = _check.tensor("time_weight", time_weight, shape=(None,), dtypes=kind, device=device)
    width = d + msg.size(1) + time_weight.numel()
    if not (isinstance(weight_ih, Tensor) and weight_ih.dim() == 2 and weight_ih.size(1) == width):
        width += d
    weights = [time_weight]
    for name, value, shape in (
        ("time_bias", time_bias, (time_weight.numel(),)),
        ("weight_ih", weight_ih, (3 * d, width)),
        ("weight_hh", weight_hh, (3 * d, d)),
        ("bias_ih", bias_ih, (3 * d,)),
        ("bias_hh", bias_hh, (3 * d,)),
    ):
        weights.append(_check.tensor(name, value, shape=shape, dtypes=kind, device=device))
    return memory_gru_unchecked(memory, node, other, msg, dt, *weights)


def memory_gru_unchecked(
    memory: Tensor, node: Tensor, other: Tensor, msg: Tensor, dt: Tensor, *weights: Tensor
) -> Tensor:
    """:func:`memory_gru` for arguments made in this package, which need no second check."""
    save = torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)
    out: Tensor = memory_gru_operator(memory, node, other, msg, dt, *weights, save)[0]
    return out


@torch.library.register_fake("graphmem::memory_gru")
def _memory_gru_fake(
    memory: Tensor,
    node: Tensor,
    other: Tensor,
    msg: Tensor,
    dt: Tensor,
    time_weight: Tensor,
    time_bias: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    rows, d = node.size(0), memory.size(1)
    saved = rows if save else 0
    width = 2 * d + msg.size(1) + time_weight.size(0)
    return memory.new_empty(rows, d), memory.new_empty(saved, width), memory.new_empty(saved, 4 * d)


@torch.library.register_fake("graphmem::memory_gru_backward")
def _memory_gru_backward_fake(
    grad: Tensor,
    inputs: Tensor,
    gates: Tensor,
    dt: Tensor,
    time_weight: Tensor,
    time_bias: Tensor,
    weight_ih: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(gates), torch.empty_like(time_weight), torch.empty_like(time_bias)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    _, _, _, _, dt, time_weight, time_bias, weight_ih, *_ = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*output[1:], dt, time_weight, time_bias, weight_ih)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 12
    inputs, *_ = ctx.saved_tensors
    d = grad.size(1)
    slopes, d_weight, d_bias = _memory_gru_backward(grad.contiguous(), *ctx.saved_tensors)
    # Rows: r, z, n, and the hidden part of n; columns: the message, whose first part is the state itself.
    weights, biases = matmul(slopes, inputs, transpose_a=True), slopes.sum(0)
    hidden = torch.cat((weights[: 2 * d, :d], weights[3 * d :, :d]))
    read = weights[: 3 * d, weights.size(1) - ctx.saved_tensors[-1].size(1) :]
    of_cell = (read, hidden, biases[: 3 * d], torch.cat((biases[: 2 * d], biases[3 * d :])))
    return None, None, None, None, None, d_weight, d_bias, *of_cell, None


memory_gru_operator = Operator("memory_gru", _backward, _setup_context)
_check.differentiable_once("graphmem::memory_gru_backward")
_memory_gru_backward = Operator("memory_gru_backward")
