"""Attention of nodes over their events, whose features are gathered, coded and mixed without being stored."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.ops import _check
from graphmem.ops._autograd import Operator

_DTYPES = (torch.float32, torch.float64)


def temporal_attention(
    query: Tensor,
    x: Tensor,
    nbr: Tensor,
    dt: Tensor,
    time_weight: Tensor,
    time_bias: Tensor,
    messages: Tensor | None = None,
    eid: Tensor | None = None,
    *,
    p: float = 0.0,
    seed: int = 0,
) -> Tensor:
    r"""Mix the features of each node's events by softmax attention.

    .. math::
        f_{ij} = [x_{nbr_{ij}}, \cos(w\,\Delta t_{ij} + b), m_{eid_{ij}}], \quad
        \alpha_{ijh} = \mathrm{dropout}_p(\mathrm{softmax}_j\, q_{ih}^\top f_{ij}), \quad
        y_{hi} = \big[\textstyle\sum_j \alpha_{ijh} f_{ij}, \sum_j \alpha_{ijh}\big]

    Args:
        query: float32 or float64 [n, H F], q by heads, F = d + T + D.
        x: [N, d], dtype of ``query``.
        nbr: int64 [n, k], rows of x; negative: no event.
        dt: float64 [n, k].
        time_weight: [T], w.
        time_bias: [T], b.
        messages: [E, D], m; without gradient.
        eid: int64 [n, k], rows of messages; what it says of absent events is not read.
        p: probability that a coefficient is dropped.
        seed: of the mask, which is that of :func:`graphmem.ops.dropout` on [n, H, k].

    Returns:
        [H, n, F + 1]: the mixed features, and last the sum of coefficients; zeros for a node without events.
        Differentiable, once, with respect to query, x, w and b.

    Raises:
        ArgumentError: wrong shape, dtype, device or range, or messages that require a gradient.
    """
    p = _check.probability("p", p)
    _check.seed("seed", seed)
    x = _check.tensor("x", x, shape=(None, None), dtypes=_DTYPES)
    device, kind = x.device, (x.dtype,)
    nbr = _check.tensor("nbr", nbr, shape=(None, None), dtypes=(torch.int64,), device=device)
    _check.in_range("nbr", nbr, x.size(0), nbr >= 0)
    _some_rows("x", x, nbr.size(0))
    dt = _check.tensor("dt", dt, shape=tuple(nbr.shape), dtypes=(torch.float64,), device=device)
    time_weight = _check.tensor("time_weight", time_weight, shape=(None,), dtypes=kind, device=device)
    time_bias = _check.tensor("time_bias", time_bias, shape=(time_weight.numel(),), dtypes=kind, device=device)
    if (messages is None) != (eid is None):
        raise ArgumentError("messages and eid: expected both or neither")
    width = x.size(1) + time_weight.numel()
    if messages is not None:
        messages = _check.tensor("messages", messages, shape=(None, None), dtypes=kind, device=device)
        if messages.requires_grad:
            raise ArgumentError("messages: expected a tensor that requires no gradient")
        eid = _check.tensor("eid", eid, shape=tuple(nbr.shape), dtypes=(torch.int64,), device=device)
        _check.in_range("eid", eid, messages.size(0), nbr >= 0)
        _some_rows("messages", messages, nbr.numel())
        width += messages.size(1)
    query = _check.tensor("query", query, shape=(nbr.size(0), None), dtypes=kind, device=device)
    if width == 0 or query.size(1) == 0 or query.size(1) % width:
        raise ArgumentError(f"query: expected a multiple of {width} columns, got {_check.describe(query)}")
    out: Tensor = temporal_attention_operator(query, x, nbr, dt, time_weight, time_bias, messages, eid, p, seed)[0]
    return out


def _some_rows(name: str, table: Tensor, asked: int) -> None:
    if asked and not table.size(0):
        raise ArgumentError(f"{name}: expected at least one row, got {_check.describe(table)}")


@torch.library.register_fake("graphmem::temporal_attention")
def _temporal_attention_fake(
    query: Tensor,
    x: Tensor,
    nbr: Tensor,
    dt: Tensor,
    time_weight: Tensor,
    time_bias: Tensor,
    messages: Tensor | None,
    eid: Tensor | None,
    p: float,
    seed: int,
) -> tuple[Tensor, Tensor]:
    width = x.size(1) + time_weight.size(0) + (0 if messages is None else messages.size(1))
    heads = query.size(1) // width
    n, k = nbr.shape
    return query.new_empty(heads, n, width + 1), query.new_empty(n, heads, k)


@torch.library.register_fake("graphmem::temporal_attention_backward")
def _temporal_attention_backward_fake(
    grad: Tensor, alpha: Tensor, query: Tensor, x: Tensor, nbr: Tensor, dt: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    time_weight, time_bias, *_ = rest
    return tuple(torch.empty_like(t) for t in (query, x, time_weight, time_bias))  # type: ignore[return-value]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.p, ctx.seed = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], *tensors)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 10
    d_query, d_x, d_weight, d_bias = _temporal_attention_backward(
        grad.contiguous(), *ctx.saved_tensors, ctx.p, ctx.seed
    )
    return d_query, d_x, None, None, d_weight, d_bias, None, None, None, None


temporal_attention_operator = Operator("temporal_attention", _backward, _setup_context)
_check.differentiable_once("graphmem::temporal_attention_backward")
_temporal_attention_backward = Operator("temporal_attention_backward")
