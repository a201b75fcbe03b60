// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/normal_tiles.hpp"

#include "support/catch.hpp"

#include <cstring>
#include <vector>

using dpopt::philox_counter;
using dpopt::philox_key;
using dpopt::vector_level;
using namespace dpopt::detail;

namespace {

constexpr philox_key key{0x243F6A88u, 0x85A308D3u};

template <class V>
std::vector<V> drawn(vector_level level, philox_counter counter, V scale, std::size_t tiles) {
  std::vector<V> x(tiles * normal_tile_size<V>, V(0.5));
  add_normal_tiles(level, counter, key, scale, x.data(), tiles);
  return x;
}

/// One element at a time: the block of its counter, and the pair of numbers in it that the element is one of.
DPOPT_NO_CONTRACT float alone(philox_counter counter, std::size_t e, float /*type*/) {
  const std::size_t pair = e % 128 / 64;
  counter[0] += static_cast<std::uint32_t>(e / 128 * tile_blocks + e % 32);
  const auto word = dpopt::philox4x32_10(counter, key);
  float out[2];
  box_muller<1>({word[pair]}, {word[pair + 2]}, out);
  return out[e % 64 / 32];
}

DPOPT_NO_CONTRACT double alone(philox_counter counter, std::size_t e, double /*type*/) {
  counter[0] += static_cast<std::uint32_t>(e / 64 * tile_blocks + e % 32);
  const auto word = dpopt::philox4x32_10(counter, key);
  double out[2];
  box_muller<1>({word[0]}, {word[1]}, {word[2]}, {word[3]}, out);
  return out[e % 64 / 32];
}

/// In two roundings, whatever the processor has.
template <class V>
DPOPT_NO_CONTRACT V added(V x, V scale, V normal) {
  DPOPT_NO_CONTRACT_BLOCK
  return x + scale * normal;
}

TEMPLATE_TEST_CASE("every vector level of this machine gives the bits of one element at a time", "", float, double) {
  constexpr std::size_t tiles = 300;
  constexpr philox_counter first{64, 5, 6, 7};
  const TestType scale = TestType(1.7);
  int levels = 0;
  for (const vector_level level : {vector_level::plain, vector_level::avx2, vector_level::avx512}) {
    if (!dpopt::runs_here(level)) continue;
    const std::vector<TestType> x = drawn(level, first, scale, tiles);
    std::size_t same = 0;
    for (std::size_t e = 0; e < x.size(); ++e) {
      const TestType expected = added(TestType(0.5), scale, alone(first, e, TestType{}));
      same += std::memcmp(&x[e], &expected, sizeof expected) == 0 ? 1u : 0u;
    }
    INFO("level " << static_cast<int>(level));
    CHECK(same == x.size());
    ++levels;
  }
  CHECK(levels >= 1);
}

TEST_CASE("the level that is chosen runs on this machine, and no better one does") {
  CHECK(dpopt::runs_here(vector_level::plain));
  CHECK(dpopt::runs_here(dpopt::best_vector_level()));
  for (const vector_level level : {vector_level::avx2, vector_level::avx512})
    if (level > dpopt::best_vector_level()) CHECK_FALSE(dpopt::runs_here(level));
}

TEMPLATE_TEST_CASE("the counter ends behind the last tile, with its carry", "", float, double) {
  philox_counter counter{0xFFFFFFE0u, 3, 0, 0};
  std::vector<TestType> x(2 * normal_tile_size<TestType>);
  add_normal_tiles(dpopt::best_vector_level(), counter, key, TestType(1), x.data(), 2);
  CHECK(counter == philox_counter{32, 4, 0, 0});
}

} // namespace
