"""Operators on graphs and node pairs: compiled kernels with a numba reference behind the same names."""

import torch

from graphmem.ops import _dense, _fallback
from graphmem.ops._loader import CPU_LIBRARY, CUDA_LIBRARY, NATIVE

if not NATIVE:
    _fallback.register()
elif torch.version.cuda and CUDA_LIBRARY is None:
    _fallback.register_cuda()

from graphmem.ops import _cn_torch as _cn_torch
from graphmem.ops.common_neighbors import (
    CNPart,
    cn_count,
    cn_diff_gather_sum,
    cn_gather_sum,
    cn_index,
    cn_sizes,
    grouped_pairs,
)
from graphmem.ops.distinct import distinct
from graphmem.ops.dropout import dropout
from graphmem.ops.gru_step import gru_step
from graphmem.ops.head_matmul import head_matmul
from graphmem.ops.matmul import linear, matmul
from graphmem.ops.memory_gru import memory_gru
from graphmem.ops.nat import NATState, NATWidths, nat_score, nat_update, nat_weights
from graphmem.ops.nat_train import NATLayers, nat_train
from graphmem.ops.ncache import CellWeights, Layout, ncache_commit, ncache_pool, ncache_refresh
from graphmem.ops.ncache_join import JoinedKeys, ncache_join
from graphmem.ops.norm import norm_dropout_relu
from graphmem.ops.pair_head import HeadLayer, HeadWeights, pair_head, stack_head
from graphmem.ops.pair_product import pair_product
from graphmem.ops.pair_relu_dot import pair_relu_dot
from graphmem.ops.pending import PendingEvents, pending_events, t_batches
from graphmem.ops.ring import ring_graph, ring_insert, ring_query
from graphmem.ops.sampling import SampledRows, find_edges, sample_non_edges, sample_rows
from graphmem.ops.scores import common_neighbor_scores, present_degree
from graphmem.ops.segment import Transposed, csr_transpose, segment_gather_sum
from graphmem.ops.temporal import temporal_append, temporal_sample
from graphmem.ops.temporal_attention import temporal_attention
from graphmem.ops.time_code import time_code

_dense.register()

__all__ = [
    "CPU_LIBRARY",
    "CUDA_LIBRARY",
    "NATIVE",
    "NATLayers",
    "NATState",
    "NATWidths",
    "CNPart",
    "CellWeights",
    "HeadLayer",
    "HeadWeights",
    "JoinedKeys",
    "Layout",
    "PendingEvents",
    "SampledRows",
    "Transposed",
    "cn_count",
    "cn_diff_gather_sum",
    "cn_gather_sum",
    "cn_index",
    "cn_sizes",
    "common_neighbor_scores",
    "csr_transpose",
    "distinct",
    "dropout",
    "find_edges",
    "grouped_pairs",
    "gru_step",
    "head_matmul",
    "linear",
    "matmul",
    "memory_gru",
    "nat_score",
    "nat_train",
    "nat_update",
    "nat_weights",
    "ncache_commit",
    "ncache_join",
    "ncache_pool",
    "ncache_refresh",
    "norm_dropout_relu",
    "pair_head",
    "pair_product",
    "pair_relu_dot",
    "pending_events",
    "present_degree",
    "ring_graph",
    "ring_insert",
    "ring_query",
    "sample_non_edges",
    "sample_rows",
    "segment_gather_sum",
    "stack_head",
    "t_batches",
    "temporal_append",
    "temporal_attention",
    "temporal_sample",
    "time_code",
]
