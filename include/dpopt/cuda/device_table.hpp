// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Tables that the host builds once and kernels read from then on.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/cuda/device_api.hpp"
#include "dpopt/cuda/device_vector.hpp"
#include "dpopt/cuda/device_work.hpp"

#include <algorithm>
#include <vector>

namespace dpopt::cuda {

/// `to` becomes the rows. WAITS for the device. @throw device_error.
template <class Row, DeviceApi D>
void upload_table(device_work<D>& on, const std::vector<Row>& rows, device_vector<Row, D>& to, call_site call) {
  const isize n = std::ssize(rows);
  to = device_vector<Row, D>(on.device(), n, call);
  if (n == 0) return;
  pinned_vector<Row, D> staging(on.device(), n);
  std::copy(rows.begin(), rows.end(), staging.data());
  on.copy(to.data(), staging.data(), rows.size() * sizeof(Row), copy_direction::to_device, call);
  on.device().synchronize(on.stream(), "synchronize tables");
}

} // namespace dpopt::cuda
