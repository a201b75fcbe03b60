// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/communication/threads.hpp"

#include "support/catch.hpp"
#include "support/communicator_conformance.hpp"
#include "support/ranks.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using test::error_text;
using test::error_texts;
using test::holds;
using test::run_ranks;

namespace {

/// Waits until the counter has a value: forces an order of arrival without timing.
void await(const std::atomic<int>& counter, int value) {
  for (int now = counter.load(); now != value; now = counter.load()) counter.wait(now);
}
void advance(std::atomic<int>& counter) {
  counter.fetch_add(1);
  counter.notify_all();
}

bool mentions(const std::exception_ptr& error, const std::string& part) {
  return error_text(error).find(part) != std::string::npos;
}

std::vector<double> sum_in_order(const std::array<int, 3>& arrival, const std::array<double, 3>& values) {
  std::vector<double> sums(3);
  std::atomic<int> turn = 0;
  const auto errors = run_ranks(3, [&](threads comm) {
    const auto mine = static_cast<std::size_t>(comm.rank());
    await(turn, arrival[mine]);
    double x = values[mine];
    threads::request started = comm.start_sum(&x, 1);
    advance(turn);
    comm.wait(started);
    sums[mine] = x;
  });
  CHECK(error_texts(errors).empty());
  return sums;
}

} // namespace

TEST_CASE("threads keep every promise of a communicator on 1 to 5 ranks") {
  for (int w = 1; w <= 5; ++w) {
    INFO(w << " ranks");
    CHECK(error_texts(run_ranks(w, [](threads comm) { test::keeps_every_promise(std::move(comm)); })).empty());
  }
}

TEST_CASE("a sum is in rank order whatever the order of arrival") {
  // (1e16 + 1) - 1e16 is 0 in double, and any other order gives 1.
  std::array<int, 3> arrival{0, 1, 2};
  do {
    for (const double sum : sum_in_order(arrival, {1e16, 1.0, -1e16})) CHECK(sum == 0.0);
    for (const double sum : sum_in_order(arrival, {1e16, -1e16, 1.0})) CHECK(sum == 1.0);
  } while (std::next_permutation(arrival.begin(), arrival.end()));
}

TEST_CASE("start_sum waits for nobody") {
  std::atomic<int> posted = 0;
  const auto errors = run_ranks(2, [&](threads comm) {
    if (comm.rank() == 1) await(posted, 1);
    std::array<double, 100> x{};
    x.fill(1.0);
    std::vector<threads::request> started;
    for (double& v : x) started.push_back(comm.start_sum(&v, 1)); // a waiting start_sum would stop rank 0 here for ever
    if (comm.rank() == 0) advance(posted);
    for (threads::request& r : started) comm.wait(r);
    for (const double v : x) test::expect(v == 2.0, "sum");
  });
  CHECK(error_texts(errors).empty());
}

TEST_CASE("different lengths are an error on all ranks that names ranks, number and lengths") {
  std::atomic<int> turn = 0;
  const auto errors = run_ranks(3, [&](threads comm) {
    std::vector<float> x(20);
    comm.broadcast(nullptr, 0, 0); // collective number 0
    await(turn, comm.rank());
    threads::request started = comm.start_sum(x.data(), comm.rank() == 1 ? 11 : 10);
    advance(turn);
    comm.wait(started);
  });
  for (const auto& error : errors) {
    CHECK(holds<communication_error>(error));
    CHECK(error_text(error) ==
          "communicator: collective number 1 differs between ranks: rank 0 posted a sum of 10 float, "
          "rank 1 posted a sum of 11 float; post the same sequence on all ranks");
  }
}

TEST_CASE("different types, kinds and roots are an error on all ranks") {
  const auto expect_errors = [](const std::vector<std::exception_ptr>& errors, const std::string& a,
                                const std::string& b) {
    for (const auto& error : errors) {
      CHECK(holds<communication_error>(error));
      CHECK(mentions(error, a));
      CHECK(mentions(error, b));
      CHECK(error_text(error) == error_text(errors[0]));
    }
  };
  const auto types = run_ranks(2, [](threads comm) {
    std::int64_t i = 0;
    std::uint64_t u = 0;
    threads::request started = comm.rank() == 0 ? comm.start_sum(&i, 1) : comm.start_sum(&u, 1);
    comm.wait(started);
  });
  expect_errors(types, "sum of 1 int64", "sum of 1 uint64");
  const auto kinds = run_ranks(2, [](threads comm) {
    std::array<double, 1> x{};
    if (comm.rank() == 0) detail::broadcast_now(comm, std::span(x), 0);
    else detail::sum_now(comm, x);
  });
  expect_errors(kinds, "broadcast of 8 bytes from rank 0", "sum of 1 double");
  const auto roots = run_ranks(2, [](threads comm) {
    std::byte b{};
    comm.broadcast(&b, 1, comm.rank());
  });
  expect_errors(roots, "from rank 0", "from rank 1");
}

TEST_CASE("parts of other lengths are an error on all ranks, and a rank that leaves is not waited for") {
  const auto differing = run_ranks(2, [](threads comm) {
    std::array<float, 4> x{};
    const std::array<isize, 2> counts = comm.rank() == 0 ? std::array<isize, 2>{1, 3} : std::array<isize, 2>{2, 2};
    threads::request started = comm.start_reduce_scatter(x.data(), std::span(counts));
    comm.wait(started);
  });
  for (const auto& error : differing) {
    CHECK(holds<communication_error>(error));
    CHECK(mentions(error, "reduce-scatter of 4 float in parts of 1, 3"));
    CHECK(mentions(error, "reduce-scatter of 4 float in parts of 2, 2"));
  }
  const auto left = run_ranks(3, [](threads comm) {
    if (comm.rank() == 1) return;
    std::array<double, 3> x{};
    const std::array<isize, 3> counts{1, 1, 1};
    threads::request started = comm.start_all_gather(x.data(), std::span(counts));
    comm.wait(started);
  });
  CHECK(mentions(left[0], "rank 1 left"));
  CHECK(mentions(left[2], "rank 1 left"));
}

TEST_CASE("what a rank posted is not read once it is through with it") { // AddressSanitizer would tell
  for (const bool drops : {false, true}) {
    detail::meeting three(3);
    float x = 0;
    auto parts = std::make_unique<std::array<isize, 3>>(std::array<isize, 3>{0, 0, 1});
    const std::array<isize, 3> same = *parts, others{1, 0, 0};
    const auto post = [&](int rank, std::span<const isize> lengths) {
      return three.post(rank, {.verb = "reduce-scatter", .type = "float", .count = 1, .parts = lengths}, &x);
    };
    const std::uint64_t first = post(0, *parts), second = post(1, same);
    CHECK(post(2, others) == detail::meeting::none);
    CHECK_THROWS_AS(three.wait(0, first), communication_error);
    parts.reset();
    if (drops) three.drop(1, second);
    three.leave(1);
    three.leave(2);
  }
}

TEST_CASE("a scattered sum has the bits of a sum") {
  std::array<std::array<double, 1000>, 3> whole{};
  std::array<std::array<double, 1000>, 3> scattered{};
  const std::array<isize, 3> counts{411, 0, 589};
  const auto errors = run_ranks(3, [&](threads comm) {
    const auto me = static_cast<std::size_t>(comm.rank());
    for (std::size_t i = 0; i < 1000; ++i)
      whole[me][i] = scattered[me][i] = 1.0 / static_cast<double>(7 * i + 3 + 1000 * me);
    threads::request sum = comm.start_sum(whole[me].data(), 1000);
    threads::request parts = comm.start_reduce_scatter(scattered[me].data(), std::span(counts));
    comm.wait(parts);
    comm.wait(sum);
  });
  CHECK(error_texts(errors).empty());
  CHECK(std::equal(whole[0].begin(), whole[0].begin() + 411, scattered[0].begin()));
  CHECK(std::equal(whole[2].begin() + 411, whole[2].end(), scattered[2].begin() + 411));
  CHECK(scattered[0][411] == 1.0 / (7 * 411 + 3)); // what is not its part a rank is not told
}

TEST_CASE("a failure is final and has one text") {
  const auto errors = run_ranks(3, [](threads comm) {
    std::vector<double> x(3);
    const auto fails = [&](isize n) {
      return test::thrown_text<communication_error>([&] { detail::sum_now(comm, std::span(x.data(), x.data() + n)); });
    };
    const std::string first = fails(comm.rank());
    const std::string second = fails(1);
    test::expect(first == second, first, " / ", second);
    throw std::runtime_error(first);
  });
  CHECK(error_text(errors[0]) == error_text(errors[1]));
  CHECK(error_text(errors[0]) == error_text(errors[2]));
  CHECK(mentions(errors[0], "collective number 0 differs between ranks"));
}

TEST_CASE("a rank that abandons releases the others, and they name it") {
  std::atomic<int> posted = 0;
  std::atomic<int> failed = 0;
  const auto errors = run_ranks(3, [&](threads comm) {
    if (comm.rank() == 1) {
      await(posted, 2);
      comm.abandon();
      await(failed, 2); // the communicator is still alive when the others fail
      double x = 0;
      const auto sum = [&] { detail::sum_now(comm, std::span(&x, 1)); };
      throw std::runtime_error(test::thrown_text<communication_error>(sum));
    }
    double x = 0;
    threads::request started = comm.start_sum(&x, 1);
    advance(posted);
    try {
      comm.wait(started);
    } catch (const communication_error&) {
      advance(failed);
      throw;
    }
  });
  CHECK(error_text(errors[0]) == "communicator: rank 1 left (its communicator was destroyed or abandoned) before "
                                 "collective number 0, a sum of 1 double");
  CHECK(error_text(errors[2]) == error_text(errors[0]));
  CHECK(error_text(errors[1]) == "threads: rank 1 was abandoned");
}

TEST_CASE("a rank that ends early, or ended before the others came, fails them") {
  for (const int wait_for_post : {0, 1}) {
    std::atomic<int> posted = 0;
    std::atomic<int> gone = 0;
    const auto errors = run_ranks(2, [&](threads comm) {
      if (comm.rank() == 0) {
        if (wait_for_post == 1) await(posted, 1);
        { const threads ends(std::move(comm)); }
        return advance(gone);
      }
      if (wait_for_post == 0) await(gone, 1);
      std::byte b{};
      double x = 0;
      threads::request started = comm.start_sum(&x, 1);
      advance(posted);
      comm.wait(started);
      comm.broadcast(&b, 1, 0);
    });
    CHECK(!errors[0]);
    CHECK(holds<communication_error>(errors[1]));
    CHECK(mentions(errors[1], "rank 0 left"));
  }
}

TEST_CASE("what was complete before a rank left stays valid") {
  std::atomic<int> turn = 0;
  const auto errors = run_ranks(2, [&](threads comm) {
    double x = comm.rank() + 1.0;
    threads::request started = comm.start_sum(&x, 1);
    if (comm.rank() == 0) {
      comm.wait(started);
      { const threads ends(std::move(comm)); }
      return advance(turn);
    }
    await(turn, 1);
    comm.wait(started); // rank 0 is gone, but it did its part
    test::expect(x == 3.0, "sum");
    const auto sum = [&] { detail::sum_now(comm, std::span(&x, 1)); };
    test::expect(test::thrown_text<communication_error>(sum).find("rank 0 left") != std::string::npos, "next sum");
  });
  CHECK(error_texts(errors).empty());
}

TEST_CASE("an exception between start_sum and wait fails the others, and its buffer may be freed at once") {
  for (int round = 0; round < 20; ++round) { // the sanitizers watch the buffer
    const auto errors = run_ranks(4, [&](threads comm) {
      const auto x = std::make_unique<std::vector<double>>(400000, 1.0);
      threads::request started = comm.start_sum(x->data(), std::ssize(*x));
      if (comm.rank() == 2) throw std::runtime_error("the trainer failed");
      comm.wait(started);
      const auto sum = [&] { detail::sum_now(comm, std::span(*x)); };
      throw communication_error(test::thrown_text<communication_error>(sum)); // the sum itself may have been complete
    });
    CHECK(error_text(errors[2]) == "the trainer failed");
    for (const std::size_t r : {0u, 1u, 3u}) {
      CHECK(holds<communication_error>(errors[r]));
      CHECK(mentions(errors[r], "rank 2"));
    }
  }
}

TEST_CASE("a request dropped without a wait fails the others while its communicator lives on") {
  std::atomic<int> posted = 0;
  std::atomic<int> failed = 0;
  const auto errors = run_ranks(3, [&](threads comm) {
    double x = 0;
    if (comm.rank() == 1) {
      {
        const threads::request dropped = comm.start_sum(&x, 1);
      }
      await(failed, 2);
      return;
    }
    await(posted, comm.rank() / 2);
    threads::request started = comm.start_sum(&x, 1);
    advance(posted);
    const std::string text = test::thrown_text<communication_error>([&] { comm.wait(started); });
    advance(failed);
    throw std::runtime_error(text);
  });
  CHECK(!errors[1]);
  CHECK(mentions(errors[0], "rank 1 gave up collective number 0, a sum of 1 double, before its end"));
  CHECK(error_text(errors[0]) == error_text(errors[2]));
}

TEST_CASE("a request dropped after its sum is complete harms nobody") {
  std::atomic<int> turn = 0;
  const auto errors = run_ranks(2, [&](threads comm) {
    double x = 1;
    {
      threads::request started = comm.start_sum(&x, 1);
      if (comm.rank() == 0) {
        comm.wait(started);
        advance(turn);
      } else {
        await(turn, 1);
      }
    }
    test::expect(x == 2.0, "sum");
    detail::sum_now(comm, std::span(&x, 1));
    test::expect(x == 4.0, "next sum");
  });
  CHECK(error_texts(errors).empty());
}

TEST_CASE("a wrong argument on one rank fails the others") {
  const auto errors = run_ranks(3, [](threads comm) {
    double x = 0;
    std::byte b{};
    if (comm.rank() == 1) comm.broadcast(&b, 1, 9);
    detail::sum_now(comm, std::span(&x, 1));
  });
  CHECK(holds<invalid_argument>(errors[1]));
  for (const std::size_t r : {0u, 2u}) {
    CHECK(holds<communication_error>(errors[r]));
    CHECK(mentions(errors[r], "rank 1 made a wrong call"));
    CHECK(mentions(errors[r], "the root of a broadcast is 9; give a rank from 0 to 2"));
  }
}

TEST_CASE("a world has one communicator a rank") {
  CHECK_THROWS_AS(threads::world(0), invalid_argument);
  CHECK_THROWS_AS(threads::world(-2), invalid_argument);
  for (const int wrong : {-1, 2, 0}) { // out of range, out of range, taken
    threads::world shared(2);
    CHECK(shared.size() == 2);
    threads zero(shared, 0);
    double x = 0;
    threads::request started = zero.start_sum(&x, 1);
    CHECK_THROWS_AS(threads(shared, wrong), invalid_argument);
    CHECK_THROWS_AS(zero.wait(started), communication_error); // the right rank will never come
  }
  threads::world used(1);
  { const threads first(used, 0); }
  CHECK_THROWS_AS(threads(used, 0), invalid_argument);
}

TEST_CASE("a request may outlive its communicator and its world") {
  double x = 1;
  threads::request pending;
  threads::request finished;
  {
    threads::world shared(2);
    threads zero(shared, 0);
    pending = zero.start_sum(&x, 1);
    threads::world alone(1);
    finished = threads(alone, 0).start_sum(&x, 1);
  }
  CHECK(x == 1);
}

TEST_CASE("a communicator that is assigned over leaves its world") {
  threads::world shared(2);
  threads::world other(1);
  threads zero(shared, 0);
  threads one(shared, 1);
  zero = threads(other, 0);
  CHECK(zero.size() == 1);
  double x = 0;
  CHECK_THROWS_AS(detail::sum_now(one, std::span(&x, 1)), communication_error);
}
