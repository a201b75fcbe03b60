// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/core/vector_dispatch.hpp"

#include "support/catch.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

using dpopt::vector_level;

namespace {

/// Fused, a * b + c has other bits for most of these.
template <class T>
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT inline void chain(T* x, std::size_t n) {
  DPOPT_NO_CONTRACT_BLOCK
  for (std::size_t i = 0; i < n; ++i) x[i] = x[i] * T(1.1) + T(0.3);
  for (std::size_t i = 0; i < n; ++i) x[i] = x[i] * x[i] - T(0.7) / x[i];
}

TEMPLATE_TEST_CASE("a loop gives the same bits at every vector level of this machine, called once", "", float, double) {
  std::vector<std::vector<TestType>> results;
  for (const vector_level level : {vector_level::plain, vector_level::avx2, vector_level::avx512}) {
    if (!dpopt::runs_here(level)) continue;
    std::vector<TestType> x(1003);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = TestType(1) / static_cast<TestType>(i + 3);
    TestType* const data = x.data();
    const std::size_t n = x.size();
    int calls = 0;
    int* const counted = &calls;
    dpopt::at_vector_level(level, [=]() DPOPT_FORCE_INLINE_LAMBDA {
      ++*counted;
      chain(data, n);
    });
    CHECK(calls == 1);
    results.push_back(x);
  }
  REQUIRE(!results.empty());
  for (const auto& x : results) CHECK(x == results.front());
}

TEST_CASE("vectorized() calls once, at a level of this machine") {
  int calls = 0;
  dpopt::vectorized([&]() DPOPT_FORCE_INLINE_LAMBDA { ++calls; });
  CHECK(calls == 1);
  CHECK(dpopt::runs_here(vector_level::plain));
  CHECK(dpopt::runs_here(dpopt::best_vector_level()));
}

TEMPLATE_TEST_CASE("square_roots() are those of std::sqrt, for any count, at every level of this machine", "", float,
                   double) {
  for (const vector_level level : {vector_level::plain, vector_level::avx2, vector_level::avx512}) {
    if (!dpopt::runs_here(level)) continue;
    for (std::ptrdiff_t n = 0; n < 21; ++n) {
      std::vector<TestType> x(22, TestType(2));
      for (std::size_t i = 0; i < 21; ++i) x[i] = TestType(1.7) * static_cast<TestType>(i);
      x[3] = std::numeric_limits<TestType>::infinity();
      x[5] = std::numeric_limits<TestType>::denorm_min();
      std::vector<TestType> expected = x;
      for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) expected[i] = std::sqrt(expected[i]);
      TestType* const data = x.data();
      dpopt::at_vector_level(level, [=](auto width) DPOPT_FORCE_INLINE_LAMBDA { dpopt::square_roots(data, n, width); });
      CHECK(x == expected);
    }
  }
}

} // namespace
