"""Loops of the dense operators (pair products, dropout, normalisation); see :mod:`graphmem.ops._reference_loops`."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphmem.ops._reference_loops import _LOW, Array, _32, _loop, _stream

DROPOUT_BLOCK = 65_536
_ELEMENT, _MURMUR_1, _MURMUR_2 = np.uint64(0x9E3779B9), np.uint64(0x85EBCA6B), np.uint64(0xC2B2AE35)
_13, _16 = np.uint64(13), np.uint64(16)

LANES = 16
"""Partial sums of a row: element f belongs to lane f mod 16."""

NORM_ROWS = 64
"""Rows whose gradients of weight and bias are added before blocks are."""


@_loop
def pair_product(x: Array, pairs: Array, out: Array) -> None:
    for b in range(pairs.shape[1]):
        for f in range(x.shape[1]):
            out[b, f] = x[pairs[0, b], f] * x[pairs[1, b], f]


@_loop
def pair_product_backward(grad: Array, x: Array, pairs: Array, tptr: Array, tslot: Array, out: Array) -> None:
    """Add the terms of each node in the order of its ends: as a source first, then as a target."""
    for node in range(len(tptr) - 1):
        for k in range(tptr[node], tptr[node + 1]):
            side, b = divmod(tslot[k], pairs.shape[1])
            other = pairs[1 - side, b]
            for f in range(x.shape[1]):
                out[node, f] += grad[b, f] * x[other, f]


@_loop
def _element_draw(key_1: np.uint64, key_2: np.uint64, element: int) -> Any:
    """32-bit arithmetic in 64-bit integers: a product of two 32-bit numbers fits, and the mask wraps it."""
    h = (np.uint64(element) * _ELEMENT + key_1) & _LOW
    h = ((h ^ (h >> _16)) * _MURMUR_1) & _LOW
    h = h ^ key_2
    h = ((h ^ (h >> _13)) * _MURMUR_2) & _LOW
    return h ^ (h >> _16)


@_loop
def dropout(x: Array, threshold: np.uint64, scale: Any, seed: np.uint64, relu: bool, out: Array) -> None:
    for block in range((len(x) + DROPOUT_BLOCK - 1) // DROPOUT_BLOCK):
        state = _stream(seed, np.uint64(block))
        first = block * DROPOUT_BLOCK
        for k in range(first, min(first + DROPOUT_BLOCK, len(x))):
            kept = _element_draw(state & _LOW, state >> _32, k - first) >= threshold
            # Written as a test for <= so that nan stays nan, as in ReLU itself.
            if kept and not (relu and x[k] <= 0):
                out[k] = x[k] * scale


@_loop
def dropout_relu_backward(grad: Array, y: Array, scale: Any, out: Array) -> None:
    for k in range(len(y)):
        if y[k] > 0:
            out[k] = grad[k] * scale


@_loop
def _add_lanes(lanes: Array) -> Any:
    step = LANES // 2
    while step > 0:
        for lane in range(step):
            lanes[lane] += lanes[lane + step]
        step //= 2
    return lanes[0]


@_loop
def norm_dropout_relu(
    x: Array,
    weight: Array,
    bias: Array,
    eps: Any,
    threshold: np.uint64,
    scale: Any,
    seed: np.uint64,
    y: Array,
    mean: Array,
    rstd: Array,
) -> None:
    rows, width = x.shape
    count = x.dtype.type(width)
    one = x.dtype.type(1)
    for r in range(rows):
        lanes = np.zeros(LANES, x.dtype)
        for f in range(width):
            lanes[f % LANES] += x[r, f]
        mean[r] = _add_lanes(lanes) / count
        lanes[:] = 0
        for f in range(width):
            d = x[r, f] - mean[r]
            lanes[f % LANES] += d * d
        rstd[r] = one / np.sqrt(_add_lanes(lanes) / count + eps)
        for f in range(width):
            position = r * width + f
            state = _stream(seed, np.uint64(position // DROPOUT_BLOCK))
            kept = _element_draw(state & _LOW, state >> _32, position % DROPOUT_BLOCK) >= threshold
            value = (((x[r, f] - mean[r]) * rstd[r]) * weight[f] + bias[f]) * scale
            # Written as a test for <= so that nan stays nan, as in ReLU itself.
            if kept and not value <= 0:
                y[r, f] = value


@_loop
def norm_dropout_relu_backward(
    grad: Array,
    y: Array,
    x: Array,
    mean: Array,
    rstd: Array,
    weight: Array,
    scale: Any,
    dx: Array,
    dweight: Array,
    dbias: Array,
) -> None:
    rows, width = x.shape
    count = x.dtype.type(width)
    dy, xhat = np.zeros(width, x.dtype), np.zeros(width, x.dtype)
    for first in range(0, rows, NORM_ROWS):
        block_weight, block_bias = np.zeros(width, x.dtype), np.zeros(width, x.dtype)
        for r in range(first, min(first + NORM_ROWS, rows)):
            lanes_1, lanes_2 = np.zeros(LANES, x.dtype), np.zeros(LANES, x.dtype)
            for f in range(width):
                g = grad[r, f] * scale
                if not y[r, f] > 0:
                    g = x.dtype.type(0)
                xhat[f] = (x[r, f] - mean[r]) * rstd[r]
                block_weight[f] += g * xhat[f]
                block_bias[f] += g
                dy[f] = g * weight[f]
                lanes_1[f % LANES] += dy[f]
                lanes_2[f % LANES] += dy[f] * xhat[f]
            m1, m2 = _add_lanes(lanes_1) / count, _add_lanes(lanes_2) / count
            for f in range(width):
                dx[r, f] = (dy[f] - m1 - xhat[f] * m2) * rstd[r]
        for f in range(width):
            dweight[f] += block_weight[f]
            dbias[f] += block_bias[f]
