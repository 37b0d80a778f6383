"""Graphs, streams of events, data sets, splits, negatives and transforms."""

from typing import TYPE_CHECKING

from graphmem.data.convert import to_csr
from graphmem.data.dataset import GraphDataset, LinkSplit
from graphmem.data.event_batches import batch_bounds
from graphmem.data.event_negatives import EventNegatives
from graphmem.data.formats.dgb import read_dgb
from graphmem.data.formats.events import read_events
from graphmem.data.formats.jodie import read_jodie
from graphmem.data.formats.node_events import read_node_events
from graphmem.data.graph import CSRGraph
from graphmem.data.node_events import NodeEvents
from graphmem.data.registry import dataset_card, list_datasets, load_dataset, load_stream, prepare_dataset
from graphmem.data.splits import split_edges
from graphmem.data.stream import EventStream
from graphmem.data.stream_splits import StreamSplit, split_stream

if TYPE_CHECKING:
    from graphmem.data.transforms import AddPairScores

__all__ = [
    "AddPairScores",
    "CSRGraph",
    "EventNegatives",
    "EventStream",
    "GraphDataset",
    "LinkSplit",
    "NodeEvents",
    "StreamSplit",
    "batch_bounds",
    "dataset_card",
    "list_datasets",
    "load_dataset",
    "load_stream",
    "prepare_dataset",
    "read_dgb",
    "read_events",
    "read_jodie",
    "read_node_events",
    "split_edges",
    "split_stream",
    "to_csr",
]


def __getattr__(name: str) -> object:
    """Load what is a PyG transform when it is asked for: PyG takes longer to import than all the rest."""
    if name == "AddPairScores":
        from graphmem.data.transforms import AddPairScores

        return AddPairScores
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
