// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
//
// executor only: on a device, device_check.cu runs the same comparisons
#include "support/recording_api.hpp"

#include "support/catch.hpp"
#include "support/device_checks.hpp"

#include <cmath>
#include <string>
#include <vector>

using dpopt::testing::device_checks;
using dpopt::testing::kernel_report;
using dpopt::testing::recording_api;

// Not under ThreadSanitizer, to which each of the 100 000 threads would be one to create: the tests of the kernels show
// it smaller grids.
#if !defined(DPOPT_SIMT_TSAN)
TEST_CASE("what tools/gpu-check compares on a device agrees on the executor") {
  std::vector<std::string> names;
  device_checks<recording_api> checks(recording_api{}, 4096, [&](const kernel_report& r) {
    INFO(r.name << ": differs by " << r.difference << ", allowed " << r.allowed);
    CHECK(r.as_on_cpu());
    CHECK(r.bytes > 0);
    names.push_back(r.name);
  });
  checks.run();
  CHECK(names.size() == 33);
}
#endif

TEST_CASE("a difference from the CPU is seen by tools/gpu-check, also one that is no number") {
  using dpopt::testing::bit_difference;
  using dpopt::testing::relative_difference;
  const std::vector<float> a{1, 2, 0.0F}, b{1, 2, -0.0F}, nan{1, std::nanf(""), 0.5F};
  CHECK(bit_difference(a, a) == 0);
  CHECK(bit_difference(a, b) > 0);
  CHECK(relative_difference<float>({1, 2.0002F}, {1, 2}) == Approx(1e-4).epsilon(1e-2));
  CHECK_FALSE(kernel_report{"", 1, relative_difference(nan, {1, 2, 0.5F}), 1e-6, {}}.as_on_cpu());
}
