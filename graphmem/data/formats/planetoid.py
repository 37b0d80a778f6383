"""Planetoid (Yang, Cohen, Salakhutdinov, ICML 2016): Cora, CiteSeer, PubMed from the publisher's pickles.

The files are Python 2 pickles of numpy arrays, scipy CSR matrices and a dictionary. A pickle can run any code, so they
are opened only after their sha256 was compared with the card, and by an unpickler that knows these few types and no
other. scipy is not needed: its matrix is read into a stand-in.
"""

from __future__ import annotations

import io
import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphmem.data.cache import LocatedFiles
from graphmem.data.card import DatasetCard
from graphmem.data.dataset import GraphDataset
from graphmem.data.formats._common import Array, csr_rows, decoding, sparse_features, undirected_edges
from graphmem.errors import DatasetIntegrityError


class _StoredMatrix:
    """Takes the attributes that a pickled scipy CSR matrix carries: data, indices, indptr, _shape."""

    data: Array
    indices: Array
    indptr: Array

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.__dict__.get("_shape") or self.__dict__["shape"]
        return int(rows), int(columns)

    def triplets(self) -> tuple[Array, Array, Array]:
        return csr_rows(self.indptr), self.indices, self.data


def _reconstruct_array() -> Any:
    # numpy.core.multiarray._reconstruct under the name that this version of numpy gives it
    return np.empty(0).__reduce__()[0]


class _Unpickler(pickle.Unpickler):
    """Admits numpy arrays, scipy's CSR matrix, lists and default dictionaries."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up an admitted global.

        Raises:
            pickle.UnpicklingError: any other global.
        """
        import copyreg

        admitted: dict[tuple[str, str], Any] = {
            # names as Python 2 wrote them; find_class gets them before pickle translates them
            ("copy_reg", "_reconstructor"): copyreg._reconstructor,  # type: ignore[attr-defined]
            ("__builtin__", "object"): object,
            ("__builtin__", "list"): list,
            ("collections", "defaultdict"): defaultdict,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "_reconstruct"): _reconstruct_array(),
            ("scipy.sparse.csr", "csr_matrix"): _StoredMatrix,
        }
        if (module, name) not in admitted:
            raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}, which a Planetoid file never holds")
        return admitted[module, name]


def read_pickle(path: Path) -> Any:
    """Read one Planetoid pickle.

    Raises:
        DatasetIntegrityError: the file is no such pickle.
    """
    with decoding(path):
        return _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()


def load(card: DatasetCard, files: LocatedFiles) -> GraphDataset:
    """Build the data set; `x`, `y` and the edges equal those of PyG's `Planetoid` class (raw features).

    Node order: rows of `allx` and `ally`, then the test rows at the places that `test.index` names. Test rows that are
    missing (15 in CiteSeer) become zero rows, with label 0 as in PyG. Self-loops and repeated edges are left out.

    With the option `features = false` only the graph and the labels are read, and `x` is None.
    """
    prefix = f"ind.{card.options['prefix']}"
    if not files.verified:
        raise DatasetIntegrityError(f"{card.name!r}: Planetoid pickles are opened only with a known sha256")
    index_path = files.paths[f"{prefix}.test.index"]
    with decoding(index_path):
        test_index = np.array(index_path.read_text().split(), dtype=np.int64)
    ally, ty = (read_pickle(files.paths[f"{prefix}.{part}"]) for part in ("ally", "ty"))
    graph_path = files.paths[f"{prefix}.graph"]
    graph = read_pickle(graph_path)
    with decoding(graph_path):
        num_nodes = int(max(len(ally) + len(ty), test_index.max() + 1))
        labels = np.zeros((num_nodes, ally.shape[1]), dtype=np.float32)
        labels[: len(ally)], labels[test_index] = ally, ty
        source = np.repeat(np.fromiter(graph.keys(), dtype=np.int64), [len(v) for v in graph.values()])
        target = np.concatenate([np.asarray(v, dtype=np.int64) for v in graph.values()])
    return GraphDataset(
        name=card.name,
        edge_index=undirected_edges(source, target, num_nodes),
        num_nodes=num_nodes,
        x=_features(prefix, files, test_index, num_nodes) if card.options.get("features", True) else None,
        y=torch.from_numpy(labels).max(dim=1)[1],
        split=None,
        card=card,
    )


def _features(prefix: str, files: LocatedFiles, test_index: Array, num_nodes: int) -> torch.Tensor:
    allx, tx = (read_pickle(files.paths[f"{prefix}.{part}"]) for part in ("allx", "tx"))
    with decoding(files.paths[f"{prefix}.allx"]):
        rows, columns, values = allx.triplets()
        test_rows, test_columns, test_values = tx.triplets()
        return sparse_features(
            np.concatenate([rows, test_index[test_rows]]),
            np.concatenate([columns, test_columns]),
            np.concatenate([values, test_values]),
            (num_nodes, allx.shape[1]),
        )
