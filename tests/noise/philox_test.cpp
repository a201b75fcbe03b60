// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/philox.hpp"

#include "support/catch.hpp"

using dpopt::philox4x32_10;
using dpopt::philox_batch;
using dpopt::philox_counter;
using dpopt::philox_key;

namespace {

using block = std::array<std::uint32_t, 4>;

// The known answers that Random123 publishes for philox4x32 with 10 rounds; the first is computed by the compiler.
TEST_CASE("philox4x32_10 gives Random123's known answers") {
  constexpr block zeros = philox4x32_10({0, 0, 0, 0}, {0, 0});
  CHECK(zeros == block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox4x32_10({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
        block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

template <std::size_t Blocks>
void check_batch(const philox_counter& first, const philox_key& key) {
  philox_batch<Blocks> batch;
  philox4x32_10(first, key, batch);
  for (std::size_t i = 0; i < Blocks; ++i) {
    const block alone = philox4x32_10({first[0] + static_cast<std::uint32_t>(i), first[1], first[2], first[3]}, key);
    for (std::size_t w = 0; w < 4; ++w) CHECK(batch.word[w][i] == alone[w]);
  }
}

TEST_CASE("a batch of philox blocks equals its blocks drawn alone") {
  const philox_counter first{0xfffffe00, 0x85a308d3, 0x13198a2e, 0x03707344};
  const philox_key key{0xa4093822, 0x299f31d0};
  check_batch<1>(first, key);
  check_batch<7>(first, key);
  check_batch<16>(first, key);
  check_batch<32>(first, key);
}

} // namespace
