"""The dense operators for CUDA tensors, composed of torch's: its matrix products are those of the vendor's library."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_Library: Any = torch.library.Library  # untyped in torch
_libraries: list[Any] = []  # a registration lives as long as its Library object


def matmul(a: Tensor, b: Tensor, bias: Tensor | None, transpose_a: bool, transpose_b: bool) -> Tensor:
    """``op(a) op(b) + bias``; arguments as :func:`graphmem.ops.matmul`."""
    left, right = a.t() if transpose_a else a, b.t() if transpose_b else b
    return left @ right if bias is None else torch.addmm(bias, left, right)


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
    """Layer by layer what :func:`graphmem.ops.pair_head` describes, [B]."""
    v = h[pairs[0]] * h[pairs[1]]
    layers, width = weights_t.size(0), h.size(1)
    for layer in range(layers + 1):
        if layer == num_pair_layers and branch is not None and place is not None:
            v = v + branch[place]
        if layer == layers:
            break
        v = torch.addmm(biases[layer], v, weights_t[layer])
        if norm_mask >> layer & 1:
            v = F.layer_norm(v, (width,), norm_weights[layer], norm_biases[layer], eps)
        if relu_mask >> layer & 1:
            v = F.relu(v)
    return v @ out_weight + out_bias


DENSE = {"matmul": matmul, "pair_head": pair_head}


def register() -> None:
    """Serve CUDA tensors by the functions above, with and without the CUDA library."""
    library = _Library("graphmem", "FRAGMENT")
    _libraries.append(library)
    for name, function in DENSE.items():
        library.impl(name, function, "CUDA")
