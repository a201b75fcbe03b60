// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// MPI_Init and MPI_Finalize as a scope.
///
/// An exception that leaves main on one rank must not leave the others waiting: when the environment is destroyed by
/// stack unwinding it ends the whole job with MPI_Abort. Catch inside the scope to print the reason first:
/// @code
/// int main(int argc, char** argv) {
///   dpopt::mpi_environment environment(argc, argv);
///   try { train(); } catch (const std::exception& e) { std::cerr << e.what() << '\n'; environment.abort(); }
/// }
/// @endcode
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/mpi/check.hpp"

#include <mpi.h>

#include <cstdio>
#include <cstdlib>
#include <exception>

namespace dpopt {

/// Make one in main, before everything that uses MPI. Where MPI is already running it starts and ends nothing.
class mpi_environment {
public:
  /// Collective over all processes of the job.
  /// @param thread_level What MPI must support; the library itself calls MPI from the thread that calls the library.
  /// @throw communication_error If MPI was finalized before, or supports less than thread_level.
  mpi_environment(int& argc, char**& argv, int thread_level = MPI_THREAD_FUNNELED)
      : unwinding_(std::uncaught_exceptions()) {
    int provided = MPI_THREAD_SINGLE;
    if (detail::mpi_is_running()) {
      detail::check_mpi(MPI_Query_thread(&provided), "MPI_Query_thread");
    } else {
      int ended = 0;
      MPI_Finalized(&ended);
      if (ended != 0) throw communication_error("communicator: MPI was finalized and cannot start twice in a process");
      detail::check_mpi(MPI_Init_thread(&argc, &argv, thread_level, &provided), "MPI_Init_thread");
      owner_ = true;
    }
    if (provided < thread_level)
      throw communication_error(message("communicator: this MPI supports thread level ", provided, ", not ",
                                        thread_level, "; use another MPI or call it from one thread"));
  }
  mpi_environment(const mpi_environment&) = delete;
  mpi_environment& operator=(const mpi_environment&) = delete;

  /// Ends MPI, if this object started it; during stack unwinding it ends the job instead.
  ~mpi_environment() {
    if (!detail::mpi_is_running()) return;
    if (std::uncaught_exceptions() > unwinding_) {
      int rank = -1;
      MPI_Comm_rank(MPI_COMM_WORLD, &rank);
      std::fprintf(stderr, "dpopt: an exception left the MPI part of rank %d; the job is aborted\n", rank);
      abort();
    }
    if (owner_) MPI_Finalize();
  }

  /// Ends all processes of the job, now.
  [[noreturn]] void abort(int exit_code = 1) const noexcept {
    std::fflush(nullptr); // MPI_Abort keeps nothing that is still in a buffer
    MPI_Abort(MPI_COMM_WORLD, exit_code);
    std::abort(); // MPI_Abort does not return, but does not say so
  }

private:
  int unwinding_;
  bool owner_ = false;
};

} // namespace dpopt
