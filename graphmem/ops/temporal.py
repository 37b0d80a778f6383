"""All events of every node in order of time: rows in a pool that grow in place, questions about any time."""

from __future__ import annotations

import torch
from torch import Tensor

from graphmem.errors import ArgumentError
from graphmem.ops import _check
from graphmem.ops.ring import TIMES

STRATEGIES = ("recent", "uniform", "decayed")


def temporal_append(
    start: Tensor,
    length: Tensor,
    nbr: Tensor,
    eid: Tensor,
    time: Tensor,
    used: Tensor,
    next_event: Tensor,
    latest: Tensor,
    src: Tensor,
    dst: Tensor,
    t: Tensor | None = None,
    event: Tensor | None = None,
) -> int:
    """Give the events of a batch to both ends, in place: (dst, event, t) behind the source's row, then the other way.

    Node v owns ``length[v]`` entries of the pool from ``start[v]`` on and the free places behind them, up to the next
    of 4, 6, 8, 12, 16, 24, ... in all. A row without a free place moves to the end of the pool and leaves its old
    places behind. Cost of n events: O(n) and, now and then, a row that moves; over a whole stream O(1) an event.
    It waits for the device: whether the pool has room is known there.

    Args:
        start: int64 [N].
        length: int64 [N].
        nbr: int64 [P], other ends.
        eid: int64 [P], numbers of events.
        time: int64 or float64 [P].
        used: int64 [], places of the pool that belong or belonged to a row.
        next_event: int64 [], one more than the largest number so far.
        latest: [], dtype of ``time``, the latest time so far.
        src: int64 [n], in event order.
        dst: int64 [n].
        t: [n], dtype of ``time``, ascending, from ``latest`` on; by default the numbers of the events.
        event: int64 [n], numbers; by default they go on from ``next_event``.

    Returns:
        What ``used`` has to be. If that is more than P, nothing was written.

    Raises:
        ArgumentError: wrong shape, dtype or device, ids outside of [0, N), times that go back, or state that is not
            contiguous or has rows outside of the pool. Nothing was written then.
    """
    state = (start, length, nbr, eid, time, used, next_event, latest)
    if _check.by_operator(*state, src, dst, t, event):
        try:
            return int(torch.ops.graphmem.temporal_append(*state, *_check.contiguous(src, dst, t, event)))
        except RuntimeError:
            pass  # the checks say why
    _check_pool(start, length, nbr, eid, time)
    for name, value, dtype in (("used", used, torch.int64), ("next_event", next_event, torch.int64)):
        _check.tensor(name, value, shape=(), dtypes=(dtype,), device=nbr.device)
    _check.tensor("latest", latest, shape=(), dtypes=(time.dtype,), device=nbr.device)
    src, dst, t, event = _check.events(src, dst, t, event, nodes=start.numel(), next_event=next_event, latest=latest)
    if not 0 <= int(_check.valued("used", used)) <= nbr.numel():
        raise ArgumentError(f"used: expected a number in [0, {nbr.numel()}], got {int(used)}")
    return int(torch.ops.graphmem.temporal_append(*state, src, dst, t, event))


def temporal_sample(
    start: Tensor,
    length: Tensor,
    nbr: Tensor,
    eid: Tensor,
    time: Tensor,
    ids: Tensor,
    t: Tensor,
    k: int,
    *,
    strategy: str = "recent",
    since: Tensor | None = None,
    inclusive: bool = False,
    decay: float = 0.0,
    seed: int = 0,
    key: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Find k events of each id before a time, newest first.

    Of the events at times :math:`t_e < t` (:math:`\le` if ``inclusive``; :math:`t_e \ge` ``since`` where it is given)

    * ``"recent"``: the newest k,
    * ``"uniform"``: k drawn without replacement, all alike (Floyd's algorithm),
    * ``"decayed"``: k drawn without replacement in proportion to :math:`\exp(-\lambda (t - t_e))`: those of the
      largest :math:`-\lambda (t - t_e) + G_e` with standard Gumbel numbers :math:`G_e` (Efraimidis and Spirakis 2006).
      Reads the row from the newest event on until age outweighs the largest Gumbel number there is.

    Draws are a function of ``seed``, of the question's key and of places in the row, so of neither batches nor threads.

    Args:
        start: int64 [N], see :func:`temporal_append`.
        length: int64 [N].
        nbr: int64 [P].
        eid: int64 [P].
        time: int64 or float64 [P], ascending in each row.
        ids: int64 [n].
        t: [n], dtype of ``time``.
        k: at least 1.
        strategy: see above.
        since: [n], dtype of ``time``.
        inclusive: whether events at time t count.
        decay: :math:`\lambda \ge 0`, per unit of time.
        seed: any 64-bit integer.
        key: int64 [n]; by default a question's place in the batch.

    Returns:
        Other ends [n, k], numbers [n, k] and times [n, k] of the events; -1, -1 and 0 where there are fewer.

    Raises:
        ArgumentError: wrong shape, dtype, device or number, ids outside of [0, N), or rows outside of the pool.
    """
    number = STRATEGIES.index(_check.choice("strategy", strategy, STRATEGIES))
    found: tuple[Tensor, Tensor, Tensor]
    rows = (start, length, nbr, eid, time)
    if _check.by_operator(*rows, ids, t, since, key):
        try:
            questions = _check.contiguous(ids, t, since)
            options = (k, number, inclusive, decay, seed, *_check.contiguous(key))
            found = torch.ops.graphmem.temporal_sample(*rows, *questions, *options)
            return found
        except RuntimeError:
            pass
    _check_pool(*rows)
    ids = _check.tensor("ids", ids, shape=(None,), dtypes=(torch.int64,), device=nbr.device)
    _check.in_range("ids", ids, start.numel())
    n = ids.numel()
    t = _check.tensor("t", t, shape=(n,), dtypes=(time.dtype,), device=nbr.device)
    if since is not None:
        since = _check.tensor("since", since, shape=(n,), dtypes=(time.dtype,), device=nbr.device)
    if key is not None:
        key = _check.tensor("key", key, shape=(n,), dtypes=(torch.int64,), device=nbr.device)
    _check.integer("k", k, 1)
    _check.seed("seed", seed)
    if not torch.compiler.is_compiling() and _check.real("decay", decay) < 0:
        raise ArgumentError(f"decay: expected a number of at least 0, got {decay}")
    found = torch.ops.graphmem.temporal_sample(*rows, ids, t, since, k, number, inclusive, decay, seed, key)
    return found


def _check_pool(start: Tensor, length: Tensor, nbr: Tensor, eid: Tensor, time: Tensor) -> None:
    _check.tensor("start", start, shape=(None,), dtypes=(torch.int64,))
    _check.tensor("length", length, shape=(start.numel(),), dtypes=(torch.int64,), device=start.device)
    _check.tensor("nbr", nbr, shape=(None,), dtypes=(torch.int64,), device=start.device)
    _check.tensor("eid", eid, shape=(nbr.numel(),), dtypes=(torch.int64,), device=start.device)
    _check.tensor("time", time, shape=(nbr.numel(),), dtypes=TIMES, device=start.device)
    for name, state in (("start", start), ("length", length), ("nbr", nbr), ("eid", eid), ("time", time)):
        if not state.is_contiguous():  # a copy would take the events instead
            raise ArgumentError(f"{name}: expected a contiguous tensor, got strides {state.stride()}")
    if start.numel() == 0 or not start.is_cpu or torch.compiler.is_compiling():
        return
    size = nbr.numel()
    if bool(((start < 0) | (start > size)).any()):
        raise ArgumentError(f"start: expected rows inside of nbr, from 0 to {size}")
    if bool(((length < 0) | (length > size) | (rooms(length.clamp(0, size)) > size - start)).any()):
        raise ArgumentError(f"length: expected rows, with their free places, inside of nbr, which has {size} entries")


def rooms(length: Tensor) -> Tensor:
    """Places that rows of some lengths have in the pool: 0, 4, 6, 8, 12, 16, 24, ..., int64 like ``length``."""
    exponent = torch.frexp((length - 1).clamp(min=3).double()).exponent.long()
    power = torch.ones_like(length) << exponent
    places = torch.where(length <= power // 4 * 3, power // 4 * 3, power)
    return torch.where(length > 4, places, 4 * (length > 0).long())


@torch.library.register_fake("graphmem::temporal_append")
def _temporal_append_fake(start: Tensor, *_: Tensor | None) -> Tensor:
    return start.new_empty(1)


@torch.library.register_fake("graphmem::temporal_sample")
def _temporal_sample_fake(
    start: Tensor,
    length: Tensor,
    nbr: Tensor,
    eid: Tensor,
    time: Tensor,
    ids: Tensor,
    t: Tensor,
    since: Tensor | None,
    k: int,
    *_: object,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = (ids.size(0), k)
    return nbr.new_empty(shape), nbr.new_empty(shape), time.new_empty(shape)
