// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/communication/failure.hpp"

#include "dpopt/communication/serial.hpp"
#include "support/catch.hpp"
#include "support/ranks.hpp"

#include <stdexcept>
#include <string>

using namespace dpopt;
using namespace dpopt::test;

TEST_CASE("without a failure nothing is raised") {
  failure f;
  serial alone;
  int runs = 0;
  f.record([&] { ++runs; });
  CHECK(runs == 1);
  CHECK_FALSE(static_cast<bool>(f));
  CHECK_NOTHROW(f.raise_together(alone));
  CHECK_NOTHROW(f.raise());
}

TEST_CASE("on one rank the exception itself is raised, once") {
  failure f;
  serial alone;
  f.record([] { throw std::out_of_range("the trainer's own"); });
  CHECK(static_cast<bool>(f));
  CHECK_THROWS_AS(f.raise_together(alone), std::out_of_range);
  CHECK_FALSE(static_cast<bool>(f));
  CHECK_NOTHROW(f.raise_together(alone));
}

TEST_CASE("the first failure is kept, and nothing runs after it") {
  failure f;
  int runs = 0;
  f.record([] { throw state_error("first"); });
  f.record([&] { ++runs; });
  f.record([] { throw state_error("second"); });
  CHECK(runs == 0);
  CHECK_THROWS_WITH(f.raise(), "first");
  f.record([&] { ++runs; });
  CHECK(runs == 1);
}

TEST_CASE("all ranks throw the failing rank's text, and none keeps it") {
  for (const int failing : {0, 2}) {
    const auto errors = run_ranks(3, [&](threads comm) {
      failure f;
      if (comm.rank() == failing) f.record([] { throw invalid_argument("layer1 holds 3 samples"); });
      try {
        f.raise_together(comm);
      } catch (...) {
        f.raise_together(comm); // does not throw again
        throw;
      }
    });
    for (const auto& e : errors) {
      CHECK(holds<rank_error>(e));
      CHECK(error_text(e) == "rank " + std::to_string(failing) + ": layer1 holds 3 samples (1 of 3 ranks failed)");
    }
  }
}

TEST_CASE("exceptions without a text are failures all the same") {
  for (const bool empty_text : {true, false}) {
    const auto errors = run_ranks(2, [&](threads comm) {
      failure f;
      if (comm.rank() == 1)
        f.record([&] {
          if (empty_text) throw std::runtime_error("");
          throw 42;
        });
      f.raise_together(comm);
    });
    for (const auto& e : errors)
      CHECK(error_text(e) == (empty_text ? "rank 1: an exception without a text (1 of 2 ranks failed)"
                                         : "rank 1: an exception that is not a std::exception (1 of 2 ranks failed)"));
  }
}
