// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The least that each concept asks for, and nothing more: a template that compiles with an archetype uses only what
/// its concept promises. They do no work; archetypes.cpp takes one requirement away at a time.
#pragma once

#include "dpopt/accounting/accountant.hpp"
#include "dpopt/communication/communicator.hpp"
#include "dpopt/noise/noise_mechanism.hpp"
#include "dpopt/optimizers/base_optimizer.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace dpopt::archetypes {

/// Communicator: movable, not copyable.
struct communicator {
  struct request {};

  communicator() = default;
  communicator(communicator&&) = default;
  communicator& operator=(communicator&&) = default;

  [[nodiscard]] int rank() const { return 0; }
  [[nodiscard]] int size() const { return 1; }
  void broadcast(std::byte*, isize, int) {}
};

/// Reduces<double>, and no other type.
struct reducing_communicator : communicator {
  [[nodiscard]] request start_sum(double*, isize) { return {}; }
  void wait(request&) {}
};

/// Scatters<double>.
struct scattering_communicator : reducing_communicator {
  [[nodiscard]] request start_reduce_scatter(double*, std::span<const isize>) { return {}; }
  [[nodiscard]] request start_all_gather(double*, std::span<const isize>) { return {}; }
};

/// NoiseMechanism for double: neither addressable nor sharing a secret.
struct noise {
  [[nodiscard]] double multiplier() const { return 1.0; }
  void validate() {}
  void add(const address&, double, double*, isize) {}
};

/// A noise mechanism whose numbers depend on the address alone.
struct addressable_noise : noise {
  static constexpr bool addressable = true;
};

/// SharesSecret: what the root draws and every rank copies.
struct secret_noise : addressable_noise {
  std::array<std::byte, 1> bytes{};

  void draw_secret() {}
  [[nodiscard]] std::span<std::byte> secret() { return bytes; }
  [[nodiscard]] bool reproducible() const { return true; }
};

/// ElementwiseOptimizer for double, without state.
struct elementwise_optimizer {
  struct constants {
    void update(double*, const double*, std::array<double*, 0>, isize) const {}
  };

  static constexpr std::size_t slots = 0;
  void validate() const {}
  [[nodiscard]] constants at(std::uint64_t) const { return {}; }
};

/// WholeParameterOptimizer for double.
struct whole_parameter_optimizer {
  void operator()(parameter_update<double>) {}
};

/// Accountant: movable, not copyable.
struct accountant {
  accountant() = default;
  accountant(accountant&&) = default;
  accountant& operator=(accountant&&) = default;

  void record(const gaussian_event&) {}
  [[nodiscard]] double epsilon(double) const { return 0.0; }
};

} // namespace dpopt::archetypes
