// csr_transpose: rows that hold each column, by a stable radix sort of the entries. `trow` lists the rows of each column in
// ascending order, `tslot` the entry each one came from. Deterministic; scratch space of about three times the entries.
#include <tuple>

#include "cuda/algorithm.h"
#include "cuda/transpose.h"

namespace graphmem {
namespace {

// First position in [0, count) of the ascending `values` whose value is above `value`.
__device__ int64_t upper_bound(const int64_t* values, int64_t count, int64_t value) {
  return lower_bound(values, 0, count, value + 1);
}

__global__ void count_up(int64_t count, int64_t* out) {
  const int64_t k = global_thread();
  if (k < count) out[k] = k;
}

template <class Col>
__global__ void column_starts(const Col* sorted, int64_t entries, int64_t num_cols, int64_t* starts) {
  const int64_t c = global_thread();
  if (c <= num_cols) starts[c] = c == num_cols ? entries : lower_bound(sorted, 0, entries, static_cast<Col>(c));
}

template <class Col>
__global__ void rows_of_entries(const int64_t* ptr, int64_t num_rows, const int64_t* slots, int64_t entries,
                                Col* rows) {
  const int64_t k = global_thread();
  if (k < entries) rows[k] = static_cast<Col>(upper_bound(ptr, num_rows + 1, slots[k]) - 1);
}

int bits_for(int64_t num_cols) {
  int bits = 0;
  while (bits < 63 && (int64_t{1} << bits) < num_cols) ++bits;
  return bits;
}

}  // namespace

template <class Col>
ByColumn by_column(const char* op, const Device& device, const Tensor& like, const Col* columns, int64_t entries,
                   int64_t num_cols) {
  Tensor ptr = torch::stable::new_empty(like, {num_cols + 1}, ScalarType::Long);
  Tensor slot = torch::stable::new_empty(like, {entries}, ScalarType::Long);
  Tensor numbers = torch::stable::new_empty(like, {entries}, ScalarType::Long);
  Tensor sorted = torch::stable::new_empty(like, {entries}, sizeof(Col) == 4 ? ScalarType::Int : ScalarType::Long);
  int64_t* order = static_cast<int64_t*>(numbers.mutable_data_ptr());
  Col* keys = static_cast<Col*>(sorted.mutable_data_ptr());
  if (entries > 0) {
    launch(op, device, count_up, {blocks_for(entries, kThreads)}, kThreads, 0, entries, order);
    // A bit at least, or nothing would be copied.
    sort_by_key(op, device, like, columns, keys, order, static_cast<int64_t*>(slot.mutable_data_ptr()), entries,
                std::max(bits_for(num_cols), 1));
  }
  launch(op, device, column_starts<Col>, {blocks_for(num_cols + 1, kThreads)}, kThreads, 0, keys, entries, num_cols,
         static_cast<int64_t*>(ptr.mutable_data_ptr()));
  return {ptr, slot};
}

template ByColumn by_column(const char*, const Device&, const Tensor&, const int32_t*, int64_t, int64_t);
template ByColumn by_column(const char*, const Device&, const Tensor&, const int64_t*, int64_t, int64_t);

namespace {

std::tuple<Tensor, Tensor, Tensor> csr_transpose_cuda(Tensor ptr, Tensor idx, int64_t num_cols) {
  constexpr const char* kOp = "csr_transpose";
  const Device device(ptr);
  expect_number(kOp, "num_cols", num_cols);
  return dispatch_index(kOp, "idx", idx, [&](auto index) {
    using Col = typename decltype(index)::type;
    const Col* columns = data<Col>(kOp, "idx", idx, {kAny});
    const int64_t entries = idx.size(0);
    const int64_t* lists = offsets(kOp, "ptr", ptr, entries);
    Tensor trow = torch::stable::new_empty(idx, {entries});
    const ByColumn found = by_column(kOp, device, ptr, columns, entries, num_cols);
    launch(kOp, device, rows_of_entries<Col>, {blocks_for(entries, kThreads)}, kThreads, 0, lists, ptr.size(0) - 1,
           static_cast<const int64_t*>(found.slot.const_data_ptr()), entries,
           static_cast<Col*>(trow.mutable_data_ptr()));
    return std::tuple(found.ptr, trow, found.slot);
  });
}

}  // namespace
}  // namespace graphmem

GRAPHMEM_KERNELS(m) { m.impl("csr_transpose", TORCH_BOX(&graphmem::csr_transpose_cuda)); }
