// The keys that a pair's dictionaries hold together, and what is computed of them; see cpu/ncache_pool.cpp.
#pragma once

#include "common/ncache_pool.h"
#include "cpu/parallel.h"
#include "cpu/room.h"
#include "cpu/vector.h"

namespace graphmem {

// What pairs read of the rows, prepared once for each: keys, and where they would lie in any row [rows, hops, columns];
// values [rows, width, columns], a column a lane; times, and 1 where a cell has an event, else 0.
template <class Time, class T>
struct Known {
  Blank<int64_t> key;
  Blank<int32_t> column;
  Blank<T> value;
  Blank<Time> time;
  Blank<double> met;
};

// mask[c], bit b: dictionary b of the pair (the first node's, by hop, then the second's) holds the key of cell c of a row.
void ask_cells(const int64_t* key, const int32_t* column, const int64_t* first, const int64_t* second, int64_t hops,
               int64_t columns, uint32_t* mask);

// age = log(1 + dt).
void ages_of(const double* dt, int64_t count, float* age);
void ages_of(const double* dt, int64_t count, double* age);

// From pre-activations of keys to their coefficients; 0 where `counts` is 0.
void weigh(const float* raw, const float* counts, int64_t count, float* alpha);
void weigh(const double* raw, const double* counts, int64_t count, double* alpha);

// `rows`: nodes that are asked for.
template <class Time, class T>
struct Pool : JointPairs<Time, T> {
  int64_t rows;
  Known<Time, T> known;
};

template <class Key, class Time, class T>
Pool<Time, T> make_pool(const JointCells<Key, Time, T>& joint, int64_t rows) {
  Pool<Time, T> p{joint, rows, {}};
  if (p.pairs == 0) return p;
  const Cells<Key>& cells = joint.cells;
  const int64_t columns = p.columns(), hops = p.layout.hops, width = p.width;
  Known<Time, T>& known = p.known;
  known.key.resize(p.rows * columns);
  known.column.resize(p.rows * hops * columns);
  known.value.resize(p.rows * width * columns);
  known.time.resize(p.aged ? p.rows * columns : 0);
  known.met.resize(p.aged ? p.rows * columns : 0);
  parallel_chunks(p.rows, 64, p.rows * columns * 4, [&](int64_t begin, int64_t end) {
    Room<uint64_t> hash(columns);
    for (int64_t i = begin; i < end; ++i) {
      int64_t* key = known.key.data() + i * columns;
      for (int64_t c = 0; c < columns; ++c) key[c] = cells.key_at(p.nodes[i], c);
      for (int64_t c = 0; c < columns; ++c) hash[c] = p.layout.hash(key[c]);
      for (int64_t hop = 1; hop <= hops; ++hop)
        p.layout.places(hash.data(), columns, hop, known.column.data() + (i * hops + hop - 1) * columns);
      const T* now = joint.now + i * columns * width;
      for (int64_t f = 0; f < width; ++f) {
        T* value = known.value.data() + (i * width + f) * columns;
        for (int64_t c = 0; c < columns; ++c) value[c] = key[c] < 0 ? T(0) : now[c * width + f];
      }
      if (!p.aged) continue;
      const int64_t own = p.nodes[i] * columns;
      for (int64_t c = 0; c < columns; ++c) {
        known.met[i * columns + c] = cells.eid[own + c] >= 0 ? 1 : 0;
        known.time[i * columns + c] = cells.eid[own + c] >= 0 ? joint.time[own + c] : p.t[0];
      }
    }
  });
  return p;
}

// The keys of one pair, and room for what is computed of them. Cells are lanes, the first node's and then the second's;
// of the cells that hold a key the first stands for it, and the others count for nothing.
template <class Time, class T>
class Pair {
 public:
  explicit Pair(const Pool<Time, T>& pool)
      : p_(pool),
        room_(pool.room()),
        mask_(room_),
        bit_(room_),
        counts_(room_),
        dt_(pool.columns()),
        lanes_((pool.width + 2) * room_),
        own_age_(room_),
        alpha_(room_),
        raw_(room_),
        slope_(room_),
        of_mask_(pool.masks(), -1) {
    for (int64_t hop = 0, c = 0; c < pool.columns(); ++c) {
      hop += c == pool.layout.first[hop + 1];
      bit_[c] = uint32_t{1} << hop;
      bit_[c + pool.columns()] = uint32_t{1} << (hop + pool.layout.kinds());
    }
  }

  // Both of these.
  void join(int64_t pair) {
    find(pair);
    gather();
  }

  // Finds the keys, and numbers their masks.
  void find(int64_t pair) {
    pair_ = pair;
    row_[0] = p_.first[pair];
    row_[1] = p_.second[pair];
    const int64_t columns = p_.columns(), hops = p_.layout.hops;
    const int64_t* key[2];
    for (int64_t side = 0; side < 2; ++side) {
      key[side] = p_.known.key.data() + row_[side] * columns;
      column_[side] = p_.known.column.data() + row_[side] * hops * columns;
    }
    for (int64_t side = 0; side < 2; ++side)
      ask_cells(key[side], column_[side], key[0], key[1], hops, columns, mask_.data() + side * columns);
    for (const uint32_t mask : masks_) of_mask_[mask] = -1;
    masks_.clear();
    keys_.clear();
    shared_.clear();
    for (int64_t cell = 0; cell < room_; ++cell) {
      const uint32_t mask = mask_[cell];
      const bool stands = (mask & (~mask + 1)) == bit_[cell] && mask != 0;
      counts_[cell] = stands ? 1 : 0;
      if (!stands) continue;
      if (of_mask_[mask] < 0) {
        of_mask_[mask] = static_cast<int32_t>(masks_.size());
        masks_.push_back(mask);
      }
      keys_.push_back({static_cast<int32_t>(cell), of_mask_[mask]});
      if (mask != bit_[cell]) shared_.push_back(cell);
    }
  }

  // Values and ages of the keys.
  void gather() {
    const int64_t width = p_.width, columns = p_.columns();
    for (int64_t side = 0; side < 2; ++side) {
      const T* value = p_.known.value.data() + row_[side] * width * columns;
      for (int64_t f = 0; f < width; ++f) std::copy_n(value + f * columns, columns, lane(f) + side * columns);
      if (!p_.aged) continue;
      const Time* time = p_.known.time.data() + row_[side] * columns;
      const double* met = p_.known.met.data() + row_[side] * columns;
      for (int64_t c = 0; c < columns; ++c) {
        const double since = static_cast<double>(p_.t[pair_] - time[c]) * met[c];
        dt_[c] = since > 0 ? since : 0;
      }
      ages_of(dt_.data(), columns, own_age_.data() + side * columns);
      std::copy_n(own_age_.data() + side * columns, columns, lane(width + side) + side * columns);
      std::fill_n(lane(width + 1 - side) + side * columns, columns, T(0));
    }
    for (const int64_t cell : shared_) {
      int64_t aged = cell >= columns;
      visit_others(cell, [&](int64_t other, int64_t side) {
        const T* value = p_.known.value.data() + row_[side] * width * columns + (other - side * columns);
        for (int64_t f = 0; f < width; ++f) lane(f)[cell] += value[f * columns];
        if (p_.aged && side != aged) lane(width + side)[cell] = own_age_[other];
        aged = side;  // the cell of the smallest hop came first
      });
    }
  }

  // The rows of the pair, [mixes, features] with `step` between mixes.
  void mix(const T* scores, T* rows, int64_t step) {
    for (int64_t h = 0; h < p_.mixes(); ++h) {
      weigh_keys(h, scores);
      T* row = rows + h * step;
      for (int64_t f = 0; f < p_.width; ++f) row[f] = dot(alpha_.data(), lane(f), room_);
      for (int64_t f = 0; f < p_.ages(); ++f)
        row[p_.width + p_.depth + f] = dot(alpha_.data(), lane(p_.width + f), room_);
      std::fill_n(row + p_.width, p_.depth, T(0));
      sum_by_mask(alpha_.data());
      for (size_t k = 0; k < masks_.size(); ++k)
        axpy(row + p_.width, bins_[k], p_.position + masks_[k] * p_.depth, p_.depth);
    }
  }

  // From the gradient of the row of sums, but for that of the cells: `dposition` grows.
  void differentiate_sum(const T* grad, T* dposition) {
    sum_by_mask(counts_.data());
    for (size_t k = 0; k < masks_.size(); ++k)
      axpy(dposition + masks_[k] * p_.depth, bins_[k], grad + p_.width, p_.depth);
  }

  // With attention. From the gradient of the rows, with `step` between mixes: `dlanes` [width, 2 columns] of this pair,
  // all of it written; the others grow.
  void differentiate(const T* scores, const T* grad, int64_t step, T* dlanes, T* dposition, T* dquery, T* dconstant) {
    std::fill_n(dlanes, p_.width * room_, T(0));
    for (int64_t h = 0; h < p_.heads; ++h) {
      weigh_keys(h, scores);
      const T* of_out = grad + h * step;
      for (int64_t f = 0; f < p_.width; ++f) axpy(dlanes + f * room_, of_out[f], alpha_.data(), room_);
      sum_by_mask(alpha_.data());
      for (size_t k = 0; k < masks_.size(); ++k)
        axpy(dposition + masks_[k] * p_.depth, bins_[k], of_out + p_.width, p_.depth);
      differentiate_scores(of_out);
      const T* query = p_.query + h * p_.features();
      T* of_query = dquery + h * p_.features();
      for (int64_t f = 0; f < p_.width; ++f) {
        axpy(dlanes + f * room_, query[f], slope_.data(), room_);
        of_query[f] += dot(slope_.data(), lane(f), room_);
      }
      for (int64_t f = 0; f < p_.ages(); ++f)
        of_query[p_.width + p_.depth + f] += dot(slope_.data(), lane(p_.width + f), room_);
      sum_by_mask(slope_.data());
      for (size_t k = 0; k < masks_.size(); ++k) {
        axpy(dposition + masks_[k] * p_.depth, bins_[k], query + p_.width, p_.depth);
        axpy(of_query + p_.width, bins_[k], p_.position + masks_[k] * p_.depth, p_.depth);
        dconstant[h] += bins_[k];
      }
    }
    for (const int64_t cell : shared_) {
      visit_others(cell, [&](int64_t other, int64_t) {
        for (int64_t f = 0; f < p_.width; ++f) dlanes[f * room_ + other] = dlanes[f * room_ + cell];
      });
    }
  }

 private:
  struct Key {
    int32_t cell, mask;  // the number of the mask
  };

  T* lane(int64_t f) { return lanes_.data() + f * room_; }

  // Calls f(lane, its side) for the other cells that hold the key of one that stands for it, by dictionary.
  template <class F>
  void visit_others(int64_t cell, const F& f) const {
    const int64_t side = cell >= p_.columns(), c = cell - side * p_.columns();
    for (uint32_t left = mask_[cell] ^ bit_[cell]; left != 0; left &= left - 1) {
      const int64_t bit = __builtin_ctz(left), of = bit >= p_.layout.kinds(), hop = bit - of * p_.layout.kinds();
      f(of * p_.columns() + (hop == 0 ? 0 : column_[side][(hop - 1) * p_.columns() + c]), of);
    }
  }

  // Coefficients of head h; `scores` [heads, masks]: what the position adds.
  void weigh_keys(int64_t h, const T* scores) {
    if (p_.heads == 0) {
      std::copy_n(counts_.data(), room_, alpha_.data());
      return;
    }
    const T* query = p_.query + h * p_.features();
    std::fill_n(raw_.data(), room_, T(0));
    for (const Key& key : keys_) raw_[key.cell] = scores[h * p_.masks() + masks_[key.mask]];
    for (int64_t f = 0; f < p_.width; ++f) axpy(raw_.data(), query[f], lane(f), room_);
    for (int64_t f = 0; f < p_.ages(); ++f)
      axpy(raw_.data(), query[p_.width + p_.depth + f], lane(p_.width + f), room_);
    weigh(raw_.data(), counts_.data(), room_, alpha_.data());
  }

  // slope_: the gradient of the pre-activations of the head that was weighed last.
  void differentiate_scores(const T* of_out) {
    bins_.assign(masks_.size(), T(0));
    for (size_t k = 0; k < masks_.size(); ++k)
      bins_[k] = dot(of_out + p_.width, p_.position + masks_[k] * p_.depth, p_.depth);
    std::fill_n(slope_.data(), room_, T(0));
    for (const Key& key : keys_) slope_[key.cell] = bins_[key.mask];
    for (int64_t f = 0; f < p_.width; ++f) axpy(slope_.data(), of_out[f], lane(f), room_);
    for (int64_t f = 0; f < p_.ages(); ++f)
      axpy(slope_.data(), of_out[p_.width + p_.depth + f], lane(p_.width + f), room_);
    const T mean = dot(alpha_.data(), slope_.data(), room_);
    for (int64_t c = 0; c < room_; ++c) slope_[c] = alpha_[c] * (slope_[c] - mean) * (raw_[c] < 0 ? T(kLeak) : T(1));
  }

  void sum_by_mask(const T* of_key) {
    bins_.assign(masks_.size(), T(0));
    for (const Key& key : keys_) bins_[key.mask] += of_key[key.cell];
  }

  const Pool<Time, T>& p_;
  int64_t room_, pair_ = 0, row_[2] = {};
  const int32_t* column_[2] = {};
  Room<uint32_t> mask_, bit_;  // of every cell: which dictionaries hold its key, and its own
  Room<T> counts_;             // 1 for the cells that stand for a key
  Room<double> dt_;
  Room<T> lanes_, own_age_, alpha_, raw_, slope_, bins_;
  Room<int32_t> of_mask_;
  Room<uint32_t> masks_;
  Room<Key> keys_;
  Room<int64_t> shared_;  // cells that stand for a key which others hold, too
};

// What the positions add to the scores, [heads, masks].
template <class Time, class T>
Room<T> position_scores(const Pool<Time, T>& p) {
  Room<T> scores(p.heads * p.masks());
  for (int64_t h = 0; h < p.heads; ++h) {
    const T* query = p.query + h * p.features() + p.width;
    for (int64_t m = 0; m < p.masks(); ++m)
      scores[h * p.masks() + m] = dot(query, p.position + m * p.depth, p.depth) + p.constant[h];
  }
  return scores;
}

}  // namespace graphmem
