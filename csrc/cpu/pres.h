// Rows of a node memory, what running rates say of them, and what an update spans.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

#include "common/dispatch.h"
#include "cpu/ids.h"
#include "cpu/vector.h"

namespace graphmem {

// guess = prev + span * rate, the latter term within [-bound, bound].
void predict_row(const float* prev, const float* rate, float span, float bound, int64_t d, float* guess);
void predict_row(const double* prev, const double* rate, double span, double bound, int64_t d, double* guess);

// out = (1 - weight) guess + weight measured; one weight for all columns where they are alike.
void mix_row(const float* guess, const float* measured, const float* weight, bool alike, int64_t d, float* out);
void mix_row(const double* guess, const double* measured, const double* weight, bool alike, int64_t d, double* out);

// The gradient of the above: out = weight grad; what the weight gets is added to `sum`.
void unmix_row(const float* grad, const float* guess, const float* measured, const float* weight, bool alike, int64_t d,
               float* out, float* sum);
void unmix_row(const double* grad, const double* guess, const double* measured, const double* weight, bool alike,
               int64_t d, double* out, double* sum);

// out = (x - prev) / span.
void moved_row(const float* x, const float* prev, float span, int64_t d, float* out);
void moved_row(const double* x, const double* prev, double span, int64_t d, double* out);

// Welford's step for an observation of weight w, a part `share` of the weight of all so far; m2 may be null.
void observe_row(const float* x, int64_t d, float w, float share, float decay, float* mean, float* m2);
void observe_row(const double* x, int64_t d, double w, double share, double decay, double* mean, double* m2);

// As torch's: both ends are met exactly.
template <class T>
GRAPHMEM_INLINE T lerp(T from, T to, T weight) {
  return weight < T(0.5) ? from + weight * (to - from) : to - (to - from) * (T(1) - weight);
}

// Rows of tables come in any order, from memory, so that those that are read soon are asked for.
constexpr int64_t kRowsAhead = 3;

template <class T>
GRAPHMEM_INLINE void fetch_columns(const T* row, int64_t d) {
  for (int64_t f = 0; f < d; f += 64 / sizeof(T)) __builtin_prefetch(row + f);
}

using Maybe = std::optional<Tensor>;

template <class T>
T* writable(const char* op, const char* name, const Tensor& t, Shape shape) {
  return const_cast<T*>(data<T>(op, name, t, shape));
}

template <class T>
T* numbers_of(Tensor& t) {
  return static_cast<T*>(t.mutable_data_ptr());
}

// What an update spans: time in units of the stream's, or where there are no times, a number of events.
class Spans {
 public:
  Spans(const char* op, int64_t rows, const Maybe& dt, const Maybe& tau, const Maybe& longest, double eps)
      : dt_(data<double>(op, "dt", dt, {rows})), eps_(eps) {
    if (dt_ == nullptr) return;
    STD_TORCH_CHECK(tau.has_value() && longest.has_value(), op, ": expected tau and longest with dt");
    tau_ = *data<double>(op, "tau", tau, {});
    longest_ = *data<double>(op, "longest", longest, {});
  }

  double of(int64_t row, int64_t events) const {
    if (dt_ == nullptr) return static_cast<double>(events);
    return std::max(std::min(dt_[row], longest_) / tau_, eps_);
  }

 private:
  const double* dt_;
  double eps_, tau_ = 1, longest_ = std::numeric_limits<double>::infinity();
};

// Rows of moments by node; a node without has a negative one.
class Slots {
 public:
  Slots(const char* op, const Tensor& nodes, int64_t rows, const Maybe& slot, int64_t moments)
      : slot_(data<int64_t>(op, "slot", slot, {kAny})),
        count_(slot.has_value() ? slot->size(0) : moments),
        nodes_(nodes_of(op, "nodes", nodes, {rows}, count_)) {
    int64_t highest = -1;
    for (int64_t r = 0; r < rows; ++r) highest = std::max(highest, of(r));
    STD_TORCH_CHECK(highest < moments, op, ": expected slot with rows below ", moments, ", got ", highest);
  }

  int64_t nodes() const { return count_; }
  int64_t node(int64_t row) const { return nodes_[row]; }
  int64_t of(int64_t row) const { return slot_ == nullptr ? nodes_[row] : slot_[nodes_[row]]; }

 private:
  const int64_t* slot_;
  int64_t count_;
  const int64_t* nodes_;
};

}  // namespace graphmem
