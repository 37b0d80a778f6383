"""The operators with matrix products, in torch's operations: equal to rounding, not bit for bit.

The specification of the compiled ones, and what serves CUDA tensors, where torch's products are the vendor's.
"""

from __future__ import annotations

import torch
from torch import Tensor


def matmul(a: Tensor, b: Tensor, bias: Tensor | None, transpose_a: bool, transpose_b: bool) -> Tensor:
    """``op(a) @ op(b) + bias``, op the transpose where asked."""
    left, right = a.t() if transpose_a else a, b.t() if transpose_b else b
    return left @ right if bias is None else torch.addmm(bias, left, right)


def head_matmul(a: Tensor, b: Tensor, transpose_a: bool, transpose_b: bool, rows_first: bool) -> Tensor:
    """``op(a[h]) @ op(b[h])`` for every h: [H, M, N], or [M, H, N]."""
    out = (a.transpose(1, 2) if transpose_a else a) @ (b.transpose(1, 2) if transpose_b else b)
    return (out.transpose(0, 1) if rows_first else out).contiguous()


def pair_head(
    h: Tensor,
    pairs: Tensor,
    branch: Tensor | None,
    place: Tensor | None,
    weights_t: Tensor,
    biases: Tensor,
    norm_weights: Tensor,
    norm_biases: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    eps: float,
    num_pair_layers: int,
    norm_mask: int,
    relu_mask: int,
) -> Tensor:
    """Logits of pairs by a stack of layers."""
    v = h[pairs[0]] * h[pairs[1]]
    for layer in range(weights_t.size(0) + 1):
        if layer == num_pair_layers and branch is not None and place is not None:
            v = v + branch[place]
        if layer == weights_t.size(0):
            break
        v = torch.addmm(biases[layer], v, weights_t[layer])
        if norm_mask >> layer & 1:
            v = torch.nn.functional.layer_norm(v, v.shape[1:], norm_weights[layer], norm_biases[layer], eps)
        if relu_mask >> layer & 1:
            v = v.relu()
    return v @ out_weight + out_bias
