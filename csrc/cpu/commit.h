// How a batch of events enters dictionaries. Hops are taken from the last to the first: what a hop offers to the next one
// is then what it held before. First every cell learns the last offer that it takes, then these are written, so that an
// offer is held against what was there before the batch ("prebatch"), or before its own event ("sequential": a batch of
// one after the other, where what an earlier event has written is worth what it wrote).
#pragma once

#include "common/ncache_commit.h"
#include "cpu/room.h"

namespace graphmem {

struct Offer {
  int64_t half, from;
};

template <class C, class Worth>
class CommitWriter {
 public:
  CommitWriter(const C& commit, const Worth* now) : c_(commit), now_(now), last_(c_.count * c_.cells.columns, -1) {}

  // `kept`: a copy of `now` that follows what is written, or null where nobody reads it again.
  void enter(int64_t begin, int64_t end, Worth* kept) {
    for (int64_t hop = c_.layout.hops; hop > 0; --hop) {
      for (int64_t half = 2 * begin; half < 2 * end; ++half) collect(half, hop);
      for (const int64_t place : places_) {
        const Offer& offer = offers_[last_[place]];
        c_.write(place, offer.half, hop, offer.from, now_);
        if (kept != nullptr) follow(place, kept);
        last_[place] = -1;
      }
      places_.clear();
      offers_.clear();
    }
    for (int64_t half = 2 * end - 1; half >= 2 * begin; --half) {
      int64_t& seen = last_[c_.own(half) * c_.cells.columns];
      if (seen == -1) c_.write_own(half, now_);
      seen = half;
    }
    for (int64_t half = 2 * begin; half < 2 * end; ++half) last_[c_.own(half) * c_.cells.columns] = -1;
  }

 private:
  void collect(int64_t half, int64_t hop) {
    const uint32_t drawn = c_.coin.event(c_.event[half / 2]);
    for (int64_t from = c_.from_begin(hop); from < c_.from_end(hop); ++from) {
      const int64_t place = c_.taken(half, drawn, hop, from);
      if (place < 0) continue;
      if (last_[place] == -1) places_.push_back(place);
      last_[place] = static_cast<int64_t>(offers_.size());
      offers_.push_back({half, from});
    }
  }

  // Of this hop's cells nobody else reads what they are worth.
  void follow(int64_t place, Worth* kept) {
    const int64_t cell = c_.nodes[place / c_.cells.columns] * c_.cells.columns + place % c_.cells.columns;
    for (int64_t f = 0; f < c_.width; ++f)
      kept[place * c_.width + f] = static_cast<Worth>(c_.value[cell * c_.width + f]);
  }

  const C& c_;
  const Worth* now_;
  Room<int64_t> last_, places_;  // the last offer that each place of [count, columns] takes; those with one
  Room<Offer> offers_;
};

// `now` [count, columns, width]: what the cells of the nodes are worth.
template <class C, class Worth>
void enter_events(const C& commit, const Worth* now, bool sequential) {
  if (!sequential) {
    CommitWriter(commit, now).enter(0, commit.events, static_cast<Worth*>(nullptr));
    return;
  }
  Room<Worth> kept(now, now + commit.count * commit.cells.columns * commit.width);
  CommitWriter writer(commit, static_cast<const Worth*>(kept.data()));
  for (int64_t e = 0; e < commit.events; ++e) writer.enter(e, e + 1, kept.data());
}

}  // namespace graphmem
