// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include "dpopt/checkpoint/file.hpp"
#include "dpopt/checkpoint/ledger.hpp"
#include "dpopt/checkpoint/ledgered.hpp"
#include "support/temporary_file.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <vector>

using namespace dpopt;
using dpopt::test::temporary_file;

namespace {
const gaussian_event odd{0.1, 1.0 / 3, 3, neighbouring::replace_one, noise_kind::discrete_gaussian};
const gaussian_event plain{1.5};

std::string contents(const std::string& path) {
  const auto bytes = read_file(path);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
std::ptrdiff_t lines_of(const std::string& path) {
  const std::string text = contents(path);
  return std::count(text.begin(), text.end(), '\n');
}
void put(const std::string& path, const std::string& text) { write_file(path, std::as_bytes(std::span(text))); }
} // namespace

TEST_CASE("A file is written whole, replaced whole, and errors name it") {
  const temporary_file file;
  put(file.path, "one");
  put(file.path, "two, longer");
  CHECK(contents(file.path) == "two, longer");
  CHECK_THROWS_WITH(put(file.path + "/inside", "x"), contains_text(file.path));
  CHECK_THROWS_WITH(read_file(file.path + ".none"), contains_text(".none"));
  CHECK(contents(file.path) == "two, longer");
}

TEST_CASE("A file that holds secrets is its owner's alone, and a failure leaves nothing of it behind") {
  namespace fs = std::filesystem;
  const temporary_file file;
  const std::string unfinished = file.path + ".unfinished";
  std::ofstream(unfinished) << "left by a run that died, for all to read";
  fs::permissions(unfinished, fs::perms(0666));
  put(file.path, "secret");
  CHECK(contents(file.path) == "secret");
  CHECK(fs::status(file.path).permissions() == fs::perms(0600));
  CHECK_FALSE(fs::exists(unfinished));

  fs::remove(file.path);
  fs::create_directories(file.path + "/not empty");
  CHECK_THROWS_WITH(put(file.path, "secret"), contains_text(file.path) && contains_text("rename"));
  CHECK_FALSE(fs::exists(unfinished));
  CHECK_THROWS_AS(read_file(file.path), state_error); // a directory
  fs::remove_all(file.path);
}

TEST_CASE("Releases of a kind or relation that a later version wrote are refused, not charged as something else") {
  for (const bool kind : {false, true}) {
    const temporary_file file;
    gaussian_event strange = plain;
    if (kind) strange.kind = static_cast<noise_kind>(7);
    else strange.relation = static_cast<neighbouring>(7);
    CHECK_THROWS_WITH(strange.validate(), contains_text("7 is unknown to this library"));
    ledger(file.path).release(strange);
    ledgered again(file.path);
    const auto past = again.open();
    CHECK_THROWS_AS(again.adopt(past), invalid_argument);
  }
}

TEST_CASE("A ledger gives back exactly what was released, run after run") {
  const temporary_file file;
  {
    ledger book(file.path);
    CHECK(book.releases().empty());
    book.release(odd);
  }
  std::uint64_t position = 0;
  {
    ledger book(file.path);
    REQUIRE(book.releases().size() == 1);
    CHECK(book.releases()[0].noise_multiplier == odd.noise_multiplier);
    CHECK(book.releases()[0].sampling_rate == odd.sampling_rate);
    CHECK(book.releases()[0].count == 3);
    CHECK(book.releases()[0].relation == neighbouring::replace_one);
    CHECK(book.releases()[0].kind == noise_kind::discrete_gaussian);
    const auto before = book.position();
    book.release(plain);
    CHECK(book.position() != before);
    const auto released = book.position();
    book.resumed();
    CHECK(book.position() != released);
    position = book.position();
  }
  const ledger book(file.path);
  CHECK(book.position() == position);
  CHECK(book.releases().size() == 2);
}

TEST_CASE("A line cut off by a crash is dropped; every other change of a ledger is refused") {
  const temporary_file file;
  {
    ledger book(file.path);
    book.release(odd);
    book.release(plain);
  }
  const std::string whole = contents(file.path);
  put(file.path, whole + "release 0x1p+0 0x1");
  CHECK(ledger(file.path).releases().size() == 2);
  CHECK(contents(file.path) == whole);

  auto changed = whole;
  changed.replace(changed.find(" 3 "), 3, " 1 "); // fewer releases than were made
  put(file.path, changed);
  CHECK_THROWS_WITH(ledger(file.path), contains_text("damaged"));
  const auto second = whole.find('\n', whole.find('\n') + 1) + 1; // without the first release
  put(file.path, whole.substr(0, whole.find('\n') + 1) + whole.substr(second));
  CHECK_THROWS_WITH(ledger(file.path), contains_text("damaged"));
  put(file.path, "another file\n");
  CHECK_THROWS_WITH(ledger(file.path), contains_text("damaged"));
}

TEST_CASE("One run at a time holds a ledger") {
  const temporary_file file;
  const ledger book(file.path);
  CHECK_THROWS_WITH(ledger(file.path), contains_text("in use by another run"));
}

TEST_CASE("A ledgered accountant counts earlier runs and writes before it counts") {
  const temporary_file file;
  {
    ledgered accountant(file.path);
    accountant.validate();
    CHECK(accountant.open().empty());
    accountant.record(plain);
    CHECK(lines_of(file.path) == 2);
    CHECK_THROWS_AS(accountant.record(gaussian_event{-1}), invalid_argument);
    CHECK(lines_of(file.path) == 2);
  }
  ledgered accountant(file.path);
  accountant.adopt(accountant.open());
  accountant.record(plain);
  rdp_accountant both;
  both.record(plain);
  both.record(plain);
  CHECK(accountant.epsilon(1e-5) == both.epsilon(1e-5));
  CHECK_THROWS_WITH(ledgered(std::string()).validate(), contains_text("path is empty"));
}
