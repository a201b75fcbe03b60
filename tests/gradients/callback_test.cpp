// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/callback.hpp"

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "support/random_numbers.hpp"
#include "support/source_conformance.hpp"

#include <algorithm>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

// A layer whose gradient holds random numbers of the sample's own seed.
struct random_layer {
  isize size;
  int calls = 0;
  void operator()(isize sample, double* gradient) {
    ++calls;
    std::mt19937_64 engine(static_cast<std::uint64_t>(sample) + 77);
    for (isize k = 0; k < size; ++k) gradient[k] = static_cast<double>(engine() >> 11) * 0x1p-52 - 1;
  }
};

} // namespace

TEST_CASE("callback: a function's gradients are a source, random numbers of a sample included") {
  for (const isize size : {1, 20, 1500}) {
    random_layer layer{size};
    written_out rows(5);
    for (isize i = 0; i < 5; ++i) {
      std::vector<double> g(static_cast<std::size_t>(size));
      layer(i, g.data());
      rows[static_cast<std::size_t>(i)].assign(g.begin(), g.end());
    }
    source_conforms(callback(layer, 5, size), rows);
  }
}

TEST_CASE("callback: the function is asked once a sample for the norm and once for the sum, for the grid too") {
  random_layer layer{5000};
  const callback source(layer, 3, 5000);
  const std::vector<double> squares = squared_norms_of(source);
  CHECK(layer.calls == 3);
  const std::vector<float> sum = sum_of<float>(source, {1, 0, 1});
  CHECK(layer.calls == 5); // a sample that is dropped is not asked for
  integer_grid grid;
  workspace w;
  grid.resize(5000, 100.0);
  const std::vector<double> factors = {1, 0, 1};
  grid.add(0, source, {0, 3}, factors.data(), w);
  CHECK(layer.calls == 7);
  CHECK(static_cast<double>(grid.data()[4999]) * grid.unit() == Approx(static_cast<double>(sum[4999])).margin(1e-5));
}

TEST_CASE("callback: a plain function with a context does as well") {
  std::vector<double> rows = {1, 2, 3, 4};
  const callback source(
      [](void* context, isize i, double* g) { std::copy_n(static_cast<double*>(context) + 2 * i, 2, g); }, rows.data(),
      2, 2);
  source_conforms(source, {{1, 2}, {3, 4}});
}

TEST_CASE("callback: nothing is asked for where there is nothing to write") {
  const callback no_elements([](void*, isize, double*) { throw std::logic_error("asked"); }, nullptr, 2, 0);
  CHECK(squared_norms_of(no_elements) == std::vector<double>{0, 0});
  CHECK(sum_of<float>(no_elements, {1, 1}).empty());
  const callback no_samples(nullptr, nullptr, 0, 3);
  CHECK(squared_norms_of(no_samples).empty());
  CHECK(sum_of<float>(no_samples, {}) == std::vector<float>{0, 0, 0});
}

TEST_CASE("callback: an exception of the function passes through") {
  auto fails = [](isize, double*) { throw std::runtime_error("no gradient"); };
  const callback source(fails, 1, 2);
  CHECK_THROWS_WITH(squared_norms_of(source), "no gradient");
}
