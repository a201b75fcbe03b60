// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The work list of a launch over many tensors: each cut into chunks of the same size, all in one table that is built
/// once and copied to the device once. Hundreds of small parameters then cost one launch and no host work a step.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace dpopt::cuda {

/// Elements [first, first + count) of a tensor; one block of threads works on it.
struct tensor_chunk {
  isize first;
  std::int32_t count;
  std::uint32_t tensor; ///< position in the table of tensors that a kernel is given
};

/// Elements of a full chunk: four rounds of a block that takes four a thread. Smaller ones make the table longer,
/// larger ones leave multiprocessors idle on models of a few million elements.
inline constexpr isize chunk_elements = 4096;

/// Appends the chunks of elements [first, first + count). Cuts are where they are for the whole tensor, so that parts
/// of one tensor share no chunk's alignment by accident.
/// @throw invalid_argument for a negative number, or a range that ends beyond 64 bits.
inline void append_chunks(std::vector<tensor_chunk>& out, std::uint32_t tensor, isize first, isize count) {
  if (first < 0 || count < 0 || count > std::numeric_limits<isize>::max() - first)
    throw invalid_argument(message("tensor_chunks: tensor ", tensor, " has the range ", first, " + ", count,
                                   "; give a first element and a count of 0 or more"));
  const isize end = first + count;
  while (first < end) {
    const isize now = std::min(chunk_elements - first % chunk_elements, end - first);
    out.push_back({first, static_cast<std::int32_t>(now), tensor});
    first += now;
  }
}

/// The chunks of whole tensors of these sizes, in their order. Empty tensors have none.
/// @throw invalid_argument for a negative size or more than 2^32 tensors.
[[nodiscard]] inline std::vector<tensor_chunk> tensor_chunks(std::span<const isize> sizes) {
  if (sizes.size() > std::numeric_limits<std::uint32_t>::max())
    throw invalid_argument(message("tensor_chunks: ", sizes.size(), " tensors are more than 2^32"));
  std::vector<tensor_chunk> out;
  for (std::size_t t = 0; t < sizes.size(); ++t) append_chunks(out, static_cast<std::uint32_t>(t), 0, sizes[t]);
  return out;
}

static_assert(sizeof(tensor_chunk) == 16);

} // namespace dpopt::cuda
