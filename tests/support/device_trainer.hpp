// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A cuda::dp_optimizer on the recording device that takes what the tests of the core's optimizer hand over: host
/// memory is its device memory, so views and sources of the core are views and sources of the device.
#pragma once

#include "support/recording_api.hpp"

#include "dpopt/core/types.hpp"
#include "dpopt/cuda/dp_optimizer.cuh"
#include "dpopt/cuda/materialized_source.cuh"
#include "dpopt/cuda/parameter_view.hpp"
#include "dpopt/dp_optimizer/schedule.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/parameters/parameter_view.hpp"

#include <utility>
#include <vector>

namespace dpopt::testing {

template <class T>
[[nodiscard]] std::vector<cuda::parameter_view<T>> on_device(const std::vector<parameter_view<T>>& host) {
  std::vector<cuda::parameter_view<T>> out;
  for (const auto& v : host)
    out.push_back({v.name, v.value.data(), std::ssize(v.value), v.gradient.empty() ? nullptr : v.gradient.data()});
  return out;
}

/// device_trainer<T, Policies...> opt(views of the core, options, policies...).
template <class T, class... Policies>
class device_trainer : public cuda::dp_optimizer<T, Policies...> {
  using base = cuda::dp_optimizer<T, Policies...>;

public:
  using schedule_type = as_ready;

  device_trainer(const std::vector<parameter_view<T>>& views, dp_options options, Policies... policies)
      : base(on_device(views), options, std::move(policies)...) {}

  using base::gradient_ready;
  template <class U>
  void gradient_ready(isize p, const dpopt::materialized<U>& m) {
    base::gradient_ready(p, cuda::materialized<U>(m.rows, m.samples_, m.elements, m.stride));
  }
};
template <class T, class... Policies>
device_trainer(const std::vector<parameter_view<T>>&, dp_options, Policies...) -> device_trainer<T, Policies...>;

} // namespace dpopt::testing
