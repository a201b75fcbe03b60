// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/simt/rows.hpp"

#include "dpopt/cuda/gaussian_noise.cuh"
#include "support/catch.hpp"
#include "support/recorded_stream.hpp"

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

using namespace dpopt;

namespace {

counter_gaussian seeded(std::uint64_t seed, std::uint64_t incarnation = 0) {
  counter_gaussian out{.noise_multiplier = 1.0, .seed = seed, .incarnation = incarnation};
  out.draw_secret();
  return out;
}

/// counter_gaussian::add by the kernel.
template <class R>
void add_by_kernel(const counter_gaussian& noise, const address& where, double std_in_units, R* x, isize n,
                   unsigned threads = 64) { // fewer than in earnest: the executor makes a fiber for each
  const cuda::noise_tensor<R> to{x, {where.parameter, where.element}};
  cuda::require_in_stream<R>(to.place, n);
  const cuda::launch_shape shape = cuda::range_shape(n);
  if (shape.blocks == 0) return;
  simt::launch(&cuda::add_gaussian_noise_to_range<R>, dim3(shape.blocks), dim3(threads), to, n,
               cuda::stream_of<R>(noise, where, std_in_units));
}

/// Both on x[offset, offset + n) of equal arrays; what lies around must stay.
template <class R>
void check_range(const counter_gaussian& noise, const address& where, std::size_t offset, isize n) {
  std::vector<R> expected(offset + static_cast<std::size_t>(n) + 3, R(0.25));
  std::vector<R> x = expected;
  noise.add(where, 1.7, expected.data() + offset, n);
  add_by_kernel<R>(noise, where, 1.7, x.data() + offset, n);
  INFO("step " << where.step << " element " << where.element << " offset " << offset << " count " << n);
  CHECK(x == expected);
}

template <class R>
void check_ranges() {
  const counter_gaussian noise = seeded(3);
  for (const isize n : {0, 1, 31, 32, 33, 255, 256, 257})
    check_range<R>(noise, {.step = 5, .parameter = 2}, static_cast<std::size_t>(n) % 4, n);
  check_range<R>(noise, {}, 0, 2 * cuda::chunk_elements + 77);
  check_range<R>(noise, {.element = 129}, 1, cuda::chunk_elements + 300);

  std::mt19937_64 bits(11);
  for (int k = 0; k < 6; ++k) {
    address where{.what = bits() % 2 ? purpose::gradient : purpose::side_scalars,
                  .lane = static_cast<std::uint32_t>(bits() >> 40),
                  .step = bits() >> 24,
                  .parameter = static_cast<std::uint32_t>(bits() >> 44),
                  .element = bits() >> 28};
    if (k % 3 == 0) where.element = (std::uint64_t{1} << 32) * (16 / sizeof(R)) - bits() % 200; // a word of the counter
    check_range<R>(noise, where, bits() % 5, static_cast<isize>(bits() % 700));
  }
}

} // namespace

TEST_CASE("the noise kernel adds counter_gaussian's bits for any address, offset and count, in any schedule") {
  for (simt::cfg.seed = 0; simt::cfg.seed < 4; ++simt::cfg.seed) {
    check_ranges<float>();
    check_ranges<double>();
  }
  simt::cfg.seed = 0;
}

TEST_CASE("the noise kernel's stream is the recorded one") {
  dpopt::test::check_recorded_stream([](const counter_gaussian& noise, const address& where, auto type) {
    std::vector x{type};
    add_by_kernel(noise, where, 1, x.data(), 1);
    return x[0];
  });
}

TEST_CASE("blocks of the size that is launched in earnest add the same bits") {
  const counter_gaussian noise = seeded(6);
  std::vector<float> expected(2 * static_cast<std::size_t>(cuda::chunk_elements), 0), x = expected;
  noise.add({}, 1, expected.data(), std::ssize(x));
  add_by_kernel(noise, {}, 1, x.data(), std::ssize(x), cuda::range_shape(std::ssize(x)).threads);
  CHECK(x == expected);
}

TEST_CASE("one launch adds noise to hundreds of tensors, each at its own address, in any schedule") {
  const counter_gaussian noise = seeded(4);
  const address where{.lane = 3, .step = 9};
  std::vector<isize> sizes(std::begin(simt::edge_sizes), std::end(simt::edge_sizes));
  sizes.insert(sizes.end(), std::begin(simt::edge_sizes), std::end(simt::edge_sizes)); // 8 sizes: once more, unaligned
  for (isize t = 0; t < 300; ++t) sizes.push_back(t * 7 % 40);
  sizes.push_back(cuda::chunk_elements + 5);
  const auto offset_of = [](std::size_t t) { return t / 8 % 2; };
  std::vector<std::vector<float>> before, expected; // each with one number more behind it, which must stay
  for (std::size_t t = 0; t < sizes.size(); ++t) {
    before.emplace_back(offset_of(t) + static_cast<std::size_t>(sizes[t]) + 1, 0.5F);
    expected.push_back(before.back());
    address there = where;
    there.parameter = static_cast<std::uint32_t>(t);
    noise.add(there, 2, expected.back().data() + offset_of(t), sizes[t]);
  }
  const auto chunks = cuda::tensor_chunks(sizes);
  CHECK(cuda::chunk_shape(std::ssize(chunks)).blocks == chunks.size());
  simt::under_all_schedules([&] {
    auto x = before;
    std::vector<cuda::noise_tensor<float>> tensors;
    for (std::size_t t = 0; t < sizes.size(); ++t)
      tensors.push_back({x[t].data() + offset_of(t), {static_cast<std::uint32_t>(t), 0}});
    // Fewer blocks than chunks: the kernel strides over the rest.
    simt::launch(&cuda::add_gaussian_noise<float>, dim3(7), dim3(64), chunks.data(), std::ssize(chunks), tensors.data(),
                 cuda::stream_of<float>(noise, where, 2));
    CHECK(x == expected);
  });
}

TEST_CASE("what the stream does not hold is refused on the host, before a launch") {
  const counter_gaussian noise = seeded(5);
  const std::uint64_t end = (std::uint64_t{1} << 36) * 4; // of floats
  CHECK_NOTHROW(cuda::require_in_stream<float>({0, end - 200}, 200));
  CHECK_THROWS_AS(cuda::require_in_stream<float>({0, end - 199}, 200), randomness_error);
  CHECK_THROWS_AS(cuda::require_in_stream<double>({0, end / 2}, 1), randomness_error);
  CHECK_THROWS_AS(cuda::require_in_stream<float>({1u << 20, 0}, 1), randomness_error);
  CHECK_THROWS_AS(cuda::stream_of<float>(noise, {.step = std::uint64_t{1} << 40}, 1), randomness_error);
  CHECK_THROWS_AS(cuda::stream_of<float>(noise, {.lane = 1u << 24}, 1), randomness_error);
  CHECK_THROWS_AS(cuda::stream_of<float>(counter_gaussian{1.0}, {}, 1), state_error);
}
