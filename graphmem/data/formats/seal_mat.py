"""The MATLAB files of SEAL (Zhang, Chen, NeurIPS 2018): USAir, NS, PB, C.ele, Power, Router, E.coli and larger ones."""

from __future__ import annotations

import numpy as np
import torch

from graphmem.data.cache import LocatedFiles
from graphmem.data.card import DatasetCard
from graphmem.data.dataset import GraphDataset
from graphmem.data.formats._common import decoding, undirected_edges
from graphmem.errors import MissingExtraError


def load(card: DatasetCard, files: LocatedFiles) -> GraphDataset:
    """Build the data set from the symmetric matrix `net`, without its self-loops.

    Where the file has a membership matrix `group` [N, C] (PPI, Wikipedia), `y` is its dense float32 form, one column a
    class; otherwise there are no labels. There are no features.

    Raises:
        MissingExtraError: scipy is not installed.
        DatasetIntegrityError: the file is not such a file.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingExtraError(
            f"data set {card.name!r} is a MATLAB file, which needs scipy: pip install graphmem[mat]"
        ) from error
    (path,) = files.paths.values()
    with decoding(path):
        content = loadmat(path, variable_names=["net", "group"])
        net = content["net"].tocoo()
        num_nodes = int(net.shape[0])
        stored = np.asarray(net.data) != 0
        edge_index = undirected_edges(net.row[stored], net.col[stored], num_nodes)
        group = content.get("group")
        y = None if group is None else torch.from_numpy(np.asarray(group.todense(), dtype=np.float32))
    return GraphDataset(card.name, edge_index, num_nodes, None, y, None, card)
