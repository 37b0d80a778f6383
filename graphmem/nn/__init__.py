"""Reusable modules: encoders, convolutions, pair decoders, sparse features."""

from graphmem.nn.completion import CompletionDecoder
from graphmem.nn.conv import LinearConv, PureConv
from graphmem.nn.decoder import CNDecoder, Memo, PairDecoder
from graphmem.nn.encoder import GraphEncoder, PyGEncoder
from graphmem.nn.features import SparseFeatures
from graphmem.nn.overlap import CNDiffDecoder, TwoHopDecoder

__all__ = [
    "CNDecoder",
    "CNDiffDecoder",
    "CompletionDecoder",
    "GraphEncoder",
    "LinearConv",
    "Memo",
    "PairDecoder",
    "PureConv",
    "PyGEncoder",
    "SparseFeatures",
    "TwoHopDecoder",
]
