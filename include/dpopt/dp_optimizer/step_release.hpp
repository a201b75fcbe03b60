// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// From the reduced sum of one step to released gradients and updated parameters, tile by tile.
#pragma once

#include "dpopt/communication/failure.hpp"
#include "dpopt/communication/shards.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/dp_optimizer/reduction.hpp"
#include "dpopt/dp_optimizer/release.hpp"
#include "dpopt/dp_optimizer/spoil.hpp"
#include "dpopt/dp_optimizer/step_noise.hpp"
#include "dpopt/dp_optimizer/update_memory.hpp"
#include "dpopt/optimizers/released_sum.hpp"
#include "dpopt/parameters/parameter_set.hpp"

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace dpopt {

/// What turns numbers of the sum into numbers of the release; they are left at zero, so each can be released once.
template <std::floating_point T, class Sum, class Noise>
struct step_release {
  const parameter_set<T>& parameters;
  const bucket_plan& plan;
  Sum* sums; ///< of all parameters, as the plan says
  Noise& noise;
  std::uint64_t step; ///< number of the noise
  std::uint32_t lane;
  release_constants constants;

  /// Elements [first, first + count) of parameter p; count <= release_tile_elements.
  void tile(isize p, isize first, isize count, T* out) const {
    release_tile(sums + plan.offset(p) + first, count, detail::gradient_address(step, p, first, lane), constants, noise,
                 out);
  }
  /// f(first, count) for the tiles of parameter p.
  template <class F>
  void for_each_tile(isize p, const F& f) const {
    for_each_release_tile<Noise, Sum>(parameters[p].size(), f);
  }

  /// Every gradient to where the memory says.
  template <class Memory>
  void write_gradients(Memory& memory) const {
    for (isize p = 0; p < parameters.count(); ++p) {
      T* const g = memory.gradient(p).data();
      for_each_tile(p, [&](isize first, isize count) { tile(p, first, count, g + first); });
    }
  }

  /// ONE pass over the parameters: noise, scale and update on a tile that stays in L1. A gradient that the user has no
  /// array for is not stored. @param of_base the base optimizer's constants of the step.
  template <class Memory, class Constants>
  void update(Memory& memory, const Constants& of_base) const {
    for (isize p = 0; p < parameters.count(); ++p)
      for_each_tile(p, [&](isize first, isize count) {
        const auto& entry = parameters[p];
        T* const x = entry.value.data() + first;
        const auto slots = memory.tile(p, first);
        if constexpr (std::same_as<Sum, T> && TakesReleasedSum<Constants, T, decltype(memory.tile(p, first))>) {
          if (entry.gradient.empty())
            return release_into_update(sums + plan.offset(p) + first, count,
                                       detail::gradient_address(step, p, first, lane), constants, noise, of_base, x,
                                       slots);
        }
        alignas(64) std::array<T, release_tile_elements> room;
        T* const g = entry.gradient.empty() ? room.data() : entry.gradient.data() + first;
        tile(p, first, count, g);
        of_base.update(x, g, slots, count);
      });
  }

  /// COLLECTIVE. This rank releases what it owns of every bucket and sends it to the others. A rank whose noise fails
  /// sends NaN, and all ranks throw.
  template <class Memory, class Communicator>
  void gather_gradients(Memory& memory, reduction<Communicator, true>& messages, Communicator& communicator,
                        failure& recorder) const {
    T* const own = memory.own_gradients().data();
    for (isize k = 0; k < std::ssize(plan.buckets()); ++k) {
      recorder.record([&] {
        for_each_owned(plan, messages.shards(), k, [&](isize p, isize first, isize count) {
          T* const out = own + plan.offset(p);
          for (isize at = first; at < first + count; at += release_tile_elements)
            tile(p, at, std::min(release_tile_elements, first + count - at), out + at);
        });
      });
      const auto [first, size] = messages.shards().own(k);
      if (recorder) spoil(std::span(own + first, static_cast<std::size_t>(size)));
      messages.start_gather(communicator, k, own + plan.buckets()[static_cast<std::size_t>(k)].first);
    }
    messages.wait(communicator);
    recorder.raise_together(communicator);
    for (isize p = 0; p < parameters.count(); ++p)
      if (T* const to = memory.gradient(p).data(); to != own + plan.offset(p))
        std::copy_n(own + plan.offset(p), parameters[p].size(), to);
  }
};

} // namespace dpopt
