// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Turns the return code of an MPI call into an exception.
#pragma once

#include "dpopt/core/error.hpp"

#include <mpi.h>

#include <array>
#include <cstddef>
#include <string_view>

namespace dpopt::detail {

/// @param call Name of the MPI function, for the message.
/// @throw communication_error If code is not MPI_SUCCESS, with the call's name and MPI's own text.
inline void check_mpi(int code, std::string_view call) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING + 1> text{};
  int length = 0;
  const bool known = MPI_Error_string(code, text.data(), &length) == MPI_SUCCESS;
  const std::string_view reason = known ? std::string_view(text.data(), static_cast<std::size_t>(length)) : "unknown";
  throw communication_error(message("communicator: ", call, " failed: ", reason, " (code ", code, ")"));
}

/// True between MPI_Init and MPI_Finalize.
[[nodiscard]] inline bool mpi_is_running() {
  int started = 0;
  int ended = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&ended);
  return started != 0 && ended == 0;
}

} // namespace dpopt::detail
