// All events of every node in order of time, for host and device. Node v owns length[v] entries of a pool from start[v] on,
// and the places behind them up to room(length[v]): the next events go there, until the row moves to a larger place.
#pragma once

#include <cmath>
#include <cstring>
#include <type_traits>

#ifndef __CUDA_ARCH__
#include <bit>
#endif

#include "common/events.h"
#include "common/random.h"

namespace graphmem {

// Places of a row: 0, 4, 6, 8, 12, 16, 24, ... A function of the length, so that nobody has to store it.
GRAPHMEM_HD int64_t room(int64_t length) {
  if (length <= 4) return length > 0 ? 4 : 0;
#ifdef __CUDA_ARCH__
  const int64_t power = int64_t{1} << (64 - __clzll(length - 1));
#else
  const int64_t power = int64_t{1} << std::bit_width(static_cast<uint64_t>(length - 1));
#endif
  return length <= power / 4 * 3 ? power / 4 * 3 : power;
}

template <class Time>
struct Pool {
  int64_t *start, *length, *nbr, *eid;
  Time* time;
  int64_t nodes, size;

  GRAPHMEM_HD void put(int64_t at, const Entry<Time>& entry) const {
    nbr[at] = entry.nbr;
    eid[at] = entry.eid;
    time[at] = entry.time;
  }
  // Whether a row with its free places lies inside of the pool.
  bool holds(int64_t node) const {
    const int64_t first = start[node], entries = length[node];
    return first >= 0 && entries >= 0 && first <= size && entries <= size - first && room(entries) <= size - first;
  }
};

template <class Time>
Pool<Time> make_pool(const char* op, const Tensor& start, const Tensor& length, const Tensor& nbr, const Tensor& eid,
                     const Tensor& time) {
  data<int64_t>(op, "start", start, {kAny});
  const int64_t nodes = start.size(0);
  data<int64_t>(op, "length", length, {nodes});
  data<int64_t>(op, "nbr", nbr, {kAny});
  const int64_t size = nbr.size(0);
  data<int64_t>(op, "eid", eid, {size});
  data<Time>(op, "time", time, {size});
  return {static_cast<int64_t*>(start.mutable_data_ptr()),
          static_cast<int64_t*>(length.mutable_data_ptr()),
          static_cast<int64_t*>(nbr.mutable_data_ptr()),
          static_cast<int64_t*>(eid.mutable_data_ptr()),
          static_cast<Time*>(time.mutable_data_ptr()),
          nodes,
          size};
}

// On the host: rows that are looked at lie inside of the pool.
template <class Time, class Node>
void check_rows(const char* op, const Pool<Time>& pool, int64_t count, const Node& node) {
  if constexpr (kOnHost) {
    bool inside = true;
    for (int64_t n = 0; n < count; ++n) inside &= pool.holds(node(n));
    STD_TORCH_CHECK(inside, op, ": expected start and length of rows inside of nbr, which has ", pool.size, " entries");
  }
}

// How much of the pool is in use.
template <class Time>
int64_t* make_used(const char* op, const Pool<Time>& pool, const Tensor& used) {
  const int64_t* number = data<int64_t>(op, "used", used, {});
  if constexpr (kOnHost) expect_number(op, "used", *number, 0, pool.size);
  return static_cast<int64_t*>(used.mutable_data_ptr());
}

// Natural logarithm of a positive, normal number to 2e-16 of its value. Products, sums and a quotient alone: the same bits
// on every device.
GRAPHMEM_HD double logarithm(double x) {
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  double exponent = static_cast<double>(static_cast<int64_t>(bits >> 52) - 1022);
  bits = (bits & 0xFFFFFFFFFFFFFull) | 0x3FE0000000000000ull;
  double part;  // from 1/2 to 1, then from sqrt(1/2) to sqrt(2)
  std::memcpy(&part, &bits, sizeof part);
  if (part < 0.70710678118654752440) {
    part *= 2;
    exponent -= 1;
  }
  const double s = (part - 1) / (part + 1), z = s * s;  // log(part) = 2 artanh(s)
  double sum = 1.0 / 21;
  for (int n = 19; n >= 1; n -= 2) sum = sum * z + 1.0 / n;
  return exponent * 0.69314718055994530942 + 2 * s * sum;
}

// A standard Gumbel number from a draw.
GRAPHMEM_HD double gumbel(uint64_t value) {
  const double uniform = (static_cast<double>(value >> 12) + 0.5) * 0x1p-52;
  return -logarithm(-logarithm(uniform));
}

// Draws of which the upper 52 bits are below this certainly have a Gumbel number below g. With room for errors of the
// library's exponential, which may have other bits on other devices: what is taken does not depend on it.
GRAPHMEM_HD uint64_t draws_below(double g) {
  const double least = exp(-exp(-g) * (1 + 1e-9)) * 0x1p52 - 2;
  return least > 0 ? static_cast<uint64_t>(least) : 0;
}

// A number whose order among int64 is that of x among doubles, and back.
GRAPHMEM_HD int64_t ordered(double x) {
  int64_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits ^ static_cast<int64_t>(static_cast<uint64_t>(bits >> 63) >> 1);
}

// Events of node ids[n] before t[n], and from since[n] on where that is given. Without keys a question's is its number.
template <class Time>
struct Questions {
  const int64_t* ids;
  const Time *t, *since;
  const int64_t* key;
  int64_t count;
};

template <class Time>
Questions<Time> make_questions(const char* op, const Pool<Time>& pool, const Tensor& ids, const Tensor& t,
                               const std::optional<Tensor>& since, const std::optional<Tensor>& key) {
  const int64_t* nodes = make_ids(op, ids, pool.nodes);
  const int64_t count = ids.size(0);
  check_rows(op, pool, count, [nodes](int64_t n) { return nodes[n]; });
  return {nodes, data<Time>(op, "t", t, {count}), data<Time>(op, "since", since, {count}),
          data<int64_t>(op, "key", key, {count}), count};
}

GRAPHMEM_HD double unordered(int64_t number) {
  const int64_t bits = number ^ static_cast<int64_t>(static_cast<uint64_t>(number >> 63) >> 1);
  double x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

enum Strategy : int64_t { kRecent, kUniform, kDecayed };

template <class Time>
struct Sampler {
  Pool<Time> pool;
  int64_t k;
  Strategy strategy;
  bool inclusive;
  double decay;
  uint64_t seed;

  // Entries that a question is about: places from begin to end of a row that starts at first.
  struct Span {
    int64_t first, begin, end;
  };

  GRAPHMEM_HD Span find(const Questions<Time>& questions, int64_t n) const {
    const int64_t first = pool.start[questions.ids[n]], last = first + pool.length[questions.ids[n]];
    const int64_t end = first_behind(first, last, questions.t[n], inclusive);
    return {first, questions.since != nullptr ? first_behind(first, end, questions.since[n], false) : first, end};
  }

  // Answers question n with k entries, newest first.
  GRAPHMEM_HD void sample(const Questions<Time>& questions, int64_t n, const Span& span, int64_t* nbr, int64_t* eid,
                          Time* time) const {
    const int64_t begin = span.begin, end = span.end, found = end - begin < k ? end - begin : k;
    const uint64_t key = static_cast<uint64_t>(questions.key != nullptr ? questions.key[n] : n);
    if (found > 0 && (strategy == kRecent || end - begin <= k)) {
      for (int64_t m = 0; m < k; ++m) {  // as often whatever is found, see Ring::newest
        const int64_t at = m < found ? end - 1 - m : begin;
        nbr[m] = m < found ? pool.nbr[at] : -1;
        eid[m] = m < found ? pool.eid[at] : -1;
        time[m] = m < found ? pool.time[at] : Time{0};
      }
      return;
    }
    if (found > 0) {
      int64_t* place = eid;  // of what is taken, until its number comes in
      if (strategy == kUniform) {
        sample_uniform(span, stream(seed, key), place, nbr);
      } else {
        sample_decayed(span, questions.t[n], stream(seed, key), place, nbr);
      }
      for (int64_t m = 0; m < k; ++m) {
        const int64_t at = place[m];
        nbr[m] = pool.nbr[at];
        eid[m] = pool.eid[at];
        time[m] = pool.time[at];
      }
    }
    for (int64_t m = found; m < k; ++m) {
      nbr[m] = eid[m] = -1;
      time[m] = 0;
    }
  }

 private:
  // First entry that is not before `t` (with `equal`: not at `t` either).
  GRAPHMEM_HD int64_t first_behind(int64_t first, int64_t end, Time t, bool equal) const {
    return equal ? search<true>(first, end, t) : search<false>(first, end, t);
  }

  // Most questions are about the present. The others are halved without a branch on what is found, which nobody could
  // foretell.
  template <bool kEqual>
  GRAPHMEM_HD int64_t search(int64_t first, int64_t end, Time t) const {
    const auto before = [&](int64_t at) -> int64_t { return kEqual ? pool.time[at] <= t : pool.time[at] < t; };
    if (first == end || before(end - 1)) return end;
    int64_t low = first, left = end - first;
    while (left > 1) {
      const int64_t half = left / 2;
      low += half & -before(low + half - 1);
      left -= half;
    }
    return low + before(low);
  }

  // Floyd's algorithm, then each place behind those of newer ones: no branch depends on a draw.
  GRAPHMEM_HD void sample_uniform(const Span& span, uint64_t state, int64_t* place, int64_t* drawn) const {
    const int64_t length = span.end - span.begin;
    for (int64_t n = 0; n < k; ++n) {
      const int64_t top = length - k + n;
      const int64_t value = static_cast<int64_t>(below(draw(state, n), top + 1));
      bool taken = false;
      for (int64_t m = 0; m < n; ++m) taken |= drawn[m] == value;
      drawn[n] = taken ? top : value;
    }
    for (int64_t n = 0; n < k; ++n) {
      int64_t newer = 0;
      for (int64_t m = 0; m < k; ++m) newer += drawn[m] > drawn[n];
      place[newer] = span.begin + drawn[n];
    }
  }

  // exp(-decay age), as its exponent; nothing fades between equal times, however large they are.
  GRAPHMEM_HD double loss(Time t, int64_t at) const {
    double age;
    if constexpr (std::is_floating_point_v<Time>) {
      age = t - pool.time[at];
    } else {  // the difference of two int64 fits 64 bits without sign
      age = static_cast<double>(static_cast<uint64_t>(t) - static_cast<uint64_t>(pool.time[at]));
    }
    const double faded = decay * age;
    return faded >= 0 ? faded : 0;
  }

  // The k largest of log(weight) + Gumbel number are a draw without replacement in proportion to the weights (Efraimidis
  // and Spirakis 2006 in the logarithm). From the newest on, until age alone outweighs the largest number there is.
  GRAPHMEM_HD void sample_decayed(const Span& span, Time t, uint64_t state, int64_t* place, int64_t* key) const {
    const double largest = gumbel(~uint64_t{0});
    int64_t found = 0;
    uint64_t hopeless = 0;  // age only adds to what a draw has to make up for
    for (int64_t at = span.end - 1; at >= span.begin; --at) {
      const uint64_t value = draw(state, static_cast<uint64_t>(at - span.first));
      const double faded = loss(t, at);
      if (found == k && ordered(largest - faded) <= key[k - 1]) break;
      if (value >> 12 < hopeless) continue;
      const int64_t mine = ordered(gumbel(value) - faded);
      if (found == k && mine <= key[k - 1]) continue;
      int64_t n = found < k ? found++ : k - 1;
      for (; n > 0 && key[n - 1] < mine; --n) {
        key[n] = key[n - 1];
        place[n] = place[n - 1];
      }
      key[n] = mine;
      place[n] = at;
      if (found == k) hopeless = draws_below(unordered(key[k - 1]) + faded);
    }
    for (int64_t n = 1; n < k; ++n) {  // newest first
      const int64_t at = place[n];
      int64_t m = n;
      for (; m > 0 && place[m - 1] < at; --m) place[m] = place[m - 1];
      place[m] = at;
    }
  }
};

template <class Time>
Sampler<Time> make_sampler(const char* op, const Pool<Time>& pool, int64_t k, int64_t strategy, bool inclusive,
                           double decay, int64_t seed) {
  expect_number(op, "k", k, 1);
  expect_number(op, "strategy", strategy, kRecent, kDecayed);
  STD_TORCH_CHECK(decay >= 0 && decay <= 1.7976931348623157e308, op, ": expected decay of at least 0, got ", decay);
  return {pool, k, static_cast<Strategy>(strategy), inclusive, decay, static_cast<uint64_t>(seed)};
}

}  // namespace graphmem
