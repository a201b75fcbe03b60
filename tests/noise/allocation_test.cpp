// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// compiled alone: it replaces operator new.
#include "dpopt/noise/banded.hpp"
#include "dpopt/noise/banded_inverse.hpp"
#include "dpopt/noise/blt.hpp"
#include "dpopt/noise/correlated.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/honaker_tree.hpp"
#include "dpopt/noise/sequential_gaussian.hpp"
#include "dpopt/noise/toeplitz.hpp"
#include "dpopt/noise/tree.hpp"
#include "dpopt/sodium/hardened_gaussian.hpp"
#include "dpopt/sodium/secure_gaussian.hpp"
#include "dpopt/sodium/seed_gaussian.hpp"

#include "support/catch.hpp"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <random>
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

constexpr dpopt::isize size = 1000;

/// Of add() in four steps, and of opening their rows where the mechanism has rows.
template <class V, class Noise>
long allocated_by(Noise noise) {
  noise.validate();
  if constexpr (dpopt::SharesSecret<Noise>) noise.draw_secret();
  if constexpr (dpopt::CorrelatedNoise<Noise>) noise.bind(std::array<dpopt::isize, 1>{size}, 0);
  std::vector<V> x(static_cast<std::size_t>(size));
  const long before = allocations;
  for (std::uint64_t step = 0; step < 4; ++step) {
    if constexpr (dpopt::CorrelatedNoise<Noise>) noise.start_row(step);
    for (const dpopt::isize count : {1, 127, 128, 995}) noise.add({.step = step, .element = 5}, 1.0, x.data(), count);
  }
  return allocations - before;
}

template <class Strategy>
long allocated_by_rows(const Strategy& strategy) {
  return allocated_by<double>(
      dpopt::correlated(dpopt::counter_gaussian{.noise_multiplier = 1.0}, strategy, dpopt::run_plan::once(4)));
}

TEST_CASE("add() allocates nothing, whatever the mechanism") {
  const long before = allocations;
  const auto one = std::make_unique<std::vector<int>>(100);
  CHECK(one->size() == 100);
  CHECK(allocations > before); // the count works
  CHECK(allocated_by<float>(dpopt::counter_gaussian{.noise_multiplier = 1.0, .seed = 1}) == 0);
  CHECK(allocated_by<double>(dpopt::counter_gaussian{.noise_multiplier = 1.0}) == 0);
  CHECK(allocated_by<float>(dpopt::secure_gaussian{.noise_multiplier = 1.0}) == 0);
  CHECK(allocated_by<float>(dpopt::seed_gaussian{.noise_multiplier = 1.0, .secure_mode = true}) == 0);
  CHECK(allocated_by<std::int64_t>(dpopt::hardened_gaussian{.noise_multiplier = 1.0}) == 0);
  CHECK(allocated_by<float>(dpopt::sequential_gaussian(1.0, std::mt19937_64(1))) == 0);
}

TEST_CASE("correlated noise allocates when it is bound, and neither for a row nor for its numbers") {
  const auto c = dpopt::square_root_coefficients(3);
  const auto w = dpopt::inverse_square_root_coefficients(3);
  CHECK(allocated_by_rows(dpopt::banded(c)) == 0);
  CHECK(allocated_by_rows(dpopt::blt(dpopt::blt_parameters{{0.9, 0.5}, {0.2, 0.3}})) == 0);
  CHECK(allocated_by_rows(dpopt::banded_inverse(w)) == 0);
  CHECK(allocated_by_rows(dpopt::stored_banded_inverse(w)) == 0);
  CHECK(allocated_by_rows(dpopt::tree(2)) == 0);
  CHECK(allocated_by_rows(dpopt::honaker_tree(2)) == 0);
}

} // namespace
