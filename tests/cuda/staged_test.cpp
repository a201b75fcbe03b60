// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Sums of device memory through host memory: the order of calls, and a rank that fails without stopping the others.
#include "support/recording_api.hpp"

#include "support/catch.hpp"

#include "dpopt/communication/threads.hpp"
#include "dpopt/cuda/device_work.hpp"
#include "dpopt/cuda/staged.hpp"
#include "support/ranks.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;
using testing::recording_api;

static_assert(cuda::DeviceCommunicator<cuda::staged<recording_api, threads>, recording_api, float>);

namespace {

/// Two sums on each of W ranks; `fail` tells a rank's device what to refuse in the second one.
template <class Prepare>
std::vector<std::exception_ptr> sum_twice(std::vector<recording_api>& devices,
                                          std::vector<std::vector<std::int64_t>>& sums, Prepare prepare) {
  return run_ranks(static_cast<int>(devices.size()), [&](threads comm) {
    const auto rank = static_cast<std::size_t>(comm.rank());
    cuda::device_work<recording_api> on(devices[rank]);
    cuda::staged<recording_api, threads> ranks(std::move(comm));
    auto& mine = sums[rank];
    mine = {static_cast<std::int64_t>(rank) + 1, -5};
    ranks.sum(on, mine.data(), 2);
    devices[rank].forget_calls();
    prepare(rank, devices[rank]);
    ranks.sum(on, mine.data(), 2);
  });
}

} // namespace

TEST_CASE("a staged sum looks at its copy after the device is done, and reuses memory after the way back is") {
  std::vector<recording_api> devices;
  for (int r = 0; r < 3; ++r) devices.emplace_back(r);
  std::vector<std::vector<std::int64_t>> sums(3);
  rethrow_first(sum_twice(devices, sums, [](std::size_t, recording_api&) {}));
  const std::vector<std::string> expected{"wait for staging", "copy sums to host", "synchronize sums",
                                          "copy sums to device", "record staging"};
  for (std::size_t r = 0; r < 3; ++r) {
    CHECK(sums[r] == std::vector<std::int64_t>{18, -45});
    std::vector<std::string> names;
    for (const auto& c : devices[r].calls())
      if (c.what != testing::recorded_call::kind::release && c.what != testing::recorded_call::kind::release_pinned)
        names.push_back(c.name);
    CHECK(names == expected);
    CHECK(devices[r].live_allocations() == 0);
  }
}

TEST_CASE("a rank whose device refuses a copy joins the sum with zeros, so that the others go on") {
  std::vector<recording_api> devices(3);
  for (auto& d : devices) d = recording_api{}; // copies share their state: one each
  std::vector<std::vector<std::int64_t>> sums(3);
  const auto errors = sum_twice(devices, sums, [](std::size_t rank, recording_api& d) {
    if (rank == 2) d.fail_next("copy sums to host");
  });
  CHECK(error_text(errors[0]).empty());
  CHECK(error_text(errors[2]).find("device call copy sums to host (staged.hpp:") == 0);
  CHECK(sums[0] == std::vector<std::int64_t>{12, -30});
}
