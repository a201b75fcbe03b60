// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// Runs under mpirun with any number of ranks (support/mpi_main.cpp). Every rank runs every case in the same order.
#include "dpopt/mpi/mpi.hpp"

#include "support/catch.hpp"
#include "support/communicator_conformance.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;

TEST_CASE("mpi keeps every promise of a communicator") {
  CHECK_NOTHROW(test::keeps_every_promise(mpi(MPI_COMM_WORLD)));
}

TEST_CASE("mpi keeps every promise when a buffer takes several MPI calls") {
  CHECK_NOTHROW(test::keeps_every_promise(mpi(MPI_COMM_WORLD, 999)));
}

TEST_CASE("mpi has the ranks of its parent, in the parent's order") {
  int rank = -1;
  int size = -1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const mpi comm(MPI_COMM_WORLD);
  CHECK(comm.rank() == rank);
  CHECK(comm.size() == size);

  MPI_Comm backwards = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, 0, -rank, &backwards);
  const mpi reversed(backwards);
  MPI_Comm_free(&backwards); // the duplicate is independent of its parent
  CHECK(reversed.rank() == size - 1 - rank);
}

TEST_CASE("two communicators do not meet") {
  mpi a(MPI_COMM_WORLD);
  mpi b(MPI_COMM_WORLD);
  double x = 1;
  double y = 10;
  mpi::request of_a;
  mpi::request of_b;
  if (a.rank() % 2 == 0) { // MPI allows another order only on another communicator
    of_a = a.start_sum(&x, 1);
    of_b = b.start_sum(&y, 1);
  } else {
    of_b = b.start_sum(&y, 1);
    of_a = a.start_sum(&x, 1);
  }
  b.wait(of_b);
  a.wait(of_a);
  CHECK(x == a.size());
  CHECK(y == 10 * a.size());
}

TEST_CASE("ranks that cut their messages differently are told so, all of them") {
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const auto make = [&] { mpi(MPI_COMM_WORLD, rank == size - 1 ? 999 : 1000); };
  if (size == 1) CHECK_NOTHROW(make());
  else
    CHECK_THROWS_WITH(make(), "communicator: largest_call is 999 on one rank and 1000 on another; give all ranks "
                              "the same");
  CHECK(mpi(MPI_COMM_WORLD).size() == size); // and the next one works
}

TEST_CASE("a communicator of one rank works") {
  double x = 0.1;
  mpi self(MPI_COMM_SELF);
  mpi::request started = self.start_sum(&x, 1);
  self.wait(started);
  CHECK(x == 0.1);
}

TEST_CASE("an MPI error becomes a communication_error with the call's name and MPI's text") {
  CHECK_NOTHROW(detail::check_mpi(MPI_SUCCESS, "MPI_Wait"));
  const std::string text =
      test::thrown_text<communication_error>([] { detail::check_mpi(MPI_ERR_COUNT, "MPI_Iallreduce"); });
  CHECK(text.find("MPI_Iallreduce failed: ") != std::string::npos);
  std::array<char, MPI_MAX_ERROR_STRING + 1> own{}; // libraries word it differently
  int length = 0;
  REQUIRE(MPI_Error_string(MPI_ERR_COUNT, own.data(), &length) == MPI_SUCCESS);
  CHECK(text.find(own.data()) != std::string::npos);
}

TEST_CASE("what is no intra-communicator is refused") {
  CHECK_THROWS_AS(mpi(MPI_COMM_NULL), invalid_argument);
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (size < 2) return; // an inter-communicator needs two groups
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm half = MPI_COMM_NULL;
  MPI_Comm between = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, rank == 0 ? 0 : 1, rank, &half);
  MPI_Intercomm_create(half, 0, MPI_COMM_WORLD, rank == 0 ? 1 : 0, 0, &between);
  CHECK_THROWS_AS(mpi(between), invalid_argument);
  MPI_Comm_free(&between);
  MPI_Comm_free(&half);
}
