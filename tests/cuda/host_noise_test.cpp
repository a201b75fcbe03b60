// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/recording_api.hpp"

#include "dpopt/cuda/fused_release.cuh"
#include "dpopt/cuda/host_noise.cuh"
#include "dpopt/sodium/hardened_gaussian.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <vector>

using namespace dpopt;
using dpopt::testing::recording_api;

namespace {

hardened_gaussian keyed() {
  hardened_gaussian out{.noise_multiplier = 1.0};
  out.draw_secret();
  return out;
}

const std::vector<samples> places{{3, 100}, {103, 0}, {110, cuda::chunk_elements + 11}};
constexpr isize total = 110 + cuda::chunk_elements + 11 + 6; // with gaps between parameters and behind them

std::vector<std::int64_t> some_sums() {
  std::vector<std::int64_t> out(total);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::int64_t>(i) * 1000003 - 5000000;
  out[3] = std::numeric_limits<std::int64_t>::max(); // sums wrap around, as the CPU's do
  out[4] = std::numeric_limits<std::int64_t>::min();
  return out;
}

std::vector<std::int64_t> added_by_cpu(const hardened_gaussian& noise, address where, double std_in_units) {
  auto out = some_sums();
  for (std::size_t p = 0; p < places.size(); ++p) {
    where.parameter = static_cast<std::uint32_t>(p);
    noise.add(where, std_in_units, out.data() + places[p].first, places[p].count);
  }
  return out;
}

} // namespace

TEST_CASE("hardened noise from the host has the CPU's bits in the device's sums, for any size of the pieces") {
  const hardened_gaussian noise = keyed();
  for (const isize piece : {isize{1} << 20, isize{3001}}) {
    cuda::device_work<recording_api> on{recording_api{}};
    cuda::host_noise<hardened_gaussian, recording_api> drawn;
    drawn.bind(on, places, total, piece);
    for (std::uint64_t step = 5; step < 7; ++step) {
      auto sums = some_sums();
      drawn.draw(on, noise, {.step = step}, 1e9);
      drawn.add(on, sums.data());
      CHECK(sums == added_by_cpu(noise, {.step = step}, 1e9));
    }
    CHECK(on.device().count(testing::recorded_call::kind::host_wait) == 1); // the second step's, for the first's copy
    CHECK(on.device().count(testing::recorded_call::kind::synchronize) == 0);
  }
}

TEST_CASE("drawn noise is added once, and forgotten when the next draw fails") {
  cuda::device_work<recording_api> on{recording_api{}};
  cuda::host_noise<hardened_gaussian, recording_api> drawn;
  drawn.bind(on, places, total);
  auto sums = some_sums();
  CHECK_THROWS_WITH(drawn.add(on, sums.data()), contains_text("call draw() once a step"));
  const hardened_gaussian noise = keyed();
  drawn.draw(on, noise, {}, 20);
  drawn.add(on, sums.data());
  const auto once = sums;
  CHECK_THROWS_AS(drawn.add(on, sums.data()), state_error);
  drawn.draw(on, noise, {.step = 1}, 20);
  CHECK_THROWS_AS(drawn.draw(on, noise, {.step = 2}, -1 + 1e300), invalid_argument);
  CHECK_THROWS_AS(drawn.add(on, sums.data()), state_error);
  CHECK(sums == once);
  drawn.draw(on, noise, {.step = 3}, 0); // no noise wanted: nothing is left of what was drawn before
  drawn.add(on, sums.data());
  CHECK(sums == once);
}

TEST_CASE("a hardened release on the device has the CPU's bits") {
  const hardened_gaussian noise = keyed();
  const release_constants k{0x1p-30, 0.8, 48};
  auto expected = some_sums();
  std::vector<float> expected_gradient(total, 0);
  for (std::size_t p = 0; p < places.size(); ++p)
    for_each_release_tile<hardened_gaussian, std::int64_t>(places[p].count, [&](isize first, isize count) {
      const address where{
          .step = 2, .parameter = static_cast<std::uint32_t>(p), .element = static_cast<std::uint64_t>(first)};
      const isize at = places[p].first + first;
      release_tile(expected.data() + at, count, where, k, noise, expected_gradient.data() + at);
    });

  cuda::device_work<recording_api> on{recording_api{}};
  cuda::host_noise<hardened_gaussian, recording_api> drawn;
  drawn.bind(on, places, total);
  auto sums = some_sums();
  std::vector<float> gradient(total, 0);
  drawn.draw(on, noise, {.step = 2}, k.noise_std / k.unit);
  drawn.add(on, sums.data());
  std::vector<isize> sizes;
  std::vector<cuda::release_tensor<std::int64_t, float, 0>> tensors;
  for (const samples& p : places) {
    sizes.push_back(p.count);
    tensors.push_back({sums.data() + p.first, nullptr, gradient.data() + p.first, {}, {0, 0}});
  }
  const auto chunks = cuda::tensor_chunks(sizes);
  on.launch("fused_release", cuda::launch_shape{2, 64},
            &cuda::fused_release<std::int64_t, float, cuda::no_update<float>>, chunks.data(), std::ssize(chunks),
            tensors.data(), cuda::release_terms_without_noise<std::int64_t>(k), cuda::no_update<float>{});
  CHECK(sums == expected);
  CHECK(gradient == expected_gradient);
}

TEST_CASE("integers are added modulo 2^64 for every size and alignment, in any schedule") {
  for (simt::cfg.seed = 0; simt::cfg.seed < 4; ++simt::cfg.seed)
    for (const isize n : {0, 1, 31, 32, 33, 255, 256, 257, 1500}) {
      std::vector<std::int64_t> sum(static_cast<std::size_t>(n) + 4, 7), noise = sum;
      for (std::size_t i = 0; i < noise.size(); ++i)
        noise[i] = std::numeric_limits<std::int64_t>::max() - static_cast<std::int64_t>(i);
      const std::size_t from = simt::cfg.seed % 2, noise_from = simt::cfg.seed / 2;
      auto expected = sum;
      for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i)
        expected[from + i] = static_cast<std::int64_t>(7 + static_cast<std::uint64_t>(noise[noise_from + i]));
      const auto shape = cuda::add_integers_shape(n);
      if (shape.blocks > 0)
        simt::launch(&cuda::add_integers<std::int64_t>, dim3(std::min(shape.blocks, 2u)), dim3(64), sum.data() + from,
                     static_cast<const std::int64_t*>(noise.data() + noise_from), n);
      CHECK(sum == expected);
    }
  simt::cfg.seed = 0;
}
