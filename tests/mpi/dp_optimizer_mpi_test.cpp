// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// dp_optimizer under mpirun with 1 to 5 ranks: equality with one rank, faults, configurations. Every rank runs every
/// case in the same order.
#include "dpopt/mpi/mpi.hpp"

#include "support/catch.hpp"
#include "support/rank_promises.hpp"

#include <mpi.h>

using namespace dpopt;
using namespace dpopt::test;

namespace {
mpi world() { return mpi(MPI_COMM_WORLD); }
int ranks() { return world().size(); }
} // namespace

TEST_CASE("any number of processes gives what one process gives, to summation order") {
  CHECK_NOTHROW(equals_one_rank<double, running_sum<double>, as_ready>(world(), 1e-14));
  CHECK_NOTHROW(equals_one_rank<double, running_sum<double>, at_step>(world(), 1e-14));
  CHECK_NOTHROW(equals_one_rank<float, running_sum<float>, as_ready>(world(), 2e-6));
}

TEST_CASE("any number of processes gives the bits of one process on the integer grid") {
  CHECK_NOTHROW(equals_one_rank<double, integer_grid, as_ready>(world(), 0));
  CHECK_NOTHROW(equals_one_rank<double, integer_grid, at_step>(world(), 0));
}

TEST_CASE("sharded gives what replicated gives: to summation order, and the same bits on the integer grid") {
  CHECK_NOTHROW(sharded_equals_replicated<double, running_sum<double>>(world(), world(), 1e-14));
  CHECK_NOTHROW(sharded_equals_replicated<float, integer_grid>(world(), world(), 0));
}

TEST_CASE("secure_mode gives all processes the same parameters, and others in the next run") {
  CHECK_NOTHROW(secure_runs_agree_and_differ(world(), world()));
}

TEST_CASE("a fault of one process is the same error on all, and the next step works") {
  const int n = ranks();
  for (const fault how : all_faults)
    for (int spoiler = 0; spoiler<n; spoiler += n> 1 ? n - 1 : 1) { // the root and the last
      INFO(text_of(how) << " on rank " << spoiler);
      CHECK_NOTHROW(faults_are_shared<as_ready>(world(), spoiler, how));
      CHECK_NOTHROW(faults_are_shared<at_step>(world(), spoiler, how));
    }
}

TEST_CASE("a configuration that differs on one process is refused on all, by the name of the field") {
  const int n = ranks();
  for (const difference& d : all_differences)
    for (int other = 0; other<n; other += n> 1 ? n - 1 : 1) {
      INFO(d.what << " on rank " << other);
      CHECK_NOTHROW(differing_configuration_is_refused(world(), other, d));
    }
}

TEST_CASE("a bad option on one process is an error on all") {
  const int n = ranks();
  for (int bad = 0; bad < n; ++bad) CHECK_NOTHROW(bad_option_is_shared(world(), bad));
}
