"""NAT without gradient: scores of pairs from its state, and events that enter it, in one call each.

The model is :class:`graphmem.models.NAT`; what its state holds is told there and in :class:`graphmem.nn.NeighborCache`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphmem.errors import ArgumentError, ArgumentTypeError
from graphmem.ops import _check
from graphmem.ops._autograd import Operator
from graphmem.ops._nat_weights import NATWidths as NATWidths
from graphmem.ops.ncache import TIMES, Layout


class NATState(NamedTuple):
    """State of NAT, and how it is read."""

    key: Tensor
    """int32 or int64 [N, L]; -1 for an empty slot."""
    eid: Tensor
    """int64 [N, L], numbers of events; -1 for none."""
    time: Tensor
    """int64 or float64 [N, L]."""
    value: Tensor
    """[N, L, F], floating point."""
    state: Tensor
    """[N, D]; float64 with values of float64, else float32."""
    other: Tensor
    """int64 [N], the other end of each node's last event."""
    gap: Tensor
    """[N], dtype of ``time``, between a node's last two events."""
    messages: Tensor | None
    """[R, E], dtype of ``state``; ``None`` where there are none, or no event has happened yet."""
    known: Tensor | None
    """int64 [R], ascending numbers of the events whose messages these are; ``None``: row e is that of event e."""


def nat_score(
    stored: NATState, weights: Tensor, widths: NATWidths, layout: Layout, src: Tensor, dst: Tensor, t: Tensor
) -> Tensor:
    r"""Compute logits of candidates, without gradient and without a step of Python in between.

    .. math:: \mathrm{logit}_{uv} = w^\top \mathrm{ReLU}\big(P\, \mathrm{mix}_{uv} + S s'_u + D s'_v
        + T [\tau_u, \tau_v] + b\big) + c

    with the mixes of :func:`ncache_pool` and states and values as by :func:`memory_gru` and :func:`ncache_refresh`: the
    model's equation with its linear layers multiplied. The bits of a score depend on no other pair of the call.

    Args:
        stored: the state.
        weights: [widths.size], dtype of the state.
        widths: of the weights.
        layout: with L - 1 slots.
        src: int64 [B].
        dst: int64 [B, C].
        t: [B], dtype of ``stored.time``.

    Returns:
        [B, C], dtype of the state. Not differentiable.

    Raises:
        ArgumentError: wrong shape, dtype, device or range, or state or weights that are not contiguous.
    """
    arguments = (*_options(stored, weights, widths, layout), src, dst, t)
    if _check.by_operator(*stored, weights, src, dst, t):
        try:
            return nat_score_unchecked(*arguments)
        except RuntimeError:
            pass  # the checks say why
    _check_state(stored, weights, widths, layout)
    device, nodes = stored.key.device, stored.key.size(0)
    src = _check.tensor("src", src, shape=(None,), dtypes=(torch.int64,), device=device)
    dst = _check.tensor("dst", dst, shape=(src.numel(), None), dtypes=(torch.int64,), device=device)
    t = _check.tensor("t", t, shape=(src.numel(),), dtypes=(stored.time.dtype,), device=device)
    _check.in_range("src", src, nodes)
    _check.in_range("dst", dst, nodes)
    return nat_score_unchecked(*arguments[:-3], src, dst, t)


def nat_score_unchecked(*arguments: Any) -> Tensor:
    """:func:`nat_score` for arguments in the order of the schema, which the kernel looks at."""
    out: Tensor = _nat_score(*arguments)
    return out


def nat_update(
    stored: NATState,
    weights: Tensor,
    widths: NATWidths,
    layout: Layout,
    src: Tensor,
    dst: Tensor,
    t: Tensor,
    asked: Tensor | None = None,
    *,
    first: int,
    replace_prob: float,
    sequential: bool = False,
) -> Tensor:
    """Enter events into the state, in place: what :meth:`graphmem.models.NAT.update` does, but for messages.

    Candidates of the events' sources are scored before, from the state as it was; the nodes that both read are brought
    up to date once.

    Args:
        stored: the state; its first seven tensors are written.
        weights: [widths.size], dtype of the state.
        widths: of the weights.
        layout: with L - 1 slots.
        src: int64 [E].
        dst: int64 [E].
        t: [E], dtype of ``stored.time``.
        asked: int64 [E, C], candidates of each source at the time of its event; ``None``: C = 0.
        first: number of the first event.
        replace_prob: see :func:`ncache_commit`.
        sequential: likewise.

    Returns:
        [E, C], logits as :func:`nat_score` returns them. Not differentiable.

    Raises:
        ArgumentError: wrong shape, dtype, device or range, or state or weights that are not contiguous. Nothing was
            written then.
    """
    probability = _check.real("replace_prob", replace_prob)
    _check.integer("first", first)
    arguments = _options(stored, weights, widths, layout)
    how = first, probability, sequential
    if _check.by_operator(*stored, weights, src, dst, t, asked):
        try:
            return nat_update_unchecked(*arguments, src, dst, t, asked, *how)
        except RuntimeError:
            pass  # the checks say why
    _check_state(stored, weights, widths, layout)
    if not 0 <= probability <= 1:
        raise ArgumentError(f"replace_prob: expected a number from 0 to 1, got {replace_prob}")
    device, nodes = stored.key.device, stored.key.size(0)
    src, dst = _check.ends(src, dst, nodes, device)
    t = _check.tensor("t", t, shape=(src.numel(),), dtypes=(stored.time.dtype,), device=device)
    if asked is not None:
        asked = _check.tensor("asked", asked, shape=(src.numel(), None), dtypes=(torch.int64,), device=device)
        _check.in_range("asked", asked, nodes)
    return nat_update_unchecked(*arguments, src, dst, t, asked, *how)


def nat_update_unchecked(*arguments: Any) -> Tensor:
    """:func:`nat_update` for arguments in the order of the schema, which the kernel looks at."""
    out: Tensor = _nat_update(*arguments)
    return out


def nat_enter(*arguments: Any) -> None:
    """Enter events whose nodes were read before, as :func:`nat_update` does.

    Arguments in the order of the schema (``docs/architecture.md``), which the kernel looks at: state, events and their
    numbers, the nodes that were read (all of the events', maybe others) with the places of the events' sources and
    destinations among them, what states and cells are worth, and the options of :func:`ncache_commit`.
    """
    _nat_enter(*arguments)


def nat_weights(widths: NATWidths, parts: Mapping[str, Tensor]) -> Tensor:
    """Stack weights as the operators read them.

    Args:
        widths: of the weights.
        parts: for each of ``widths.parts()`` a tensor of its shape, all of one dtype and device.

    Returns:
        [widths.size].
    """
    like = next(iter(parts.values()))
    out = like.new_zeros(widths.size, requires_grad=False)
    views = widths.views(out)
    with torch.no_grad():
        torch._foreach_copy_(list(views.values()), [parts[name] for name in views])
    return out


def _options(stored: NATState, weights: Tensor, widths: NATWidths, layout: Layout) -> tuple[Any, ...]:
    """What both operators are given first."""
    if not isinstance(widths, NATWidths):
        raise ArgumentTypeError(f"widths: expected NATWidths, got {_check.describe(widths)}")
    for name, width in zip(NATWidths._fields, widths, strict=True):
        if name != "aged":
            _check.integer(f"widths.{name}", width, 0, 1 << 20)
    return *stored, weights, widths.options, *layout.checked(), bool(widths.aged)


def _check_state(stored: NATState, weights: Tensor, widths: NATWidths, layout: Layout) -> None:
    if widths.hops != len(layout.sizes):
        raise ArgumentError(f"widths: expected {len(layout.sizes)} hops as in layout, got {widths.hops}")
    check_state(stored, layout, widths.message, widths.state, widths.value)
    _check.tensor("weights", weights, shape=(widths.size,), dtypes=(stored.state.dtype,), device=stored.key.device)
    if not weights.is_contiguous():
        raise ArgumentError(f"weights: expected a contiguous tensor, got strides {weights.stride()}")


def check_state(stored: NATState, layout: Layout, raw: int, depth: int, width: int | None = None) -> None:
    """Look at the state of a NAT whose messages have ``raw`` numbers, states ``depth`` and values ``width``."""
    columns, index = 1 + sum(layout.sizes), (torch.int64,)
    key = _check.tensor("key", stored.key, shape=(None, columns), dtypes=_check.INDEX_DTYPES)
    rows, device = key.size(0), key.device
    _check.tensor("eid", stored.eid, shape=(rows, columns), dtypes=index, device=device)
    time = _check.tensor("time", stored.time, shape=(rows, columns), dtypes=TIMES, device=device)
    shape = (rows, columns, width)
    value = _check.tensor("value", stored.value, shape=shape, dtypes=_check.FLOAT_DTYPES, device=device)
    kind = (_check.accumulate_dtype(value.dtype),)
    _check.tensor("state", stored.state, shape=(rows, depth), dtypes=kind, device=device)
    _check.tensor("other", stored.other, shape=(rows,), dtypes=index, device=device)
    _check.in_range("other", stored.other, rows, stored.other >= 0)
    _check.tensor("gap", stored.gap, shape=(rows,), dtypes=(time.dtype,), device=device)
    _check.in_range("key", key, rows, (stored.eid >= 0) & (torch.arange(columns, device=device) > 0))
    found = stored.eid[stored.eid >= 0]
    if stored.messages is not None:
        messages = _check.tensor("messages", stored.messages, shape=(None, raw), dtypes=kind, device=device)
        count = messages.size(0)
        if stored.known is not None:
            known = _check.tensor("known", stored.known, shape=(count,), dtypes=index, device=device)
            found = torch.searchsorted(known, found)
        _check.in_range("messages", found, count)
    elif stored.known is not None or (raw and found.numel() and not _check.unseen(found)):
        raise ArgumentError("messages: expected those of the events that cells hold, got None")
    for name, tensor in stored._asdict().items():
        if tensor is not None and not tensor.is_contiguous():
            raise ArgumentError(f"{name}: expected a contiguous tensor, got strides {tensor.stride()}")


@torch.library.register_fake("graphmem::nat_score")
def _nat_score_fake(*arguments: Any) -> Tensor:
    state, dst = arguments[4], arguments[16]
    return state.new_empty(dst.shape)  # type: ignore[no-any-return]


@torch.library.register_fake("graphmem::nat_update")
def _nat_update_fake(*arguments: Any) -> Tensor:
    state, src, asked = arguments[4], arguments[15], arguments[18]
    return state.new_empty(src.size(0), 0 if asked is None else asked.size(1))  # type: ignore[no-any-return]


@torch.library.register_fake("graphmem::nat_enter")
def _nat_enter_fake(*_: Any) -> None:
    return None


_nat_score, _nat_update, _nat_enter = Operator("nat_score"), Operator("nat_update"), Operator("nat_enter")
