"""Negatives of a publisher against look-ups in a plain dictionary."""

from __future__ import annotations

import gc
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch

from graphmem.data import EventStream, StreamSplit, fixed_negatives, negative_table, split_stream
from graphmem.data.fixed_negatives import FixedNegatives
from graphmem.data.formats.tgb import read_negatives
from graphmem.data.negative_table import NegativeTable, key_columns
from graphmem.errors import ArgumentError, DatasetIntegrityError

Found = dict[tuple[int, int, int], np.ndarray]


def make_split(seed: int, count: int = 300, nodes: int = 5, dtype: torch.dtype = torch.int64) -> StreamSplit:
    """Few nodes and times: many events share a key."""
    rng = np.random.default_rng(seed)
    src, dst = torch.from_numpy(rng.integers(0, nodes, (2, count)))
    t = torch.from_numpy(rng.integers(0, 2, count).cumsum() - 40).to(dtype)
    return split_stream(EventStream(src, dst, t, nodes))


def keys_of(events: EventStream) -> list[tuple[int, int, int]]:
    return list(zip(events.src.tolist(), events.dst.tolist(), events.t.tolist(), strict=True))


def make_dictionary(events: EventStream, seed: int, lengths: tuple[int, int] = (0, 5)) -> Found:
    rng = np.random.default_rng(seed)
    keys = keys_of(events)
    return {
        keys[n]: rng.integers(0, events.num_nodes, rng.integers(lengths[0], lengths[1] + 1))
        for n in rng.permutation(len(keys))
    }


def table_of(found: Found) -> NegativeTable:
    return NegativeTable(key_columns(found), list(found.values()))


def check(split: StreamSplit, negatives: FixedNegatives, valid: Found, test: Found) -> None:
    want = [valid[key].tolist() for key in keys_of(split.valid)] + [test[key].tolist() for key in keys_of(split.test)]
    assert negatives.k == max(map(len, want))
    first, stop = split.valid.first, len(split.stream)
    for low, high in ((first, stop), (first, first), (first + 3, first + 4), (split.test.first - 5, stop - 2)):
        batch = split.stream[low:high]
        src, dst = negatives.draw(batch, 0)
        absent = negatives.absent(batch)
        assert src is None
        assert (dst.dtype, dst.shape) == (torch.int64, (high - low, negatives.k))
        rows = want[low - first : high - first]
        for n, row in enumerate(rows):
            assert dst[n].tolist() == row + [int(batch.dst[n])] * (negatives.k - len(row))
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        expected = torch.arange(negatives.k) >= lengths[:, None]
        assert (absent is None) == (not expected.any())
        assert absent is None or torch.equal(absent, expected)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
@pytest.mark.parametrize("lengths", [(0, 5), (4, 4), (0, 0)])
def test_against_a_dictionary(seed: int, dtype: torch.dtype, lengths: tuple[int, int]) -> None:
    split = make_split(seed, nodes=3, dtype=dtype)
    valid, test = (make_dictionary(events, seed, lengths) for events in (split.valid, split.test))
    assert len(valid) < len(split.valid)
    copies = [{key: row.copy() for key, row in found.items()} for found in (valid, test)]
    check(split, FixedNegatives(split, valid, test), *copies)
    for found, copy in zip((valid, test), copies, strict=True):  # the caller's dictionaries stay as they are
        assert {key: row.tolist() for key, row in found.items()} == {key: row.tolist() for key, row in copy.items()}
    check(split, FixedNegatives(split, table_of(valid), table_of(test)), *copies)


def test_keys_that_no_event_has_do_not_matter() -> None:
    split = make_split(1)
    valid, test = make_dictionary(split.valid, 1), make_dictionary(split.test, 2)
    more = {(9, 0, 0): np.arange(50), (0, 0, -1000): np.array([-7, 2**40]), (-1, 0, 0): np.arange(9)}
    check(split, FixedNegatives(split, {**more, **valid}, {**test, **more}), valid, test)


@pytest.mark.parametrize("period", ["valid", "test"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
@pytest.mark.parametrize("wrap", [dict, table_of])
def test_the_first_event_without_key_is_named(period: str, dtype: torch.dtype, wrap: Callable[[Found], Any]) -> None:
    split = make_split(2, dtype=dtype)
    found = {name: make_dictionary(getattr(split, name), 3) for name in ("valid", "test")}
    keys = keys_of(getattr(split, period))
    gone = {keys[10], keys[7], keys[-1]}
    first = next(key for key in keys if key in gone)
    for key in gone:
        del found[period][key]
    with pytest.raises(ArgumentError) as error:
        FixedNegatives(split, wrap(found["valid"]), wrap(found["test"]))
    assert str(error.value) == (
        f"{period}: expected negatives for every event, there are none for (source, destination, time) {first}; the "
        "split has to be the publisher's"
    )
    with pytest.raises(ArgumentError, match="valid: expected negatives for every event"):
        FixedNegatives(split, {}, {})


def test_times_between_whole_numbers_are_no_keys() -> None:
    split = make_split(3, dtype=torch.float64)
    keys = [(u, v, int(t)) for u, v, t in keys_of(split.stream)]
    stream = EventStream(split.stream.src, split.stream.dst, split.stream.t + 0.5, split.stream.num_nodes)
    with pytest.raises(ArgumentError, match=r"there are none for .*\.5\)"):
        FixedNegatives(split_stream(stream), *[{key: np.array([1]) for key in keys}] * 2)


def test_bad_dictionaries() -> None:
    split = make_split(4)
    valid, test = make_dictionary(split.valid, 1), make_dictionary(split.test, 2)
    for low, high in ((-1, 2), (0, split.stream.num_nodes), (0, 2**40)):
        test[keys_of(split.test)[0]] = np.array([low, high])
        with pytest.raises(ArgumentError, match=rf"expected nodes in \[0, 5\), got {min(low, 0)}..{max(high, 4)}"):
            FixedNegatives(split, valid, test)
    for bad in ({(1, 2): np.ones(1)}, {1: np.ones(1)}, {("a", "b", "c"): np.ones(1)}, {(1, 2, 3): "x"}):
        with pytest.raises(ArgumentError, match="valid: expected destinations by"):
            FixedNegatives(split, bad, test)  # type: ignore[arg-type]


def test_a_table_is_a_mapping(tmp_path: Path) -> None:
    split = make_split(5)
    found = make_dictionary(split.valid, 5)
    found[(7, 7, 7)] = np.array([2**40, -1])
    path = tmp_path / "ns.pkl"
    path.write_bytes(pickle.dumps({tuple(map(np.int64, key)): row.tolist() for key, row in found.items()}))
    for table in (table_of(found), read_negatives(path)):
        assert len(table) == len(found)
        assert list(table) == sorted(found)
        assert {key: row.tolist() for key, row in table.items()} == {key: row.tolist() for key, row in found.items()}
        assert all(row.dtype == np.int64 for row in table.values())
        assert (7, 7, 8) not in table
        with pytest.raises(KeyError):
            table[(-1, 0, 0)]
    path.write_bytes(pickle.dumps({(1, 2, 3.2): [4], (0, 0, 0): [], (1, 2, 3.7): [5, 6]}))
    assert read_negatives(path)[(1, 2, 3)].tolist() == [5, 6]  # as in a dictionary, the last counts
    path.write_bytes(pickle.dumps({}))
    assert len(read_negatives(path)) == 0
    for bad in ({(1, 2): [1]}, {((1, 2), 3, 4): [1]}, {(1, 2, float("nan")): [1]}, {(1, 2, 2**70): [1]}):
        path.write_bytes(pickle.dumps(bad))
        with pytest.raises(DatasetIntegrityError, match="cannot be read"):
            read_negatives(path)
    path.write_bytes(b"no pickle")
    with pytest.raises(DatasetIntegrityError, match="cannot be read"):
        read_negatives(path)
    assert gc.isenabled()  # put back


def test_small_ids_take_four_bytes() -> None:
    assert table_of({(0, 0, 0): np.array([2**31 - 1])}).dst.dtype == np.int32
    assert table_of({(0, 0, 0): np.array([2**31])}).dst.dtype == np.int64
    split = make_split(6)
    negatives = FixedNegatives(split, make_dictionary(split.valid, 1), make_dictionary(split.test, 2))
    assert (negatives._dst.dtype, negatives._row.dtype) == (np.int32, np.int32)


def lines_of(function: Callable[[], object]) -> int:
    """Lines of our code that a call runs through, each time that it does."""
    count, files = 0, {fixed_negatives.__file__, negative_table.__file__}

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename not in files:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def test_no_loop_over_events() -> None:
    count, nodes = 200_000, 1000
    rng = np.random.default_rng(0)
    src, dst = torch.from_numpy(rng.integers(0, nodes, (2, count)))
    split = split_stream(EventStream(src, dst, torch.arange(count), nodes), val_ratio=0.5, test_ratio=0.499)
    first, rows = split.valid.first, rng.integers(0, nodes, (count, 3))
    keys = keys_of(split.stream)
    tables = [
        table_of(dict(zip(keys[e.first : e.first + len(e)], rows[e.first :], strict=False)))
        for e in (split.valid, split.test)
    ]
    negatives: list[FixedNegatives] = []
    assert lines_of(lambda: negatives.append(FixedNegatives(split, *tables))) < 1000
    few, many = split.stream[first : first + 2], split.stream[first:]
    assert len(many) > 190_000
    assert torch.equal(negatives[0].draw(many, 0)[1], torch.from_numpy(rows[first:]))
    for ask in (lambda events: negatives[0].draw(events, 0), negatives[0].absent):
        assert 0 < lines_of(lambda ask=ask: ask(few)) == lines_of(lambda ask=ask: ask(many)) < 50  # type: ignore[misc]
