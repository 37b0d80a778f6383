"""Dictionaries of neighbours: what their cells are worth, what two of them hold together, events that enter them.

A row of cells belongs to a node: column 0 is its own entry, then come the slots of each hop, side by side. See
:class:`graphmem.nn.NeighborCache`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.ops import _check
from graphmem.ops._autograd import Operator
from graphmem.ops._joint import place_keys

TIMES = (torch.int64, torch.float64)
MAX_HOPS = 7
_FULL = (torch.float32, torch.float64)


class Layout(NamedTuple):
    """How a row of cells is divided, and where keys lie in it."""

    sizes: tuple[int, ...]
    """Slots of each hop, L - 1 together."""
    hash: str = "mix"
    """"mix" or "reference"."""
    seed: int = 0

    def place(self, keys: Tensor, hop: int) -> Tensor:
        """The columns int64 [*] in which keys int64 [*] lie in every row's dictionary of a hop, from 1 on."""
        return place_keys(keys, self.sizes, hop, self.hash == "reference", self.seed)

    @property
    def options(self) -> tuple[list[int], bool, int]:
        """What the operators take."""
        return list(self.sizes), self.hash == "reference", self.seed

    def checked(self) -> tuple[list[int], bool, int]:
        """What the operators take, looked at.

        Raises:
            ArgumentError: no hops or more than 7, sizes outside of [1, 2^20], another hash, or a negative seed.
        """
        if not isinstance(self.sizes, tuple | list) or not 1 <= len(self.sizes) <= MAX_HOPS:
            raise ArgumentError(f"sizes: expected 1 to {MAX_HOPS} hops, got {self.sizes!r}")
        for size in self.sizes:
            _check.integer("sizes", size, 1, 1 << 20)
        _check.integer("seed", self.seed)
        _check.choice("hash", self.hash, ("mix", "reference"))
        return self.options


class CellWeights(NamedTuple):
    r"""The cell that brings values up to date: :math:`z' = \mathrm{GRU}(W [s, m, \cos(w \delta + b)], z)`."""

    time_weight: Tensor
    """[T], w."""
    time_bias: Tensor
    """[T], b."""
    weight: Tensor
    """[F, D + E + T], W."""
    weight_ih: Tensor
    """[3 F, F], of ``torch.nn.GRUCell``, as the other three."""
    weight_hh: Tensor
    """[3 F, F]."""
    bias_ih: Tensor
    """[3 F]."""
    bias_hh: Tensor
    """[3 F]."""


def ncache_refresh(
    key: Tensor,
    eid: Tensor,
    time: Tensor,
    value: Tensor,
    nodes: Tensor,
    state: Tensor,
    weights: CellWeights,
    messages: Tensor | None = None,
    row: Tensor | None = None,
    *,
    delta: bool = True,
) -> Tensor:
    r"""Compute what the cells of some rows are worth: their values, with the events that filled them applied.

    .. math:: z'_{ic} = \mathrm{GRU}\big(W [s_{key_{ic}},\; m_{row_{ic}},\; \cos(w\,\delta_{ic} + b)],\; z_{ic}\big)

    where a cell has an event, else :math:`z_{ic}`. The parts of keys and messages are computed once for each of them.

    Args:
        key: int32 or int64 [N, L]; -1 for an empty slot. The own entry's is not read: it is the node.
        eid: int64 [N, L], numbers of events; -1 for none.
        time: int64 or float64 [N, L].
        value: [N, L, F], floating point, z; without gradient.
        nodes: int64 [n].
        state: float32 or float64 [N, D], s; without gradient. float64 with values of float64, else float32.
        weights: of the dtype of ``state``.
        messages: [R, E], m; without gradient.
        row: int64 [n, L], rows of messages; what it says of cells without an event is not read.
        delta: whether :math:`\delta` is the time of the row's own entry minus the cell's, or the cell's time.

    Returns:
        [n, L, F], dtype of ``state``. Differentiable, once, with respect to the weights.

    Raises:
        ArgumentError: wrong shape, dtype, device or range, or states, values or messages that require a gradient.
    """
    key, eid, time = _check_cells(key, eid, time)
    device, (rows, columns) = key.device, key.shape
    value = _check.tensor("value", value, shape=(rows, columns, None), dtypes=_check.FLOAT_DTYPES, device=device)
    kind = (_check.accumulate_dtype(value.dtype),)
    nodes = _check_nodes(nodes, rows, device)
    state = _check.tensor("state", state, shape=(rows, None), dtypes=kind, device=device)
    if (messages is None) != (row is None):
        raise ArgumentError("messages and row: expected both or neither")
    filled = eid[nodes] >= 0
    _check.in_range("key", key[nodes][:, 1:], rows, filled[:, 1:])
    width, depth = value.size(2), state.size(1)
    if messages is not None:
        messages = _check.tensor("messages", messages, shape=(None, None), dtypes=kind, device=device)
        row = _check.tensor("row", row, shape=(nodes.numel(), columns), dtypes=(torch.int64,), device=device)
        _check.in_range("row", row, messages.size(0), filled)
        depth += messages.size(1)
    for name, given in (("state", state), ("value", value), ("messages", messages)):
        if given is not None and given.requires_grad:
            raise ArgumentError(f"{name}: expected a tensor that requires no gradient")
    times = _check.tensor("time_weight", weights.time_weight, shape=(None,), dtypes=kind, device=device).numel()
    shapes = ((times,), (times,), (width, depth + times), *([(3 * width, width)] * 2), *([(3 * width,)] * 2))
    checked = [
        _check.tensor(name, weight, shape=shape, dtypes=kind, device=device)
        for name, weight, shape in zip(CellWeights._fields, weights, shapes, strict=True)
    ]
    return ncache_refresh_unchecked(key, eid, time, value, nodes, state, messages, row, delta, *checked)


def ncache_refresh_unchecked(*arguments: Any) -> Tensor:
    """:func:`ncache_refresh` for arguments made in this package, in the order of the schema."""
    out: Tensor = ncache_refresh_operator(*arguments)
    return out


def ncache_pool(
    key: Tensor,
    eid: Tensor,
    time: Tensor,
    nodes: Tensor,
    now: Tensor,
    layout: Layout,
    first: Tensor,
    second: Tensor,
    position: Tensor,
    *,
    t: Tensor | None = None,
    query: Tensor | None = None,
    constant: Tensor | None = None,
) -> Tensor:
    r"""Mix what the dictionaries of two nodes u and v hold together, each key once.

    For a key a let :math:`\zeta_a` be the sum of what the cells that hold it are worth, and :math:`m_a` the
    2 (H + 1) bits that say which dictionaries do: u's by hop, then v's. With times t, :math:`\tau_{ua}` is
    :math:`\ln(1 + t - t')` for the time t' of u's cell of smallest hop that holds a; 0 where none does or no event has
    filled it. Then

    .. math::
        h_a = [\zeta_a,\; P_{m_a},\; \tau_{ua},\; \tau_{va}], \qquad y_h = \sum_a \alpha_{ha} h_a, \qquad
        \alpha_h = \mathrm{softmax}_a\, \mathrm{LeakyReLU}_{0.2}(\langle q_h, h_a \rangle + c_h)

    or without queries :math:`\alpha = 1`, for one head. A pair has at least one key: its own node.

    Args:
        key: int32 or int64 [N, L]; see :func:`ncache_refresh`.
        eid: int64 [N, L].
        time: int64 or float64 [N, L].
        nodes: int64 [n].
        now: float32 or float64 [n, L, F], what the cells of these nodes are worth.
        layout: with L - 1 slots.
        first: int64 [p], u, as places among nodes.
        second: int64 [p], v.
        position: [4^(H + 1), D], P.
        t: [p], dtype of ``time``.
        query: [heads, F + D + 2], q; or [heads, F + D] without times.
        constant: [heads], c.

    Returns:
        [heads, p, F + D + 2], dtype of ``now``. Differentiable, once, with respect to now, position, query and
        constant.

    Raises:
        ArgumentError: wrong shape, dtype, device or range.
    """
    options = layout.checked()
    key, eid, time = _check_cells(key, eid, time, 1 + sum(layout.sizes))
    device = key.device
    nodes = _check_nodes(nodes, key.size(0), device)
    now = _check.tensor("now", now, shape=(nodes.numel(), key.size(1), None), dtypes=_FULL, device=device)
    kind, masks = (now.dtype,), 4 ** (len(layout.sizes) + 1)
    first = _check.tensor("first", first, shape=(None,), dtypes=(torch.int64,), device=device)
    second = _check.tensor("second", second, shape=(first.numel(),), dtypes=(torch.int64,), device=device)
    _check.in_range("first", first, nodes.numel())
    _check.in_range("second", second, nodes.numel())
    if t is not None:
        t = _check.tensor("t", t, shape=(first.numel(),), dtypes=(time.dtype,), device=device)
    position = _check.tensor("position", position, shape=(masks, None), dtypes=kind, device=device)
    if (query is None) != (constant is None):
        raise ArgumentError("query and constant: expected both or neither")
    if query is not None:
        width = now.size(2) + position.size(1) + (0 if t is None else 2)
        query = _check.tensor("query", query, shape=(None, width), dtypes=kind, device=device)
        constant = _check.tensor("constant", constant, shape=(query.size(0),), dtypes=kind, device=device)
        if query.size(0) == 0:
            raise ArgumentError("query: expected at least one head")
    return ncache_pool_unchecked(key, eid, time, nodes, now, *options, first, second, t, position, query, constant)


def ncache_pool_unchecked(*arguments: Any) -> Tensor:
    """:func:`ncache_pool` for arguments made in this package, in the order of the schema."""
    out: Tensor = ncache_pool_operator(*arguments)
    return out


def ncache_commit(
    key: Tensor,
    eid: Tensor,
    time: Tensor,
    value: Tensor,
    src: Tensor,
    dst: Tensor,
    t: Tensor,
    event: Tensor,
    nodes: Tensor,
    at: Tensor,
    now: Tensor,
    layout: Layout,
    *,
    replace_prob: float,
    sequential: bool = False,
) -> None:
    """Enter events into the dictionaries of both their ends, in order and in place.

    What is offered to whom is told in :class:`graphmem.nn.NeighborCache`. An offer is taken by a cell that was empty or
    held the same key, and by another one with probability ``replace_prob``: a function of the seed, the event, the end
    and the offering cell. The last offer that a cell takes stays.

    Args:
        key: int32 or int64 [N, L]; see :func:`ncache_refresh`.
        eid: int64 [N, L].
        time: int64 or float64 [N, L].
        value: [N, L, F], floating point.
        src: int64 [E].
        dst: int64 [E].
        t: [E], dtype of ``time``.
        event: int64 [E], numbers of the events.
        nodes: int64 [n], distinct: all of src and dst.
        at: int64 [2 E], places of src, then of dst, among them.
        now: [n, L, F], what the cells of these nodes are worth; float64 with values of float64, else float32.
        layout: with L - 1 slots.
        replace_prob: from 0 to 1.
        sequential: whether offers meet what earlier events of the batch have left, as if each had come alone, or what
            there was before the batch. What an earlier event has written is worth what it wrote.

    Raises:
        ArgumentError: wrong shape, dtype, device or range, or state that is not contiguous. Nothing was written then.
    """
    options = layout.checked()
    probability = _check.real("replace_prob", replace_prob)
    state = (key, eid, time, value)
    if _check.by_operator(*state, src, dst, t, event, nodes, at, now):
        arguments = _check.contiguous(src, dst, t, event, nodes, at, now)
        try:
            torch.ops.graphmem.ncache_commit(*state, *arguments, *options, probability, sequential)
            return
        except RuntimeError:
            pass  # the checks say why
    device = _check_cells(key, eid, time, 1 + sum(layout.sizes))[0].device
    shape = (*key.shape, None)
    _check.tensor("value", value, shape=shape, dtypes=_check.FLOAT_DTYPES, device=device)
    for name, cells in (("key", key), ("eid", eid), ("time", time), ("value", value)):
        if not cells.is_contiguous():  # a copy would take the events instead
            raise ArgumentError(f"{name}: expected a contiguous tensor, got strides {cells.stride()}")
    if not 0 <= probability <= 1:
        raise ArgumentError(f"replace_prob: expected a number from 0 to 1, got {replace_prob}")
    src = _check.tensor("src", src, shape=(None,), dtypes=(torch.int64,), device=device)
    size = (src.numel(),)
    dst, event = (
        _check.tensor(name, ids, shape=size, dtypes=(torch.int64,), device=device)
        for name, ids in (("dst", dst), ("event", event))
    )
    t = _check.tensor("t", t, shape=size, dtypes=(time.dtype,), device=device)
    nodes = _check_nodes(nodes, key.size(0), device)
    at = _check.tensor("at", at, shape=(2 * src.numel(),), dtypes=(torch.int64,), device=device)
    _check.in_range("at", at, nodes.numel())
    kind = (_check.accumulate_dtype(value.dtype),)
    now = _check.tensor("now", now, shape=(nodes.numel(), *value.shape[1:]), dtypes=kind, device=device)
    if not _check.unseen(at) and not torch.equal(nodes[at], torch.cat((src, dst))):
        raise ArgumentError("at: expected the places of src, then of dst, among nodes")
    torch.ops.graphmem.ncache_commit(*state, src, dst, t, event, nodes, at, now, *options, probability, sequential)


def _check_cells(key: Tensor, eid: Tensor, time: Tensor, columns: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The cells, contiguous."""
    key = _check.tensor("key", key, shape=(None, columns), dtypes=_check.INDEX_DTYPES)
    eid = _check.tensor("eid", eid, shape=tuple(key.shape), dtypes=(torch.int64,), device=key.device)
    time = _check.tensor("time", time, shape=tuple(key.shape), dtypes=TIMES, device=key.device)
    if key.size(1) == 0:
        raise ArgumentError(f"key: expected at least one column, got {_check.describe(key)}")
    return key, eid, time


def _check_nodes(nodes: Tensor, rows: int, device: torch.device) -> Tensor:
    nodes = _check.tensor("nodes", nodes, shape=(None,), dtypes=(torch.int64,), device=device)
    _check.in_range("nodes", nodes, rows)
    return nodes


@torch.library.register_fake("graphmem::ncache_refresh")
def _ncache_refresh_fake(
    key: Tensor, eid: Tensor, time: Tensor, value: Tensor, nodes: Tensor, state: Tensor, *_: Any
) -> Tensor:
    return state.new_empty(nodes.size(0), *value.shape[1:])


@torch.library.register_fake("graphmem::ncache_refresh_backward")
def _ncache_refresh_backward_fake(grad: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(weight) for weight in arguments[9:])


@torch.library.register_fake("graphmem::ncache_pool")
def _ncache_pool_fake(
    key: Tensor, eid: Tensor, time: Tensor, nodes: Tensor, now: Tensor, sizes: Sequence[int], *rest: Any
) -> Tensor:
    _, _, first, _, t, position, query, _ = rest
    width = now.size(2) + position.size(1) + (0 if t is None else 2)
    return now.new_empty(1 if query is None else query.size(0), first.size(0), width)


@torch.library.register_fake("graphmem::ncache_pool_backward")
def _ncache_pool_backward_fake(grad: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    now, position, query = arguments[4], arguments[11], arguments[12]
    heads = 0 if query is None else query.size(0)
    return torch.empty_like(now), torch.empty_like(position), now.new_empty(heads, grad.size(2)), now.new_empty(heads)


@torch.library.register_fake("graphmem::ncache_commit")
def _ncache_commit_fake(*_: Any) -> None:
    return None


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.places = [place for place, given in enumerate(inputs) if isinstance(given, Tensor)]
    ctx.others = [None if isinstance(given, Tensor) else given for given in inputs]
    ctx.save_for_backward(*(given for given in inputs if isinstance(given, Tensor)))
    ctx.set_materialize_grads(False)


def _arguments(ctx: Any) -> list[Any]:
    arguments = list(ctx.others)
    for place, given in zip(ctx.places, ctx.saved_tensors, strict=True):
        arguments[place] = given
    return arguments


def _refresh_backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 16
    gradients: tuple[Tensor, ...] = _ncache_refresh_backward(grad.contiguous(), *_arguments(ctx))
    return *(None,) * 9, *gradients


def _pool_backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 14
    arguments = _arguments(ctx)
    d_now, d_position, d_query, d_constant = _ncache_pool_backward(grad.contiguous(), *arguments)
    of_query = (None, None) if arguments[12] is None else (d_query, d_constant)
    return None, None, None, None, d_now, None, None, None, None, None, None, d_position, *of_query


ncache_refresh_operator = Operator("ncache_refresh", _refresh_backward, _setup_context)
ncache_pool_operator = Operator("ncache_pool", _pool_backward, _setup_context)
_ncache_refresh_backward = Operator("ncache_refresh_backward")
_ncache_pool_backward = Operator("ncache_pool_backward")
_check.differentiable_once("graphmem::ncache_refresh_backward")
_check.differentiable_once("graphmem::ncache_pool_backward")
