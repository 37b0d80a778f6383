"""Graphs that grow node by node or group by group: loops over draws, compiled by numba.

Every decision takes the next number of one counter-based stream (`docs/architecture.md`) and compares integers, so a
seed gives the same graph on every machine. Probabilities are thresholds below 2^32. Import this module where a loop is
about to run: importing numba takes long.
"""

from __future__ import annotations

import numpy as np

from graphmem.ops._reference_loops import Array, _draw_below, _loop, _mix, _stream

ONE = 1 << 32
_ATTEMPTS = 8


@_loop
def empty_table(keys: int) -> Array:
    """A table for `insert` that stays half empty with that many keys."""
    room = 1
    while room < 2 * keys:
        room *= 2
    return np.full(room, -1, np.int64)


@_loop
def insert(table: Array, key: int) -> bool:
    """Put a key into a table of open addressing (a power of two of slots, -1 where empty); False if it was there."""
    at = np.int64(_mix(np.uint64(key)) & np.uint64(table.size - 1))
    while table[at] >= 0:
        if table[at] == key:
            return False
        at = (at + 1) & (table.size - 1)
    table[at] = key
    return True


@_loop
def insert_all(table: Array, keys: Array, fresh: Array, limit: int) -> int:
    """Insert keys that are not negative, up to `limit` new ones, marked in `fresh`; returns how many."""
    found = 0
    for k in range(keys.size):
        fresh[k] = found < limit and keys[k] >= 0 and insert(table, keys[k])
        found += fresh[k]
    return found


@_loop
def _longer(values: Array, size: int) -> Array:
    """The same values with room for at least `size`."""
    if size <= values.size:
        return values
    out = np.empty(max(size, 2 * values.size), values.dtype)
    out[: values.size] = values
    return out


@_loop
def _has(values: Array, begin: int, end: int, value: int) -> bool:
    for k in range(begin, end):
        if values[k] == value:
            return True
    return False


@_loop
def grow_groups(
    num_nodes: int,
    bounds: Array,
    newcomers: int,
    repeat: int,
    preferential: int,
    density: int,
    seed: np.uint64,
    stream: int,
    keys: Array,
) -> tuple[int, int]:
    """Add groups until `keys` is full of distinct edges `i N + j`, `i < j`; see `graphmem.data.sized.groups`.

    Args:
        num_nodes: N.
        bounds: cumulative integer weights of the sizes 2, 3, ... of a group.
        newcomers: chance that a member is a new node, as long as there are any.
        repeat: chance that an earlier node is taken from an earlier group of the node chosen before it.
        preferential: chance that an earlier node is otherwise drawn by its number of groups instead of uniformly.
        density: chance that two members of a group are linked.
        seed: of the draws.
        stream: key of the stream.
        keys: int64 [E], written in order of time.

    Returns:
        Number of nodes that belong to a group, and of edges found; the latter is below E where the graph is full.
    """
    state, n = _stream(seed, np.uint64(stream)), 0
    table = empty_table(keys.size)
    member, group = np.empty(1024, np.int64), np.empty(1024, np.int64)  # of each membership, group after group
    first = np.empty(num_nodes, np.int64)  # each node's first membership
    start = np.empty(1024, np.int64)  # first membership of each group
    used = edges = slots = groups = 0
    while edges < keys.size and groups < 4 * keys.size + 1024:
        size = 2 + np.searchsorted(bounds, _draw_below(state, n, bounds[-1]), side="right")
        n += 1
        member, group = _longer(member, slots + size), _longer(group, slots + size)
        start = _longer(start, groups + 2)
        start[groups] = slots
        source, end = -1, slots
        for _ in range(size):
            if used < num_nodes and (used < 2 or _draw_below(state, n, ONE) < newcomers):
                first[used] = end
                node, used = used, used + 1
                n += 1
            else:
                node = -1
                for _attempt in range(_ATTEMPTS):
                    if source >= 0 and _draw_below(state, n + 1, ONE) < repeat:
                        slot = start[source] + _draw_below(state, n + 2, start[source + 1] - start[source])
                    elif _draw_below(state, n + 3, ONE) < preferential and slots > 0:
                        slot = _draw_below(state, n + 2, slots)
                    else:
                        slot = first[_draw_below(state, n + 2, used)]
                    n += 3
                    if slot < slots and not _has(member, slots, end, member[slot]):
                        node, source = member[slot], group[slot]
                        break
                n += 1
                if node < 0:  # a small world: the group stays smaller
                    continue
            member[end], group[end] = node, groups
            end += 1
        start[groups + 1] = end
        groups += 1
        for p in range(slots, end):
            for q in range(slots, p):
                n += 1
                if density < ONE and _draw_below(state, n, ONE) >= density:
                    continue
                i, j = min(member[p], member[q]), max(member[p], member[q])
                if edges < keys.size and insert(table, i * num_nodes + j):
                    keys[edges] = i * num_nodes + j
                    edges += 1
        slots = end
    return used, edges


@_loop
def grow_citations(
    offsets: Array, copy: int, preferential: int, recent: int, seed: np.uint64, stream: int, ptr: Array, target: Array
) -> None:
    """Papers in order of time, each with references to earlier ones; see `graphmem.data.sized.citations`.

    Args:
        offsets: int64 [N + 1], ascending: how many references papers would like. One that comes too early for them
            (at most half of the earlier papers) leaves the rest to the next.
        copy: chance that a reference is taken from the references of a paper that is cited already.
        preferential: chance that a reference is otherwise one of the latest references of all papers.
        recent: share of all earlier papers, or of their references, that count as the latest.
        seed: of the draws.
        stream: key of the stream.
        ptr: int64 [N + 1], written: references of paper t are `target[ptr[t]:ptr[t + 1]]`.
        target: int64 [E], written.
    """
    state, n = _stream(seed, np.uint64(stream)), 0
    end = 0
    ptr[0] = 0
    for t in range(ptr.size - 1):
        begin = end
        papers, references = 1 + ((t * recent) >> 32), 1 + ((begin * recent) >> 32)
        stop = min(offsets[t + 1], begin + t // 2)
        tries = 0
        while end < stop:
            draw = n
            n += 4
            tries += 1
            cited = _draw_below(state, draw, t)
            if tries <= _ATTEMPTS * (stop - begin):  # then any paper, which finds one in two tries
                cited = t - 1 - _draw_below(state, draw, min(t, papers))
                if end > begin and _draw_below(state, draw + 1, ONE) < copy:
                    cited = target[begin + _draw_below(state, draw + 2, end - begin)]
                    if ptr[cited + 1] == ptr[cited]:
                        continue
                    cited = target[ptr[cited] + _draw_below(state, draw + 3, ptr[cited + 1] - ptr[cited])]
                elif begin > 0 and _draw_below(state, draw + 2, ONE) < preferential:
                    cited = target[begin - 1 - _draw_below(state, draw + 3, min(begin, references))]
            if not _has(target, begin, end, cited):
                target[end] = cited
                end += 1
        ptr[t + 1] = end


@_loop
def draw_not_cited(
    source: Array, ptr: Array, target: Array, name: Array, seed: np.uint64, stream: int, out: Array
) -> None:
    """`out[p, k] = (name[s], name[v])` with `s = source[p]` and a uniform paper v that is neither s nor cited by it."""
    state, n = _stream(seed, np.uint64(stream)), 0
    num_nodes = ptr.size - 1
    for p in range(source.size):
        s = source[p]
        for k in range(out.shape[1]):
            while True:
                v = _draw_below(state, n, num_nodes)
                n += 1
                if v != s and not _has(target, ptr[s], ptr[s + 1], v):
                    break
            out[p, k, 0], out[p, k, 1] = name[s], name[v]
