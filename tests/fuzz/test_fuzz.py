"""A short run of the fuzzer, and what it has found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from graphmem import ops
from graphmem.data import CSRGraph, EventNegatives, EventStream, LinkSplit, split_edges, split_stream
from graphmem.data.formats.edge_list import read_edges
from graphmem.data.negatives import random_targets, uniform_negatives
from graphmem.errors import ArgumentError, ArgumentTypeError, GraphMemError
from graphmem.nn.features import SparseFeatures

FUZZ = Path(__file__).with_name("fuzz.py")
META = torch.device("meta")
ROWS = CSRGraph.from_edge_index(torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]]), 4, symmetric=True)
PAIRS = torch.tensor([[0, 1], [2, 3]])


@pytest.mark.parametrize("words", [("--cases", "1000", "--seed", "1"), ("--cases", "500", "--direct")])
def test_short_run(words: tuple[str, ...]) -> None:
    if "--direct" in words and not ops.NATIVE:
        pytest.skip("needs the compiled library")
    done = subprocess.run([sys.executable, str(FUZZ), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "refused" in done.stdout
    assert "accepted" in done.stdout


def loose(**changes: object) -> SimpleNamespace:
    fields = {name: getattr(ROWS, name) for name in ("rowptr", "col", "keep", "weight", "num_nodes")}
    return SimpleNamespace(**{**fields, **changes})


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (loose(col=ROWS.col.flip(0)), r"graph\.col: expected ascending unique columns"),
        (loose(col=ROWS.col + 100), r"graph\.col: expected ids in \[0, 4\), found 103"),
        (loose(col=ROWS.col - 1), r"graph\.col: expected ids in \[0, 4\), found -1"),
        (loose(rowptr=torch.tensor([0, 9, 4, 6, 8])), r"graph\.rowptr: expected offsets that never decrease"),
        (loose(rowptr=ROWS.rowptr + 1), r"graph\.rowptr: expected offsets from 0 to 8, got 1 to 9"),
        (loose(num_nodes="4"), r"graph\.num_nodes: expected a whole number"),
        (loose(num_nodes=5), r"graph\.rowptr: expected int64 of shape \[6\]"),
        (SimpleNamespace(rowptr=ROWS.rowptr), "graph: expected a CSRGraph"),
    ],
)
@pytest.mark.parametrize("operator", [ops.cn_count, ops.cn_index, ops.find_edges], ids=["count", "index", "find"])
def test_graphs_that_nobody_has_checked(operator: object, graph: SimpleNamespace, message: str) -> None:
    with pytest.raises(GraphMemError, match=message):
        operator(graph, PAIRS)  # type: ignore[operator]


HEAD = ops.stack_head([ops.HeadLayer(torch.eye(4), torch.zeros(4), None, True)], [], torch.ones(1, 4), torch.zeros(1))
FOUND = {
    "seed text": lambda: ops.dropout(torch.ones(3), 0.5, seed="1"),  # type: ignore[arg-type]
    "p none": lambda: ops.dropout(torch.ones(3), None, seed=1),  # type: ignore[arg-type]
    "p nan": lambda: ops.dropout(torch.ones(3), float("nan"), seed=1),
    "no tensor": lambda: ops.dropout([1.0], 0.5, seed=1),  # type: ignore[arg-type]
    "eps": lambda: ops.norm_dropout_relu(torch.ones(2, 3), torch.ones(3), torch.ones(3), eps=float("inf")),
    "columns": lambda: ops.csr_transpose(ROWS.rowptr, ROWS.col, 2**62),
    "columns text": lambda: ops.csr_transpose(ROWS.rowptr, ROWS.col, "4"),  # type: ignore[arg-type]
    "count": lambda: ops.sample_non_edges(ROWS, 2**62, seed=1),
    "count fraction": lambda: ops.sample_non_edges(ROWS, 1.5, seed=1),  # type: ignore[arg-type]
    "start": lambda: ops.sample_non_edges(ROWS, 1, seed=1, start=2**63),
    "k": lambda: ops.sample_rows(ROWS.rowptr, ROWS.col, None, 1),  # type: ignore[arg-type]
    "parts": lambda: ops.cn_index(ROWS, PAIRS, parts=None),  # type: ignore[arg-type]
    "degree": lambda: ops.present_degree(3),  # type: ignore[arg-type]
    "head eps": lambda: ops.pair_head(torch.ones(4, 4), PAIRS, HEAD._replace(eps=None)),  # type: ignore[arg-type]
    "head layers": lambda: ops.pair_head(torch.ones(4, 4), PAIRS, HEAD._replace(num_pair_layers=2)),
    "head mask": lambda: ops.pair_head(torch.ones(4, 4), PAIRS, HEAD._replace(relu_mask=2)),
    "meta rows": lambda: CSRGraph(ROWS.rowptr.to(META), ROWS.col.to(META)),
    "meta edges": lambda: CSRGraph.from_edge_index(PAIRS.to(META), 4),
    "meta links": lambda: LinkSplit(PAIRS.to(META), PAIRS, None, PAIRS, None, 4, "x"),
    "meta graph": lambda: split_edges(PAIRS.to(META), num_nodes=4),
    "sparse links": lambda: LinkSplit(PAIRS.to_sparse(), PAIRS, None, PAIRS, None, 4, "x"),
    "sparse negatives": lambda: LinkSplit(PAIRS, PAIRS, None, PAIRS, torch.ones(2, 3, 2).long().to_sparse(), 4, "x"),
    "meta sampled": lambda: ops.sample_rows(ROWS.rowptr.to(META), ROWS.col.to(META), 1, seed=1),
    "no states": lambda: ops.temporal_attention(
        torch.ones(2, 6), torch.ones(0, 2), -torch.ones(2, 3).long(), torch.zeros(2, 3).double(), *[torch.ones(1)] * 2
    ),
    "no sizes": lambda: ops.Layout(None).checked(),  # type: ignore[arg-type]
    "nodes": lambda: CSRGraph.from_edge_index(PAIRS, 2**62),
    "nodes text": lambda: CSRGraph.from_edge_index(PAIRS, "4"),  # type: ignore[arg-type]
    "edges p": lambda: ROWS.drop_edges("0.5"),  # type: ignore[arg-type]
    "split seed": lambda: split_edges(PAIRS, num_nodes=4, seed=1.5, protocol="random"),  # type: ignore[arg-type]
    "split ratio": lambda: split_edges(PAIRS, num_nodes=4, val_ratio="x", protocol="random"),  # type: ignore[arg-type]
    "epoch": lambda: uniform_negatives(ROWS, 2, seed=0, epoch=1.5),  # type: ignore[arg-type]
    "targets": lambda: random_targets(PAIRS, None, seed=0, epoch=1),  # type: ignore[arg-type]
    "targets rank": lambda: random_targets(PAIRS[0], 4, seed=0, epoch=1),
    "features device": lambda: SparseFeatures(ROWS.rowptr, ROWS.col, torch.ones(8, device=META), 4),
    "features weight": lambda: SparseFeatures(ROWS.rowptr, ROWS.col, torch.ones(8), 4).linear(torch.ones(2, 4, 1)),
}


ENDS = {"src": torch.tensor([0, 1, 2, 0]), "dst": torch.tensor([1, 2, 0, 2]), "t": torch.arange(4), "num_nodes": 3}
STREAM = EventStream(**ENDS)
FOUND |= {
    "stream range": lambda: EventStream(**ENDS, dst_range=3),  # type: ignore[arg-type]
    "stream labels": lambda: EventStream(**ENDS, y=torch.tensor(1.0)),
    "stream sparse labels": lambda: EventStream(**ENDS, y=torch.ones(4).to_sparse()),
    "negatives seed": lambda: EventNegatives(split_stream(STREAM, val_ratio=0.3), seed=None),  # type: ignore[arg-type]
    "negatives epoch": lambda: EventNegatives(split_stream(STREAM)).draw(STREAM, 1.5),  # type: ignore[arg-type]
    "stream split seed": lambda: split_stream(STREAM, protocol="masked", seed="1"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("call", FOUND.values(), ids=FOUND.keys())
def test_found_by_the_fuzzer(call: object) -> None:
    with pytest.raises((ArgumentError, ArgumentTypeError)):
        call()  # type: ignore[operator]


def test_accepted_where_valid() -> None:
    columns = torch.stack((HEAD.biases[0], HEAD.biases[0]), dim=1)[:, :1].t()  # strides of its own
    expected = ops.pair_head(torch.ones(4, 4), PAIRS, HEAD)
    assert torch.equal(ops.pair_head(torch.ones(4, 4), PAIRS, HEAD._replace(biases=columns)), expected)
    features = SparseFeatures(ROWS.rowptr, ROWS.col, torch.ones(8, dtype=torch.float64), 4)
    assert torch.equal(features.linear(torch.ones(2, 4)), torch.full((4, 2), 2.0))
    meta = ops.pair_product(torch.ones(4, 3, device=META), PAIRS.to(META))
    assert meta.is_meta
    assert meta.shape == (2, 3)


def test_numbers_of_nodes_in_files(tmp_path: Path) -> None:
    path = tmp_path / "edges.csv"
    path.write_text(f"0,1\n1,{2**40}\n")
    with pytest.raises(GraphMemError, match="num_nodes: expected at most 3037000499"):
        read_edges(path)


HUB = 1_000_000


def test_hubs_with_a_million_neighbours() -> None:
    """Two hubs share all leaves but their own; each leaf has both as neighbours."""
    leaves = torch.arange(2, HUB + 2)
    edges = torch.cat(
        (torch.stack((torch.zeros_like(leaves), leaves)), torch.stack((torch.ones_like(leaves), leaves))), 1
    )
    graph = CSRGraph.from_edge_index(edges[:, 1:-1], HUB + 2, symmetric=True)  # hub 0 lacks leaf 2, hub 1 the last
    pairs = torch.tensor([[0, 0, 2, 5], [1, 5, 3, 0]])
    assert ops.cn_sizes(graph, pairs).tolist() == [[HUB - 2, 0, 1, 0], [1, HUB - 1, 0, 2], [1, 2, 1, HUB - 1]]
    x = torch.ones(HUB + 2, 2, requires_grad=True)
    sums = ops.cn_gather_sum(graph, x, pairs)
    assert sums[:, 0].tolist() == [HUB - 2, 0, 1, 0]  # float32 counts exactly to 2^24
    sums.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad[:, 0].sum() == HUB - 1
    part = ops.cn_index(graph, pairs, parts=("cn",))["cn"]
    assert torch.equal(part.idx[: HUB - 2].long(), leaves[1:-1])
    assert graph.without_edges(pairs).degree()[:2].tolist() == [HUB - 2, HUB - 1]
    assert int(ops.find_edges(graph, torch.tensor([[0, 0], [HUB + 1, 2]]))[1]) == -1
    assert graph.spmm(torch.ones(HUB + 2, 1))[:2, 0].tolist() == [HUB - 1, HUB - 1]


def test_ids_above_31_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of 64 bits keep what does not fit 32; ids of 32 bits are refused where they cannot name every node."""
    big = 2**31 + 5
    idx = torch.tensor([0, big, big + 1])
    with pytest.raises(ArgumentError, match=rf"idx: expected ids in \[0, 3\), found {big + 1}"):
        ops.segment_gather_sum(torch.tensor([0, 3]), idx, torch.ones(3, 1))
    sampled = ops.sample_rows(torch.tensor([0, 3]), idx, 5, 1)
    assert torch.equal(sampled.idx, idx)
    pairs = ops.grouped_pairs(torch.tensor([big]), torch.tensor([0, 2]), torch.tensor([big, 7]))
    assert pairs.tolist() == [[big, big], [big, 7]]
    with pytest.raises(ArgumentError, match="num_nodes: expected at most 3037000499"):
        CSRGraph.from_edge_index(torch.tensor([[0], [1]]), 2**32)
    # So many rows fit no memory here, but a tensor without any does.
    rowptr, col = torch.empty(big + 1, dtype=torch.int64, device=META), torch.empty(4, dtype=torch.int32, device=META)
    with pytest.raises(ArgumentError, match=f"idx: expected int64 for {big} rows, got int32"):
        ops.csr_transpose(rowptr, col, 5)
    with pytest.raises(ArgumentError, match=rf"graph\.col: expected int64 for {big} rows, got int32"):
        ops.cn_count(loose(rowptr=rowptr, col=col, num_nodes=big), PAIRS.to(META))
    monkeypatch.setattr("graphmem.ops._check.MAX_INT32", 4)
    with pytest.raises(ArgumentError, match="rowptr: expected rows of at most 4 entries, found a longer one"):
        CSRGraph(torch.tensor([0, 5, 5, 5, 5, 5]), torch.arange(5))
