"""Specification of ``pair_head``; the one reference that is torch's own operations, since its products are a BLAS's."""

from __future__ import annotations

import torch
from torch import Tensor


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
    """Logits of pairs by a stack of layers, as torch's own operations compute them (so not bit for bit)."""
    v = h[pairs[0]] * h[pairs[1]]
    for layer in range(weights_t.size(0) + 1):
        if layer == num_pair_layers and branch is not None and place is not None:
            v = v + branch[place]
        if layer == weights_t.size(0):
            break
        v = v @ weights_t[layer] + biases[layer]
        if norm_mask >> layer & 1:
            v = torch.nn.functional.layer_norm(v, v.shape[1:], norm_weights[layer], norm_biases[layer], eps)
        if relu_mask >> layer & 1:
            v = v.relu()
    return v @ out_weight + out_bias
