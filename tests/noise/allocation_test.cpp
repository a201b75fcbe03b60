// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// compiled alone: it replaces operator new.
#include "dpopt/noise/counter_gaussian.hpp"

#include "support/catch.hpp"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace {

std::atomic<long> allocations = 0;

} // namespace

// The whole program's, counted.
void* operator new(std::size_t size) {
  ++allocations;
  if (void* const p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, const std::nothrow_t& /*tag*/) noexcept {
  ++allocations;
  return std::malloc(size == 0 ? 1 : size);
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t& /*tag*/) noexcept { std::free(p); }
void operator delete(void* p, std::size_t /*size*/) noexcept { std::free(p); }

namespace {

template <class V>
long allocated_by_add() {
  dpopt::counter_gaussian noise{.noise_multiplier = 1.0, .seed = 1};
  noise.draw_secret();
  std::vector<V> x(1000);
  const long before = allocations;
  for (const dpopt::isize count : {1, 127, 128, 1000}) noise.add({.element = 5}, 1.0, x.data(), count);
  return allocations - before;
}

TEST_CASE("add() allocates nothing") {
  const long before = allocations;
  const auto one = std::make_unique<std::vector<int>>(100);
  CHECK(one->size() == 100);
  CHECK(allocations > before); // the count works
  CHECK(allocated_by_add<float>() == 0);
  CHECK(allocated_by_add<double>() == 0);
}

} // namespace
