// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// A program that must end with a failure, and soon: the last rank throws out of the MPI part of main while the others
/// wait for it in a sum. Without mpi_environment's abort the job would hang.
#include "dpopt/mpi/mpi.hpp"
#include "dpopt/mpi/mpi_environment.hpp"

#include <exception>
#include <stdexcept>

namespace {

void train(int argc, char** argv) {
  const dpopt::mpi_environment environment(argc, argv);
  dpopt::mpi comm(MPI_COMM_WORLD);
  if (comm.rank() == comm.size() - 1) throw std::runtime_error("one rank fails alone");
  double x = 1;
  dpopt::mpi::request started = comm.start_sum(&x, 1);
  comm.wait(started);
}

} // namespace

int main(int argc, char** argv) {
  try {
    train(argc, argv);
  } catch (const std::exception&) {
    return 0; // not reached: the environment has ended the job
  }
  return 0;
}
