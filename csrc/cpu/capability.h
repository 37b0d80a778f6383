// What the processor offers to the kernels that choose their instructions themselves (the others have clones, see
// cpu/vector.h). GRAPHMEM_CPU_CAPABILITY=base|avx2|avx512 lowers it, so that one machine can test every path.
#pragma once

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define GRAPHMEM_X86 1
#endif

namespace graphmem {

// Each includes the ones before it; the last is AVX-512 with VP2INTERSECT.
enum class Capability { kBase, kAvx2, kAvx512, kAvx512Intersect };

inline Capability capability() {
  static const Capability found = [] {
    Capability offered = Capability::kBase;
#ifdef GRAPHMEM_X86
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) offered = Capability::kAvx2;
    if (__builtin_cpu_supports("avx512f")) offered = Capability::kAvx512;
    if (__builtin_cpu_supports("avx512vp2intersect")) offered = Capability::kAvx512Intersect;
#endif
    const char* wanted = std::getenv("GRAPHMEM_CPU_CAPABILITY");
    if (wanted == nullptr) return offered;
    const Capability limit = std::strcmp(wanted, "base") == 0     ? Capability::kBase
                             : std::strcmp(wanted, "avx2") == 0   ? Capability::kAvx2
                             : std::strcmp(wanted, "avx512") == 0 ? Capability::kAvx512
                                                                  : offered;
    return limit < offered ? limit : offered;
  }();
  return found;
}

}  // namespace graphmem
