// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/core/workspace.hpp"

#include "support/catch.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <span>
#include <utility>
#include <vector>

using namespace dpopt;

TEST_CASE("arrays taken in one scope do not overlap and start on a cache line") {
  workspace w;
  const workspace::scope scope(w);
  double* a = w.take<double>(3);
  float* b = w.take<float>(1000);
  std::int64_t* c = w.take<std::int64_t>(1);
  std::fill_n(a, 3, 1.5);
  std::fill_n(b, 1000, 2.5F);
  std::fill_n(c, 1, 7);
  CHECK(std::all_of(a, a + 3, [](double x) { return x == 1.5; }));
  CHECK(std::all_of(b, b + 1000, [](float x) { return x == 2.5F; }));
  CHECK(*c == 7);
  for (const void* p : {static_cast<void*>(a), static_cast<void*>(b), static_cast<void*>(c)})
    CHECK(reinterpret_cast<std::uintptr_t>(p) % 64 == 0);
}

TEST_CASE("a step that asks for what the last one asked for gets the memory that the second one got") {
  workspace w;
  const auto step = [&w] {
    const workspace::scope scope(w);
    return std::pair{static_cast<void*>(w.take<double>(100)), static_cast<void*>(w.take<float>(7))};
  };
  static_cast<void>(step());
  const auto second = step();
  CHECK(step() == second);
  CHECK(step() == second);
}

TEST_CASE("smaller requests reuse the memory of larger ones") {
  workspace w;
  const auto ask = [&w](isize n) {
    const workspace::scope scope(w);
    return w.take<double>(n);
  };
  static_cast<void>(ask(1000));
  double* const large = ask(1000);
  CHECK(ask(10) == large);
  CHECK(ask(1000) == large);
}

TEST_CASE("an inner scope gives back only what it took itself") {
  workspace w;
  { // the block grows to what is needed below
    const workspace::scope scope(w);
    static_cast<void>(w.take<double>(100));
  }
  const workspace::scope outer(w);
  double* const mine = w.take<double>(4);
  std::fill_n(mine, 4, 3.0);
  double* inner_memory = nullptr;
  {
    const workspace::scope inner(w);
    inner_memory = w.take<double>(4);
    CHECK(inner_memory != mine);
    std::fill_n(inner_memory, 4, -1.0);
  }
  CHECK(w.take<double>(4) == inner_memory);
  CHECK(std::all_of(mine, mine + 4, [](double x) { return x == 3.0; }));
}

TEST_CASE("memory that is still in use stays where it is while more is taken") {
  workspace w;
  const workspace::scope scope(w);
  double* const early = w.take<double>(2);
  early[0] = 1;
  early[1] = 2;
  for (int i = 0; i < 100; ++i) std::fill_n(w.take<double>(50), 50, 9.0);
  CHECK(early[0] == 1);
  CHECK(early[1] == 2);
}

TEST_CASE("bytes() is the most in use at a time, and memory of that size is enough wherever it starts") {
  const auto use = [](workspace& w) {
    const workspace::scope outer(w);
    static_cast<void>(w.take<double>(8));
    for (const isize n : {1000, 10, 2000}) { // one after the other, not together
      const workspace::scope inner(w);
      static_cast<void>(w.take<double>(n));
    }
  };
  workspace first;
  CHECK(first.bytes() == 0);
  use(first);
  const isize needed = first.bytes();
  CHECK(needed == 64 + 16000 + 63);
  use(first);
  CHECK(first.bytes() == needed);

  std::vector<std::byte> memory(static_cast<std::size_t>(needed) + 1);
  for (const std::size_t start : {std::size_t{0}, std::size_t{1}}) {
    workspace given(std::span<std::byte>(memory).subspan(start, static_cast<std::size_t>(needed)));
    use(given);
    CHECK(given.bytes() == needed);
    const workspace::scope scope(given);
    const auto* const at = reinterpret_cast<const std::byte*>(given.take<double>(2008));
    CHECK((at >= memory.data() && at + 2008 * 8 <= memory.data() + memory.size()));
  }
  workspace small(std::span<std::byte>(memory).first(500));
  use(small);
  CHECK(small.bytes() == needed); // the rest came from the heap
  small.use(memory);
  CHECK(small.bytes() == needed);
  const workspace::scope scope(small);
  CHECK(reinterpret_cast<const std::byte*>(small.take<double>(100)) < memory.data() + 64);
}

TEST_CASE("the block grows for what only an inner scope needed, once the outer one has ended") {
  workspace w;
  { // a block that holds the outer scope's array and not the inner one's
    const workspace::scope scope(w);
    static_cast<void>(w.take<double>(8));
  }
  const auto step = [&w] {
    const workspace::scope outer(w);
    const double* const first = w.take<double>(8);
    const workspace::scope inner(w);
    return std::pair{reinterpret_cast<std::uintptr_t>(first), reinterpret_cast<std::uintptr_t>(w.take<double>(1000))};
  };
  static_cast<void>(step());
  const auto [outer, inner] = step();
  CHECK(inner == outer + 64); // one behind the other: in the block, and not from the heap again
}

TEST_CASE("an array that there is no memory for leaves the workspace as it was") {
  workspace w;
  { // a block with room for what is taken below
    const workspace::scope scope(w);
    static_cast<void>(w.take<double>(16));
  }
  const isize needed = w.bytes();
  for (const isize n : {isize{-1}, isize{1} << 60, std::numeric_limits<isize>::max()}) {
    const workspace::scope scope(w);
    CHECK_THROWS_AS(w.take<double>(n), std::bad_alloc);
    CHECK(w.bytes() == needed);
    const auto first = reinterpret_cast<std::uintptr_t>(w.take<double>(4));
    CHECK(reinterpret_cast<std::uintptr_t>(w.take<double>(4)) == first + 64);
  }
}

TEST_CASE("an array of no elements can be taken") {
  workspace w;
  const workspace::scope scope(w);
  static_cast<void>(w.take<double>(0));
  double* const next = w.take<double>(1);
  *next = 4;
  CHECK(*next == 4);
}
