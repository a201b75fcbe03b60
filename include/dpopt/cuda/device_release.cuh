// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The release of a step on the device: the tables of the fused kernel, built once, the state of the base optimizer,
/// and noise that only the host can draw; in halves where a trainer wants to see the gradient.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/cuda/device_table.hpp"
#include "dpopt/cuda/device_work.hpp"
#include "dpopt/cuda/drawn_noise.hpp"
#include "dpopt/cuda/element_updates.hpp"
#include "dpopt/cuda/host_noise.cuh"
#include "dpopt/cuda/release_once.cuh"
#include "dpopt/cuda/release_terms.hpp"
#include "dpopt/cuda/tensor_chunks.hpp"
#include "dpopt/cuda/training_image.hpp"
#include "dpopt/cuda/unfused_release.cuh"
#include "dpopt/noise/noise_mechanism.hpp"
#include "dpopt/parameters/parameter_set.hpp"

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace dpopt::cuda {

/// host_noise where it is wanted, else nothing.
template <class N, class V, class D>
struct noise_of_host {
  struct type {};
};
template <class N, class V, class D>
  requires DrawnOnHost<N, V>
struct noise_of_host<N, V, D> {
  using type = host_noise<N, D>;
};

/// One launch a step for all parameters, however many, and one that permits it; more when the host draws
/// the noise. A step is released once: a graph that is replayed changes nothing.
template <std::floating_point T, class V, DeviceOptimizer<T> Base, class Noise, DeviceApi D>
class device_release {
public:
  using update_type = decltype(element_update<T>(std::declval<const Base&>().at(0)));
  static constexpr std::size_t slots = update_type::slots;

  /// Builds the tables. WAITS for the device. @param offsets of each parameter in `sums`, which holds `total` numbers.
  /// @throw device_error, randomness_error when the stream has not that many numbers.
  void bind(device_work<D>& on, const parameter_set<T>& parameters, const std::vector<isize>& offsets, V* sums,
            isize total) {
    sums_ = sums;
    total_ = total;
    for (auto& s : state_) {
      s = device_vector<T, D>(on.device(), total, "allocate optimizer state");
      on.zero(s.data(), static_cast<std::size_t>(total) * sizeof(T), "zero optimizer state");
    }
    std::vector<isize> sizes;
    for (isize p = 0; p < parameters.count(); ++p) {
      const auto& entry = parameters[p];
      const isize at = offsets[static_cast<std::size_t>(p)];
      release_tensor<V, T, slots> t{.sum = sums + at,
                                    .value = entry.value.data(),
                                    .gradient = entry.gradient.empty() ? nullptr : entry.gradient.data(),
                                    .slots = {},
                                    .place = {.parameter = static_cast<std::uint32_t>(p)}};
      for (std::size_t s = 0; s < slots; ++s) t.slots[s] = state_[s].data() + at;
      if constexpr (DrawnOnDevice<Noise>) require_in_stream<noise_type_of<V>>(t.place, entry.size());
      fused_.push_back(t);
      sizes.push_back(entry.size());
      places_.push_back({at, entry.size()});
    }
    const std::vector<tensor_chunk> chunks = tensor_chunks(sizes);
    chunk_count_ = std::ssize(chunks);
    upload_table(on, fused_, tensors_, "copy table of tensors");
    upload_table(on, chunks, chunks_, "copy table of chunks");
    permit_ = device_vector<release_permit, D>(on.device(), 1, "allocate permit");
    on.zero(permit_.data(), sizeof(release_permit), "zero permit");
    if constexpr (DrawnOnHost<Noise, V>) drawn_.bind(on, places_, total);
  }

  /// Draws the noise of step `step` on the host, if it is drawn there: once, before ranks agree on the step. WAITS for
  /// the copy of the step before. Nothing for noise that the device draws.
  void draw([[maybe_unused]] device_work<D>& on, [[maybe_unused]] const Noise& noise,
            [[maybe_unused]] double std_in_units, [[maybe_unused]] std::uint64_t step) {
    if constexpr (DrawnOnHost<Noise, V>) drawn_.draw(on, noise, {purpose::gradient, 0, step, 0, 0}, std_in_units);
  }

  /// Noise once, scale once, update; leaves the sums at zero. All constants cross by value.
  template <class Constants>
  void launch(device_work<D>& on, const Noise& noise, std::uint64_t step, const release_constants& k,
              const Constants& constants) {
    const release_terms<V> terms = terms_of(on, noise, step, k);
    on.launch("permit_release", launch_shape{1, warp_size}, &permit_release<release_permit>, permit_.data(), step);
    on.launch("release_once", chunk_shape(chunk_count_), &release_once<V, T, update_type>, permit_.data(),
              chunks_.data(), chunk_count_, tensors_.data(), terms, element_update<T>(constants));
  }

  /// Before the halves are used, and before ranks agree on a step: the first call allocates and WAITS.
  void make_gradients(device_work<D>& on) { halves_.make(on, fused_, places_, total_); }
  /// Device memory, after make_gradients().
  [[nodiscard]] T* gradient(isize p) noexcept { return halves_.gradient(p); }

  /// Noise once, scale once, into the gradients: the first half of launch().
  void write_gradients(device_work<D>& on, const Noise& noise, std::uint64_t step, const release_constants& k) {
    halves_.write(on, permit_.data(), step, chunks_.data(), chunk_count_, terms_of(on, noise, step, k));
  }
  /// The second half, from whatever the gradients hold.
  template <class Constants>
  void update(device_work<D>& on, std::uint64_t step, const Constants& constants) {
    halves_.update(on, step, chunks_.data(), chunk_count_, element_update<T>(constants));
  }

  /// Room on the host for values and state, of zeros.
  [[nodiscard]] training_image<T, slots, D> image(device_work<D>& on, const parameter_set<T>& parameters) {
    std::vector<trained_tensor<T, slots>> tensors;
    for (isize p = 0; p < parameters.count(); ++p) {
      const auto& t = fused_[static_cast<std::size_t>(p)];
      trained_tensor<T, slots> out{.value = t.value, .slots = {}, .size = parameters[p].size()};
      for (std::size_t s = 0; s < slots; ++s) out.slots[s] = t.slots[s];
      tensors.push_back(out);
    }
    return {on, std::move(tensors)};
  }

private:
  [[nodiscard]] static const counter_gaussian& stream_owner(const Noise& noise) {
    if constexpr (std::same_as<Noise, counter_gaussian>) return noise;
    else return noise.inner;
  }

  /// Puts noise that the host drew on the stream, too.
  [[nodiscard]] release_terms<V> terms_of(device_work<D>& on, const Noise& noise, std::uint64_t step,
                                          const release_constants& k) {
    if constexpr (DrawnOnHost<Noise, V>) {
      drawn_.add(on, sums_);
      return release_terms_without_noise<V>(k);
    } else {
      return release_terms_of<V, T>(stream_owner(noise), {purpose::gradient, 0, step, 0, 0}, k);
    }
  }

  std::array<device_vector<T, D>, slots> state_;
  device_vector<release_tensor<V, T, slots>, D> tensors_;
  device_vector<tensor_chunk, D> chunks_;
  device_vector<release_permit, D> permit_;
  std::vector<release_tensor<V, T, slots>> fused_; // tensors_ for the host, without looking through its pointers
  unfused_release<T, V, update_type, D> halves_;
  std::vector<samples> places_; // of each parameter in the sums
  isize total_ = 0;
  isize chunk_count_ = 0;
  V* sums_ = nullptr;
  typename noise_of_host<Noise, V, D>::type drawn_;
};

} // namespace dpopt::cuda
