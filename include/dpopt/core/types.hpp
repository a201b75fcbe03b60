// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Vocabulary types shared by all stages: sizes, sample ranges, roles of policies.
#pragma once

#include <cstddef>
#include <string_view>

namespace dpopt {

/// Every size and index. Signed, so that differences are meaningful; not `index`, which POSIX already declares.
using isize = std::ptrdiff_t;

/// A range of samples of one microbatch: [first, first + count). Sources are always asked about a range, so that
/// fusing "norm" and "sum" is a loop over ranges that fit in cache and not another method.
struct samples {
  isize first = 0;
  isize count = 0;
};

/// How two data sets may differ. The sensitivity of every clipper, and so the noise, follows from it.
enum class neighbouring {
  add_remove,  ///< one unit of privacy more or less: the sum moves by at most the bound
  replace_one, ///< one unit exchanged for another: the sum moves by at most twice the bound
  zero_out,    ///< one unit exchanged for an empty one that adds nothing, as weight 0: at most the bound, public count
};

/// How many bounded contributions differ between neighbours.
[[nodiscard]] constexpr double contributions_changed(neighbouring relation) noexcept {
  return relation == neighbouring::replace_one ? 2 : 1;
}

[[nodiscard]] constexpr std::string_view name_of(neighbouring relation) noexcept {
  switch (relation) {
  case neighbouring::add_remove:
    return "add_remove";
  case neighbouring::replace_one:
    return "replace_one";
  case neighbouring::zero_out:
    break;
  }
  return "zero_out";
}

/// How the trainer's loss is reduced over samples; decides the divisor of the release, as in Opacus.
enum class loss_reduction { mean, sum };

/// The law of a mechanism's noise, which decides what an accountant may claim for it. A mechanism that is not Gaussian
/// names its own: `static constexpr noise_kind kind`.
enum class noise_kind {
  gaussian,          ///< N(0, std^2) on real numbers
  discrete_gaussian, ///< on the integers: P(x) proportional to exp(-x^2 / (2 std^2))
};

/// Each policy names its place in the step by `using role = roles::...;`, which makes arguments order-free.
namespace roles {
struct clipper {};
struct accumulator {};
struct communicator {};
struct noise {};
struct placement {};
struct scaling {};
struct base_optimizer {};
struct accountant {};
struct schedule {};
} // namespace roles

} // namespace dpopt
