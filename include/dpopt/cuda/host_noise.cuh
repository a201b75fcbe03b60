// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Exact discrete noise for sums on the device: the host draws it, with the sampler and the cipher of the CPU, and the
/// device adds it to the integers. What comes out has the bits of noise.add() on the sums themselves.
///
/// Order in a step: draw() while the device still works on gradients; add() once the step is certain. draw() waits for
/// the copy of the step before and for nothing else; add() does not wait. Draws are spread over threads where the
/// program is compiled with OpenMP.
///
/// Memory: 8 bytes an element of page-locked host memory, and a buffer of at most 8 MiB on the device, which is zeroed
/// behind the last piece: the noise of a release is as secret as its sums.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/parallel.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/cuda/add_integers.cuh"
#include "dpopt/cuda/device_vector.hpp"
#include "dpopt/cuda/device_work.hpp"
#include "dpopt/cuda/tensor_chunks.hpp"
#include "dpopt/noise/noise_mechanism.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace dpopt::cuda {

/// For one list of parameters, whose sums lie in one array of `total` numbers.
template <class N, DeviceApi D>
  requires DiscreteNoise<N> && AddressableNoise<N> && NoiseMechanism<N, std::int64_t>
class host_noise {
public:
  /// @param places of the parameters in the sums; @param piece elements that are copied and added at a time. Allocates
  /// everything. @throw device_error, invalid_argument.
  void bind(device_work<D>& on, std::span<const samples> places, isize total, isize piece = isize{1} << 20) {
    places_.assign(places.begin(), places.end());
    chunks_.clear();
    for (std::size_t p = 0; p < places_.size(); ++p)
      append_chunks(chunks_, static_cast<std::uint32_t>(p), 0, places_[p].count);
    drawn_ = pinned_vector<std::int64_t, D>(on.device(), total, "allocate noise");
    buffer_ = device_vector<std::int64_t, D>(on.device(), std::min(total, piece), "allocate noise buffer");
    copied_.emplace(on.device().make_event("make noise event"));
    std::ranges::fill(drawn_.numbers(), 0); // what lies between parameters
  }

  /// Draws the noise of a step, for one add(). WAITS for the copy of the noise drawn before, if that was added.
  /// @param where purpose, lane and step; @param std_in_units of the integers, 0 for none.
  /// @throw What noise.add() throws; then there is nothing to add.
  void draw(device_work<D>& on, const N& noise, const address& where, double std_in_units) {
    ready_ = false;
    if (std::exchange(copying_, false)) on.device().wait(*copied_, "wait for noise");
    parallel_pieces(std::ssize(chunks_), [&](isize k) {
      const tensor_chunk& c = chunks_[static_cast<std::size_t>(k)];
      std::int64_t* const to = drawn_.data() + places_[c.tensor].first + c.first;
      std::fill_n(to, c.count, 0);
      address here = where;
      here.parameter = c.tensor;
      here.element = static_cast<std::uint64_t>(c.first);
      if (std_in_units > 0) noise.add(here, std_in_units, to, c.count);
    });
    ready_ = true;
  }

  /// sums[i] += what was drawn, in the order of the stream; once, since noise that is used twice protects nobody.
  /// @throw state_error without a draw() of its own, device_error.
  void add(device_work<D>& on, std::int64_t* sums) {
    if (!std::exchange(ready_, false))
      throw state_error("host_noise: no noise was drawn since the last add(); call draw() once a step");
    const isize total = drawn_.size();
    for (isize first = 0; first < total; first += buffer_.size()) { // one stream: a piece follows the last one's sum
      const isize count = std::min(buffer_.size(), total - first);
      on.copy(buffer_.data(), drawn_.data() + first, bytes(count), copy_direction::to_device, "copy noise");
      on.device().record(*copied_, on.stream(), "record noise");
      copying_ = true;
      on.launch("add_integers", add_integers_shape(count), &add_integers<std::int64_t>, sums + first, buffer_.data(),
                count);
    }
    if (total > 0) on.zero(buffer_.data(), bytes(buffer_.size()), "zero noise buffer");
  }

private:
  static constexpr std::size_t bytes(isize n) { return static_cast<std::size_t>(n) * sizeof(std::int64_t); }

  std::vector<samples> places_;
  std::vector<tensor_chunk> chunks_;        // of the draws
  pinned_vector<std::int64_t, D> drawn_;    // the whole model: sampling never waits for a copy of its own step
  device_vector<std::int64_t, D> buffer_;   // one piece
  std::optional<typename D::event> copied_; // behind the last piece
  bool copying_ = false;
  bool ready_ = false; // drawn and not yet added
};

} // namespace dpopt::cuda
