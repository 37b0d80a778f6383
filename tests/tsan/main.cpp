// Runs every CPU kernel on random graphs with 4 threads under ThreadSanitizer, and compares its output with that of one
// thread. `make tsan` builds it from csrc/cpu and the stand-in headers beside this file; `--race` runs a kernel with a
// data race instead, to show that one is seen.
#include <algorithm>
#include <numeric>

#include "cpu/parallel.h"
#include "harness.h"

namespace {

using namespace harness;

struct Graph {
  Tensor rowptr, col, keep;
  int64_t nodes;
};

// Rows with a heavy tail: every 37th node is a hub, every 11th has no neighbour.
template <class Col>
Graph graph(int64_t nodes, ScalarType dtype) {
  std::vector<int64_t> ptr{0};
  std::vector<Col> columns;
  for (int64_t i = 0; i < nodes; ++i) {
    std::set<Col> row;
    const int64_t wanted = i % 11 == 0 ? 0 : i % 37 == 0 ? nodes / 2 : below(24);
    for (int64_t k = 0; k < wanted; ++k) row.insert(static_cast<Col>(below(nodes)));
    columns.insert(columns.end(), row.begin(), row.end());
    ptr.push_back(static_cast<int64_t>(columns.size()));
  }
  const int64_t slots = static_cast<int64_t>(columns.size());
  return {tensor<int64_t>({nodes + 1}, ScalarType::Long, [&](int64_t n) { return ptr[n]; }),
          tensor<Col>({slots}, dtype, [&](int64_t n) { return columns[n]; }),
          tensor<bool>({slots}, ScalarType::Bool, [](int64_t) { return below(5) != 0; }), nodes};
}

// Where each list begins, from lengths: int64 [parts, n + 1], absolute.
Tensor offsets(const Tensor& sizes, int64_t parts, int64_t n) {
  int64_t at = 0;
  return tensor<int64_t>({parts, n + 1}, ScalarType::Long, [&](int64_t k) {
    const int64_t part = k / (n + 1), item = k % (n + 1), start = at;
    if (item < n) at += longs(sizes)[part * n + item];
    return start;
  });
}

void common_neighbors(const Graph& g, const std::string& type) {
  const int64_t count = 2000, features = 40;
  const Tensor pairs = nodes_of({2, count}, g.nodes), x = matrix({g.nodes, features});
  const Tensor weight = matrix({g.col.numel()});
  const Maybe none;
  for (const bool masked : {false, true}) {
    const Maybe keep = masked ? Maybe(g.keep) : none, weights = masked ? Maybe(weight) : none;
    const std::string variant = type + (masked ? ", masked" : "");
    check("cn_count", variant,
          [&] { return call<Tensor>("cn_count", g.rowptr, g.col, keep, g.rowptr, g.col, keep, pairs, masked); });
    const Tensor sizes = call<Tensor>("cn_count", g.rowptr, g.col, keep, g.rowptr, g.col, keep, pairs, masked)[0];
    const int64_t num_cn = std::accumulate(longs(sizes), longs(sizes) + count, int64_t{0});
    const int64_t total = std::accumulate(longs(sizes), longs(sizes) + 3 * count, int64_t{0});
    const Tensor ptr = offsets(sizes, 3, count);
    check("cn_index", variant, [&] {
      return call<std::tuple<Tensor, Tensor, Tensor>>("cn_index", g.rowptr, g.col, keep, g.rowptr, g.col, keep, pairs,
                                                      masked, int64_t{7}, ptr, total, num_cn);
    });
    for (const int64_t parts : {int64_t{1}, int64_t{7}}) {
      check("cn_gather_sum", variant, [&] {
        return call<Tensor>("cn_gather_sum", g.rowptr, g.col, keep, weights, g.rowptr, g.col, keep, weights, pairs, x,
                            masked, parts);
      });
      const Tensor grad = matrix({parts == 1 ? 1 : 3, count, features});
      check("cn_gather_sum_backward", variant, [&] {
        return call<Tensor>("cn_gather_sum_backward", g.rowptr, g.col, keep, weights, g.rowptr, g.col, keep, weights,
                            pairs, grad, g.nodes, masked, parts);
      });
    }
  }
  check("find_edges", type, [&] { return call<Tensor>("find_edges", g.rowptr, g.col, pairs); });
  check("sample_non_edges", type,
        [&] { return call<Tensor>("sample_non_edges", g.rowptr, g.col, g.nodes, int64_t{5}, count, int64_t{3}); });
}

void segments(const Graph& g, const std::string& type) {
  const Tensor x = matrix({g.nodes, 33}), grad = matrix({g.nodes, 33}), weight = matrix({g.col.numel()});
  const Maybe none, keep(g.keep);
  check("segment_gather_sum", type, [&] {
    return call<Tensor>("segment_gather_sum", g.rowptr, g.col, none, Maybe(weight), keep, x, none, none, none);
  });
  check("segment_gather_dot", type, [&] { return call<Tensor>("segment_gather_dot", g.rowptr, g.col, keep, x, grad); });
  check("csr_transpose", type,
        [&] { return call<std::tuple<Tensor, Tensor, Tensor>>("csr_transpose", g.rowptr, g.col, g.nodes); });
  const int64_t k = 6;
  const Tensor lengths = tensor<int64_t>(
      {g.nodes}, ScalarType::Long, [&](int64_t n) { return std::min(k, longs(g.rowptr)[n + 1] - longs(g.rowptr)[n]); });
  const Tensor out_ptr = offsets(lengths, 1, g.nodes), key = nodes_of({g.nodes}, 1 << 20);
  const Tensor flat = tensor<int64_t>({g.nodes + 1}, ScalarType::Long, [&](int64_t n) { return longs(out_ptr)[n]; });
  for (const bool replace : {false, true}) {
    check("sample_rows", type, [&] {
      return call<std::tuple<Tensor, Tensor>>("sample_rows", g.rowptr, flat, longs(flat)[g.nodes], k, int64_t{9}, key,
                                              replace);
    });
  }
}

void dense() {
  const int64_t rows = 700, width = 48, nodes = 300, count = 1500;
  const Maybe none;
  const Tensor a = matrix({rows, width}), b = matrix({width, 96}), bias = matrix({96}), other = matrix({rows, 64});
  check("matmul", "plain", [&] { return call<Tensor>("matmul", a, b, Maybe(bias), false, false); });
  check("matmul", "transposed", [&] { return call<Tensor>("matmul", a, other, none, true, false); });

  const Tensor x = matrix({4000, width}), grad = matrix({4000, width});
  check("dropout", "float", [&] { return call<Tensor>("dropout", x, 0.3, int64_t{5}, true); });
  const Tensor y = call<Tensor>("dropout", x, 0.3, int64_t{5}, true)[0];
  check("dropout_relu_backward", "float", [&] { return call<Tensor>("dropout_relu_backward", grad, y, 0.3); });

  using Three = std::tuple<Tensor, Tensor, Tensor>;
  const Tensor weight = matrix({width}), shift = matrix({width});
  check("norm_dropout_relu", "float",
        [&] { return call<Three>("norm_dropout_relu", x, weight, shift, 1e-5, 0.3, int64_t{4}); });
  const Outputs norm = call<Three>("norm_dropout_relu", x, weight, shift, 1e-5, 0.3, int64_t{4});
  check("norm_dropout_relu_backward", "float",
        [&] { return call<Three>("norm_dropout_relu_backward", grad, norm[0], x, norm[1], norm[2], weight, 0.3); });

  const Tensor h = matrix({nodes, width}), pairs = nodes_of({2, count}, nodes), pair_grad = matrix({count, width});
  check("pair_product", "float", [&] { return call<Tensor>("pair_product", h, pairs); });
  const Tensor ends = tensor<int64_t>({2 * count}, ScalarType::Long, [&](int64_t n) { return longs(pairs)[n]; });
  const Tensor each = tensor<int64_t>({2 * count + 1}, ScalarType::Long, [](int64_t n) { return n; });
  const Outputs turned = call<Three>("csr_transpose", each, ends, nodes);
  check("pair_product_backward", "float",
        [&] { return call<Tensor>("pair_product_backward", pair_grad, h, pairs, turned[0], turned[2]); });

  const Tensor branch = matrix({50, width}), place = nodes_of({count}, 50);
  const Tensor weights = matrix({2, width, width}), biases = matrix({2, width}), norms = matrix({2, width});
  const Tensor out_weight = matrix({width}), out_bias = matrix({1});
  check("pair_head", "float", [&] {
    return call<Tensor>("pair_head", h, pairs, Maybe(branch), Maybe(place), weights, biases, norms, biases, out_weight,
                        out_bias, 1e-5, int64_t{1}, int64_t{3}, int64_t{3});
  });
}

void temporal() {
  const int64_t rows = 700, nodes = 300, d = 40, raw = 3, times = 24, k = 6, heads = 2, features = d + times + raw;
  using Two = std::tuple<Tensor, Tensor>;
  using Three = std::tuple<Tensor, Tensor, Tensor>;
  using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;
  using Six = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
  const auto steps = [](std::vector<int64_t> sizes) {
    return tensor<double>(std::move(sizes), ScalarType::Double, [](int64_t) { return 1e6 * (1 + real()); });
  };
  const Tensor memory = matrix({nodes, d}), w = matrix({times}), b = matrix({times}), ids = nodes_of({rows}, nodes);
  check("distinct", "int64", [&] { return call<Three>("distinct", ids); });
  const Tensor ends = nodes_of({rows}, nodes);
  check("pending_events", "int64", [&] { return call<Six>("pending_events", ids, ends); });

  const Tensor dt = steps({rows}), code_grad = matrix({rows, times});
  check("time_code", "float", [&] { return call<Tensor>("time_code", dt, w, b); });
  check("time_code_backward", "float", [&] { return call<Two>("time_code_backward", code_grad, dt, w, b); });

  const Tensor other =
      tensor<int64_t>({rows}, ScalarType::Long, [&](int64_t) { return std::max<int64_t>(below(nodes + 30) - 30, -1); });
  const Tensor msg = matrix({rows, raw}), grad = matrix({rows, d});
  const Tensor hh = matrix({3 * d, d}), bi = matrix({3 * d}), bh = matrix({3 * d});
  for (const int64_t read : {2 * d, d}) {  // with and without the state
    const std::string variant = read == d ? "of the other alone" : "of both ends";
    const Tensor ih = matrix({3 * d, read + raw + times});
    const auto cell = [&] {
      return call<Three>("memory_gru", memory, ids, other, msg, dt, w, b, ih, hh, bi, bh, true);
    };
    check("memory_gru", variant, cell);
    const Outputs saved = cell();
    check("memory_gru_backward", variant,
          [&] { return call<Three>("memory_gru_backward", grad, saved[1], saved[2], dt, w, b, ih); });
  }

  const Tensor by_head = matrix({4, rows, d}), of_head = matrix({4, d, 3 * d});
  check("head_matmul", "float", [&] { return call<Tensor>("head_matmul", by_head, of_head, false, false, true); });

  const Tensor of_input = matrix({rows, 3 * d}), of_state = matrix({rows, 3 * d}), before = matrix({rows, d});
  const auto step = [&] { return call<Two>("gru_step", of_input, of_state, before, true); };
  check("gru_step", "float", step);
  const Tensor gates = step()[1];
  check("gru_step_backward", "float", [&] { return call<Three>("gru_step_backward", grad, gates, before); });

  const Maybe none, counts(tensor<int64_t>({rows}, ScalarType::Long, [](int64_t n) { return 1 + n % 3; }));
  const Tensor seen = tensor<float>({nodes, 1}, ScalarType::Float, [](int64_t) { return 3.0F; });
  const Tensor rate = matrix({nodes, 1, d}), spread = matrix({nodes, 1, d}), prev = matrix({rows, d});
  const Tensor part = tensor<float>({1, 1}, ScalarType::Float, [](int64_t) { return 0.4F; });
  for (const bool kalman : {false, true}) {
    const std::string variant = kalman ? "Kalman" : "scalar";
    const auto correct = [&] {
      return call<Four>("pres_correct", grad, prev, ids, none, none, seen, rate, kalman ? Maybe(spread) : none, none,
                        none, none, none, counts, none, part, 0.0, 0.0, 1.0, kalman, false, true);
    };
    check("pres_correct", variant, correct);
    const Outputs mixed = correct();
    check("pres_correct_backward", variant,
          [&] { return call<Two>("pres_correct_backward", grad, grad, mixed[1], mixed[2], mixed[3], part); });
  }
  check("pres_observe", "float", [&] {
    const auto known = [](std::vector<int64_t> sizes) {
      return tensor<float>(std::move(sizes), ScalarType::Float, [](int64_t n) { return static_cast<float>(n % 7); });
    };
    const Tensor n = known({nodes, 1}), mean = known({nodes, 1, d}), m2 = known({nodes, 1, d}), scale = known({1});
    return call<Tensor>("pres_observe", n, mean, m2, scale, grad, Maybe(prev), ids, none, nodes, none, none, none, none,
                        0.1, 0.9, 0.1);
  });
  check("coherence", "float", [&] { return call<Two>("coherence", grad, ids, prev); });
  const Outputs turned = call<Two>("coherence", grad, ids, prev);
  const Tensor one = tensor<float>({}, ScalarType::Float, [](int64_t) { return 1.0F; });
  check("coherence_backward", "float",
        [&] { return call<Tensor>("coherence_backward", one, grad, ids, prev, turned[1]); });

  const Tensor query = matrix({nodes, heads * features}), ages = steps({nodes, k}), messages = matrix({50, raw});
  const Tensor nbr = tensor<int64_t>({nodes, k}, ScalarType::Long, [&](int64_t) { return below(nodes + 100) - 100; });
  const Maybe letters(messages), eid(nodes_of({nodes, k}, 50));
  const auto attend = [&] {
    return call<Two>("temporal_attention", query, memory, nbr, ages, w, b, letters, eid, 0.2, int64_t{3});
  };
  check("temporal_attention", "float", attend);
  const Tensor alpha = attend()[1], mixed_grad = matrix({heads, nodes, features + 1});
  check("temporal_attention_backward", "float", [&] {
    return call<Four>("temporal_attention_backward", mixed_grad, alpha, query, memory, nbr, ages, w, b, letters, eid,
                      0.2, int64_t{3});
  });

  const Tensor h = matrix({nodes, 2 * d}), dst = nodes_of({rows, 4}, nodes), weight = matrix({d}), bias = matrix({1});
  const Tensor logit_grad = matrix({rows, 4});
  check("pair_relu_dot", "float", [&] { return call<Tensor>("pair_relu_dot", h, ids, dst, weight, bias); });
  check("pair_relu_dot_backward", "float",
        [&] { return call<Two>("pair_relu_dot_backward", logit_grad, h, ids, dst, weight); });
}

void rings() {
  const int64_t nodes = 300, size = 7, events = 5000;
  const Tensor src = nodes_of({events}, nodes), dst = nodes_of({events}, nodes), ids = nodes_of({9000}, nodes);
  const Tensor t = tensor<int64_t>({events}, ScalarType::Long, [](int64_t n) { return n / 3; });
  const Maybe none, before(nodes_of({9000}, events / 3));
  const auto filled = [&] {
    const auto zero = [](int64_t) { return int64_t{0}; };
    Outputs state;
    for (int k = 0; k < 3; ++k) state.push_back(tensor<int64_t>({nodes, size}, ScalarType::Long, zero));
    state.push_back(tensor<int64_t>({nodes}, ScalarType::Long, zero));
    for (int k = 0; k < 2; ++k) state.push_back(tensor<int64_t>({}, ScalarType::Long, zero));
    using Insert = void(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Maybe, Maybe);
    torch::stable::find<Insert>("ring_insert")(state[0], state[1], state[2], state[3], state[4], state[5], src, dst,
                                               Maybe(t), none);
    return state;
  };
  check("ring_insert", "int64", filled);
  const Outputs state = filled();
  check("ring_graph", "int64", [&] {
    return call<std::tuple<Tensor, Tensor, Tensor, Tensor>>("ring_graph", state[0], state[1], state[3], ids);
  });
  for (const Maybe& limit : {none, before}) {
    check("ring_query", limit.has_value() ? "before" : "all", [&] {
      return call<std::tuple<Tensor, Tensor, Tensor>>("ring_query", state[0], state[1], state[2], state[3], ids, limit,
                                                      int64_t{5});
    });
  }
}

void pools() {
  const int64_t nodes = 300, events = 5000, asked = 3000;
  const Tensor src = nodes_of({events}, nodes), dst = nodes_of({events}, nodes), ids = nodes_of({asked}, nodes);
  const Tensor t = tensor<int64_t>({events}, ScalarType::Long, [](int64_t n) { return n / 3; });
  const Tensor until = nodes_of({asked}, events / 3);
  const auto filled = [&] {
    const auto numbers = [](std::vector<int64_t> sizes) {
      return tensor<int64_t>(std::move(sizes), ScalarType::Long, [](int64_t) { return int64_t{0}; });
    };
    Outputs state{numbers({nodes}), numbers({nodes})};
    for (int k = 0; k < 3; ++k) state.push_back(numbers({4 * events}));
    for (int k = 0; k < 3; ++k) state.push_back(numbers({}));
    using Append = Tensor(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Maybe, Maybe);
    state.push_back(torch::stable::find<Append>("temporal_append")(
        state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7], src, dst, Maybe(t), Maybe()));
    return state;
  };
  check("temporal_append", "int64", filled);
  const Outputs state = filled();
  for (const int64_t strategy : {0, 1, 2}) {
    check("temporal_sample", std::to_string(strategy), [&] {
      return call<std::tuple<Tensor, Tensor, Tensor>>("temporal_sample", state[0], state[1], state[2], state[3],
                                                      state[4], ids, until, Maybe(), int64_t{5}, strategy, false, 0.01,
                                                      int64_t{3}, Maybe());
    });
  }
}

// All threads add to one number: what the sanitizer must report.
void race() {
  torch::stable::num_threads = 4;
  int64_t sum = 0;
  graphmem::parallel_chunks(100'000, 10, [&](int64_t begin, int64_t end) {
    sum += end - begin;
    std::this_thread::yield();
  });
  std::printf("sum %lld\n", static_cast<long long>(sum));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--race") == 0) {
    race();
    return 0;
  }
  const Graph narrow = graph<int32_t>(500, ScalarType::Int), wide = graph<int64_t>(500, ScalarType::Long);
  for (const auto& [g, type] : {std::pair(narrow, "int32"), std::pair(wide, "int64")}) {
    common_neighbors(g, type);
    segments(g, type);
  }
  dense();
  temporal();
  rings();
  pools();
  dictionaries();
  for (const auto& [name, entry] : torch::stable::registry()) {
    if (!ran.count(name)) {
      std::printf("%s: not run by the harness\n", name.c_str());
      ++failures;
    }
  }
  std::printf("%zu kernels, %d failures\n", ran.size(), failures);
  return failures != 0;
}
