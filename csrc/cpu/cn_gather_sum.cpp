// cn_gather_sum: sums of feature rows over the common, left and right neighbours of each pair, and its gradient with
// respect to the features. Memory is inputs + outputs + a few MiB a thread.
//
// A thread takes some hundred pairs, lists their neighbours, and then sums (cpu/gather.h), the features in blocks that
// stay in a second-level cache where the lists come back to the same rows. Forward: a pair's rows belong to one thread,
// nodes ascend. Backward: a thread owns a slice of the features and walks all pairs in order, so that every element of
// the gradient is a sum in a fixed order without atomics; the intersection is repeated once per slice. Both give the
// same bits for every number of threads.
#include <torch/csrc/stable/library.h>

#include <array>

#include "common/problem.h"
#include "cpu/fresh.h"
#include "cpu/gather.h"
#include "cpu/marks.h"
#include "cpu/parallel.h"
#include "cpu/walk.h"

namespace graphmem {
namespace {

constexpr int64_t kChunk = 256;
// Entries after which the pairs listed so far are summed: bounds the lists of hubs.
constexpr int64_t kEntries = 1 << 18;

// Neighbours of some pairs in a row, one list a pair, for one part.
template <class Col, class Acc>
class Lists {
 public:
  // For at most kChunk lists.
  void clear() {
    num_lists_ = num_entries_ = 0;
    ptr_.reserve(kChunk + 1)[0] = 0;
  }
  int64_t num_entries() const { return num_entries_; }

  // What was added since the last call is a list.
  void close() { ptr_.reserve(kChunk + 1)[++num_lists_] = num_entries_; }

  // Room for `count` entries more; what was written there is kept by `add(written)`.
  Col* room(int64_t count) { return node_.reserve(num_entries_ + count, num_entries_) + num_entries_; }
  Acc* weight_room(int64_t count) { return weight_.reserve(num_entries_ + count, num_entries_) + num_entries_; }
  void add(int64_t written) { num_entries_ += written; }

  Entries<Col, Acc> entries(bool weighted) const {
    return {ptr_.data(), node_.data(), nullptr, weighted ? weight_.data() : nullptr, nullptr};
  }

 private:
  Buffer<int64_t> ptr_;
  Buffer<Col> node_;
  Buffer<Acc> weight_;
  int64_t num_lists_ = 0, num_entries_ = 0;
};

// Lists the neighbours of pair after pair.
template <class Col, class Acc>
class Lister {
 public:
  explicit Lister(const Problem<Col, Acc>& problem)
      : problem_(problem),
        num_parts_(count_parts(problem.parts)),
        meeting_(problem.a, problem.b, problem.source, problem.target, problem.num_nodes) {}

  // Lists pairs from `begin` on, at most kChunk, up to `end` or until the lists are long enough; returns where it stopped.
  int64_t list(int64_t begin, int64_t end) {
    for (auto& lists : lists_) lists.clear();
    int64_t n = begin;
    while (n < end && entries() < kEntries) {
      fetch_rows(problem_.a, problem_.b, problem_.source, problem_.target, n, problem_.num_pairs);
      one(n, end);
      ++n;
    }
    return n;
  }

  int64_t entries() const { return lists_[0].num_entries() + lists_[1].num_entries() + lists_[2].num_entries(); }
  Entries<Col, Acc> part(int64_t row) const { return lists_[row].entries(problem_.weighted()); }

 private:
  void one(int64_t n, int64_t end) {
    const auto &a = problem_.a, &b = problem_.b;
    const int64_t i = problem_.source[n], j = problem_.target[n];
    const int64_t len_a = a.rowptr[i + 1] - a.rowptr[i], len_b = b.rowptr[j + 1] - b.rowptr[j];
    if (problem_.parts == kCn && !problem_.weighted() && !problem_.masked()) {
      Col* to = lists_[0].room(std::min(len_a, len_b) + kSlack);
      lists_[0].add(meeting_.nodes(n, end, to));
    } else if (problem_.parts == kCn) {
      Writer cn(lists_[0], std::min(len_a, len_b), problem_.weighted());
      walk_.common(a, b, i, j, problem_.exclude_endpoints,
                   [&](Col u, int64_t p, int64_t q) { cn(u, a.weight_of(p) * b.weight_of(q)); });
    } else {
      const int64_t parts = problem_.parts;
      auto writer = [&](int64_t part, int64_t most) {
        return Writer(lists_[std::max<int64_t>(part_row(parts, part), 0)], parts & part ? most : 0,
                      problem_.weighted());
      };
      Writer cn = writer(kCn, std::min(len_a, len_b)), left = writer(kLeft, len_a), right = writer(kRight, len_b);
      walk_.parts(
          a, b, i, j, problem_.exclude_endpoints,
          [&](Col u, int64_t p, int64_t q) {
            if (parts & kCn) cn(u, a.weight_of(p) * b.weight_of(q));
          },
          [&](Col u, int64_t p) {
            if (parts & kLeft) left(u, a.weight_of(p));
          },
          [&](Col u, int64_t q) {
            if (parts & kRight) right(u, b.weight_of(q));
          });
    }
    for (int64_t row = 0; row < num_parts_; ++row) lists_[row].close();
  }

  // Appends to the list that is open.
  class Writer {
   public:
    Writer(Lists<Col, Acc>& lists, int64_t most, bool weighted)
        : lists_(lists), node_(lists.room(most)), weight_(weighted ? lists.weight_room(most) : nullptr) {}
    ~Writer() { lists_.add(count_); }
    Writer(const Writer&) = delete;
    void operator()(Col u, Acc weight) {
      node_[count_] = u;
      if (weight_ != nullptr) weight_[count_] = weight;
      ++count_;
    }

   private:
    Lists<Col, Acc>& lists_;
    Col* node_;
    Acc* weight_;
    int64_t count_ = 0;
  };

  const Problem<Col, Acc>& problem_;
  const int64_t num_parts_;
  std::array<Lists<Col, Acc>, 3> lists_;  // by row of the output
  Meeting<Col, Acc> meeting_;
  Walk walk_;
};

// Features of a block: as many as keep the table's part of it in half of a second-level cache, if the lists come back to
// most rows; else all of them, since blocks would only read the lists again.
int64_t block_width(int64_t num_rows, int64_t num_features, int64_t entries, int64_t element) {
  if (entries < 2 * num_rows || num_rows * num_features * element <= kNear) return num_features;
  return std::clamp<int64_t>(kNear / 2 / (num_rows * element) / 32 * 32, 64, num_features);
}

template <class Col, class X, class Acc>
void forward(const Problem<Col, Acc>& problem, const X* x, int64_t num_rows, int64_t num_features, X* out) {
  const int64_t num_parts = count_parts(problem.parts);
  const bool far = num_rows * num_features * int64_t{sizeof(X)} > kNear;
  parallel_chunks(problem.num_pairs, kChunk, [&](int64_t begin, int64_t end) {
    Lister<Col, Acc> lister(problem);
    for (int64_t n = begin; n < end;) {
      const int64_t next = lister.list(n, std::min(end, n + kChunk));
      const int64_t width = block_width(num_rows, num_features, lister.entries(), sizeof(X));
      for (int64_t first = 0; first < num_features; first += width) {
        const int64_t last = std::min(num_features, first + width);
        for (int64_t r = 0; r < num_parts; ++r) {
          X* to = out + (r * problem.num_pairs + n) * num_features + first;
          gather(lister.part(r), 0, next - n, last - first, far && width == num_features, num_features, x + first, to);
        }
      }
      n = next;
    }
  });
}

template <class Col, class X, class Acc>
void backward(const Problem<Col, Acc>& problem, const X* grad, int64_t num_rows, int64_t num_features, Acc* sums) {
  const int64_t num_parts = count_parts(problem.parts);
  // At least a cache line of floats per slice: narrower slices would only repeat the intersections.
  const int64_t slices = std::clamp<int64_t>(num_features / 16, 1, torch::stable::get_num_threads());
  const int64_t slice = std::max<int64_t>((num_features + slices - 1) / slices, 1);
  const bool far = num_rows * num_features * int64_t{sizeof(Acc)} > kNear;
  parallel_chunks(num_features, slice, [&](int64_t begin, int64_t end) {
    Lister<Col, Acc> lister(problem);
    for (int64_t n = 0; n < problem.num_pairs;) {
      const int64_t next = lister.list(n, std::min(problem.num_pairs, n + kChunk));
      const int64_t width = std::min(end - begin, block_width(num_rows, num_features, lister.entries(), sizeof(Acc)));
      for (int64_t first = begin; first < end; first += width) {
        // Parts are added pair by pair, as in the definition: a node may get terms from several of them.
        for (int64_t s = 0; s < (num_parts > 1 ? next - n : 1); ++s) {
          for (int64_t r = 0; r < num_parts; ++r) {
            scatter(lister.part(r), s, num_parts > 1 ? s + 1 : next - n, std::min(width, end - first),
                    far && width == end - begin, num_features,
                    grad + (r * problem.num_pairs + n) * num_features + first, sums + first);
          }
        }
      }
      n = next;
    }
  });
}

Tensor cn_gather_sum_cpu(Tensor rowptr_a, Tensor col_a, std::optional<Tensor> keep_a, std::optional<Tensor> weight_a,
                         Tensor rowptr_b, Tensor col_b, std::optional<Tensor> keep_b, std::optional<Tensor> weight_b,
                         Tensor pairs, Tensor x, bool exclude_endpoints, int64_t parts) {
  constexpr const char* kOp = "cn_gather_sum";
  const PairArguments args{
      {rowptr_a, col_a, keep_a, weight_a}, {rowptr_b, col_b, keep_b, weight_b}, pairs, exclude_endpoints, parts};
  return args.dispatch(kOp, "x", x, [&](const auto& problem, auto feature) {
    using X = typename decltype(feature)::type;
    const X* rows = node_features<X>(kOp, x, problem.num_nodes);
    Tensor out = fresh(x, {count_parts(parts), problem.num_pairs, x.size(1)});
    forward(problem, rows, x.size(0), x.size(1), static_cast<X*>(out.mutable_data_ptr()));
    return out;
  });
}

Tensor cn_gather_sum_backward_cpu(Tensor rowptr_a, Tensor col_a, std::optional<Tensor> keep_a,
                                  std::optional<Tensor> weight_a, Tensor rowptr_b, Tensor col_b,
                                  std::optional<Tensor> keep_b, std::optional<Tensor> weight_b, Tensor pairs,
                                  Tensor grad, int64_t num_nodes, bool exclude_endpoints, int64_t parts) {
  constexpr const char* kOp = "cn_gather_sum_backward";
  const PairArguments args{
      {rowptr_a, col_a, keep_a, weight_a}, {rowptr_b, col_b, keep_b, weight_b}, pairs, exclude_endpoints, parts};
  return args.dispatch(kOp, "grad", grad, [&](const auto& problem, auto feature) {
    using X = typename decltype(feature)::type;
    using Acc = typename Accumulate<X>::type;
    expect_number(kOp, "num_nodes", num_nodes, problem.num_nodes);
    const X* rows = data<X>(kOp, "grad", grad, {count_parts(parts), problem.num_pairs, kAny});
    Tensor sums = fresh_zeros(grad, {num_nodes, grad.size(2)}, accumulate_dtype(grad.scalar_type()));
    backward(problem, rows, num_nodes, grad.size(2), static_cast<Acc*>(sums.mutable_data_ptr()));
    return std::is_same_v<X, Acc> ? sums : torch::stable::to(sums, grad.scalar_type());
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) {
  m.impl("cn_gather_sum", TORCH_BOX(&graphmem::cn_gather_sum_cpu));
  m.impl("cn_gather_sum_backward", TORCH_BOX(&graphmem::cn_gather_sum_backward_cpu));
}
