// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include "dpopt/checkpoint/record.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

using namespace dpopt;

namespace {
std::vector<std::byte> small_record() {
  record_writer out;
  out.add("text", std::string_view("abc"));
  out.add("number", std::uint64_t{77});
  out.add("empty", std::span<const std::byte>{});
  return out.finish();
}
} // namespace

TEST_CASE("A record gives back its fields, also empty ones") {
  const auto bytes = small_record();
  const record_reader in(bytes);
  CHECK(in.text("text") == "abc");
  CHECK(in.number<std::uint64_t>("number") == 77);
  CHECK(in.bytes("empty").empty());
  CHECK(in.holds("text"));
  CHECK_FALSE(in.holds("other"));
  CHECK_THROWS_WITH(in.bytes("other"), contains_text("no field 'other'"));
  CHECK_THROWS_WITH(in.number<std::uint32_t>("number"), contains_text("holds 8 bytes where this run has 4"));
}

TEST_CASE("Every damaged bit and every cut of a record is refused") {
  const auto whole = small_record();
  for (std::size_t at = 0; at < whole.size(); ++at) {
    auto bytes = whole;
    bytes[at] ^= std::byte{0x10};
    CHECK_THROWS_AS(record_reader(bytes), invalid_argument);
    CHECK_THROWS_AS(record_reader(std::span(whole).first(at)), invalid_argument);
  }
}

TEST_CASE("A record of another version or of something else is refused by name") {
  auto bytes = small_record();
  bytes[16] = std::byte{2};
  CHECK_THROWS_WITH(record_reader(bytes), contains_text("format has version 2, this library reads version 1"));
  const std::vector<std::byte> other(100, std::byte{'x'});
  CHECK_THROWS_WITH(record_reader(other), contains_text("no checkpoint of this library"));
}
