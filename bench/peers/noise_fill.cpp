// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// counter_gaussian behind a C interface, for bench/peers/noise.py.
#include "dpopt/noise/counter_gaussian.hpp"

#include <cstdint>

namespace {

template <class V>
void add(std::uint64_t step, V* x, std::int64_t count) {
  dpopt::counter_gaussian noise{.noise_multiplier = 1.0, .seed = 1};
  noise.draw_secret();
  noise.add({.step = step}, 1.0, x, static_cast<dpopt::isize>(count));
}

} // namespace

extern "C" {

void dpopt_add_float(std::uint64_t step, float* x, std::int64_t count);
void dpopt_add_double(std::uint64_t step, double* x, std::int64_t count);

void dpopt_add_float(std::uint64_t step, float* x, std::int64_t count) { add(step, x, count); }
void dpopt_add_double(std::uint64_t step, double* x, std::int64_t count) { add(step, x, count); }
}
