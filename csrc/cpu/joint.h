// The keys that a pair's dictionaries hold together, and what is computed of them; see cpu/ncache_pool.cpp.
#pragma once

#include <vector>

#include "common/events.h"
#include "common/ncache.h"
#include "cpu/parallel.h"
#include "cpu/vector.h"

namespace graphmem {

constexpr double kSlope = 0.2;  // of LeakyReLU below 0, GAT's

// Keys of the rows, and where each would lie in any row: [rows, hops, columns].
struct Known {
  std::vector<int64_t> key;
  std::vector<int32_t> column;
};

template <class Key>
Known known_cells(const Dictionaries& d, const Cells<Key>& cells, const int64_t* nodes, int64_t rows) {
  const int64_t columns = cells.columns;
  Known known{std::vector<int64_t>(rows * columns), std::vector<int32_t>(rows * d.hops * columns)};
  parallel_chunks(rows, 32, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t* key = known.key.data() + i * columns;
      for (int64_t c = 0; c < columns; ++c) {
        key[c] = cells.key_at(nodes[i], c);
        const uint64_t hash = d.hash(key[c]);
        for (int64_t hop = 1; hop <= d.hops; ++hop) {
          known.column[(i * d.hops + hop - 1) * columns + c] = static_cast<int32_t>(d.place(hash, hop));
        }
      }
    }
  });
  return known;
}

// mask[c], bit b: dictionary b of the pair (the first node's, by hop, then the second's) holds the key of cell c of a row.
void ask_cells(const int64_t* key, const int32_t* column, const int64_t* first, const int64_t* second, int64_t hops,
               int64_t columns, uint32_t* mask);

// age = log(1 + dt).
void ages_of(const double* dt, int64_t count, float* age);
void ages_of(const double* dt, int64_t count, double* age);

// From pre-activations of keys to their coefficients, in place.
void weigh(int64_t count, float* score);
void weigh(int64_t count, double* score);

template <class Time, class T>
struct Pool {
  Dictionaries layout;
  int64_t rows, columns, pairs, width, depth, heads;  // depth: of positions; heads: 0 for sums
  bool aged;
  const int64_t *nodes, *eid, *first, *second;
  const Time *time, *t;
  const T *now, *position, *query, *constant;
  Known known;

  int64_t ages() const { return aged ? 2 : 0; }
  int64_t features() const { return width + depth + ages(); }
  int64_t mixes() const { return std::max<int64_t>(heads, 1); }
  int64_t masks() const { return int64_t{1} << (2 * layout.kinds()); }
};

// The keys of one pair, and room for what is computed of them.
template <class Time, class T>
class Pair {
 public:
  explicit Pair(const Pool<Time, T>& pool)
      : p_(pool),
        room_(2 * pool.columns),
        mask_(room_),
        at_(room_),
        kind_(room_),
        dt_(2 * room_),
        lanes_((pool.width + 2) * room_),
        alpha_(pool.mixes() * room_),
        raw_(pool.mixes() * room_),
        of_mask_(pool.masks(), -1) {
    for (int64_t hop = 0, c = 0; c < pool.columns; ++c) {
      hop += c == pool.layout.first[hop + 1];
      kind_[c] = static_cast<uint32_t>(hop);
      kind_[c + pool.columns] = static_cast<uint32_t>(hop + pool.layout.kinds());
    }
  }

  // Finds the keys: `count` of them, numbered by masks.
  void join(int64_t pair) {
    pair_ = pair;
    const int64_t rows[2] = {p_.first[pair], p_.second[pair]}, columns = p_.columns, hops = p_.layout.hops;
    for (int64_t side = 0; side < 2; ++side) {
      key_[side] = p_.known.key.data() + rows[side] * columns;
      column_[side] = p_.known.column.data() + rows[side] * hops * columns;
      now_[side] = p_.now + rows[side] * columns * p_.width;
    }
    for (int64_t side = 0; side < 2; ++side)
      ask_cells(key_[side], column_[side], key_[0], key_[1], hops, columns, mask_.data() + side * columns);
    for (const uint32_t mask : kinds_of_masks_) of_mask_[mask] = -1;
    kinds_of_masks_.clear();
    count_ = 0;
    for (int64_t cell = 0; cell < room_; ++cell) {
      const uint32_t mask = mask_[cell];
      if (mask == 0 || static_cast<uint32_t>(__builtin_ctz(mask)) != kind_[cell]) continue;
      if (of_mask_[mask] < 0) {
        of_mask_[mask] = static_cast<int32_t>(kinds_of_masks_.size());
        kinds_of_masks_.push_back(mask);
      }
      at_[count_++] = cell;
    }
    gather(rows);
  }

  // out [mixes, pairs, features].
  void mix(const T* scores, T* out) {
    for (int64_t h = 0; h < p_.mixes(); ++h) {
      T* alpha = alpha_.data() + h * room_;
      weigh_keys(h, scores, alpha);
      T* row = out + (h * p_.pairs + pair_) * p_.features();
      for (int64_t f = 0; f < p_.width; ++f) row[f] = dot(alpha, lane(f), count_);
      for (int64_t f = 0; f < p_.ages(); ++f) row[p_.width + p_.depth + f] = dot(alpha, lane(p_.width + f), count_);
      std::fill_n(row + p_.width, p_.depth, T(0));
      sum_by_mask(alpha, bins_);
      for (size_t k = 0; k < kinds_of_masks_.size(); ++k)
        axpy(row + p_.width, bins_[k], p_.position + kinds_of_masks_[k] * p_.depth, p_.depth);
    }
  }

  // From the gradient of `out`: `dcells` [2 columns, width] of this pair, all of it written; the others grow.
  void differentiate(const T* scores, const T* grad, T* dcells, T* dposition, T* dquery, T* dconstant) {
    dlanes_.assign(p_.width * room_, T(0));
    slope_.resize(room_);
    for (int64_t h = 0; h < p_.mixes(); ++h) {
      T* alpha = alpha_.data() + h * room_;
      weigh_keys(h, scores, alpha);
      const T* of_out = grad + (h * p_.pairs + pair_) * p_.features();
      for (int64_t f = 0; f < p_.width; ++f) axpy(dlanes_.data() + f * room_, of_out[f], alpha, count_);
      sum_by_mask(alpha, bins_);
      for (size_t k = 0; k < kinds_of_masks_.size(); ++k)
        axpy(dposition + kinds_of_masks_[k] * p_.depth, bins_[k], of_out + p_.width, p_.depth);
      if (p_.heads == 0) continue;
      differentiate_scores(h, of_out, alpha);
      const T* query = p_.query + h * p_.features();
      T* of_query = dquery + h * p_.features();
      for (int64_t f = 0; f < p_.width; ++f) {
        axpy(dlanes_.data() + f * room_, query[f], slope_.data(), count_);
        of_query[f] += dot(slope_.data(), lane(f), count_);
      }
      for (int64_t f = 0; f < p_.ages(); ++f)
        of_query[p_.width + p_.depth + f] += dot(slope_.data(), lane(p_.width + f), count_);
      sum_by_mask(slope_.data(), bins_);
      for (size_t k = 0; k < kinds_of_masks_.size(); ++k) {
        const T* position = p_.position + kinds_of_masks_[k] * p_.depth;
        axpy(dposition + kinds_of_masks_[k] * p_.depth, bins_[k], query + p_.width, p_.depth);
        axpy(of_query + p_.width, bins_[k], position, p_.depth);
        dconstant[h] += bins_[k];
      }
    }
    std::fill_n(dcells, room_ * p_.width, T(0));
    for (int64_t r = 0; r < count_; ++r) {
      visit(r, [&](int64_t cell) {
        for (int64_t f = 0; f < p_.width; ++f) dcells[cell * p_.width + f] = dlanes_[f * room_ + r];
      });
    }
  }

 private:
  T* lane(int64_t f) { return lanes_.data() + f * room_; }

  // Calls f(cell) for the cells of [2 columns] that hold key r, by dictionary.
  template <class F>
  void visit(int64_t r, const F& f) const {
    const int64_t cell = at_[r], side = cell >= p_.columns, c = cell - side * p_.columns;
    for (uint32_t left = mask_[cell]; left != 0; left &= left - 1) {
      const int64_t bit = __builtin_ctz(left), of = bit >= p_.layout.kinds(), hop = bit - of * p_.layout.kinds();
      f(of * p_.columns + (hop == 0 ? 0 : column_[side][(hop - 1) * p_.columns + c]));
    }
  }

  // Values and ages of the keys.
  void gather(const int64_t* rows) {
    const int64_t width = p_.width;
    for (int64_t r = 0; r < count_; ++r) {
      for (int64_t f = 0; f < width; ++f) lanes_[f * room_ + r] = 0;
      dt_[r] = dt_[room_ + r] = 0;
      int64_t aged = -1;
      visit(r, [&](int64_t cell) {
        const int64_t side = cell >= p_.columns, c = cell - side * p_.columns;
        for (int64_t f = 0; f < width; ++f) lanes_[f * room_ + r] += now_[side][c * width + f];
        if (!p_.aged || aged == side) return;
        aged = side;  // the cell of the smallest hop
        const int64_t place = p_.nodes[rows[side]] * p_.columns + c;
        const Time since = p_.t[pair_] - p_.time[place];
        dt_[side * room_ + r] = p_.eid[place] >= 0 && since > 0 ? static_cast<double>(since) : 0.0;
      });
    }
    for (int64_t f = 0; f < p_.ages(); ++f) ages_of(dt_.data() + f * room_, count_, lane(width + f));
  }

  // Coefficients of head h; `scores` [heads, masks]: what the position adds.
  void weigh_keys(int64_t h, const T* scores, T* alpha) {
    if (p_.heads == 0) {
      std::fill_n(alpha, count_, T(1));
      return;
    }
    const T* query = p_.query + h * p_.features();
    for (int64_t r = 0; r < count_; ++r) alpha[r] = scores[h * p_.masks() + mask_[at_[r]]];
    for (int64_t f = 0; f < p_.width; ++f) axpy(alpha, query[f], lane(f), count_);
    for (int64_t f = 0; f < p_.ages(); ++f) axpy(alpha, query[p_.width + p_.depth + f], lane(p_.width + f), count_);
    std::copy_n(alpha, count_, raw_.data() + h * room_);
    weigh(count_, alpha);
  }

  // slope_: the gradient of the pre-activations of head h.
  void differentiate_scores(int64_t h, const T* of_out, const T* alpha) {
    bins_.assign(kinds_of_masks_.size(), T(0));
    for (size_t k = 0; k < kinds_of_masks_.size(); ++k)
      bins_[k] = dot(of_out + p_.width, p_.position + kinds_of_masks_[k] * p_.depth, p_.depth);
    for (int64_t r = 0; r < count_; ++r) slope_[r] = bins_[of_mask_[mask_[at_[r]]]];
    for (int64_t f = 0; f < p_.width; ++f) axpy(slope_.data(), of_out[f], lane(f), count_);
    for (int64_t f = 0; f < p_.ages(); ++f)
      axpy(slope_.data(), of_out[p_.width + p_.depth + f], lane(p_.width + f), count_);
    const T mean = dot(alpha, slope_.data(), count_);
    const T* raw = raw_.data() + h * room_;
    for (int64_t r = 0; r < count_; ++r) slope_[r] = alpha[r] * (slope_[r] - mean) * (raw[r] < 0 ? T(kSlope) : T(1));
  }

  void sum_by_mask(const T* of_key, std::vector<T>& bins) {
    bins.assign(kinds_of_masks_.size(), T(0));
    for (int64_t r = 0; r < count_; ++r) bins[of_mask_[mask_[at_[r]]]] += of_key[r];
  }

  const Pool<Time, T>& p_;
  int64_t room_, pair_ = 0, count_ = 0;
  const int64_t* key_[2] = {};
  const int32_t* column_[2] = {};
  const T* now_[2] = {};
  std::vector<uint32_t> mask_;  // of every cell
  std::vector<int64_t> at_;     // the cell that stands for each key
  std::vector<uint32_t> kind_;  // the dictionary of each cell
  std::vector<double> dt_;
  std::vector<T> lanes_, alpha_, raw_, dlanes_, slope_, bins_;
  std::vector<int32_t> of_mask_;
  std::vector<uint32_t> kinds_of_masks_;
};

// What the positions add to the scores, [heads, masks].
template <class Time, class T>
std::vector<T> position_scores(const Pool<Time, T>& p) {
  std::vector<T> scores(p.heads * p.masks());
  for (int64_t h = 0; h < p.heads; ++h) {
    for (int64_t m = 0; m < p.masks(); ++m)
      scores[h * p.masks() + m] =
          dot(p.query + h * p.features() + p.width, p.position + m * p.depth, p.depth) + p.constant[h];
  }
  return scores;
}

}  // namespace graphmem
