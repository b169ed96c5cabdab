#include <atomic>
#include <cstdlib>

#include "cpu/backends.h"

namespace ans::cpu {
namespace {

#if defined(__x86_64__)
bool has_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("popcnt");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif

const Backend* find(const std::string& name) {
  for (const Backend* b : available_backends())
    if (name == b->name) return b;
  return nullptr;
}

const Backend* initial() {
  const char* name = std::getenv("TORCH_ANS_BACKEND");
  const Backend* b = name != nullptr ? find(name) : nullptr;
  return b != nullptr ? b : available_backends().front();
}

std::atomic<const Backend*>& selected() {
  static std::atomic<const Backend*> b{initial()};
  return b;
}

}  // namespace

const std::vector<const Backend*>& available_backends() {
  static const std::vector<const Backend*> list = [] {
    std::vector<const Backend*> l;
#if defined(__x86_64__)
    if (has_avx512()) l.push_back(&kAvx512);
    if (has_avx2()) l.push_back(&kAvx2);
#endif
    l.push_back(&kScalar);
    return l;
  }();
  return list;
}

const Backend& backend() { return *selected().load(std::memory_order_relaxed); }

bool select_backend(const std::string& name) {
  const Backend* b = name.empty() ? available_backends().front() : find(name);
  if (b == nullptr) return false;
  selected().store(b, std::memory_order_relaxed);
  return true;
}

}  // namespace ans::cpu
