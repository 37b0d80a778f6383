"""Edge lists of the user: every accepted form, and what a malformed row says."""

from __future__ import annotations

import gzip
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data

from graphmem.data.formats.edge_list import read_edges
from graphmem.errors import (
    ArgumentError,
    ArgumentTypeError,
    DatasetIntegrityError,
    DatasetNotFoundError,
    MissingExtraError,
)


def write(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "source,target\n2,0\n0,2\n1,2\n"),
        ("a.csv", "# comment\n0,2\n\n1,2\n"),
        ("a.tsv.gz", "0\t2\n1\t2\n"),
        ("a.txt", "% konect\n0   2 7\n1 2 8\n"),
        ("a.edges", "0 2\n2 1"),
    ],
)
def test_text_files(name: str, text: str, tmp_path: Path) -> None:
    graph = read_edges(write(tmp_path, name, text))
    assert graph.edge_index.tolist() == [[0, 1], [2, 2]]
    assert (graph.num_nodes, graph.name, graph.node_names, graph.edge_weight) == (3, name, None, None)


def test_names_and_weights(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'when,who,whom,how\n1,ann,"bob, jr",2\n2,eve,ann,0.5\n3,"bob, jr",ann,3\n')
    graph = read_edges(path, source_column="who", target_column="whom", weight_column="how", weight_reduce="sum")
    assert graph.node_names == ("ann", "bob, jr", "eve")
    assert graph.edge_index.tolist() == [[0, 0], [1, 2]]
    assert graph.edge_weight is not None
    assert graph.edge_weight.tolist() == [5.0, 0.5]
    columns = {"source_column": 1, "target_column": 2, "weight_column": 3, "header": True}
    largest = read_edges(path, weight_reduce="max", **columns)  # type: ignore[arg-type]
    assert largest.edge_weight is not None
    assert largest.edge_weight.tolist() == [3.0, 0.5]
    with pytest.raises(DatasetIntegrityError, match="1 edges occur with different weights"):
        read_edges(path, **columns)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=40),
    st.sampled_from([",", "\t", ";"]),
    st.booleans(),
)
def test_round_trip_of_any_edges(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]], delimiter: str, as_names: bool
) -> None:
    prefix = "n" if as_names else ""
    text = "\n".join(f"{prefix}{a}{delimiter}{prefix}{b}" for a, b in pairs)
    path = write(tmp_path_factory.mktemp("edges"), "a.csv", text)
    graph = read_edges(path, delimiter=delimiter, self_loops="drop", ids="str" if as_names else "auto", header=False)
    names = graph.node_names or [str(n) for n in range(graph.num_nodes)]
    found = {frozenset((names[i], names[j])) for i, j in graph.edge_index.t().tolist()}
    assert found == {frozenset((f"{prefix}{a}", f"{prefix}{b}")) for a, b in pairs if a != b}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("0,1\n1\n", {}, r"a.csv, line 2: expected at least 2 filled columns, found \['1'\]"),
        ("0,1\n1,\n", {}, "line 2: expected at least 2 filled"),
        ("0,1\n# c\n\n1,x\n", {}, r"line 4: \('1', 'x'\) are not two node numbers; use ids='str'"),
        ("0,1\n1,1.5\n", {}, "line 2"),
        ("0,1\n-1,2\n", {}, r"line 2: node ids must be in \[0, 3\), found \(-1, 2\)"),
        ("0,1\n1,9\n", {"num_nodes": 5}, r"line 2: node ids must be in \[0, 5\)"),
        ("0,1\n2,2\n", {}, r"line 2: self-loop \(1 in all\); self_loops='drop'"),
        ("0,1,a\n", {"weight_column": 2}, "line 1: weight 'a' is not a number"),
        ("0,1,nan\n", {"weight_column": 2}, "weights must be finite"),
        ("0,99999999999999999999\n", {}, "line 1"),
    ],
)
def test_malformed_rows_are_named(text: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetIntegrityError, match=message):
        read_edges(write(tmp_path, "a.csv", text), **options)


def test_bad_options(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "a,b\n0,1\n")
    for option in ("ids", "self_loops", "weight_reduce"):
        with pytest.raises(ArgumentError, match=f"{option}: expected one of"):
            read_edges(path, **{option: "maybe"})  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"column 'c' is not in a.csv; found \['a', 'b'\]"):
        read_edges(path, source_column="c")
    with pytest.raises(ArgumentError, match="a.doc ends in none of"):
        read_edges(write(tmp_path, "a.doc", "0 1"))
    with pytest.raises(DatasetNotFoundError, match="source: no file"):
        read_edges(tmp_path / "none.csv")
    with pytest.raises(ArgumentTypeError, match="source: expected a path"):
        read_edges(object())
    (tmp_path / "bad.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(DatasetIntegrityError, match="bad.csv.gz: cannot be read"):
        read_edges(tmp_path / "bad.csv.gz")
    (tmp_path / "latin.csv").write_bytes(b"0,\xff\n")
    with pytest.raises(DatasetIntegrityError, match="latin.csv: cannot be read"):
        read_edges(tmp_path / "latin.csv")


def test_empty_file_is_an_empty_graph(tmp_path: Path) -> None:
    graph = read_edges(write(tmp_path, "a.csv", "# nothing\n"), num_nodes=4)
    assert (graph.num_nodes, graph.num_edges) == (4, 0)


def test_npz_and_tensors_and_pyg(tmp_path: Path) -> None:
    edge = torch.tensor([[2, 0, 1], [0, 2, 3]])
    x, y = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    np.savez(
        tmp_path / "g.npz", edge_index=edge.numpy(), x=x.numpy(), y=y.numpy(), edge_weight=np.array([1.0, 1.0, 2.0])
    )
    sources = [tmp_path / "g.npz", Data(x=x, edge_index=edge, y=y, edge_weight=torch.tensor([1.0, 1.0, 2.0]))]
    for source in sources:
        graph = read_edges(source)
        assert graph.edge_index.tolist() == [[0, 1], [2, 3]]
        assert graph.edge_weight is not None
        assert graph.edge_weight.tolist() == [1.0, 2.0]
        assert graph.x is not None
        assert torch.equal(graph.x, x)
        assert graph.num_classes == 2
    assert read_edges(edge, num_nodes=10).num_nodes == 10
    again = read_edges(read_edges(sources[1]).to_pyg())
    assert torch.equal(again.edge_index, read_edges(edge).edge_index)
    np.savez(tmp_path / "h.npz", edges=edge.numpy())
    with pytest.raises(DatasetIntegrityError, match=r"expected the key 'edge_index', found \['edges'\]"):
        read_edges(tmp_path / "h.npz")
    with pytest.raises(ArgumentError, match=r"expected integer edges \[2, E\]"):
        read_edges(torch.zeros(2, 3))
    with pytest.raises(ArgumentError, match=r"edge_weight: expected shape \[3\]"):
        read_edges(Data(edge_index=edge, edge_weight=torch.ones(2), num_nodes=4))


def test_parquet_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install graphmem\[parquet\]"):
        read_edges(write(tmp_path, "a.parquet", ""))


def check_parquet(path: Path) -> None:
    graph = read_edges(path, source_column="a", target_column="b", weight_column="w")
    assert graph.node_names == ("x", "y", "z")
    assert graph.edge_index.tolist() == [[0, 1], [1, 2]]
    assert graph.edge_weight is not None
    assert graph.edge_weight.tolist() == [1.0, 2.0]
    assert read_edges(path, source_column=3, target_column=4).edge_index.tolist() == [[0, 3], [1, 5]]
    with pytest.raises(DatasetIntegrityError, match="empty cells in column 'hole'"):
        read_edges(path, source_column="a", target_column="hole")
    with pytest.raises(ArgumentError, match="column 9 is not in a.parquet, which has 6 columns"):
        read_edges(path, source_column=9)
    with pytest.raises(DatasetIntegrityError, match=r"row 0: .* are not two node numbers"):
        read_edges(path, source_column=3, target_column="a", ids="int")


PARQUET = {"w": [1.0, 2.0], "a": ["x", "y"], "b": ["y", "z"], "i": [0, 5], "j": [1, 3], "hole": ["x", None]}


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame(PARQUET).to_parquet(tmp_path / "a.parquet")
    check_parquet(tmp_path / "a.parquet")


def test_parquet_columns_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The part after pandas' reader, where pyarrow is not installed."""
    pandas = pytest.importorskip("pandas")
    monkeypatch.setitem(sys.modules, "pyarrow", types.ModuleType("pyarrow"))
    monkeypatch.setattr(pandas, "read_parquet", lambda path: pandas.DataFrame(PARQUET))
    check_parquet(write(tmp_path, "a.parquet", ""))


def test_number_of_named_nodes_is_fixed(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"a.csv names 2 nodes, found num_nodes=5"):
        read_edges(write(tmp_path, "a.csv", "ann,bob\n"), num_nodes=5)
