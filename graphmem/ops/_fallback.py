"""Operators without the compiled libraries: the same schemas, served by the numba reference.

What the Python faces hang on ``torch.ops.graphmem`` (fake kernels, autograd) works unchanged, so ``torch.compile`` and
``opcheck`` do too. ``tests/ops/test_fallback.py`` holds the schemas to those of ``csrc/library.cpp``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from graphmem.ops import reference
from graphmem.ops._dense import DENSE, without_autocast

SCHEMAS = (
    "cn_count(Tensor rowptr_a, Tensor col_a, Tensor? keep_a, Tensor rowptr_b, Tensor col_b, Tensor? keep_b, "
    "Tensor pairs, bool exclude_endpoints) -> Tensor",
    "cn_gather_sum(Tensor rowptr_a, Tensor col_a, Tensor? keep_a, Tensor? weight_a, Tensor rowptr_b, Tensor col_b, "
    "Tensor? keep_b, Tensor? weight_b, Tensor pairs, Tensor x, bool exclude_endpoints, int parts) -> Tensor",
    "cn_gather_sum_backward(Tensor rowptr_a, Tensor col_a, Tensor? keep_a, Tensor? weight_a, Tensor rowptr_b, "
    "Tensor col_b, Tensor? keep_b, Tensor? weight_b, Tensor pairs, Tensor grad, SymInt num_nodes, "
    "bool exclude_endpoints, int parts) -> Tensor",
    "cn_index(Tensor rowptr_a, Tensor col_a, Tensor? keep_a, Tensor rowptr_b, Tensor col_b, Tensor? keep_b, "
    "Tensor pairs, bool exclude_endpoints, int parts, Tensor ptr, SymInt total, SymInt num_cn) "
    "-> (Tensor, Tensor, Tensor)",
    "coherence(Tensor x, Tensor row, Tensor prev) -> (Tensor, Tensor)",
    "coherence_backward(Tensor grad, Tensor x, Tensor row, Tensor prev, Tensor saved) -> Tensor",
    "csr_transpose(Tensor ptr, Tensor idx, SymInt num_cols) -> (Tensor, Tensor, Tensor)",
    "distinct(Tensor ids) -> (Tensor, Tensor, Tensor)",
    "dropout(Tensor x, float p, int seed, bool relu) -> Tensor",
    "dropout_relu_backward(Tensor grad, Tensor y, float p) -> Tensor",
    "find_edges(Tensor rowptr, Tensor col, Tensor pairs) -> Tensor",
    "gru_step(Tensor g, Tensor h, Tensor state, bool save) -> (Tensor, Tensor)",
    "gru_step_backward(Tensor grad, Tensor gates, Tensor state) -> (Tensor, Tensor, Tensor)",
    "head_matmul(Tensor a, Tensor b, bool transpose_a, bool transpose_b, bool rows_first) -> Tensor",
    "matmul(Tensor a, Tensor b, Tensor? bias, bool transpose_a, bool transpose_b) -> Tensor",
    "memory_gru(Tensor memory, Tensor node, Tensor other, Tensor msg, Tensor dt, Tensor time_weight, Tensor "
    "time_bias, Tensor weight_ih, Tensor weight_hh, Tensor bias_ih, Tensor bias_hh, bool save) -> (Tensor, Tensor, "
    "Tensor)",
    "memory_gru_backward(Tensor grad, Tensor inputs, Tensor gates, Tensor dt, Tensor time_weight, Tensor time_bias, "
    "Tensor weight_ih) -> (Tensor, Tensor, Tensor)",
    "nat_enter(Tensor(a!) key, Tensor(b!) eid, Tensor(c!) time, Tensor(d!) value, Tensor(e!) state, Tensor(f!) "
    "other, Tensor(g!) gap, Tensor src, Tensor dst, Tensor t, Tensor event, Tensor nodes, Tensor at, Tensor own, "
    "Tensor now, int[] sizes, bool reference_hash, int seed, float replace_prob, bool sequential) -> ()",
    "nat_score(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor state, Tensor other, Tensor gap, Tensor? "
    "messages, Tensor? known, Tensor weights, int[] widths, int[] sizes, bool reference_hash, int seed, bool "
    "delta, Tensor src, Tensor dst, Tensor t) -> Tensor",
    "nat_train(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor state, Tensor other, Tensor gap, Tensor? "
    "messages, Tensor? known, int[] sizes, bool reference_hash, int seed, bool delta, Tensor nodes, Tensor place, "
    "Tensor t, Tensor[] layers, int heads, float p, int dropout_seed) -> (Tensor, Tensor, Tensor, Tensor, Tensor, "
    "Tensor, Tensor, Tensor)",
    "nat_train_backward(Tensor grad, Tensor now, Tensor inputs, Tensor gates, Tensor mixed, Tensor read, Tensor "
    "hidden, Tensor key, Tensor eid, Tensor time, Tensor value, Tensor state, Tensor other, Tensor gap, Tensor? "
    "messages, Tensor? known, int[] sizes, bool reference_hash, int seed, bool delta, Tensor nodes, Tensor place, "
    "Tensor t, Tensor[] layers, int heads, float p, int dropout_seed) -> Tensor[]",
    "nat_update(Tensor(a!) key, Tensor(b!) eid, Tensor(c!) time, Tensor(d!) value, Tensor(e!) state, Tensor(f!) "
    "other, Tensor(g!) gap, Tensor? messages, Tensor? known, Tensor weights, int[] widths, int[] sizes, bool "
    "reference_hash, int seed, bool delta, Tensor src, Tensor dst, Tensor t, Tensor? asked, int first, float "
    "replace_prob, bool sequential) -> Tensor",
    "ncache_commit(Tensor(a!) key, Tensor(b!) eid, Tensor(c!) time, Tensor(d!) value, Tensor src, Tensor dst, Tensor "
    "t, Tensor event, Tensor nodes, Tensor at, Tensor now, int[] sizes, bool reference_hash, int seed, float "
    "replace_prob, bool sequential) -> ()",
    "ncache_join(Tensor key, int[] sizes, bool reference_hash, int seed, Tensor nodes, int? capacity) -> (Tensor, "
    "Tensor, Tensor)",
    "ncache_pool(Tensor key, Tensor eid, Tensor time, Tensor nodes, Tensor now, int[] sizes, bool reference_hash, "
    "int seed, Tensor first, Tensor second, Tensor? t, Tensor position, Tensor? query, Tensor? constant) -> Tensor",
    "ncache_pool_backward(Tensor grad, Tensor key, Tensor eid, Tensor time, Tensor nodes, Tensor now, int[] sizes, "
    "bool reference_hash, int seed, Tensor first, Tensor second, Tensor? t, Tensor position, Tensor? query, Tensor? "
    "constant) -> (Tensor, Tensor, Tensor, Tensor)",
    "ncache_refresh(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor nodes, Tensor state, Tensor? messages, "
    "Tensor? row, bool delta, Tensor time_weight, Tensor time_bias, Tensor weight, Tensor weight_ih, Tensor "
    "weight_hh, Tensor bias_ih, Tensor bias_hh) -> Tensor",
    "ncache_refresh_backward(Tensor grad, Tensor key, Tensor eid, Tensor time, Tensor value, Tensor nodes, Tensor "
    "state, Tensor? messages, Tensor? row, bool delta, Tensor time_weight, Tensor time_bias, Tensor weight, Tensor "
    "weight_ih, Tensor weight_hh, Tensor bias_ih, Tensor bias_hh) -> (Tensor, Tensor, Tensor, Tensor, Tensor, "
    "Tensor, Tensor)",
    "norm_dropout_relu(Tensor x, Tensor weight, Tensor bias, float eps, float p, int seed) -> (Tensor, Tensor, Tensor)",
    "norm_dropout_relu_backward(Tensor grad, Tensor y, Tensor x, Tensor mean, Tensor rstd, Tensor weight, float p) "
    "-> (Tensor, Tensor, Tensor)",
    "pair_head(Tensor h, Tensor pairs, Tensor? branch, Tensor? place, Tensor weights_t, Tensor biases, "
    "Tensor norm_weights, Tensor norm_biases, Tensor out_weight, Tensor out_bias, float eps, int num_pair_layers, "
    "int norm_mask, int relu_mask) -> Tensor",
    "pair_product(Tensor x, Tensor pairs) -> Tensor",
    "pair_product_backward(Tensor grad, Tensor x, Tensor pairs, Tensor tptr, Tensor tslot) -> Tensor",
    "pair_relu_dot(Tensor h, Tensor src, Tensor dst, Tensor weight, Tensor bias) -> Tensor",
    "pair_relu_dot_backward(Tensor grad, Tensor h, Tensor src, Tensor dst, Tensor weight) -> (Tensor, Tensor)",
    "pending_events(Tensor src, Tensor dst) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    "pres_correct(Tensor measured, Tensor prev, Tensor nodes, Tensor? affected, Tensor? slot, Tensor n, Tensor mean, "
    "Tensor? m2, Tensor? kinds, Tensor? dt, Tensor? tau, Tensor? longest, Tensor? count, Tensor? scale, Tensor "
    "weight, float eps, float max_shift, float min_count, bool kalman, bool by_node, bool save) -> "
    "(Tensor, Tensor, Tensor, Tensor)",
    "pres_correct_backward(Tensor grad, Tensor measured, Tensor guess, Tensor alpha, Tensor hit, Tensor weight) -> "
    "(Tensor, Tensor)",
    "pres_observe(Tensor(a!) n, Tensor(b!) mean, Tensor(c!) m2, Tensor(d!) scale, Tensor x, Tensor? prev, Tensor "
    "nodes, Tensor? slot, int capacity, Tensor? weights, Tensor? dt, Tensor? tau, Tensor? longest, float eps, float "
    "decay, float scale_rate) -> Tensor",
    "ring_graph(Tensor nbr, Tensor eid, Tensor count, Tensor ids) -> (Tensor, Tensor, Tensor, Tensor)",
    "ring_insert(Tensor(a!) nbr, Tensor(b!) eid, Tensor(c!) time, Tensor(d!) count, Tensor(e!) next_event, "
    "Tensor(f!) latest, Tensor src, Tensor dst, Tensor? t, Tensor? event) -> ()",
    "ring_query(Tensor nbr, Tensor eid, Tensor time, Tensor count, Tensor ids, Tensor? before, int k) "
    "-> (Tensor, Tensor, Tensor)",
    "sample_non_edges(Tensor rowptr, Tensor col, SymInt num_nodes, int start, SymInt count, int seed) -> Tensor",
    "sample_rows(Tensor ptr, Tensor out_ptr, SymInt total, int k, int seed, Tensor row_key, bool replace) "
    "-> (Tensor, Tensor)",
    "segment_gather_dot(Tensor ptr, Tensor idx, Tensor? keep, Tensor x, Tensor grad) -> Tensor",
    "segment_gather_sum(Tensor ptr, Tensor idx, Tensor? slot, Tensor? weight, Tensor? keep, Tensor x, Tensor? tptr, "
    "Tensor? trow, Tensor? tslot) -> Tensor",
    "temporal_attention(Tensor query, Tensor x, Tensor nbr, Tensor dt, Tensor time_weight, Tensor "
    "time_bias, Tensor? messages, Tensor? eid, float p, int seed) -> (Tensor, Tensor)",
    "temporal_attention_backward(Tensor grad, Tensor alpha, Tensor query, Tensor x, Tensor nbr, Tensor "
    "dt, Tensor time_weight, Tensor time_bias, Tensor? messages, Tensor? eid, float p, int seed) -> (Tensor, Tensor, "
    "Tensor, Tensor)",
    "temporal_append(Tensor(a!) start, Tensor(b!) length, Tensor(c!) nbr, Tensor(d!) eid, Tensor(e!) time, "
    "Tensor(f!) used, Tensor(g!) next_event, Tensor(h!) latest, Tensor src, Tensor dst, Tensor? t, Tensor? event) "
    "-> Tensor",
    "temporal_sample(Tensor start, Tensor length, Tensor nbr, Tensor eid, Tensor time, Tensor ids, Tensor t, "
    "Tensor? since, int k, int strategy, bool inclusive, float decay, int seed, Tensor? key) "
    "-> (Tensor, Tensor, Tensor)",
    "time_code(Tensor dt, Tensor weight, Tensor bias) -> Tensor",
    "time_code_backward(Tensor grad, Tensor dt, Tensor weight, Tensor bias) -> (Tensor, Tensor)",
)

_Library: Any = torch.library.Library  # untyped in torch
_libraries: list[Any] = []  # a registration lives as long as its Library object
_warned = False


def _name(schema: str) -> str:
    return schema.split("(", 1)[0]


def register() -> None:
    """Declare every operator and serve it by the reference; call it where the CPU library is absent."""
    library = _Library("graphmem", "DEF")
    _libraries.append(library)
    for schema in SCHEMAS:
        library.define(schema)
        library.impl(_name(schema), without_autocast(getattr(reference, _name(schema))), "CPU")
    register_cuda()


def register_cuda() -> None:
    """Serve CUDA tensors by the CPU operators, compiled or not; call it where the CUDA library is absent.

    The dense operators need none: see :mod:`graphmem.ops._dense`.
    """
    library = _Library("graphmem", "FRAGMENT")
    _libraries.append(library)
    for name in map(_name, SCHEMAS):
        if name not in DENSE:
            library.impl(name, _through_cpu(name), "CUDA")


def _through_cpu(name: str) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        _warn_once(name)
        device = next(a.device for a in args if isinstance(a, Tensor))
        operator = getattr(torch.ops.graphmem, name)
        copies = tree_map(lambda a: a.cpu() if isinstance(a, Tensor) else a, args)
        results = operator(*copies)
        for given, copy, argument in zip(args, copies, operator.default._schema.arguments, strict=True):
            if argument.is_write:
                given.copy_(copy)
        return tree_map(lambda r: r.to(device), results)

    return run


def _warn_once(name: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"graphmem.{name} got CUDA tensors, but the CUDA operators are not available: this and every further call "
            "goes through the CPU.",
            RuntimeWarning,
            stacklevel=3,
        )
