// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/communication/agreement.hpp"

#include "dpopt/communication/serial.hpp"
#include "support/catch.hpp"
#include "support/communicator_conformance.hpp"
#include "support/ranks.hpp"

#include <cstddef>
#include <span>
#include <string>
#include <vector>

using namespace dpopt;
using test::error_text;
using test::error_texts;
using test::holds;
using test::run_ranks;

namespace {

/// Counts what is sent.
struct counting_serial : serial {
  request start_sum(double* values, isize n) {
    ++sums;
    numbers += n;
    return serial::start_sum(values, n);
  }
  void broadcast(std::byte* bytes, isize n, int root) {
    ++broadcasts;
    serial::broadcast(bytes, n, root);
  }
  int sums = 0;
  int broadcasts = 0;
  isize numbers = 0;
};
static_assert(Reduces<counting_serial, double>);

} // namespace

TEST_CASE("agreement without a failure costs one sum of one double") {
  counting_serial comm;
  agree(comm, "");
  CHECK(comm.sums == 1);
  CHECK(comm.numbers == 1);
  CHECK(comm.broadcasts == 0);
}

TEST_CASE("equal configurations cost two broadcasts and one sum of one double") {
  counting_serial comm;
  require_equal(comm, std::vector<fingerprint_field>{{"clipper", 1}, {"noise", 2}});
  CHECK(comm.sums == 1);
  CHECK(comm.numbers == 1);
  CHECK(comm.broadcasts == 2);
}

TEST_CASE("on one rank an error is thrown as rank 0's") {
  serial comm;
  CHECK_THROWS_AS(agree(comm, "no gradient for layer 3"), rank_error);
  CHECK_THROWS_WITH(agree(comm, "no gradient for layer 3"), "rank 0: no gradient for layer 3 (1 of 1 ranks failed)");
}

TEST_CASE("every rank throws the lowest failing rank's text, for every set of failing ranks") {
  constexpr int w = 4;
  const auto text_of = [](int rank) { return "text of " + std::string(static_cast<std::size_t>(rank + 1), 'x'); };
  for (unsigned failing = 1; failing < 1u << w; ++failing) {
    const auto errors = run_ranks(w, [&](threads comm) {
      const bool fails = (failing >> comm.rank() & 1u) != 0;
      agree(comm, fails ? text_of(comm.rank()) : "");
    });
    int lowest = 0;
    int count = 0;
    for (int r = w - 1; r >= 0; --r)
      if ((failing >> r & 1u) != 0) {
        lowest = r;
        ++count;
      }
    for (const auto& error : errors) {
      CHECK(holds<rank_error>(error));
      CHECK(error_text(error) == message("rank ", lowest, ": ", text_of(lowest), " (", count, " of 4 ranks failed)"));
    }
  }
}

TEST_CASE("a difference is one text on all ranks, with the field's name and the ranks") {
  const auto errors = run_ranks(5, [](threads comm) {
    std::vector<fingerprint_field> fields{{"clipper", 1}, {"noise", 2}, {"shapes", 3}};
    if (comm.rank() == 1 || comm.rank() == 3) fields[0].digest = 17;
    if (comm.rank() == 4) fields.resize(1);
    require_equal(comm, fields);
  });
  for (const auto& error : errors) {
    CHECK(holds<invalid_argument>(error));
    CHECK(error_text(error) ==
          "configuration differs between ranks: clipper (ranks 1, 3 differ from rank 0), number of fields (rank 4 "
          "differs from rank 0); give all ranks the same options");
  }
}

TEST_CASE("a root without fields, or with fewer, is seen by all ranks") {
  for (const std::size_t root_fields : {std::size_t{0}, std::size_t{1}}) {
    const auto errors = run_ranks(2, [&](threads comm) {
      const std::vector<fingerprint_field> fields{{"clipper", 1}, {"noise", 2}};
      require_equal(comm, std::span(fields).first(comm.rank() == 0 ? root_fields : 2));
    });
    for (const auto& error : errors)
      CHECK(error_text(error) == "configuration differs between ranks: number of fields (rank 1 differs from rank 0); "
                                 "give all ranks the same options");
  }
}

TEST_CASE("a message names at most eight ranks") {
  std::vector<int> ranks;
  for (int r = 1; r <= 11; ++r) ranks.push_back(r);
  CHECK(detail::differing_ranks(ranks) == "ranks 1, 2, 3, 4, 5, 6, 7, 8 and 3 more differ from rank 0");
}

TEST_CASE("a rank that leaves instead of agreeing fails the others") {
  const auto errors = run_ranks(3, [](threads comm) {
    if (comm.rank() == 2) throw invalid_argument("thrown without agreement");
    agree(comm, "");
  });
  CHECK(error_text(errors[0]).find("rank 2 left") != std::string::npos);
  CHECK(error_text(errors[0]) == error_text(errors[1]));
}
