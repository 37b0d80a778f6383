"""Reusable modules: encoders, convolutions, pair decoders, sparse features, node memories."""

from graphmem.nn.aggregate import ConcatMessage
from graphmem.nn.completion import CompletionDecoder
from graphmem.nn.conv import LinearConv, PureConv
from graphmem.nn.decoder import CNDecoder, Memo, PairDecoder
from graphmem.nn.edge_neighbors import EdgeNeighbors
from graphmem.nn.encoder import GraphEncoder, PyGEncoder
from graphmem.nn.features import SparseFeatures
from graphmem.nn.link_predictor import LinkPredictor
from graphmem.nn.mailbox import MailAttention, Mailbox
from graphmem.nn.memory import NodeMemory
from graphmem.nn.neighbor_cache import NeighborCache
from graphmem.nn.neighbors import Neighborhood, RecentNeighbors
from graphmem.nn.overlap import CNDiffDecoder, TwoHopDecoder
from graphmem.nn.pres import PRES
from graphmem.nn.pres_pyg import CorrectedTGNMemory, wrap_memory
from graphmem.nn.signed_decoder import SignedDecoder
from graphmem.nn.signed_history import SignedHistoryFeatures
from graphmem.nn.signed_memory import SignedMemory
from graphmem.nn.temporal_attention import TemporalAttention
from graphmem.nn.temporal_neighbors import TemporalNeighbors
from graphmem.nn.time import LogAge, TimeEncoder

__all__ = [
    "PRES",
    "CNDecoder",
    "CNDiffDecoder",
    "CompletionDecoder",
    "ConcatMessage",
    "CorrectedTGNMemory",
    "EdgeNeighbors",
    "GraphEncoder",
    "LinearConv",
    "LinkPredictor",
    "LogAge",
    "MailAttention",
    "Mailbox",
    "Memo",
    "NeighborCache",
    "Neighborhood",
    "NodeMemory",
    "PairDecoder",
    "PureConv",
    "PyGEncoder",
    "RecentNeighbors",
    "SignedDecoder",
    "SignedHistoryFeatures",
    "SignedMemory",
    "SparseFeatures",
    "TemporalAttention",
    "TemporalNeighbors",
    "TimeEncoder",
    "TwoHopDecoder",
    "wrap_memory",
]
