// ncache_commit: events enter the dictionaries of their ends, in place. Hops are taken from the last to the first: what a
// hop offers to the next one is then what it held before. First every cell learns the last offer that it takes, then
// these are written, so that an offer is held against what was there before the batch ("prebatch"), or before its own
// event ("sequential": a batch of one after the other, where what an earlier event has written is worth what it wrote).
#include "common/ncache_commit.h"

#include <torch/csrc/stable/library.h>

namespace graphmem {
namespace {

constexpr int64_t kNone = -1;

struct Offer {
  int64_t half, from;
};

template <class C, class Worth>
class Writer {
 public:
  Writer(const C& commit, const Worth* now) : c_(commit), now_(now), last_(c_.count * c_.cells.columns, kNone) {}

  // `kept`: a copy of `now` that follows what is written, or null where nobody reads it again.
  void enter(int64_t begin, int64_t end, Worth* kept) {
    for (int64_t hop = c_.layout.hops; hop > 0; --hop) {
      for (int64_t half = 2 * begin; half < 2 * end; ++half) collect(half, hop);
      for (const int64_t place : places_) {
        const Offer& offer = offers_[last_[place]];
        c_.write(place, offer.half, hop, offer.from, now_);
        if (kept != nullptr) follow(place, kept);
        last_[place] = kNone;
      }
      places_.clear();
      offers_.clear();
    }
    for (int64_t half = 2 * end - 1; half >= 2 * begin; --half) {
      int64_t& seen = last_[c_.own(half) * c_.cells.columns];
      if (seen == kNone) c_.write_own(half, now_);
      seen = half;
    }
    for (int64_t half = 2 * begin; half < 2 * end; ++half) last_[c_.own(half) * c_.cells.columns] = kNone;
  }

 private:
  void collect(int64_t half, int64_t hop) {
    const uint32_t drawn = c_.coin.event(c_.event[half / 2]);
    for (int64_t from = c_.from_begin(hop); from < c_.from_end(hop); ++from) {
      const int64_t place = c_.taken(half, drawn, hop, from);
      if (place < 0) continue;
      if (last_[place] == kNone) places_.push_back(place);
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
  std::vector<int64_t> last_, places_;  // the last offer that each place of [count, columns] takes; those with one
  std::vector<Offer> offers_;
};

void ncache_commit_cpu(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor src, Tensor dst, Tensor t,
                       Tensor event, Tensor nodes, Tensor at, Tensor now, std::vector<int64_t> sizes,
                       bool reference_hash, int64_t seed, double replace_prob, bool sequential) {
  const CommitArguments arguments{key, eid, time,  value,          src,  dst,         t, event, nodes,
                                  at,  now, sizes, reference_hash, seed, replace_prob};
  arguments.dispatch("ncache_commit", [&](const auto& commit, const auto* worth) {
    using Worth = std::remove_cv_t<std::remove_pointer_t<decltype(worth)>>;
    std::vector<Worth> kept;
    if (sequential) kept.assign(worth, worth + commit.count * commit.cells.columns * commit.width);
    Writer writer(commit, sequential ? static_cast<const Worth*>(kept.data()) : worth);
    if (!sequential) {
      writer.enter(0, commit.events, nullptr);
      return;
    }
    for (int64_t e = 0; e < commit.events; ++e) writer.enter(e, e + 1, kept.data());
  });
}

}  // namespace
}  // namespace graphmem

STABLE_TORCH_LIBRARY_IMPL(graphmem, CPU, m) { m.impl("ncache_commit", TORCH_BOX(&graphmem::ncache_commit_cpu)); }
