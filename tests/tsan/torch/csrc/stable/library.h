// See tensor.h. Registration keeps plain function pointers by name; `find` gives them back with the type that the caller
// names, and throws where that is not the kernel's.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/Exception.h>

#include <map>
#include <string>
#include <typeindex>
#include <typeinfo>

namespace torch::stable {

struct Entry {
  void (*function)();
  std::type_index type;
};

inline std::map<std::string, Entry>& registry() {
  static std::map<std::string, Entry> kernels;
  return kernels;
}

struct Registrar {
  template <class Function>
  void impl(const char* name, Function* function) {
    registry().emplace(name, Entry{reinterpret_cast<void (*)()>(function), typeid(Function)});
  }
};

template <class Function>
Function* find(const std::string& name) {
  const Entry& entry = registry().at(name);
  if (entry.type != typeid(Function)) throw std::runtime_error(name + ": the harness has another signature");
  return reinterpret_cast<Function*>(entry.function);
}

}  // namespace torch::stable

#define TORCH_BOX(function) (function)
#define GRAPHMEM_JOIN_(a, b) a##b
#define GRAPHMEM_JOIN(a, b) GRAPHMEM_JOIN_(a, b)
#define GRAPHMEM_REGISTER(name, m)                                                         \
  static void name(torch::stable::Registrar);                                              \
  static const bool GRAPHMEM_JOIN(name, _done) = (name(torch::stable::Registrar{}), true); \
  static void name(torch::stable::Registrar m)
#define STABLE_TORCH_LIBRARY_IMPL(ns, key, m) GRAPHMEM_REGISTER(GRAPHMEM_JOIN(register_, __LINE__), m)
