// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The two halves of a release, for a trainer who wants the gradient in between: noise and scale into the gradients,
/// then the base optimizer from them. Bits are those of the fused step.
///
/// Both halves are release_once. In the second the gradients stand where sums do, without noise and divided by 1; it
/// reads them before it writes them back. Memory in bytes an element beside the fused step's: the gradient is written
/// once and read and written once more, 12 in float.
///
/// Nothing is built or allocated before make() is called for the first time.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/cuda/device_table.hpp"
#include "dpopt/cuda/device_vector.hpp"
#include "dpopt/cuda/device_work.hpp"
#include "dpopt/cuda/element_updates.hpp"
#include "dpopt/cuda/release_once.cuh"
#include "dpopt/cuda/release_terms.hpp"
#include "dpopt/cuda/tensor_chunks.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dpopt::cuda {

/// Sums of type V, values and gradients of type T.
template <std::floating_point T, class V, ElementUpdate Update, DeviceApi D>
class unfused_release {
public:
  static constexpr std::size_t slots = Update::slots;

  /// Room for the gradients that `fused` has none for, and the tables. The first call WAITS for the device; later ones
  /// do nothing. @param places of the parameters in the sums, which are `total` numbers. @throw device_error.
  void make(device_work<D>& on, std::span<const release_tensor<V, T, slots>> fused, std::span<const samples> places,
            isize total) {
    if (made_) return;
    bool all_given = true;
    for (std::size_t p = 0; p < fused.size(); ++p) all_given = all_given && (fused[p].gradient || places[p].count == 0);
    if (!all_given) {
      own_ = device_vector<T, D>(on.device(), total, "allocate gradients");
      on.zero(own_.data(), static_cast<std::size_t>(total) * sizeof(T), "zero gradients");
    }
    gradients_.clear();
    std::vector<release_tensor<V, T, 0>> written;
    std::vector<release_tensor<T, T, slots>> read;
    for (std::size_t p = 0; p < fused.size(); ++p) {
      const auto& t = fused[p];
      T* const g = t.gradient || all_given ? t.gradient : own_.data() + places[p].first;
      gradients_.push_back(g);
      written.push_back({.sum = t.sum, .value = nullptr, .gradient = g, .slots = {}, .place = t.place});
      read.push_back({.sum = g, .value = t.value, .gradient = g, .slots = t.slots, .place = t.place});
    }
    upload_table(on, written, written_, "copy table of gradients");
    upload_table(on, read, read_, "copy table of updates");
    update_permit_ = device_vector<release_permit, D>(on.device(), 1, "allocate permit");
    on.zero(update_permit_.data(), sizeof(release_permit), "zero permit");
    made_ = true;
  }

  /// Where p's released gradient is, in device memory. After make().
  [[nodiscard]] T* gradient(isize p) noexcept { return gradients_[static_cast<std::size_t>(p)]; }

  /// Noise once, scale once, into the gradients; leaves the sums at zero. `permit` is the fused step's: a step is
  /// released by one of the two.
  void write(device_work<D>& on, release_permit* permit, std::uint64_t step, const tensor_chunk* chunks,
             isize chunk_count, const release_terms<V>& terms) {
    on.launch("permit_release", launch_shape{1, warp_size}, &permit_release<release_permit>, permit, step);
    on.launch("release_once, gradients", chunk_shape(chunk_count), &release_once<V, T, no_update<T>>, permit, chunks,
              chunk_count, written_.data(), terms, no_update<T>{});
  }

  /// The base optimizer from the gradients, once a step, also when a graph that holds it is launched again; then the
  /// gradients are set to zero. @param step of the release, so that one whose update failed does not block the next.
  void update(device_work<D>& on, std::uint64_t step, const tensor_chunk* chunks, isize chunk_count,
              const Update& update) {
    on.launch("permit_update", launch_shape{1, warp_size}, &permit_release<release_permit>, update_permit_.data(),
              step);
    on.launch("release_once, update", chunk_shape(chunk_count), &release_once<T, T, Update>, update_permit_.data(),
              chunks, chunk_count, read_.data(), release_terms_without_noise<T>({}), update);
  }

private:
  device_vector<T, D> own_;
  std::vector<T*> gradients_;
  device_vector<release_tensor<V, T, 0>, D> written_;
  device_vector<release_tensor<T, T, slots>, D> read_;
  device_vector<release_permit, D> update_permit_;
  bool made_ = false;
};

} // namespace dpopt::cuda
