// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Catch2's main (v2 or v3) for tests that run as MPI processes. Every rank runs the same session; rank 0 prints, any
/// other rank only when it failed, then at once on standard error, because the others may be waiting for it. All ranks
/// return a failure if one failed.
#if !__has_include(<catch2/catch_all.hpp>)
#define CATCH_CONFIG_RUNNER // Catch2 v2 is one header, which is told to be the library
#endif
#include "support/catch.hpp"

#include "dpopt/mpi/mpi_environment.hpp"

#include <mpi.h>

#include <algorithm>
#include <iostream>
#include <sstream>
#include <string>

namespace {

#if __has_include(<catch2/catch_all.hpp>)
using listener_base = Catch::EventListenerBase;
#else
using listener_base = Catch::TestEventListenerBase;
#endif

/// What a silent rank would have printed.
std::ostringstream& withheld() {
  static std::ostringstream text;
  return text;
}

void print_withheld() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (withheld().str().empty()) return;
  std::cerr << "---- rank " << rank << " ----\n" << withheld().str() << std::flush;
  withheld().str({});
}

class failure_listener : public listener_base {
public:
  using listener_base::listener_base;
  void testCaseEnded(const Catch::TestCaseStats& ended) override {
    if (!ended.totals.assertions.allOk()) print_withheld();
  }
};
CATCH_REGISTER_LISTENER(failure_listener)

int run_session(int argc, char** argv) {
  Catch::Session session;
  const int wrong_arguments = session.applyCommandLine(argc, argv);
  return wrong_arguments != 0 ? wrong_arguments : session.run();
}

} // namespace

int main(int argc, char** argv) {
  const dpopt::mpi_environment environment(argc, argv);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);

  std::streambuf* const screen = std::cout.rdbuf();
  if (rank != 0) std::cout.rdbuf(withheld().rdbuf());
  const int own = run_session(argc, argv);
  std::cout.rdbuf(screen);
  if (rank != 0 && own != 0) print_withheld();

  const int own_failure = std::clamp(own, 0, 255);
  int worst = 0;
  MPI_Allreduce(&own_failure, &worst, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  return worst;
}
