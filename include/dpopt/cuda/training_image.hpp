// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Parameter values and state of the base optimizer in host memory, as a checkpoint of the core holds them: each slot's
/// numbers lie in the order of the core's buckets, without gaps. A record then fits the CPU and the device.
#pragma once

#include "dpopt/communication/buckets.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/cuda/device_vector.hpp"
#include "dpopt/cuda/device_work.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace dpopt::cuda {

/// Where one parameter's numbers are on the device.
template <class T, std::size_t Slots>
struct trained_tensor {
  T* value;
  std::array<T*, Slots> slots;
  isize size;
};

/// Starts with zeros; fetch() and store() copy everything, through page-locked memory, and WAIT for the device. All
/// memory is taken at construction, before anything changes.
template <class T, std::size_t Slots, DeviceApi D>
class training_image {
public:
  /// @param piece numbers that are copied at a time. @throw device_error.
  training_image(device_work<D>& on, std::vector<trained_tensor<T, Slots>> tensors, isize piece = isize{1} << 20)
      : on_(&on), tensors_(std::move(tensors)), piece_(piece) {
    std::vector<isize> sizes;
    for (const auto& t : tensors_) {
      sizes.push_back(t.size);
      values_.emplace_back(static_cast<std::size_t>(t.size));
    }
    layout_ = bucket_plan(sizes, 1);
    for (auto& s : slots_) s.resize(static_cast<std::size_t>(layout_.total()));
    staging_.reserve(on_->device(), sizes.empty() ? 0 : std::min(std::ranges::max(sizes), piece_), "allocate staging");
  }

  [[nodiscard]] std::span<T> value(isize p) noexcept { return values_[static_cast<std::size_t>(p)]; }
  [[nodiscard]] static constexpr std::size_t slots() noexcept { return Slots; }
  [[nodiscard]] std::span<T> slot(std::size_t s) noexcept { return slots_[s]; }
  /// A device has room for all slots, also for those that are not in use.
  [[nodiscard]] static constexpr bool keeps_slot(std::size_t) noexcept { return true; }
  static constexpr void make_slot(std::size_t) noexcept {}

  /// From the device. @throw device_error.
  void fetch() {
    for_each_piece([&](T* here, const T* there, isize n) {
      const std::size_t bytes = static_cast<std::size_t>(n) * sizeof(T);
      on_->copy(staging_.data(), there, bytes, copy_direction::to_host, "copy state to host");
      on_->device().synchronize(on_->stream(), "synchronize state");
      std::copy_n(staging_.data(), n, here);
    });
  }
  /// To the device. @throw device_error, when a part may have been copied.
  void store() {
    for_each_piece([&](const T* here, T* there, isize n) {
      const std::size_t bytes = static_cast<std::size_t>(n) * sizeof(T);
      std::copy_n(here, n, staging_.data());
      on_->copy(there, staging_.data(), bytes, copy_direction::to_device, "copy state to device");
      on_->device().synchronize(on_->stream(), "synchronize state"); // before the next piece takes its place
    });
  }

private:
  template <class F>
  void for_each_piece(F&& f) {
    const auto all_of = [&](T* here, T* there, isize size) {
      for (isize first = 0; first < size; first += piece_)
        f(here + first, there + first, std::min(piece_, size - first));
    };
    for (isize p = 0; p < std::ssize(tensors_); ++p) {
      const auto& t = tensors_[static_cast<std::size_t>(p)];
      all_of(value(p).data(), t.value, t.size);
      for (std::size_t s = 0; s < Slots; ++s) all_of(slots_[s].data() + layout_.offset(p), t.slots[s], t.size);
    }
  }

  device_work<D>* on_;
  std::vector<trained_tensor<T, Slots>> tensors_;
  bucket_plan layout_; // offsets are the same whatever a bucket holds
  std::vector<std::vector<T>> values_;
  std::array<std::vector<T>, Slots> slots_;
  pinned_vector<T, D> staging_;
  isize piece_;
};

} // namespace dpopt::cuda
