// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// ranks: 1 3
/// What MPI is given, and when: sums in device memory where it takes that, else their copies on the host. The device is
/// the recording double, whose memory any MPI can read; MPI's own two sums are written down beside the device's calls.
#include "support/recording_api.hpp"

#include "dpopt/cuda/cuda_mpi.cuh"
#include "dpopt/mpi/mpi.hpp"
#include "support/catch.hpp"

#include <cstdint>
#include <string>
#include <vector>

using namespace dpopt;
using testing::recording_api;

namespace {

/// The device whose calls MPI's join, and the last memory that MPI was given.
struct {
  recording_api* device = nullptr;
  const void* memory = nullptr;

  void note(const void* given, const char* name) {
    if (device == nullptr) return;
    memory = given;
    device->all_reduce(device->stream(), name);
  }
} watched;

} // namespace

// MPI lets a program stand between itself and the library, which has each call under a second name.
extern "C" int MPI_Allreduce(const void* from, void* to, int n, MPI_Datatype type, MPI_Op op, MPI_Comm ranks) {
  watched.note(to, "MPI_Allreduce");
  return PMPI_Allreduce(from, to, n, type, op, ranks);
}
extern "C" int MPI_Iallreduce(const void* from, void* to, int n, MPI_Datatype type, MPI_Op op, MPI_Comm ranks,
                              MPI_Request* request) {
  watched.note(to, "MPI_Iallreduce");
  return PMPI_Iallreduce(from, to, n, type, op, ranks, request);
}

namespace {

using device_mpi = cuda::cuda_mpi<recording_api, mpi>;
static_assert(cuda::DeviceCommunicator<device_mpi, recording_api, float>);

/// One rank's device, three numbers there, and the ranks.
template <class V>
struct rank_with_device {
  recording_api device;
  cuda::device_work<recording_api> on{device};
  device_mpi ranks;
  cuda::device_vector<V, recording_api> sums;

  explicit rank_with_device(bool aware) : ranks(mpi(MPI_COMM_WORLD), MPI_COMM_WORLD, aware), sums(device, 3) { put(); }
  void put() {
    for (isize i = 0; i < 3; ++i) sums.data()[i] = static_cast<V>(ranks.host().rank() + 1 + 10 * i);
  }
  /// Whether the numbers are the sum of what the first `counted` ranks put.
  [[nodiscard]] bool summed_over(int counted) {
    bool same = true;
    for (isize i = 0; i < 3; ++i)
      same = same && sums.data()[i] == static_cast<V>(counted * (counted + 1) / 2 + 10 * i * counted);
    return same;
  }
  /// The calls of one sum, in their order. @param problem what it throws, if anything.
  std::vector<std::string> calls_of_a_sum(std::string& problem) {
    device.forget_calls();
    watched = {&device, nullptr};
    try {
      ranks.sum(on, sums.data(), 3);
    } catch (const error& e) {
      problem = e.what();
    }
    watched.device = nullptr;
    std::vector<std::string> names;
    for (const auto& call : device.calls()) names.push_back(call.name);
    return names;
  }
};

template <class V>
void check_sums(bool aware) {
  rank_with_device<V> mine(aware);
  const int size = mine.ranks.host().size();
  for (int again = 0; again < 2; ++again) {
    mine.put();
    std::string problem;
    mine.calls_of_a_sum(problem);
    CHECK(problem.empty());
    CHECK(mine.summed_over(size));
  }
}

} // namespace

TEST_CASE("MPI that takes device memory is given it once the stream is done, and nothing is copied") {
  rank_with_device<float> mine(true);
  const int size = mine.ranks.host().size();
  CHECK(mine.ranks.aware());
  std::string problem;
  const auto calls = mine.calls_of_a_sum(problem);
  CHECK(problem.empty());
  if (size == 1) CHECK(calls.empty());
  else {
    CHECK(calls == std::vector<std::string>{"synchronize sums", "MPI_Allreduce"});
    CHECK(watched.memory == mine.sums.data());
  }
  CHECK(mine.summed_over(size));
}

TEST_CASE("MPI that takes none is given a copy on the host, which goes back before anything that follows") {
  rank_with_device<float> mine(false);
  const int size = mine.ranks.host().size();
  CHECK_FALSE(mine.ranks.aware());
  for (const char* const first : {"allocate staging", "wait for staging"}) {
    mine.put();
    std::string problem;
    const auto calls = mine.calls_of_a_sum(problem);
    CHECK(problem.empty());
    if (size == 1) CHECK(calls.empty());
    else {
      CHECK(calls == std::vector<std::string>{first, "copy sums to host", "synchronize sums", "MPI_Iallreduce",
                                              "copy sums to device", "record staging"});
      CHECK(watched.memory != mine.sums.data());
    }
    CHECK(mine.summed_over(size));
  }
}

TEST_CASE("every kind of number is summed, whether MPI takes device memory or not") {
  for (const bool aware : {true, false}) {
    check_sums<float>(aware);
    check_sums<double>(aware);
    check_sums<std::int64_t>(aware);
    check_sums<std::uint64_t>(aware);
  }
}

TEST_CASE("a rank whose device fails before MPI's sum joins it with zeros, and its own numbers are not sent") {
  for (const bool aware : {true, false}) {
    rank_with_device<double> mine(aware);
    const int size = mine.ranks.host().size();
    if (size == 1) return;
    const bool fails = mine.ranks.host().rank() == size - 1;
    if (fails) mine.device.fail_next("synchronize sums");
    std::string problem;
    mine.calls_of_a_sum(problem);
    if (fails) {
      CHECK_THAT(problem, contains_text("device call synchronize sums"));
      CHECK(watched.memory != mine.sums.data());
    } else {
      CHECK(problem.empty());
      CHECK(mine.summed_over(size - 1));
    }
    mine.put(); // the ranks are together still
    problem.clear();
    mine.calls_of_a_sum(problem);
    CHECK(problem.empty());
    CHECK(mine.summed_over(size));
  }
}
