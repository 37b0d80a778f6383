// libstdc++ asks glibc >= 2.32 whether a process has one thread, to count references without atomic instructions. A
// definition of our own (no: always with them) keeps that version out of the library, so that it loads wherever torch
// does (glibc 2.28).
#include <cstddef>

#if defined(__GLIBC__)
extern "C" {
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
}
#endif
