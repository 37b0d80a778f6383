"""GitHub developers (Rozemberczki, Allen, Sarkar 2019), the archive `git_web_ml.zip` of SNAP."""

from __future__ import annotations

import csv
import io
import json
import zipfile

import numpy as np
import torch

from graphmem.data.cache import LocatedFiles
from graphmem.data.card import DatasetCard
from graphmem.data.dataset import GraphDataset
from graphmem.data.formats._common import decoding, sparse_features, undirected_edges


def load(card: DatasetCard, files: LocatedFiles) -> GraphDataset:
    """Build the data set: edges, binary attributes (sparse) and the label web (0) or machine learning (1).

    The user names of `musae_git_target.csv` are not read. These 4,005 attributes are not the 128 dense features of
    PyG's `GitHub` class; results on the two do not compare.
    """
    (path,) = files.paths.values()
    with decoding(path), zipfile.ZipFile(path) as archive:
        folder = "git_web_ml"
        edges = np.loadtxt(
            io.BytesIO(archive.read(f"{folder}/musae_git_edges.csv")), delimiter=",", skiprows=1, dtype=np.int64
        )
        attributes: dict[str, list[int]] = json.loads(archive.read(f"{folder}/musae_git_features.json"))
        with archive.open(f"{folder}/musae_git_target.csv") as stream:
            target = [(int(r["id"]), int(r["ml_target"])) for r in csv.DictReader(io.TextIOWrapper(stream, "utf-8"))]
        num_nodes = len(target)
        y = np.empty(num_nodes, dtype=np.int64)
        ids, labels = np.array(target, dtype=np.int64).T
        y[ids] = labels
        row = np.repeat([int(node) for node in attributes], [len(v) for v in attributes.values()])
        col = np.concatenate([np.asarray(v, dtype=np.int64) for v in attributes.values()])
        # An attribute is present or absent: repeats of a pair must not add up to 2.
        keys = np.unique(row * (col.max() + 1) + col)
        width = int(col.max()) + 1
        x = sparse_features(keys // width, keys % width, np.ones(keys.size), (num_nodes, width))
        edge_index = undirected_edges(edges[:, 0], edges[:, 1], num_nodes)
    return GraphDataset(card.name, edge_index, num_nodes, x, torch.from_numpy(y), None, card)
