"""Sparse graphs in npz files: Amazon and Coauthor (Shchur et al. 2018), CitationFull (Bojchevski, Günnemann 2018)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from graphmem.data.cache import LocatedFiles
from graphmem.data.card import DatasetCard
from graphmem.data.dataset import GraphDataset
from graphmem.data.formats._common import Array, csr_rows, decoding, sparse_features, undirected_edges


def load(card: DatasetCard, files: LocatedFiles) -> GraphDataset:
    """Build the data set as PyG's `Amazon`, `Coauthor` and `CitationFull` do.

    The graph is made undirected, self-loops are dropped, and every positive feature becomes 1. The arrays are read with
    `allow_pickle=False`, so that an npz file of another origin cannot run code.
    """
    (path,) = files.paths.values()
    return parse(card, path)


def parse(card: DatasetCard, path: Path) -> GraphDataset:
    """Read one npz file with the keys `adj_*`, `attr_*` (CSR) and `labels`.

    Raises:
        DatasetIntegrityError: a key is missing or the arrays do not fit together.
    """
    with decoding(path), np.load(path, allow_pickle=False) as archive:
        adj_ptr, adj_col = archive["adj_indptr"], archive["adj_indices"]
        attr_ptr, attr_col, attr = archive["attr_indptr"], archive["attr_indices"], archive["attr_data"]
        num_nodes, num_features = (int(v) for v in archive["attr_shape"])
        labels: Array = archive["labels"].astype(np.int64)
        x = sparse_features(csr_rows(attr_ptr), attr_col, attr, (num_nodes, num_features))
        x.values().masked_fill_(x.values() > 0, 1.0)
        edge_index = undirected_edges(csr_rows(adj_ptr), adj_col, num_nodes)
    return GraphDataset(card.name, edge_index, num_nodes, x, torch.from_numpy(labels), None, card)
