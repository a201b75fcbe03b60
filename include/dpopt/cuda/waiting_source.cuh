// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A source whose type is forgotten while it waits for its group's factors, or for a launch that others share.
#pragma once

#include "dpopt/cuda/device_gradients.hpp"
#include "dpopt/cuda/many_parameters.cuh"

#include <cstddef>
#include <cstring>
#include <new>
#include <span>
#include <utility>

namespace dpopt::cuda {

template <class A, class D>
class waiting_source;

/// A source, and where its answer goes: squared norms [batch] or sums, with the factors that they need.
template <class A, class D, class To>
struct listed_source {
  const waiting_source<A, D>* source;
  To* to;
  const double* factors;
};

template <class S, class To>
using many_of = many_parameters<decltype(std::declval<const S&>().view()), To>;

/// Whether A adds what many sources with S's view add, in one launch.
template <class A, class S, class D>
concept SharesLaunchesIn =
    SharesLaunches<S> &&
    requires(const A a, device_work<D>& on, const many_of<S, typename A::value_type>& many) { a.add_many(on, many); };

/// What there is to ask of a type of sources.
template <class A, class D>
struct source_kind {
  template <class To>
  using list = std::span<const listed_source<A, D, To>>;
  using value_type = typename A::value_type;

  void (*norms)(const void* source, device_work<D>&, double* squared_norms);
  void (*sum)(const void* source, const A&, device_work<D>&, const double* factors, value_type* at);
  isize most = 0; ///< sources that share a launch; 0: each has its own
  void (*norms_of_many)(list<double>, device_work<D>&, isize batch) = nullptr;
  void (*sums_of_many)(list<value_type>, const A&, device_work<D>&, isize batch) = nullptr;
};

/// Copy of a source view: inline, without allocation.
template <class A, class D>
class waiting_source {
public:
  using value_type = typename A::value_type;

  waiting_source() = default;

  template <class S>
    requires DeviceAccumulatesFrom<A, S, D> && GradientView<S>
  explicit waiting_source(const S& source) noexcept : kind_(&kind_of<S>) {
    std::memcpy(bytes_, &source, sizeof source);
    if constexpr (SharesLaunchesIn<A, S, D>) shares_ = source.shares_launches();
  }

  [[nodiscard]] explicit operator bool() const noexcept { return kind_ != nullptr; }
  [[nodiscard]] bool shares_launches() const noexcept { return shares_; }
  [[nodiscard]] const source_kind<A, D>* kind() const noexcept { return kind_; }

  void add_squared_norms(device_work<D>& on, double* squared_norms) const { kind_->norms(bytes_, on, squared_norms); }
  void add_to(const A& sum, device_work<D>& on, const double* factors, value_type* at) const {
    kind_->sum(bytes_, sum, on, factors, at);
  }

private:
  template <class S>
  static const S& as(const void* bytes) noexcept {
    return *std::launder(static_cast<const S*>(bytes)); // memcpy made it an S
  }
  template <class S>
  static constexpr source_kind<A, D> make_kind() {
    source_kind<A, D> kind{
        [](const void* s, device_work<D>& on, double* squared_norms) { as<S>(s).add_squared_norms(on, squared_norms); },
        [](const void* s, const A& sum, device_work<D>& on, const double* factors, value_type* at) {
          sum.add(on, as<S>(s), factors, at);
        }};
    if constexpr (SharesLaunchesIn<A, S, D>) {
      kind.most = many_of<S, value_type>::capacity;
      kind.norms_of_many = [](std::span<const listed_source<A, D, double>> list, device_work<D>& on, isize batch) {
        table_of<S>(list, batch).add_squared_norms(on);
      };
      kind.sums_of_many = [](std::span<const listed_source<A, D, value_type>> list, const A& sum, device_work<D>& on,
                             isize batch) { sum.add_many(on, table_of<S>(list, batch)); };
    }
    return kind;
  }
  template <class S>
  static constexpr source_kind<A, D> kind_of = make_kind<S>();

  template <class S, class To>
  static many_of<S, To> table_of(std::span<const listed_source<A, D, To>> list, isize batch) {
    many_of<S, To> table(batch);
    for (const auto& one : list) table.add(as<S>(one.source->bytes_).view(), one.to, one.factors);
    return table;
  }

  alignas(16) std::byte bytes_[source_capacity] = {};
  const source_kind<A, D>* kind_ = nullptr;
  bool shares_ = false;
};

} // namespace dpopt::cuda
