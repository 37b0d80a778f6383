// Runs every CPU kernel on random graphs with 4 threads under ThreadSanitizer, and compares its output with that of one
// thread. `make tsan` builds it from csrc/cpu and the stand-in headers beside this file; `--race` runs a kernel with a
// data race instead, to show that one is seen.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <set>
#include <tuple>

#include "cpu/parallel.h"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Maybe = std::optional<Tensor>;
using Outputs = std::vector<Tensor>;

template <class... Results>
Outputs list(const std::tuple<Results...>& results) {
  return std::apply([](const auto&... each) { return Outputs{each...}; }, results);
}
Outputs list(const Tensor& result) { return {result}; }

template <class Result, class... Args>
Outputs call(const char* name, Args... args) {
  return list(torch::stable::find<Result(Args...)>(name)(args...));
}

template <class T>
Tensor tensor(std::vector<int64_t> sizes, ScalarType dtype, const std::function<T(int64_t)>& value) {
  Tensor out(std::move(sizes), dtype);
  T* data = static_cast<T*>(out.mutable_data_ptr());
  for (int64_t n = 0; n < out.numel(); ++n) data[n] = value(n);
  return out;
}

int failures = 0;
std::set<std::string> ran;

// `work` with one thread and with four: the same bytes.
void check(const std::string& name, const std::string& variant, const std::function<Outputs()>& work) {
  ran.insert(name);
  torch::stable::num_threads = 1;
  const Outputs expected = work();
  torch::stable::num_threads = 4;
  const Outputs found = work();
  for (size_t k = 0; k < expected.size(); ++k) {
    const size_t bytes = expected[k].numel() * expected[k].element_size();
    if (std::memcmp(expected[k].const_data_ptr(), found[k].const_data_ptr(), bytes) != 0) {
      std::printf("%s (%s): output %zu differs between 1 and 4 threads\n", name.c_str(), variant.c_str(), k);
      ++failures;
    }
  }
}

struct Graph {
  Tensor rowptr, col, keep;
  int64_t nodes;
};

std::mt19937_64 random_bits(7);
int64_t below(int64_t bound) { return static_cast<int64_t>(random_bits() % static_cast<uint64_t>(bound)); }
float real() { return static_cast<float>(static_cast<double>(random_bits() >> 11) / 9007199254740992.0 * 2 - 1); }

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

Tensor nodes_of(std::vector<int64_t> sizes, int64_t nodes) {
  return tensor<int64_t>(std::move(sizes), ScalarType::Long, [=](int64_t) { return below(nodes); });
}

Tensor matrix(std::vector<int64_t> sizes) {
  return tensor<float>(std::move(sizes), ScalarType::Float, [](int64_t) { return real(); });
}

const int64_t* longs(const Tensor& t) { return static_cast<const int64_t*>(t.const_data_ptr()); }

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
  const auto steps = [](std::vector<int64_t> sizes) {
    return tensor<double>(std::move(sizes), ScalarType::Double, [](int64_t) { return 1e6 * (1 + real()); });
  };
  const Tensor memory = matrix({nodes, d}), w = matrix({times}), b = matrix({times}), ids = nodes_of({rows}, nodes);
  check("distinct", "int64", [&] { return call<Three>("distinct", ids); });

  const Tensor dt = steps({rows}), code_grad = matrix({rows, times});
  check("time_code", "float", [&] { return call<Tensor>("time_code", dt, w, b); });
  check("time_code_backward", "float", [&] { return call<Two>("time_code_backward", code_grad, dt, w, b); });

  const Tensor other = nodes_of({rows}, nodes), msg = matrix({rows, raw}), grad = matrix({rows, d});
  const Tensor ih = matrix({3 * d, 2 * d + raw + times}), hh = matrix({3 * d, d}), bi = matrix({3 * d}),
               bh = matrix({3 * d});
  const auto cell = [&] { return call<Three>("memory_gru", memory, ids, other, msg, dt, w, b, ih, hh, bi, bh, true); };
  check("memory_gru", "float", cell);
  const Outputs saved = cell();
  check("memory_gru_backward", "float",
        [&] { return call<Three>("memory_gru_backward", grad, saved[1], saved[2], dt, w, b, ih); });

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

void dictionaries() {
  const int64_t nodes = 300, events = 4000, width = 6, depth = 9, raw = 3, times = 5, places = 7, heads = 2,
                asked = 900;
  const std::vector<int64_t> sizes{8, 4};
  const int64_t columns = 13, masks = 64, features = width + places + 2;
  const auto numbers = [](std::vector<int64_t> shape, int64_t value) {
    return tensor<int64_t>(std::move(shape), ScalarType::Long, [=](int64_t) { return value; });
  };
  const Tensor src = nodes_of({events}, nodes), dst = nodes_of({events}, nodes);
  const Tensor t = tensor<int64_t>({events}, ScalarType::Long, [](int64_t n) { return n / 3; });
  const Tensor event = tensor<int64_t>({events}, ScalarType::Long, [](int64_t n) { return n + 50; });
  const Tensor every = tensor<int64_t>({nodes}, ScalarType::Long, [](int64_t n) { return n; });
  const Tensor at = tensor<int64_t>({2 * events}, ScalarType::Long,
                                    [&](int64_t n) { return longs(n < events ? src : dst)[n % events]; });
  const Tensor worth = matrix({nodes, columns, width});
  const auto filled = [&](bool sequential) {
    Outputs state{numbers({nodes, columns}, -1), numbers({nodes, columns}, -1), numbers({nodes, columns}, 0),
                  tensor<float>({nodes, columns, width}, ScalarType::Float, [](int64_t) { return 0.0f; })};
    using Commit = void(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                        std::vector<int64_t>, bool, int64_t, double, bool);
    torch::stable::find<Commit>("ncache_commit")(state[0], state[1], state[2], state[3], src, dst, t, event, every, at,
                                                 worth, sizes, false, 3, 0.7, sequential);
    return state;
  };
  for (const bool sequential : {false, true})
    check("ncache_commit", sequential ? "sequential" : "prebatch", [&] { return filled(sequential); });
  const Outputs s = filled(false);

  const Tensor state = matrix({nodes, depth}), w = matrix({times}), b = matrix({times}), grad = matrix(worth.sizes());
  const Tensor ih = matrix({3 * width, width}), hh = matrix({3 * width, width}), bi = matrix({3 * width}),
               bh = matrix({3 * width});
  using Seven = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
  for (const bool lettered : {false, true}) {
    const std::string variant = lettered ? "messages" : "plain";
    const Maybe letters = lettered ? Maybe(matrix({50, raw})) : Maybe();
    const Maybe row = lettered ? Maybe(nodes_of({nodes, columns}, 50)) : Maybe();
    const Tensor weight = matrix({width, depth + times + (lettered ? raw : 0)});
    check("ncache_refresh", variant, [&] {
      return call<Tensor>("ncache_refresh", s[0], s[1], s[2], s[3], every, state, letters, row, lettered, w, b, weight,
                          ih, hh, bi, bh);
    });
    check("ncache_refresh_backward", variant, [&] {
      return call<Seven>("ncache_refresh_backward", grad, s[0], s[1], s[2], s[3], every, state, letters, row, lettered,
                         w, b, weight, ih, hh, bi, bh);
    });
  }

  const Tensor first = nodes_of({asked}, nodes), second = nodes_of({asked}, nodes), position = matrix({masks, places});
  const Tensor when = tensor<int64_t>({asked}, ScalarType::Long, [&](int64_t) { return events / 3 + below(99); });
  using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;
  for (const bool attends : {false, true}) {
    const std::string variant = attends ? "attention" : "sum";
    const Maybe query = attends ? Maybe(matrix({heads, features})) : Maybe();
    const Maybe constant = attends ? Maybe(matrix({heads})) : Maybe();
    const Tensor slopes = matrix({attends ? heads : 1, asked, features});
    check("ncache_pool", variant, [&] {
      return call<Tensor>("ncache_pool", s[0], s[1], s[2], every, worth, sizes, false, int64_t{3}, first, second,
                          Maybe(when), position, query, constant);
    });
    check("ncache_pool_backward", variant, [&] {
      return call<Four>("ncache_pool_backward", slopes, s[0], s[1], s[2], every, worth, sizes, false, int64_t{3}, first,
                        second, Maybe(when), position, query, constant);
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
