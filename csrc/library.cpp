// Schemas of every operator. Defaults live in Python: a schema default would tie a binary to one torch version.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(graphmem, m) {
  m.def(
      "cn_count(Tensor rowptr_a, Tensor col_a, Tensor? keep_a, Tensor rowptr_b, Tensor col_b, Tensor? keep_b, "
      "Tensor pairs, bool exclude_endpoints) -> Tensor");
  m.def(
      "cn_gather_sum(Tensor rowptr_a, Tensor col_a, Tensor? keep_a, Tensor? weight_a, Tensor rowptr_b, Tensor col_b, "
      "Tensor? keep_b, Tensor? weight_b, Tensor pairs, Tensor x, bool exclude_endpoints, int parts) -> Tensor");
  m.def(
      "cn_gather_sum_backward(Tensor rowptr_a, Tensor col_a, Tensor? keep_a, Tensor? weight_a, Tensor rowptr_b, "
      "Tensor col_b, Tensor? keep_b, Tensor? weight_b, Tensor pairs, Tensor grad, SymInt num_nodes, "
      "bool exclude_endpoints, int parts) -> Tensor");
  m.def(
      "cn_index(Tensor rowptr_a, Tensor col_a, Tensor? keep_a, Tensor rowptr_b, Tensor col_b, Tensor? keep_b, "
      "Tensor pairs, bool exclude_endpoints, int parts, Tensor ptr, SymInt total, SymInt num_cn) "
      "-> (Tensor, Tensor, Tensor)");
  m.def("coherence(Tensor x, Tensor row, Tensor prev) -> (Tensor, Tensor)");
  m.def("coherence_backward(Tensor grad, Tensor x, Tensor row, Tensor prev, Tensor saved) -> Tensor");
  m.def("csr_transpose(Tensor ptr, Tensor idx, SymInt num_cols) -> (Tensor, Tensor, Tensor)");
  m.def("distinct(Tensor ids) -> (Tensor, Tensor, Tensor)");
  m.def("dropout(Tensor x, float p, int seed, bool relu) -> Tensor");
  m.def("dropout_relu_backward(Tensor grad, Tensor y, float p) -> Tensor");
  m.def("find_edges(Tensor rowptr, Tensor col, Tensor pairs) -> Tensor");
  m.def("gru_step(Tensor g, Tensor h, Tensor state, bool save) -> (Tensor, Tensor)");
  m.def("gru_step_backward(Tensor grad, Tensor gates, Tensor state) -> (Tensor, Tensor, Tensor)");
  m.def("head_matmul(Tensor a, Tensor b, bool transpose_a, bool transpose_b, bool rows_first) -> Tensor");
  m.def("matmul(Tensor a, Tensor b, Tensor? bias, bool transpose_a, bool transpose_b) -> Tensor");
  m.def(
      "memory_gru(Tensor memory, Tensor node, Tensor other, Tensor msg, Tensor dt, Tensor time_weight, Tensor "
      "time_bias, Tensor weight_ih, Tensor weight_hh, Tensor bias_ih, Tensor bias_hh, bool save) -> (Tensor, Tensor, "
      "Tensor)");
  m.def(
      "memory_gru_backward(Tensor grad, Tensor inputs, Tensor gates, Tensor dt, Tensor time_weight, Tensor time_bias, "
      "Tensor "
      "weight_ih) -> (Tensor, Tensor, Tensor)");
  m.def(
      "nat_enter(Tensor(a!) key, Tensor(b!) eid, Tensor(c!) time, Tensor(d!) value, Tensor(e!) state, Tensor(f!) "
      "other, Tensor(g!) gap, Tensor src, Tensor dst, Tensor t, Tensor event, Tensor nodes, Tensor at, Tensor own, "
      "Tensor now, int[] sizes, bool reference_hash, int seed, float replace_prob, bool sequential) -> ()");
  m.def(
      "nat_score(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor state, Tensor other, Tensor gap, "
      "Tensor? messages, Tensor? known, Tensor weights, int[] widths, int[] sizes, bool reference_hash, int "
      "seed, bool delta, Tensor src, Tensor dst, Tensor t) -> Tensor");
  m.def(
      "nat_train(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor state, Tensor other, Tensor gap, Tensor? "
      "messages, Tensor? known, int[] sizes, bool reference_hash, int seed, bool delta, Tensor nodes, Tensor place, "
      "Tensor t, Tensor[] layers, int heads, float p, int dropout_seed) -> (Tensor, Tensor, Tensor, Tensor, Tensor, "
      "Tensor, Tensor, Tensor)");
  m.def(
      "nat_train_backward(Tensor grad, Tensor now, Tensor inputs, Tensor gates, Tensor mixed, Tensor read, Tensor "
      "hidden, Tensor key, Tensor eid, Tensor time, Tensor value, Tensor state, Tensor other, Tensor gap, Tensor? "
      "messages, Tensor? known, int[] sizes, bool reference_hash, int seed, bool delta, Tensor nodes, Tensor place, "
      "Tensor t, Tensor[] layers, int heads, float p, int dropout_seed) -> Tensor[]");
  m.def(
      "nat_update(Tensor(a!) key, Tensor(b!) eid, Tensor(c!) time, Tensor(d!) value, Tensor(e!) state, "
      "Tensor(f!) other, Tensor(g!) gap, Tensor? messages, Tensor? known, Tensor weights, int[] widths, int[] "
      "sizes, bool reference_hash, int seed, bool delta, Tensor src, Tensor dst, Tensor t, Tensor? asked, int "
      "first, float replace_prob, bool sequential) -> Tensor");
  m.def(
      "ncache_commit(Tensor(a!) key, Tensor(b!) eid, Tensor(c!) time, Tensor(d!) value, Tensor src, Tensor dst, Tensor "
      "t, Tensor event, Tensor nodes, Tensor at, Tensor now, int[] sizes, bool reference_hash, int seed, float "
      "replace_prob, bool sequential) -> ()");
  m.def(
      "ncache_join(Tensor key, int[] sizes, bool reference_hash, int seed, Tensor nodes, int? capacity) -> (Tensor, "
      "Tensor, Tensor)");
  m.def(
      "ncache_pool(Tensor key, Tensor eid, Tensor time, Tensor nodes, Tensor now, int[] sizes, bool reference_hash, "
      "int seed, Tensor first, Tensor second, Tensor? t, Tensor position, Tensor? query, Tensor? constant) -> Tensor");
  m.def(
      "ncache_pool_backward(Tensor grad, Tensor key, Tensor eid, Tensor time, Tensor nodes, Tensor now, int[] sizes, "
      "bool reference_hash, int seed, Tensor first, Tensor second, Tensor? t, Tensor position, Tensor? query, Tensor? "
      "constant) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "ncache_refresh(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor nodes, Tensor state, Tensor? messages, "
      "Tensor? row, bool delta, Tensor time_weight, Tensor time_bias, Tensor weight, Tensor weight_ih, Tensor "
      "weight_hh, Tensor bias_ih, Tensor bias_hh) -> Tensor");
  m.def(
      "ncache_refresh_backward(Tensor grad, Tensor key, Tensor eid, Tensor time, Tensor value, Tensor nodes, Tensor "
      "state, Tensor? messages, Tensor? row, bool delta, Tensor time_weight, Tensor time_bias, Tensor weight, Tensor "
      "weight_ih, Tensor weight_hh, Tensor bias_ih, Tensor bias_hh) -> (Tensor, Tensor, Tensor, Tensor, Tensor, "
      "Tensor, Tensor)");
  m.def(
      "norm_dropout_relu(Tensor x, Tensor weight, Tensor bias, float eps, float p, int seed) "
      "-> (Tensor, Tensor, Tensor)");
  m.def(
      "norm_dropout_relu_backward(Tensor grad, Tensor y, Tensor x, Tensor mean, Tensor rstd, Tensor weight, float p) "
      "-> (Tensor, Tensor, Tensor)");
  m.def(
      "pair_head(Tensor h, Tensor pairs, Tensor? branch, Tensor? place, Tensor weights_t, Tensor biases, "
      "Tensor norm_weights, Tensor norm_biases, Tensor out_weight, Tensor out_bias, float eps, int num_pair_layers, "
      "int norm_mask, int relu_mask) -> Tensor");
  m.def("pair_product(Tensor x, Tensor pairs) -> Tensor");
  m.def("pair_product_backward(Tensor grad, Tensor x, Tensor pairs, Tensor tptr, Tensor tslot) -> Tensor");
  m.def("pair_relu_dot(Tensor h, Tensor src, Tensor dst, Tensor weight, Tensor bias) -> Tensor");
  m.def("pair_relu_dot_backward(Tensor grad, Tensor h, Tensor src, Tensor dst, Tensor weight) -> (Tensor, Tensor)");
  m.def("pending_events(Tensor src, Tensor dst) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "pres_correct(Tensor measured, Tensor prev, Tensor nodes, Tensor? affected, Tensor? slot, Tensor n, Tensor mean, "
      "Tensor? m2, Tensor? kinds, Tensor? dt, Tensor? tau, Tensor? longest, Tensor? count, Tensor? scale, Tensor "
      "weight, float eps, float max_shift, float min_count, bool kalman, bool by_node, bool save) -> (Tensor, Tensor, "
      "Tensor, Tensor)");
  m.def(
      "pres_correct_backward(Tensor grad, Tensor measured, Tensor guess, Tensor alpha, Tensor hit, Tensor weight) -> "
      "(Tensor, Tensor)");
  m.def(
      "pres_observe(Tensor(a!) n, Tensor(b!) mean, Tensor(c!) m2, Tensor(d!) scale, Tensor x, Tensor? prev, Tensor "
      "nodes, Tensor? slot, int capacity, Tensor? weights, Tensor? dt, Tensor? tau, Tensor? longest, float eps, float "
      "decay, float scale_rate) -> Tensor");
  m.def("ring_graph(Tensor nbr, Tensor eid, Tensor count, Tensor ids) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "ring_insert(Tensor(a!) nbr, Tensor(b!) eid, Tensor(c!) time, Tensor(d!) count, Tensor(e!) next_event, "
      "Tensor(f!) latest, Tensor src, Tensor dst, Tensor? t, Tensor? event) -> ()");
  m.def(
      "ring_query(Tensor nbr, Tensor eid, Tensor time, Tensor count, Tensor ids, Tensor? before, int k) "
      "-> (Tensor, Tensor, Tensor)");
  m.def("sample_non_edges(Tensor rowptr, Tensor col, SymInt num_nodes, int start, SymInt count, int seed) -> Tensor");
  m.def(
      "sample_rows(Tensor ptr, Tensor out_ptr, SymInt total, int k, int seed, Tensor row_key, bool replace) "
      "-> (Tensor, Tensor)");
  m.def("segment_gather_dot(Tensor ptr, Tensor idx, Tensor? keep, Tensor x, Tensor grad) -> Tensor");
  m.def(
      "segment_gather_sum(Tensor ptr, Tensor idx, Tensor? slot, Tensor? weight, Tensor? keep, Tensor x, Tensor? tptr, "
      "Tensor? trow, Tensor? tslot) -> Tensor");
  m.def(
      "temporal_attention(Tensor query, Tensor x, Tensor nbr, Tensor dt, Tensor time_weight, Tensor "
      "time_bias, Tensor? messages, Tensor? eid, float p, int seed) -> (Tensor, Tensor)");
  m.def(
      "temporal_attention_backward(Tensor grad, Tensor alpha, Tensor query, Tensor x, Tensor nbr, Tensor "
      "dt, Tensor time_weight, Tensor time_bias, Tensor? messages, Tensor? eid, float p, int seed) -> (Tensor, Tensor, "
      "Tensor, Tensor)");
  m.def(
      "temporal_append(Tensor(a!) start, Tensor(b!) length, Tensor(c!) nbr, Tensor(d!) eid, Tensor(e!) time, "
      "Tensor(f!) used, Tensor(g!) next_event, Tensor(h!) latest, Tensor src, Tensor dst, Tensor? t, Tensor? event) "
      "-> Tensor");
  m.def(
      "temporal_sample(Tensor start, Tensor length, Tensor nbr, Tensor eid, Tensor time, Tensor ids, Tensor t, "
      "Tensor? since, int k, int strategy, bool inclusive, float decay, int seed, Tensor? key) "
      "-> (Tensor, Tensor, Tensor)");
  m.def("time_code(Tensor dt, Tensor weight, Tensor bias) -> Tensor");
  m.def("time_code_backward(Tensor grad, Tensor dt, Tensor weight, Tensor bias) -> (Tensor, Tensor)");
}
