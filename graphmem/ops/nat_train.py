"""NAT in training: scores of pairs from its state and its layers, by one operator, and the gradients of the layers."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from graphmem.errors import ArgumentError
from graphmem.ops import _check
from graphmem.ops._autograd import Operator
from graphmem.ops.nat import NATState, check_state
from graphmem.ops.ncache import Layout


class NATLayers(NamedTuple):
    """Parameters of :class:`graphmem.models.NAT`; D and F are the widths of states and values, E that of messages."""

    time_weight: Tensor
    """[T, 1]."""
    time_bias: Tensor
    """[T]."""
    lin_state: Tensor
    """[D, D + E + T]."""
    lin_value: Tensor
    """[F, D + E + T]."""
    state_ih: Tensor
    """[3 D, D], of ``torch.nn.GRUCell``, as the seven that follow."""
    state_hh: Tensor
    """[3 D, D]."""
    state_bias_ih: Tensor
    """[3 D]."""
    state_bias_hh: Tensor
    """[3 D]."""
    value_ih: Tensor
    """[3 F, F]."""
    value_hh: Tensor
    """[3 F, F]."""
    value_bias_ih: Tensor
    """[3 F]."""
    value_bias_hh: Tensor
    """[3 F]."""
    position: Tensor
    """[4^(H + 1), P]."""
    pool: Tensor
    """[heads K, F + P + 2]; or [heads K, F + P] without times."""
    pool_bias: Tensor
    """[heads K]."""
    hidden: Tensor
    """[W, heads K + 2 D + 2]; K in place of heads K for sums, and without the last two where there are no times."""
    hidden_bias: Tensor
    """[W]."""
    out: Tensor
    """[1, W]."""
    out_bias: Tensor
    """[1]."""
    attn: Tensor | None
    """[heads, K]; ``None`` for sums, which are averaged over heads."""

    def listed(self) -> list[Tensor]:
        """What the operator takes."""
        return [layer for layer in self if layer is not None]


def nat_train(
    stored: NATState,
    layers: NATLayers,
    heads: int,
    layout: Layout,
    nodes: Tensor,
    place: Tensor,
    t: Tensor,
    *,
    delta: bool = True,
    p: float = 0.0,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Compute logits of candidates as the model of :class:`graphmem.models.NAT` does, with dropout of what is pooled.

    .. math:: \mathrm{logit}_{uv} = w^\top \mathrm{ReLU}\big(P\,
        [\mathrm{drop}(W\, \mathrm{mix}_{uv} + b);\; s'_u;\; s'_v;\; \tau_u;\; \tau_v] + d\big) + c

    with the mixes of :func:`ncache_pool`, by head, and states and values as by :func:`memory_gru` and
    :func:`ncache_refresh`. The mask of dropout is that of :func:`dropout` for [pairs, pooled] and the seed.

    Args:
        stored: the state; without gradient.
        layers: of the dtype of ``stored.state``.
        heads: of the pooling.
        layout: with L - 1 slots.
        nodes: int64 [n], distinct.
        place: int64 [B + B C], places of the sources among them, then of the candidates of each.
        t: [B], dtype of ``stored.time``, of the questions.
        delta: whether times are taken as differences, and the mixes and the hidden layer read times.
        p: probability of a zero.
        seed: of the mask.

    Returns:
        Logits [B C], differentiable, once, with respect to the layers; and, without gradient, states [n, D] and values
        [n, L, F] of the nodes with their last events applied.

    Raises:
        ArgumentError: wrong shape, dtype, device or range, tensors that are not contiguous, or state that requires a
            gradient.
    """
    if not isinstance(layers, NATLayers):
        raise ArgumentError(f"layers: expected NATLayers, got {_check.describe(layers)}")
    _check.integer("heads", heads, 1, 1 << 20)
    _check.seed("seed", seed)
    p = _check.probability("p", p)
    options = layout.checked()
    _check_layers(stored, layers, heads, layout, delta)
    device = stored.key.device
    nodes = _check.tensor("nodes", nodes, shape=(None,), dtypes=(torch.int64,), device=device)
    _check.in_range("nodes", nodes, stored.key.size(0))
    t = _check.tensor("t", t, shape=(None,), dtypes=(stored.time.dtype,), device=device)
    place = _check.tensor("place", place, shape=(None,), dtypes=(torch.int64,), device=device)
    _check.in_range("place", place, nodes.numel())
    if place.numel() % max(t.numel(), 1) or place.numel() < t.numel():
        raise ArgumentError(f"place: expected B (1 + C) places for {t.numel()} sources, got {place.numel()}")
    return nat_train_unchecked(stored, layers.listed(), options, delta, nodes, place, t, heads, p, seed)


def nat_train_unchecked(
    stored: tuple[Tensor | None, ...],
    layers: list[Tensor],
    layout: tuple[Any, ...],
    delta: bool,
    nodes: Tensor,
    place: Tensor,
    t: Tensor,
    heads: int,
    p: float,
    seed: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`nat_train` for arguments made in this package, which the kernel looks at."""
    before, after = (*stored, *layout, delta, nodes, place, t), (heads, p, seed)
    if torch.is_grad_enabled() and any(layer.requires_grad for layer in layers):
        return _Train.apply(before, after, *layers)  # type: ignore[no-any-return,no-untyped-call]
    out: tuple[Tensor, Tensor, Tensor] = _nat_train(*before, layers, *after)[:3]
    return out


class _Train(torch.autograd.Function):
    """One step of the gradient for the whole model."""

    @staticmethod
    def forward(ctx: Any, before: tuple[Any, ...], after: tuple[Any, ...], *layers: Tensor) -> tuple[Tensor, ...]:
        scores, own, now, *saved = _nat_train(*before, list(layers), *after)
        ctx.layout, ctx.after, ctx.saved_count = before[9:13], after, len(saved) + 1
        ctx.save_for_backward(now, *saved, *before[:9], *before[13:], *layers)
        ctx.mark_non_differentiable(own, now)
        ctx.set_materialize_grads(False)
        return scores, own, now

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor | None, *_: Any) -> Any:
        kept = ctx.saved_tensors
        if grad is None:
            return (None,) * (len(kept) - ctx.saved_count - 10)
        saved, stored = kept[: ctx.saved_count], kept[ctx.saved_count : ctx.saved_count + 9]
        asked, layers = kept[ctx.saved_count + 9 : ctx.saved_count + 12], kept[ctx.saved_count + 12 :]
        how = *stored, *ctx.layout, *asked, list(layers), *ctx.after
        return None, None, *_nat_train_backward(grad.contiguous(), *saved, *how)


def _check_layers(stored: NATState, layers: NATLayers, heads: int, layout: Layout, delta: bool) -> None:
    value = _check.tensor("value", stored.value, shape=(None, None, None), dtypes=_check.FLOAT_DTYPES)
    kind, device = (_check.accumulate_dtype(value.dtype),), value.device
    state = _check.tensor("state", stored.state, shape=(None, None), dtypes=kind, device=device)
    wide = ("time_weight", "lin_state", "position", "pool", "hidden")
    times, width, depth, rows, hidden = (
        _check.tensor(name, getattr(layers, name), shape=(None, None), dtypes=kind, device=device).size(k)
        for name, k in zip(wide, (0, 1, 1, 0, 0), strict=True)
    )
    d, f, clocks, pool_dim = state.size(1), value.size(2), 2 * bool(delta), rows // heads
    if width < d + times:
        raise ArgumentError(f"lin_state: expected at least {d + times} columns, got {width}")
    check_state(stored, layout, width - d - times, d)
    for name in ("value", "state", "messages"):
        given = getattr(stored, name)
        if given is not None and given.requires_grad:
            raise ArgumentError(f"{name}: expected a tensor that requires no gradient")
    shapes = {
        "time_weight": (times, 1),
        "time_bias": (times,),
        "lin_state": (d, width),
        "lin_value": (f, width),
        **_shapes_of_cell("state", d),
        **_shapes_of_cell("value", f),
        "position": (4 ** (len(layout.sizes) + 1), depth),
        "pool": (heads * pool_dim, f + depth + clocks),
        "pool_bias": (heads * pool_dim,),
        "hidden": (hidden, pool_dim * (1 if layers.attn is None else heads) + 2 * d + clocks),
        "hidden_bias": (hidden,),
        "out": (1, hidden),
        "out_bias": (1,),
        **({} if layers.attn is None else {"attn": (heads, pool_dim)}),
    }
    for name, shape in shapes.items():
        layer = getattr(layers, name)
        _check.tensor(name, layer, shape=shape, dtypes=kind, device=device)
        if not layer.is_contiguous():
            raise ArgumentError(f"{name}: expected a contiguous tensor, got strides {layer.stride()}")


def _shapes_of_cell(name: str, units: int) -> dict[str, tuple[int, ...]]:
    matrix, bias = (3 * units, units), (3 * units,)
    return {f"{name}_ih": matrix, f"{name}_hh": matrix, f"{name}_bias_ih": bias, f"{name}_bias_hh": bias}


@torch.library.register_fake("graphmem::nat_train")
def _nat_train_fake(*arguments: Any) -> tuple[Tensor, ...]:
    key, value, state, nodes, place, t, layers, heads = (arguments[k] for k in (0, 3, 4, 13, 14, 15, 16, 17))
    d, rows, pairs = state.size(1), nodes.size(0), place.size(0) - t.size(0)
    mixes = heads if len(layers) == len(NATLayers._fields) else 1
    shapes = (
        *((pairs,), (rows, d), (rows, key.size(1), value.size(2)), (rows, d + layers[2].size(1)), (rows, 4 * d)),
        *((pairs, mixes, layers[13].size(1)), (pairs, layers[15].size(1)), (pairs, layers[15].size(0))),
    )
    return tuple(state.new_empty(shape) for shape in shapes)


@torch.library.register_fake("graphmem::nat_train_backward")
def _nat_train_backward_fake(*arguments: Any) -> list[Tensor]:
    return [torch.empty_like(layer) for layer in arguments[23]]


_nat_train, _nat_train_backward = Operator("nat_train"), Operator("nat_train_backward")
