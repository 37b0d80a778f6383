"""What torch has to know of the pair operators: shapes for tracing, and gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphmem.ops import _check
from graphmem.ops._autograd import Operator


@torch.library.register_fake("graphmem::cn_count")
def _cn_count_fake(
    rowptr_a: Tensor, col_a: Tensor, keep_a: Any, rowptr_b: Any, col_b: Any, keep_b: Any, pairs: Tensor, exclude: bool
) -> Tensor:
    return pairs.new_empty(3, pairs.size(1))


@torch.library.register_fake("graphmem::cn_index")
def _cn_index_fake(
    rowptr_a: Tensor,
    col_a: Tensor,
    keep_a: Any,
    rowptr_b: Any,
    col_b: Any,
    keep_b: Any,
    pairs: Tensor,
    exclude_endpoints: bool,
    parts: int,
    ptr: Tensor,
    total: int,
    num_cn: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return col_a.new_empty(total), pairs.new_empty(total), pairs.new_empty(num_cn)


@torch.library.register_fake("graphmem::cn_gather_sum")
def _cn_gather_sum_fake(*args: Any) -> Tensor:
    pairs, x, parts = args[8], args[9], args[11]
    out: Tensor = x.new_empty(int(parts).bit_count(), pairs.size(1), x.size(1))
    return out


@torch.library.register_fake("graphmem::cn_gather_sum_backward")
def _cn_gather_sum_backward_fake(*args: Any) -> Tensor:
    grad, num_nodes = args[9], args[10]
    out: Tensor = grad.new_empty(num_nodes, grad.size(2))
    return out


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *graphs_and_pairs, x, exclude_endpoints, parts = inputs
    ctx.num_nodes, ctx.exclude_endpoints, ctx.parts = x.size(0), exclude_endpoints, parts
    ctx.save_for_backward(*graphs_and_pairs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_x = _cn_gather_sum_backward(
        *ctx.saved_tensors, grad.contiguous(), ctx.num_nodes, ctx.exclude_endpoints, ctx.parts
    )
    return (*(None,) * 9, grad_x, None, None)


cn_gather_sum_operator = Operator("cn_gather_sum", _backward, _setup_context)
_check.differentiable_once("graphmem::cn_gather_sum_backward")
_cn_gather_sum_backward = Operator("cn_gather_sum_backward")
