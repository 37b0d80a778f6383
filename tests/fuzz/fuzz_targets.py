"""What is fuzzed: calls with valid arguments, drawn at random, for the mutations to spoil."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from nat_targets import NAT_TARGETS
from ncache_targets import NCACHE_TARGETS
from stream_targets import STREAM_TARGETS
from torch import Tensor

from graphmem import ops
from graphmem.data import CSRGraph, LinkSplit, split_edges, to_csr
from graphmem.data.formats.edge_list import read_edges
from graphmem.data.negatives import random_targets, uniform_negatives
from graphmem.nn.features import SparseFeatures

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A function and how to draw its arguments."""

    build: Callable[[random.Random], Arguments]
    call: Callable[..., Any]


def tensor(rng: random.Random, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    return torch.randn(shape, generator=generator).to(dtype)


def ids(rng: random.Random, count: int, upper: int, dtype: torch.dtype = torch.int64) -> Tensor:
    generator = torch.Generator().manual_seed(rng.getrandbits(32))
    return torch.randint(max(upper, 1), (count,), generator=generator).to(dtype)


def graph(rng: random.Random, nodes: int | None = None) -> CSRGraph:
    nodes = rng.randint(2, 30) if nodes is None else nodes
    edges = ids(rng, 2 * rng.randint(0, 4 * nodes), nodes).view(2, -1)
    weight = tensor(rng, edges.size(1)) if rng.random() < 0.3 else None
    built = CSRGraph.from_edge_index(edges, nodes, weight, symmetric=rng.random() < 0.5)
    if rng.random() < 0.2:
        built = CSRGraph(built.rowptr, built.col.long(), weight=built.weight)
    return built.drop_edges(0.3) if rng.random() < 0.3 and built.num_slots else built


def loose(built: CSRGraph) -> Any:
    """A graph that is no CSRGraph: nobody has checked it."""
    fields = {name: getattr(built, name) for name in ("rowptr", "col", "keep", "weight", "num_nodes")}
    return SimpleNamespace(**fields)


def csr(rng: random.Random, columns: int) -> tuple[Tensor, Tensor]:
    lengths = ids(rng, rng.randint(0, 12), 6)
    ptr = torch.cat((lengths.new_zeros(1), lengths.cumsum(0)))
    return ptr, ids(rng, int(ptr[-1]), columns, rng.choice((torch.int32, torch.int64)))


def pair_arguments(rng: random.Random, **more: Any) -> Arguments:
    built = graph(rng)
    pairs = ids(rng, 2 * rng.randint(0, 20), built.num_nodes).view(2, -1)
    return {"graph": loose(built) if rng.random() < 0.4 else built, "pairs": pairs, **more}


def gather_arguments(rng: random.Random) -> Arguments:
    found = pair_arguments(rng, exclude_endpoints=rng.random() < 0.5, mode=rng.choice(("auto", "recompute", "index")))
    dtype = rng.choice((torch.float32, torch.float64, torch.bfloat16, torch.float16))
    return {**found, "x": tensor(rng, found["graph"].num_nodes, rng.choice((1, 5, 32)), dtype=dtype)}


def segment_arguments(rng: random.Random) -> Arguments:
    rows = rng.randint(1, 20)
    ptr, idx = csr(rng, rows)
    keep = ids(rng, idx.numel(), 2).bool() if rng.random() < 0.5 else None
    return {"ptr": ptr, "idx": idx, "x": tensor(rng, rows, rng.choice((1, 7))), "weight": None, "keep": keep}


def sample_arguments(rng: random.Random) -> Arguments:
    ptr, idx = csr(rng, 50)
    return {"ptr": ptr, "idx": idx, "k": rng.randint(1, 4), "seed": rng.getrandbits(40), "replace": rng.random() < 0.5}


def norm_arguments(rng: random.Random) -> Arguments:
    x = tensor(rng, rng.randint(0, 9), rng.choice((1, 16, 33)))
    width = x.size(1)
    return {"x": x, "weight": tensor(rng, width), "bias": tensor(rng, width), "eps": 1e-5, "p": 0.3, "seed": 7}


def head_arguments(rng: random.Random) -> Arguments:
    width = 8
    layers = [ops.HeadLayer(tensor(rng, width, width), tensor(rng, width), None, rng.random() < 0.5) for _ in range(2)]
    head = ops.stack_head(layers[:1], layers[1:], tensor(rng, 1, width), tensor(rng, 1))
    count = rng.randint(0, 12)
    found: Arguments = {"h": tensor(rng, 9, width), "pairs": ids(rng, 2 * count, 9).view(2, -1), **head._asdict()}
    if rng.random() < 0.5:
        found |= {"branch": tensor(rng, 4, width), "place": ids(rng, count, 4)}
    return found


def call_head(h: Any, pairs: Any, branch: Any = None, place: Any = None, **head: Any) -> Tensor:
    return ops.pair_head(h, pairs, ops.HeadWeights(**head), branch, place)


def csr_arguments(rng: random.Random) -> Arguments:
    built = graph(rng)
    return {"rowptr": built.rowptr, "col": built.col, "weight": built.weight, "keep": built.keep}


def grouped_arguments(rng: random.Random) -> Arguments:
    ptr, idx = csr(rng, 9)
    return {"src": ids(rng, ptr.numel() - 1, 9), "ptr": ptr, "dst": idx.long()}


def edges_arguments(rng: random.Random) -> Arguments:
    nodes = rng.randint(1, 30)
    edges = ids(rng, 2 * rng.randint(0, 50), nodes).view(2, -1)
    weight = tensor(rng, edges.size(1)) if rng.random() < 0.5 else None
    return {"edge_index": edges, "num_nodes": nodes, "edge_weight": weight, "symmetric": rng.random() < 0.5}


def split_arguments(rng: random.Random) -> Arguments:
    part = lambda count: ids(rng, 2 * count, 20).view(2, -1)  # noqa: E731
    return {
        "train": part(9),
        "valid": part(3),
        "valid_neg": part(4),
        "test": part(3),
        "test_neg": ids(rng, 3 * 5 * 2, 20).view(3, 5, 2),
        "num_nodes": 20,
        "protocol": "fuzz",
    }


def sparse_arguments(rng: random.Random) -> Arguments:
    ptr, idx = csr(rng, 11)
    return {"ptr": ptr, "idx": idx, "value": tensor(rng, idx.numel()), "weight": tensor(rng, 3, 11)}


def call_sparse(ptr: Any, idx: Any, value: Any, weight: Any) -> Tensor:
    return SparseFeatures(ptr, idx, value, 11).linear(weight)


def file_arguments(rng: random.Random) -> Arguments:
    """A file of edges as bytes, for `call_file` to write and read."""
    pairs = [(rng.randint(0, 20), rng.randint(0, 20)) for _ in range(rng.randint(0, 12))]
    kind = rng.choice((".csv", ".tsv", ".txt", ".csv.gz", ".npz"))
    path = Path("valid" + kind)
    if kind == ".npz":
        edges = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        np.savez(path, edge_index=edges, x=np.ones((21, 2), dtype=np.float32), num_nodes=21)
    else:
        import gzip

        opened: Any = gzip.open(path, "wt") if kind.endswith("gz") else path.open("w", newline="")
        with opened as stream:
            delimiter = {".tsv": "\t", ".txt": " "}.get(kind, ",")
            csv.writer(stream, delimiter=delimiter).writerows([*([("a", "b")] if rng.random() < 0.3 else []), *pairs])
    return {"content": path.read_bytes(), "kind": kind, "ids": "auto", "num_nodes": None, "self_loops": "drop"}


def call_file(content: Any, kind: str, **options: Any) -> Any:
    path = Path("fuzzed" + kind)
    path.write_bytes(content)
    return read_edges(path, **options).edge_index


def with_graph(method: str) -> Callable[..., Any]:
    return lambda graph, **arguments: getattr(graph, method)(**arguments)


def own_graph(rng: random.Random, **more: Any) -> Arguments:
    """A real CSRGraph, and arguments of its methods."""
    return {"graph": graph(rng), **more}


def _pairs_of(found: Arguments, rng: random.Random) -> Arguments:
    return {**found, "pairs": ids(rng, 2 * rng.randint(0, 9), found["graph"].num_nodes).view(2, -1)}


def _x_of(found: Arguments, rng: random.Random) -> Arguments:
    return {**found, "x": tensor(rng, found["graph"].num_nodes, 3), "reduce": rng.choice(("sum", "mean", "max"))}


def _spmm(rng: random.Random) -> Arguments:
    return _x_of(own_graph(rng), rng)


def _split(rng: random.Random) -> Arguments:
    edges = ids(rng, 80, 40).view(2, -1)
    found = {"graph": edges[:, edges[0] != edges[1]], "num_nodes": 40, "protocol": rng.choice(("random", "ncn"))}
    return found | {"seed": 1, "val_ratio": 0.1, "test_ratio": 0.2, "num_valid_neg": None}


def _transpose(rng: random.Random) -> Arguments:
    ptr, idx = csr(rng, 9)
    return {"ptr": ptr, "idx": idx, "num_cols": 9}


def _matmul(rng: random.Random) -> Arguments:
    return {"a": tensor(rng, 4, 5), "b": tensor(rng, 5, 3), "transpose_a": False, "transpose_b": False}


def _head_matmul(rng: random.Random) -> Arguments:
    heads = rng.randint(0, 3)
    return {
        "a": tensor(rng, heads * 4, 5).view(heads, 4, 5),
        "b": tensor(rng, heads * 5, 3).view(heads, 5, 3),
        "transpose_a": False,
        "transpose_b": False,
        "rows_first": rng.random() < 0.5,
    }


def _linear(rng: random.Random) -> Arguments:
    return {"x": tensor(rng, 4, 5), "weight": tensor(rng, 3, 5), "bias": tensor(rng, 3)}


def _gru_step(rng: random.Random) -> Arguments:
    rows = rng.randint(0, 9)
    return {"g": tensor(rng, rows, 12), "h": tensor(rng, rows, 12), "state": tensor(rng, rows, 4)}


def _gru(rng: random.Random) -> Arguments:
    rows, d, raw, times = rng.randint(0, 9), 4, rng.randint(0, 2), 3
    return {
        "memory": tensor(rng, 7, d),
        "node": ids(rng, rows, 7),
        "other": ids(rng, rows, 8) - 1,
        "msg": tensor(rng, rows, raw),
        "dt": tensor(rng, rows, dtype=torch.float64),
        "time_weight": tensor(rng, times),
        "time_bias": tensor(rng, times),
        "weight_ih": tensor(rng, 3 * d, rng.choice((1, 2)) * d + raw + times),
        "weight_hh": tensor(rng, 3 * d, d),
        "bias_ih": tensor(rng, 3 * d),
        "bias_hh": tensor(rng, 3 * d),
    }


def _attention(rng: random.Random) -> Arguments:
    n, k, d, times, raw = rng.randint(0, 6), rng.randint(0, 3), 4, 3, rng.randint(0, 2)
    found: Arguments = {
        "query": tensor(rng, n, 2 * (d + times + raw)),
        "x": tensor(rng, 7, d),
        "nbr": ids(rng, n * k, 8).view(n, k) - 1,
        "dt": tensor(rng, n, k, dtype=torch.float64),
        "time_weight": tensor(rng, times),
        "time_bias": tensor(rng, times),
        "p": 0.3,
        "seed": 7,
    }
    return found | ({"messages": tensor(rng, 5, raw), "eid": ids(rng, n * k, 5).view(n, k)} if raw else {})


def _relu_dot(rng: random.Random) -> Arguments:
    found = {"h": tensor(rng, 7, 8), "src": ids(rng, 3, 7), "dst": ids(rng, 6, 7).view(3, 2)}
    return found | {"weight": tensor(rng, 4), "bias": tensor(rng, 1)}


def _time_code(rng: random.Random) -> Arguments:
    return {"dt": tensor(rng, 5, dtype=torch.float64), "weight": tensor(rng, 3), "bias": tensor(rng, 3)}


def _ring(rng: random.Random) -> Arguments:
    nodes, size, dtype = rng.randint(1, 5), rng.randint(1, 4), rng.choice((torch.int64, torch.float64))
    table = lambda: ids(rng, nodes * size, 9).view(nodes, size)  # noqa: E731
    return {"nbr": table(), "eid": table(), "time": table().to(dtype), "count": ids(rng, nodes, 9)}


def _batch(rng: random.Random, nodes: int, dtype: torch.dtype) -> Arguments:
    n = rng.randint(0, 9)
    progress = {"next_event": torch.tensor(rng.randint(0, 9)), "latest": torch.tensor(0, dtype=dtype)}
    t, event = ids(rng, n, 9).sort().values.to(dtype), ids(rng, n, 99).sort().values
    events = {"src": ids(rng, n, nodes), "dst": ids(rng, n, nodes)}
    return {**progress, **events, "t": rng.choice((t, None)), "event": rng.choice((event, None))}


def _ring_insert(rng: random.Random) -> Arguments:
    state = _ring(rng)
    return {**state, **_batch(rng, state["count"].numel(), state["time"].dtype)}


def call_ring_insert(src: Any, dst: Any, t: Any, event: Any, **state: Any) -> tuple[Any, ...]:
    """The state behind the events, in copies: a case is run twice."""
    copies = {name: x.clone() if isinstance(x, Tensor) else x for name, x in state.items()}
    ops.ring_insert(**copies, src=src, dst=dst, t=t, event=event)
    return tuple(copies.values())


def _pool(rng: random.Random) -> Arguments:
    """Rows of up to four events with their free places, in any order."""
    nodes, dtype = rng.randint(1, 5), rng.choice((torch.int64, torch.float64))
    start = 4 * torch.tensor(rng.sample(range(nodes), nodes), dtype=torch.int64)
    size = 4 * nodes + rng.randint(0, 99)
    pool = {"nbr": ids(rng, size, nodes), "eid": ids(rng, size, 99), "time": (torch.arange(size) % 4).to(dtype)}
    return {"start": start, "length": ids(rng, nodes, 5), **pool}


def _temporal_append(rng: random.Random) -> Arguments:
    pool = _pool(rng)
    batch = _batch(rng, pool["start"].numel(), pool["time"].dtype)
    return {**pool, "used": torch.tensor(4 * pool["start"].numel()), **batch}


def call_temporal_append(src: Any, dst: Any, t: Any, event: Any, **state: Any) -> tuple[Any, ...]:
    copies = {name: x.clone() if isinstance(x, Tensor) else x for name, x in state.items()}
    used = ops.temporal_append(**copies, src=src, dst=dst, t=t, event=event)
    return (*copies.values(), torch.tensor(used))


def _temporal_sample(rng: random.Random) -> Arguments:
    pool, n = _pool(rng), rng.randint(0, 9)
    dtype = pool["time"].dtype
    options = {"strategy": rng.choice(("recent", "uniform", "decayed")), "inclusive": rng.random() < 0.5, "decay": 0.5}
    return {
        **pool,
        "ids": ids(rng, n, pool["start"].numel()),
        "t": ids(rng, n, 5).to(dtype),
        "k": rng.randint(1, 4),
        "since": rng.choice((None, ids(rng, n, 5).to(dtype))),
        "seed": rng.randint(-9, 9),
        "key": rng.choice((None, ids(rng, n, 99))),
        **options,
    }


def _ring_graph(rng: random.Random) -> Arguments:
    state, n = _ring(rng), rng.randint(0, 9)
    nodes = state["count"].numel()
    return {"nbr": state["nbr"] % nodes, "eid": state["eid"], "count": state["count"], "ids": ids(rng, n, nodes)}


def _ring_query(rng: random.Random) -> Arguments:
    state, n = _ring(rng), rng.randint(0, 9)
    before = ids(rng, n, 9).to(state["time"].dtype) if rng.random() < 0.5 else None
    asked = ids(rng, n, state["count"].numel())
    return {**state, "ids": asked, "k": rng.randint(1, state["nbr"].size(1)), "before": before}


TARGETS: dict[str, Target] = {
    "cn_count": Target(lambda r: pair_arguments(r, exclude_endpoints=False), ops.cn_count),
    "cn_sizes": Target(pair_arguments, ops.cn_sizes),
    "cn_index": Target(lambda r: pair_arguments(r, parts=("cn", "left")), ops.cn_index),
    "cn_gather_sum": Target(gather_arguments, ops.cn_gather_sum),
    "cn_diff_gather_sum": Target(gather_arguments, ops.cn_diff_gather_sum),
    "common_neighbor_scores": Target(lambda r: pair_arguments(r, method="aa"), ops.common_neighbor_scores),
    "find_edges": Target(pair_arguments, ops.find_edges),
    "present_degree": Target(lambda r: {"graph": loose(graph(r))}, ops.present_degree),
    "grouped_pairs": Target(grouped_arguments, ops.grouped_pairs),
    "sample_non_edges": Target(
        lambda r: {"graph": graph(r), "count": r.randint(0, 9), "seed": 1, "start": 0}, ops.sample_non_edges
    ),
    "sample_rows": Target(sample_arguments, ops.sample_rows),
    "segment_gather_sum": Target(segment_arguments, ops.segment_gather_sum),
    "csr_transpose": Target(_transpose, ops.csr_transpose),
    "pending_events": Target(
        lambda r: dict(zip(("src", "dst"), ids(r, 2 * r.randint(0, 20), 9).view(2, -1), strict=True)),
        ops.pending_events,
    ),
    "distinct": Target(lambda r: {"ids": ids(r, r.randint(0, 20), 9) - 1}, ops.distinct),
    "dropout": Target(lambda r: {"x": tensor(r, 3, 4), "p": 0.5, "seed": 3}, ops.dropout),
    "norm_dropout_relu": Target(norm_arguments, ops.norm_dropout_relu),
    "matmul": Target(_matmul, ops.matmul),
    "linear": Target(_linear, ops.linear),
    "head_matmul": Target(_head_matmul, ops.head_matmul),
    "gru_step": Target(_gru_step, ops.gru_step),
    "memory_gru": Target(_gru, ops.memory_gru),
    "temporal_attention": Target(_attention, ops.temporal_attention),
    "ring_graph": Target(_ring_graph, ops.ring_graph),
    "ring_insert": Target(_ring_insert, call_ring_insert),
    "ring_query": Target(_ring_query, ops.ring_query),
    "temporal_append": Target(_temporal_append, call_temporal_append),
    "temporal_sample": Target(_temporal_sample, ops.temporal_sample),
    "pair_relu_dot": Target(_relu_dot, ops.pair_relu_dot),
    "time_code": Target(_time_code, ops.time_code),
    "pair_product": Target(lambda r: {"x": tensor(r, 9, 4), "pairs": ids(r, 12, 9).view(2, -1)}, ops.pair_product),
    "pair_head": Target(head_arguments, call_head),
    "CSRGraph": Target(csr_arguments, CSRGraph),
    "from_edge_index": Target(edges_arguments, CSRGraph.from_edge_index),
    "to_csr": Target(
        lambda r: {"graph": edges_arguments(r)["edge_index"], "num_nodes": 30, "edge_weight": None}, to_csr
    ),
    "without_edges": Target(lambda r: _pairs_of(own_graph(r, policy="all"), r), with_graph("without_edges")),
    "drop_edges": Target(lambda r: own_graph(r, p=0.5), with_graph("drop_edges")),
    "spmm": Target(_spmm, with_graph("spmm")),
    "LinkSplit": Target(split_arguments, LinkSplit),
    "split_edges": Target(_split, split_edges),
    "uniform_negatives": Target(lambda r: {"graph": graph(r), "count": 5, "seed": 1, "epoch": 1}, uniform_negatives),
    "random_targets": Target(
        lambda r: {"links": ids(r, 12, 9).view(2, -1), "num_nodes": 9, "seed": 1, "epoch": 2}, random_targets
    ),
    "SparseFeatures": Target(sparse_arguments, call_sparse),
    "read_edges": Target(file_arguments, call_file),
    **{
        name: Target(build, call) for name, (build, call) in {**NAT_TARGETS, **NCACHE_TARGETS, **STREAM_TARGETS}.items()
    },
}
