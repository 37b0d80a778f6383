// Dictionaries of neighbours: events that enter them, what their cells are worth, and what two of them hold together.
#include "harness.h"

namespace harness {
namespace {

const std::vector<int64_t> kSizes{8, 4};
constexpr int64_t kNodes = 300, kColumns = 13, kWidth = 6, kEvents = 4000, kSeed = 3;

Tensor numbers(std::vector<int64_t> shape, const std::function<int64_t(int64_t)>& value) {
  return tensor<int64_t>(std::move(shape), ScalarType::Long, value);
}

Tensor every_node() {
  return numbers({kNodes}, [](int64_t n) { return n; });
}

// What the cells hold, after events that check both orders.
Outputs commits(const Tensor& worth) {
  const Tensor src = nodes_of({kEvents}, kNodes), dst = nodes_of({kEvents}, kNodes), nodes = every_node();
  const Tensor t = numbers({kEvents}, [](int64_t n) { return n / 3; });
  const Tensor event = numbers({kEvents}, [](int64_t n) { return n + 50; });
  const Tensor at = numbers({2 * kEvents}, [&](int64_t n) { return longs(n < kEvents ? src : dst)[n % kEvents]; });
  const auto filled = [&](bool sequential) {
    const auto none = [](int64_t) { return int64_t{-1}; };
    const auto zero = [](int64_t) { return int64_t{0}; };
    Outputs s{numbers({kNodes, kColumns}, none), numbers({kNodes, kColumns}, none), numbers({kNodes, kColumns}, zero),
              tensor<float>({kNodes, kColumns, kWidth}, ScalarType::Float, [](int64_t) { return 0.0f; })};
    using Commit = void(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                        std::vector<int64_t>, bool, int64_t, double, bool);
    const auto commit = torch::stable::find<Commit>("ncache_commit");
    commit(s[0], s[1], s[2], s[3], src, dst, t, event, nodes, at, worth, kSizes, false, kSeed, 0.7, sequential);
    return s;
  };
  check("ncache_commit", "in turn", [&] { return filled(true); });
  check("ncache_commit", "at once", [&] { return filled(false); });
  return filled(false);
}

void refresh(const Outputs& s, bool lettered) {
  const int64_t depth = 9, raw = lettered ? 3 : 0, times = 5, letters = 50;
  const std::string variant = lettered ? "messages" : "no messages";
  const Tensor nodes = every_node(), state = matrix({kNodes, depth}), w = matrix({times}), b = matrix({times});
  const Tensor weight = matrix({kWidth, depth + raw + times}), grad = matrix({kNodes, kColumns, kWidth});
  const Tensor ih = matrix({3 * kWidth, kWidth}), hh = matrix({3 * kWidth, kWidth});
  const Tensor bi = matrix({3 * kWidth}), bh = matrix({3 * kWidth});
  const Maybe messages = lettered ? Maybe(matrix({letters, raw})) : Maybe();
  const Maybe row = lettered ? Maybe(nodes_of({kNodes, kColumns}, letters)) : Maybe();
  check("ncache_refresh", variant, [&] {
    return call<Tensor>("ncache_refresh", s[0], s[1], s[2], s[3], nodes, state, messages, row, lettered, w, b, weight,
                        ih, hh, bi, bh);
  });
  using Seven = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
  check("ncache_refresh_backward", variant, [&] {
    return call<Seven>("ncache_refresh_backward", grad, s[0], s[1], s[2], s[3], nodes, state, messages, row, lettered,
                       w, b, weight, ih, hh, bi, bh);
  });
}

void join(const Outputs& s) {
  using Three = std::tuple<Tensor, Tensor, Tensor>;
  const Tensor nodes = nodes_of({700, 3}, kNodes);
  for (const std::optional<int64_t> capacity : {std::optional<int64_t>(), std::optional<int64_t>(5000)}) {
    const char* variant = capacity ? "capacity" : "threes";
    check("ncache_join", variant,
          [&] { return call<Three>("ncache_join", s[0], kSizes, false, kSeed, nodes, capacity); });
  }
}

void pool(const Outputs& s, const Tensor& worth, bool attends) {
  const int64_t pairs = 900, depth = 7, heads = attends ? 2 : 1, features = kWidth + depth + 2;
  const std::string variant = attends ? "attention" : "sum";
  const Tensor nodes = every_node(), first = nodes_of({pairs}, kNodes), second = nodes_of({pairs}, kNodes);
  const Maybe t = numbers({pairs}, [&](int64_t) { return kEvents / 3 + below(99); });
  const Tensor position = matrix({64, depth}), grad = matrix({heads, pairs, features});
  const Maybe query = attends ? Maybe(matrix({heads, features})) : Maybe();
  const Maybe constant = attends ? Maybe(matrix({heads})) : Maybe();
  check("ncache_pool", variant, [&] {
    return call<Tensor>("ncache_pool", s[0], s[1], s[2], nodes, worth, kSizes, false, kSeed, first, second, t, position,
                        query, constant);
  });
  using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;
  check("ncache_pool_backward", variant, [&] {
    return call<Four>("ncache_pool_backward", grad, s[0], s[1], s[2], nodes, worth, kSizes, false, kSeed, first, second,
                      t, position, query, constant);
  });
}

// Scores of candidates and of those of a batch of events, which then enters.
void model(const Outputs& s, bool lettered) {
  const int64_t d = 9, raw = lettered ? 3 : 0, times = 5, depth = 7, heads = lettered ? 2 : 0, hidden = 40, count = 700;
  const int64_t features = kWidth + depth + (lettered ? 2 : 0);
  const auto padded = [](int64_t n) { return (n + 31) / 32 * 32; };
  int64_t size = (2 * d + raw + times) * padded(3 * d) + 2 * padded(3 * d) + 2 * padded(times);
  size +=
      (d + raw) * padded(kWidth) + padded(kWidth * times) + 2 * padded(3 * kWidth * kWidth) + 2 * padded(3 * kWidth);
  size += padded(64 * depth) + padded(heads * features) + padded(heads) +
          std::max<int64_t>(heads, 1) * features * padded(hidden);
  size += (2 * d + (lettered ? 2 : 0) + 2) * padded(hidden) + 32;
  const Tensor weights = matrix({size}), src = nodes_of({count}, kNodes), dst = nodes_of({count}, kNodes);
  const Tensor asked = nodes_of({count, 2}, kNodes), t = numbers({count}, [](int64_t n) { return kEvents / 3 + n; });
  const Tensor states = matrix({kNodes, d}), ends = nodes_of({kNodes}, kNodes);
  const Maybe messages = lettered ? Maybe(matrix({kEvents + 50, raw})) : Maybe();
  const std::vector<int64_t> widths{raw, times, depth, heads, hidden};
  const std::string variant = lettered ? "attention" : "sum";
  const auto copy = [](const Tensor& x) {
    Tensor out = torch::stable::empty_like(x);
    std::memcpy(out.mutable_data_ptr(), x.const_data_ptr(), x.numel() * x.element_size());
    return out;
  };
  const Tensor gaps = numbers({kNodes}, [](int64_t n) { return n % 7; });
  const Tensor worth = matrix({kNodes, kColumns, kWidth});
  const Tensor event = numbers({count}, [](int64_t n) { return kEvents + 50 + n; });
  const Tensor at = numbers({2 * count}, [&](int64_t n) { return longs(n < count ? src : dst)[n % count]; });
  check("nat_score", variant, [&] {
    return call<Tensor>("nat_score", s[0], s[1], s[2], s[3], states, ends, gaps, messages, Maybe(), weights, widths,
                        kSizes, false, kSeed, lettered, src, asked, t);
  });
  check("nat_enter", variant, [&] {
    Outputs out{copy(s[0]), copy(s[1]), copy(s[2]), copy(s[3]), copy(states), copy(ends), copy(gaps)};
    using Enter = void(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor,
                       Tensor, Tensor, Tensor, std::vector<int64_t>, bool, int64_t, double, bool);
    torch::stable::find<Enter>("nat_enter")(out[0], out[1], out[2], out[3], out[4], out[5], out[6], src, dst, t, event,
                                            every_node(), at, states, worth, kSizes, false, kSeed, 0.7, false);
    return out;
  });
  check("nat_update", variant, [&] {
    Outputs out{copy(s[0]), copy(s[1]), copy(s[2]), copy(s[3]), copy(states), copy(ends), copy(gaps)};
    out.push_back(call<Tensor>("nat_update", out[0], out[1], out[2], out[3], out[4], out[5], out[6], messages, Maybe(),
                               weights, widths, kSizes, false, kSeed, lettered, src, dst, t, Maybe(asked), kEvents + 50,
                               0.7, false)[0]);
    return out;
  });
}

// Layers, their gradients, and events whose nodes were read before.
void training(const Outputs& s, bool lettered) {
  const int64_t d = 9, raw = lettered ? 3 : 0, times = 5, depth = 7, heads = 2, width = 6, hidden = 40, count = 300;
  const int64_t inputs = d + raw + times, clocks = lettered ? 2 : 0, features = kWidth + depth + clocks;
  const int64_t read = width * (lettered ? heads : 1) + 2 * d + clocks, pairs = 2 * count;
  std::vector<Tensor> layers{matrix({times, 1}), matrix({times}), matrix({d, inputs}), matrix({kWidth, inputs})};
  for (const int64_t units : {d, kWidth}) {
    for (int k = 0; k < 2; ++k) layers.push_back(matrix({3 * units, units}));
    for (int k = 0; k < 2; ++k) layers.push_back(matrix({3 * units}));
  }
  for (const Tensor& layer : {matrix({64, depth}), matrix({heads * width, features}), matrix({heads * width}),
                              matrix({hidden, read}), matrix({hidden}), matrix({1, hidden}), matrix({1})})
    layers.push_back(layer);
  if (lettered) layers.push_back(matrix({heads, width}));
  const Tensor nodes = every_node(), place = nodes_of({3 * count}, kNodes), grad = matrix({pairs});
  const Tensor t = numbers({count}, [](int64_t n) { return kEvents / 3 + n; });
  const Tensor states = matrix({kNodes, d}), ends = nodes_of({kNodes}, kNodes);
  const Tensor gaps = numbers({kNodes}, [](int64_t n) { return n % 7; });
  const Maybe messages = lettered ? Maybe(matrix({kEvents + 50, raw})) : Maybe();
  const std::string variant = lettered ? "attention" : "sum";
  using Eight = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
  const auto run = [&] {
    return call<Eight>("nat_train", s[0], s[1], s[2], s[3], states, ends, gaps, messages, Maybe(), kSizes, false, kSeed,
                       lettered, nodes, place, t, layers, heads, 0.3, kSeed);
  };
  check("nat_train", variant, run);
  const Outputs seen = run();
  check("nat_train_backward", variant, [&] {
    return call<std::vector<Tensor>>("nat_train_backward", grad, seen[2], seen[3], seen[4], seen[5], seen[6], seen[7],
                                     s[0], s[1], s[2], s[3], states, ends, gaps, messages, Maybe(), kSizes, false,
                                     kSeed, lettered, nodes, place, t, layers, heads, 0.3, kSeed);
  });
}

}  // namespace

void dictionaries() {
  const Tensor worth = matrix({kNodes, kColumns, kWidth});
  const Outputs state = commits(worth);
  for (const bool optional : {false, true}) {
    refresh(state, optional);
    pool(state, worth, optional);
    if (optional) join(state);
    model(state, optional);
    training(state, optional);
  }
}

}  // namespace harness
