"""Graphs, data sets, splits, negatives and transforms."""

from graphmem.data.convert import to_csr
from graphmem.data.dataset import GraphDataset, LinkSplit
from graphmem.data.graph import CSRGraph
from graphmem.data.registry import dataset_card, list_datasets, load_dataset, prepare_dataset
from graphmem.data.splits import split_edges
from graphmem.data.transforms import AddPairScores

__all__ = [
    "AddPairScores",
    "CSRGraph",
    "GraphDataset",
    "LinkSplit",
    "dataset_card",
    "list_datasets",
    "load_dataset",
    "prepare_dataset",
    "split_edges",
    "to_csr",
]
