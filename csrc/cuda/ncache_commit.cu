// ncache_commit: every offer that a cell takes raises the cell's stamp to its number; the highest stays, which is that of
// the last offer, whatever order threads come in. Then each stamped cell writes its offer. As on the CPU, hops are taken
// from the last to the first, and the own entries, as hop 0, behind them.
#include "common/ncache_commit.h"
#include "cuda/scratch.h"

namespace graphmem {
namespace {

// Stamps [count, columns]: 1 + the number of an offer, that of half event h from the k-th column that offers to a hop
// being h span + k; 0 for none. A hop's stamps lie in its own columns, so that they are cleared once a batch.
template <class C>
struct Stamps {
  C commit;
  unsigned long long* of_cell;

  GRAPHMEM_HD int64_t span(int64_t hop) const { return hop == 0 ? 1 : commit.from_end(hop) - commit.from_begin(hop); }
  // Columns of a hop.
  GRAPHMEM_HD int64_t first(int64_t hop) const { return commit.layout.first[hop]; }
  GRAPHMEM_HD int64_t size(int64_t hop) const { return commit.layout.first[hop + 1] - first(hop); }

  __device__ void raise(int64_t number, int64_t hop) const {
    const int64_t half = number / span(hop);
    const int64_t place = hop == 0 ? commit.own(half) * commit.cells.columns
                                   : commit.taken(half, commit.coin.event(commit.event[half / 2]), hop,
                                                  commit.from_begin(hop) + number % span(hop));
    if (place >= 0) atomicMax(of_cell + place, static_cast<unsigned long long>(number + 1));
  }

  // Whether the cell took an offer, and has now written it.
  template <class Worth>
  __device__ bool write(int64_t place, int64_t hop, const Worth* now) const {
    const int64_t number = static_cast<int64_t>(of_cell[place]) - 1;
    if (number < 0) return false;
    const int64_t half = number / span(hop);
    if (hop == 0) {
      commit.write_own(half, now);
    } else {
      commit.write(place, half, hop, commit.from_begin(hop) + number % span(hop), now);
    }
    return true;
  }
};

// A thread an offer.
template <class C>
__global__ void stamp_cells(Stamps<C> stamps, int64_t hop) {
  const int64_t number = global_thread();
  if (number < 2 * stamps.commit.events * stamps.span(hop)) stamps.raise(number, hop);
}

// A thread a cell of the hop. What an offer is made of lies in the hop before, which is written later.
template <class C, class Worth>
__global__ void write_cells(Stamps<C> stamps, int64_t hop, const Worth* now) {
  const int64_t n = global_thread(), size = stamps.size(hop);
  if (n >= stamps.commit.count * size) return;
  stamps.write(n / size * stamps.commit.cells.columns + stamps.first(hop) + n % size, hop, now);
}

// One block takes the events one after the other, each as a batch of its own: 2 (hops + 1) barriers an event, and one
// multiprocessor busy. Events that share no node could go side by side; that is not built.
template <class C, class Worth>
__global__ void __launch_bounds__(kThreads) walk_events(Stamps<C> stamps, Worth* kept) {
  const C& commit = stamps.commit;
  const int64_t columns = commit.cells.columns;
  for (int64_t e = 0; e < commit.events; ++e) {
    const int64_t ends = commit.own(2 * e) == commit.own(2 * e + 1) ? 1 : 2;
    for (int64_t hop = commit.layout.hops; hop >= 0; --hop) {
      const int64_t span = stamps.span(hop), size = stamps.size(hop);
      for (int64_t n = threadIdx.x; n < 2 * span; n += blockDim.x) stamps.raise(2 * e * span + n, hop);
      __syncthreads();
      for (int64_t n = threadIdx.x; n < ends * size; n += blockDim.x) {
        const int64_t place = commit.own(2 * e + n / size) * columns + stamps.first(hop) + n % size;
        if (!stamps.write(place, hop, static_cast<const Worth*>(kept))) continue;
        stamps.of_cell[place] = 0;
        if (hop == 0) continue;
        // What an earlier event has written is worth what it wrote.
        const int64_t cell = (commit.nodes[place / columns] - place / columns) * columns + place;
        for (int64_t f = 0; f < commit.width; ++f)
          kept[place * commit.width + f] = static_cast<Worth>(commit.value[cell * commit.width + f]);
      }
      __syncthreads();
    }
  }
}

template <class C, class Worth>
void enter_events(const char* op, const Device& device, const Stamps<C>& stamps, const Worth* now) {
  const C& commit = stamps.commit;
  for (int64_t hop = commit.layout.hops; hop >= 0; --hop) {
    const int64_t offers = 2 * commit.events * stamps.span(hop), cells = commit.count * stamps.size(hop);
    launch(op, device, stamp_cells<C>, {blocks_for(offers, kThreads)}, kThreads, 0, stamps, hop);
    launch(op, device, write_cells<C, Worth>, {blocks_for(cells, kThreads)}, kThreads, 0, stamps, hop, now);
  }
}

void ncache_commit_cuda(Tensor key, Tensor eid, Tensor time, Tensor value, Tensor src, Tensor dst, Tensor t,
                        Tensor event, Tensor nodes, Tensor at, Tensor now, std::vector<int64_t> sizes,
                        bool reference_hash, int64_t seed, double replace_prob, bool sequential) {
  constexpr const char* kOp = "ncache_commit";
  const Device device(key);
  const CommitArguments arguments{key, eid, time,  value,          src,  dst,         t, event, nodes,
                                  at,  now, sizes, reference_hash, seed, replace_prob};
  arguments.dispatch(kOp, [&](const auto& commit, const auto* worth) {
    using C = std::remove_cvref_t<decltype(commit)>;
    using Worth = std::remove_cv_t<std::remove_pointer_t<decltype(worth)>>;
    if (commit.events == 0) return;
    Tensor scratch = all_zeros<int64_t>(at, commit.count, commit.cells.columns);
    const Stamps<C> stamps{commit, static_cast<unsigned long long*>(scratch.mutable_data_ptr())};
    if (!sequential) {
      enter_events(kOp, device, stamps, worth);
      return;
    }
    Tensor kept = torch::stable::clone(now);
    launch(kOp, device, walk_events<C, Worth>, {1}, kThreads, 0, stamps, static_cast<Worth*>(kept.mutable_data_ptr()));
  });
}

}  // namespace
}  // namespace graphmem

GRAPHMEM_KERNELS(m) { m.impl("ncache_commit", TORCH_BOX(&graphmem::ncache_commit_cuda)); }
