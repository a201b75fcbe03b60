// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// NCCL's place taken by a double: what its ranks hear of each other's failures.
#include "support/recording_api.hpp"

#include "support/catch.hpp"

#include "dpopt/communication/threads.hpp"
#include "dpopt/cuda/nccl_ranks.hpp"
#include "support/ranks.hpp"

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;
using testing::recording_api;

namespace {

/// One rank's library, which writes its calls down and returns the code it was told to. As in NCCL, joining and the
/// first sum of a length are in progress until all ranks are there. A rank that is left to ask for ever gives up with
/// code 9.
struct double_of_nccl {
  struct id {
    int number;
  };
  using handle = int*;
  static constexpr int in_progress = 5;
  struct meeting { // of all ranks
    std::atomic<int> joined = 0, connecting = 0;
  };
  struct told {
    std::string calls;
    int id_code = 0, join_code = 0, sum_code = 0;
    int later_code = 0; // what comes of joining after it began well
    int number = 0;     // what the handle points to: the id's
    int ranks = 0, asked = 0;
    isize met_for = 0;
    std::atomic<int>* awaited = nullptr;
    std::shared_ptr<meeting> all;
  };
  std::shared_ptr<told> state_ = std::make_shared<told>();

  int make_id(id& made) {
    state_->calls += "id ";
    made.number = 42;
    return state_->id_code;
  }
  int join(handle& made, int ranks, const id& of, int) {
    state_->calls += "join ";
    if (state_->join_code != 0) return state_->join_code;
    state_->number = of.number;
    state_->ranks = ranks;
    made = &state_->number;
    if (state_->later_code == 0) ++state_->all->joined;
    state_->awaited = &state_->all->joined;
    return in_progress;
  }
  int state(handle) {
    if (state_->later_code != 0) return state_->later_code;
    if (state_->awaited->load() % state_->ranks == 0) return 0;
    return ++state_->asked < 1000 ? in_progress : 9;
  }
  template <class V>
  int sum(V* sums, isize n, handle h, int) {
    state_->calls += "sum ";
    if (state_->sum_code != 0) return state_->sum_code;
    for (isize i = 0; i < n; ++i) sums[i] += static_cast<V>(*h);
    state_->awaited = &state_->all->connecting;
    if (n != std::exchange(state_->met_for, n)) ++state_->all->connecting;
    return in_progress;
  }
  static const char* text(int code) { return code == 7 ? "told to fail" : "another error"; }
  void leave(handle) noexcept { state_->calls += "leave "; }
  void abort(handle) noexcept { state_->calls += "abort "; }
};

using ranks_of_nccl = cuda::nccl_ranks<double_of_nccl, threads>;
static_assert(cuda::DeviceCommunicator<ranks_of_nccl, recording_api, float> && cuda::AbandonsSums<ranks_of_nccl>);

/// What each rank's library was called, and each rank's error, when f(communicator, device's work) is run.
template <class Prepare, class F>
std::pair<std::vector<std::string>, std::vector<std::string>> on_ranks(int ranks, Prepare prepare, F f) {
  std::vector<double_of_nccl> libraries(static_cast<std::size_t>(ranks));
  const auto all = std::make_shared<double_of_nccl::meeting>();
  for (std::size_t r = 0; r < libraries.size(); ++r) {
    libraries[r].state_->all = all;
    prepare(r, *libraries[r].state_);
  }
  const auto errors = run_ranks(ranks, [&](threads comm) {
    const auto& library = libraries[static_cast<std::size_t>(comm.rank())];
    ranks_of_nccl made(std::move(comm), library);
    recording_api device;
    cuda::device_work<recording_api> on(device);
    f(made, on);
  });
  std::pair<std::vector<std::string>, std::vector<std::string>> out;
  for (std::size_t r = 0; r < libraries.size(); ++r) {
    out.first.push_back(libraries[r].state_->calls);
    out.second.push_back(error_text(errors[r]));
  }
  return out;
}

} // namespace

TEST_CASE("rank 0's id reaches all ranks, and they leave together") {
  std::vector<float> sums(3, 0);
  const auto [calls, errors] = on_ranks(
      3, [](std::size_t, auto&) {},
      [&](ranks_of_nccl& made, auto& on) {
        float& mine = sums[static_cast<std::size_t>(made.host().rank())];
        made.sum(on, &mine, 1);
        ranks_of_nccl moved = std::move(made); // one leaves, not two
      });
  CHECK(errors == std::vector<std::string>(3));
  CHECK(calls == std::vector<std::string>{"id join sum leave ", "join sum leave ", "join sum leave "});
  CHECK(sums == std::vector<float>(3, 42));
}

TEST_CASE("an id that rank 0 cannot make is the same error on all ranks, and nobody waits for it") {
  const auto [calls, errors] = on_ranks(
      3, [](std::size_t, auto& library) { library.id_code = 7; }, [](auto&, auto&) {});
  CHECK(calls == std::vector<std::string>{"id ", "", ""});
  CHECK(errors[0].find("rank 0: device call ncclGetUniqueId (nccl_ranks.hpp:") == 0);
  CHECK(errors[0].find("told to fail (code 7)") != std::string::npos);
  CHECK(errors == std::vector<std::string>(3, errors[0]));
}

TEST_CASE("a rank that cannot join is named on all ranks, and those that wait for it give up") {
  for (const bool later : {false, true}) {
    const auto [calls, errors] = on_ranks(
        3,
        [&](std::size_t rank, auto& library) {
          if (rank == 1) (later ? library.later_code : library.join_code) = 7;
        },
        [](auto&, auto&) {});
    CHECK(calls == std::vector<std::string>{"id join abort ", later ? "join abort " : "join ", "join abort "});
    CHECK(errors[0].find("rank 1: device call ncclCommInitRankConfig") == 0);
    CHECK(errors[0].find("told to fail (code 7)") != std::string::npos);
    CHECK(errors == std::vector<std::string>(3, errors[0]));
  }
}

TEST_CASE("a rank that cannot start a sum for which ranks connect is named on all ranks") {
  for (const isize before : {0, 2}) { // numbers of a sum that goes well; none: nothing is started
    std::vector<double_of_nccl::told*> libraries(3);
    const auto [calls, errors] = on_ranks(
        3, [&](std::size_t rank, auto& library) { libraries[rank] = &library; },
        [&](ranks_of_nccl& made, auto& on) {
          const int rank = made.host().rank();
          float numbers[2] = {};
          made.sum(on, numbers, before);
          libraries[static_cast<std::size_t>(rank)]->sum_code = rank == 1 ? 7 : 0;
          made.sum(on, numbers, 1);
        });
    const std::string all = before == 0 ? "join sum abort " : "join sum sum abort ";
    CHECK(calls == std::vector<std::string>{"id " + all, all, all});
    CHECK(errors[0].find("rank 1: device call ncclAllReduce") == 0);
    CHECK(errors == std::vector<std::string>(3, errors[0]));
  }
}

TEST_CASE("sums that are given up are ended once, and none follows") {
  std::vector<double_of_nccl::told*> libraries(2);
  const auto [calls, errors] = on_ranks(
      2, [&](std::size_t rank, auto& library) { libraries[rank] = &library; },
      [&](ranks_of_nccl& made, auto& on) {
        const int rank = made.host().rank();
        float numbers[2] = {};
        made.sum(on, numbers, 2);
        made.sum(on, numbers, 1);
        libraries[static_cast<std::size_t>(rank)]->sum_code = rank == 1 ? 7 : 0;
        std::string first;
        try {
          made.sum(on, numbers, 1);
        } catch (const cuda::device_error& e) {
          first = e.what();
        }
        if ((rank == 1) != (first.find("device call ncclAllReduce") == 0))
          throw std::logic_error("only rank 1 cannot start its sum");
        made.abandon();
        made.abandon();
        made.sum(on, numbers, 1);
      });
  CHECK(calls == std::vector<std::string>{"id join sum sum sum abort ", "join sum sum sum abort "});
  for (const auto& text : errors) CHECK_THAT(text, contains_text("was abandoned; make a new one"));
}
