// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// NCCL's place taken by a double: what its ranks hear of each other's failures.
#include "support/recording_api.hpp"

#include "support/catch.hpp"

#include "dpopt/communication/threads.hpp"
#include "dpopt/cuda/nccl_ranks.hpp"
#include "support/ranks.hpp"

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;
using testing::recording_api;

namespace {

/// One rank's library, which writes its calls down and returns the code it was told to.
struct double_of_nccl {
  struct id {
    int number;
  };
  using handle = int*;
  struct told {
    std::string calls;
    int id_code = 0, join_code = 0, sum_code = 0;
    int joined = 0; // what the handle points to: the id's number
  };
  std::shared_ptr<told> state = std::make_shared<told>();

  int make_id(id& made) {
    state->calls += "id ";
    made.number = 42;
    return state->id_code;
  }
  int join(handle& made, int, const id& of, int) {
    state->calls += "join ";
    if (state->join_code != 0) return state->join_code;
    state->joined = of.number;
    made = &state->joined;
    return 0;
  }
  template <class V>
  int sum(V* sums, isize n, handle h, int) {
    state->calls += "sum ";
    for (isize i = 0; i < n; ++i) sums[i] += static_cast<V>(*h);
    return state->sum_code;
  }
  static const char* text(int code) { return code == 7 ? "told to fail" : "another error"; }
  void leave(handle) noexcept { state->calls += "leave "; }
  void abort(handle) noexcept { state->calls += "abort "; }
};

using ranks_of_nccl = cuda::nccl_ranks<double_of_nccl, threads>;
static_assert(cuda::DeviceCommunicator<ranks_of_nccl, recording_api, float> && cuda::AbandonsSums<ranks_of_nccl>);

/// What each rank's library was called, and each rank's error, when f(communicator, device's work) is run.
template <class Prepare, class F>
std::pair<std::vector<std::string>, std::vector<std::string>> on_ranks(int ranks, Prepare prepare, F f) {
  std::vector<double_of_nccl> libraries(static_cast<std::size_t>(ranks));
  for (std::size_t r = 0; r < libraries.size(); ++r) prepare(r, *libraries[r].state);
  const auto errors = run_ranks(ranks, [&](threads comm) {
    const auto& library = libraries[static_cast<std::size_t>(comm.rank())];
    ranks_of_nccl made(std::move(comm), library);
    recording_api device;
    cuda::device_work<recording_api> on(device);
    f(made, on);
  });
  std::pair<std::vector<std::string>, std::vector<std::string>> out;
  for (std::size_t r = 0; r < libraries.size(); ++r) {
    out.first.push_back(libraries[r].state->calls);
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

TEST_CASE("a rank that cannot join is named on all ranks, and those that joined give up") {
  const auto [calls, errors] = on_ranks(
      3, [](std::size_t rank, auto& library) { library.join_code = rank == 1 ? 7 : 0; }, [](auto&, auto&) {});
  CHECK(calls == std::vector<std::string>{"id join abort ", "join ", "join abort "});
  CHECK(errors[0].find("rank 1: device call ncclCommInitRank") == 0);
  CHECK(errors == std::vector<std::string>(3, errors[0]));
}

TEST_CASE("sums that are given up are ended once, and none follows") {
  const auto [calls, errors] = on_ranks(
      2, [](std::size_t rank, auto& library) { library.sum_code = rank == 1 ? 7 : 0; },
      [](ranks_of_nccl& made, auto& on) {
        float number = 0;
        std::string first;
        try {
          made.sum(on, &number, 1);
        } catch (const cuda::device_error& e) {
          first = e.what();
        }
        if ((made.host().rank() == 1) != (first.find("device call ncclAllReduce") == 0))
          throw std::logic_error("only rank 1 cannot start its sum");
        made.abandon();
        made.abandon();
        made.sum(on, &number, 1);
      });
  CHECK(calls == std::vector<std::string>{"id join sum abort ", "join sum abort "});
  for (const auto& text : errors) CHECK_THAT(text, contains_text("was abandoned; make a new one"));
}
