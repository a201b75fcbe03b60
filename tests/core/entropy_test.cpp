// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/core/entropy.hpp"

#include "support/catch.hpp"

#include <array>
#include <stdexcept>
#include <vector>

using namespace dpopt;

TEST_CASE("the operating system's bytes fill what they are asked for, and differ") {
  std::array<std::byte, 32> one{}, two{};
  draw_entropy(one, system_entropy{}, "key");
  draw_entropy(two, system_entropy{}, "key");
  CHECK(one != two); // equal with probability 2^-256
}

TEST_CASE("a failure of the operating system's generator is an error that names the cause") {
  // More than 256 bytes at once is the failure of getentropy that every machine can show.
  std::vector<std::byte> out(257, std::byte{1});
  CHECK_THROWS_AS(draw_entropy(out, system_entropy{}, "key"), randomness_error);
  CHECK_THROWS_WITH(draw_entropy(out, system_entropy{}, "key"),
                    contains_text("no key could be drawn from the operating system: getentropy: "));
  CHECK(out == std::vector<std::byte>(257));
}

TEST_CASE("a source that fails half-way, or fills nothing, leaves no bytes behind") {
  std::array<std::byte, 32> out{};
  const auto half = [](std::span<std::byte> bytes) {
    std::ranges::fill(bytes.first(bytes.size() / 2), std::byte{7});
    throw std::runtime_error("the device was unplugged");
  };
  CHECK_THROWS_WITH(draw_entropy(out, half, "seed"),
                    "no seed could be drawn from the operating system: the device was unplugged");
  CHECK(out == std::array<std::byte, 32>{});
  CHECK_THROWS_WITH(draw_entropy(
                        out, [](std::span<std::byte>) {}, "key"),
                    contains_text("all bytes are zero"));
  std::array<std::byte, 1> small{};
  CHECK_NOTHROW(draw_entropy(
      small, [](std::span<std::byte>) {}, "key")); // a byte may be zero
}
