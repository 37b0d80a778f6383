"""The dense head of a pair decoder, for evaluation, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.ops import _check


class HeadLayer(NamedTuple):
    """One layer: ``act(norm(v W^T + b))``; ``norm`` is (weight, bias) or ``None``, ``relu`` whether it is activated."""

    weight: Tensor
    bias: Tensor
    norm: tuple[Tensor, Tensor] | None
    relu: bool


class HeadWeights(NamedTuple):
    """A head's layers, stacked as the operator reads them; see :func:`stack_head`."""

    weights_t: Tensor
    biases: Tensor
    norm_weights: Tensor
    norm_biases: Tensor
    out_weight: Tensor
    out_bias: Tensor
    eps: float
    num_pair_layers: int
    norm_mask: int
    relu_mask: int


def stack_head(
    pair_layers: Sequence[HeadLayer],
    logit_layers: Sequence[HeadLayer],
    out_weight: Tensor,
    out_bias: Tensor,
    eps: float = 1e-5,
) -> HeadWeights:
    """Stack the layers of a head: those of the pair term, those after the branch is added, the last to one number.

    Args:
        pair_layers: layers [C, C] on the pair product.
        logit_layers: layers [C, C] on the sum of pair term and branch.
        out_weight: [1, C].
        out_bias: [1].
        eps: of all normalisations.
    """
    layers = [*pair_layers, *logit_layers]
    if not layers:
        raise ArgumentError("pair_layers and logit_layers: expected at least one layer, got none")
    ones, zeros = torch.ones_like(layers[0].bias), torch.zeros_like(layers[0].bias)
    norms = [(ones, zeros) if layer.norm is None else layer.norm for layer in layers]
    return HeadWeights(
        torch.stack([layer.weight.t() for layer in layers]).detach().contiguous(),
        torch.stack([layer.bias for layer in layers]).detach(),
        torch.stack([weight for weight, _ in norms]).detach(),
        torch.stack([bias for _, bias in norms]).detach(),
        out_weight.detach().reshape(-1).contiguous(),
        out_bias.detach().contiguous(),
        eps,
        len(pair_layers),
        sum(1 << n for n, layer in enumerate(layers) if layer.norm is not None),
        sum(1 << n for n, layer in enumerate(layers) if layer.relu),
    )


def pair_head(
    h: Tensor, pairs: Tensor, head: HeadWeights, branch: Tensor | None = None, place: Tensor | None = None
) -> Tensor:
    r"""Logits of pairs, without gradient: layers on :math:`h_i \odot h_j`, plus the branch, more layers, one number.

    Blocks of 240 pairs run through all layers on one thread each, so that activations stay in cache and threads do not
    wait for each other at every layer. Products are those of :func:`graphmem.ops.linear`; the same bits for every
    number of threads. Layer by layer gives the same to rounding (sums of the normalisation run in another order).

    Args:
        h: float32 or float64 [N, C].
        pairs: int64 [2, B].
        head: from :func:`stack_head`.
        branch: [R, C], added to the pair term: row ``place[b]`` for pair b.
        place: int64 [B].

    Returns:
        [B]. Not differentiable.

    Raises:
        ArgumentError: wrong shape, dtype or device, an id out of range, or one of ``branch`` and ``place`` alone.
    """
    h = _check.tensor("h", h, shape=(None, None), dtypes=(torch.float32, torch.float64))
    pairs = _check.tensor("pairs", pairs, shape=(2, None), dtypes=(torch.int64,), device=h.device)
    _check.in_range("pairs", pairs, h.size(0))
    width = h.size(1)
    layers = head.biases.size(0) if isinstance(head.biases, Tensor) and head.biases.dim() else 0
    head = _check_head(head, layers, width, h)
    if (branch is None) != (place is None):
        raise ArgumentError("branch and place: expected both or neither")
    if branch is not None and place is not None:
        branch = _check.tensor("branch", branch, shape=(None, width), dtypes=(h.dtype,), device=h.device).detach()
        place = _check.tensor("place", place, shape=(pairs.size(1),), dtypes=(torch.int64,), device=h.device)
        _check.in_range("place", place, branch.size(0))
    out: Tensor = torch.ops.graphmem.pair_head(h.detach(), pairs, branch, place, *head)
    return out


def _check_head(head: HeadWeights, layers: int, width: int, h: Tensor) -> HeadWeights:
    """The head's tensors, contiguous, if they fit each other and ``h``."""
    shapes = {"weights_t": (layers, width, width), "out_weight": (width,), "out_bias": (1,)}
    shapes |= dict.fromkeys(("biases", "norm_weights", "norm_biases"), (layers, width))
    checked = {
        name: _check.tensor(f"head.{name}", getattr(head, name), shape=shape, dtypes=(h.dtype,), device=h.device)
        for name, shape in shapes.items()
    }
    if not _check.real("head.eps", head.eps) >= 0:
        raise ArgumentError(f"head.eps: expected a non-negative number, got {head.eps}")
    _check.integer("head.num_pair_layers", head.num_pair_layers, 0, layers)
    for name in ("norm_mask", "relu_mask"):
        _check.integer(f"head.{name}", getattr(head, name), 0, 2 ** min(layers, 62) - 1)
    return head._replace(**{name: value.detach() for name, value in checked.items()})  # type: ignore[arg-type]


@torch.library.register_fake("graphmem::pair_head")
def _pair_head_fake(h: Tensor, pairs: Tensor, *_: Any) -> Tensor:
    return h.new_empty(pairs.size(1))
