// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What kernels need of counter_gaussian: the key, the scale and where in the stream a step's numbers stand. Made and
/// checked on the host, so that no kernel has to refuse an address.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/noise_mechanism.hpp"
#include "dpopt/noise/normal_tiles.hpp"
#include "dpopt/noise/philox.hpp"
#include "dpopt/noise/stream_address.hpp"

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace dpopt::cuda {

/// Where element 0 of a tensor stands in the stream of a step: 0 of its own parameter unless the tensor is a part.
struct stream_place {
  std::uint32_t parameter;
  std::uint64_t element = 0;
};

/// One step's numbers of type R, which crosses into kernels by value. Holds the key: a secret, as counter_gaussian is.
template <std::floating_point R>
struct gaussian_stream {
  philox_key key = {};
  address where = {}; ///< purpose, lane and step
  R scale = 0;        ///< std of the noise in units of what it is added to

  [[nodiscard]] DPOPT_DEVICE philox_counter counter(std::uint32_t parameter, std::uint64_t block) const {
    address at = where;
    at.parameter = parameter;
    return dpopt::detail::packed_counter(at, block);
  }
};

static_assert(std::is_trivially_copyable_v<gaussian_stream<float>>);

/// The numbers that noise.add(where, std_in_units, R*, n) adds, parameter and element of `where` aside.
/// @throw state_error If there is no secret yet. @throw randomness_error If the step or the lane is out of range.
template <std::floating_point R>
[[nodiscard]] gaussian_stream<R> stream_of(const counter_gaussian& noise, address where, double std_in_units) {
  where.parameter = 0;
  where.element = 0;
  static_cast<void>(stream_counter(where, 0));
  return {noise.secret_.key(std::same_as<R, double> ? 0 : 1), where, static_cast<R>(std_in_units)};
}

/// Once for each tensor that is put into a table. @throw randomness_error If the parameter or one of `count` elements
/// has no numbers of type R in the stream.
template <std::floating_point R>
void require_in_stream(const stream_place& place, isize count) {
  if (count <= 0) return;
  const auto block_of = [](std::uint64_t element) {
    return element / dpopt::detail::normal_tile_size<R> * dpopt::detail::tile_blocks;
  };
  const address where{.parameter = place.parameter};
  static_cast<void>(stream_counter(where, block_of(place.element)));
  static_cast<void>(stream_counter(where, block_of(place.element + static_cast<std::uint64_t>(count - 1))));
}

} // namespace dpopt::cuda
