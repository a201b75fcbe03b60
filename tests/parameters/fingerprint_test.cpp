// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/parameters/fingerprint.hpp"

#include "support/catch.hpp"

#include <bit>
#include <cstdint>
#include <limits>
#include <set>
#include <string>

using namespace dpopt;

namespace {

enum class colour : std::uint8_t { red = 1, green = 2 };

template <class... Values>
std::uint64_t digest(const Values&... values) {
  fingerprint f;
  (f.add(values), ...);
  return f.value();
}

} // namespace

TEST_CASE("digests are the same on every platform") {
  // Computed by an independent program from the definition in the header.
  CHECK(digest() == 0xc3817c016ba4ff30u);
  CHECK(digest("clipper") == 0x7280782b4acd17e4u);
  CHECK(digest(1.5) == 0xdb0623758e184d64u);
  CHECK(digest(-3) == 0xb3c75ae8c9d6b8d9u);
  CHECK(digest("flat", 1.0, 7, true) == 0xf693c05a70b8c048u);
}

TEST_CASE("the same value gives the same digest, whatever its width") {
  CHECK(digest(5) == digest(std::uint8_t{5}));
  CHECK(digest(5) == digest(std::int64_t{5}));
  CHECK(digest(5) == digest(5u));
  CHECK(digest(-5) == digest(std::int64_t{-5}));
  CHECK(digest(true) == digest(1));
  CHECK(digest(0.1f) == digest(static_cast<double>(0.1f)));
  CHECK(digest(colour::green) == digest(2));
  CHECK(digest("text") == digest(std::string("text")));
}

TEST_CASE("different values, types, orders and borders give different digests") {
  CHECK(digest(-1) != digest(std::numeric_limits<std::uint64_t>::max()));
  CHECK(digest(1) != digest(1.0));
  CHECK(digest("1") != digest(1));
  CHECK(digest(0.0) != digest(-0.0));
  CHECK(digest(0.1) != digest(0.1f));
  CHECK(digest(1, 2) != digest(2, 1));
  CHECK(digest("ab", "c") != digest("a", "bc"));
  CHECK(digest("") != digest());
  CHECK(digest("") != digest("", ""));
  CHECK(digest(std::string("a\0b", 3)) != digest("a"));
}

TEST_CASE("all NaNs are one value") {
  const double quiet = std::numeric_limits<double>::quiet_NaN();
  const double payload = std::bit_cast<double>(0xfff8000000000123u);
  CHECK(digest(quiet) == digest(payload));
  CHECK(digest(quiet) != digest(std::numeric_limits<double>::infinity()));
}

TEST_CASE("a digest can be read midway without disturbing it") {
  fingerprint f;
  f.add("a");
  (void)f.value();
  CHECK(f.add(2).value() == digest("a", 2));
}

TEST_CASE("near values collide nowhere and differ in about half of the bits") {
  std::set<std::uint64_t> seen;
  int changed = 0;
  for (int i = 0; i < 10000; ++i) {
    seen.insert(digest(i));
    changed += std::popcount(digest(i) ^ digest(i + 1));
  }
  CHECK(seen.size() == 10000);
  // 640000 bits of probability one half have a standard deviation of 400; the inputs are fixed, so this is no lottery
  CHECK(changed > 320000 - 2400);
  CHECK(changed < 320000 + 2400);
}
