// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// compiled alone: it replaces operator new.
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/optimizers/adam.hpp"

#include "support/catch.hpp"
#include "support/random_numbers.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <span>
#include <vector>

namespace {

std::size_t allocations = 0;

void* counted(std::size_t bytes, std::size_t alignment) {
  ++allocations;
  void* const p = alignment <= alignof(std::max_align_t)
                      ? std::malloc(bytes == 0 ? 1 : bytes)
                      : std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

} // namespace

void* operator new(std::size_t n) { return counted(n, 1); }
void* operator new[](std::size_t n) { return counted(n, 1); }
void* operator new(std::size_t n, const std::nothrow_t& /*tag*/) noexcept {
  ++allocations;
  return std::malloc(n == 0 ? 1 : n);
}
void* operator new(std::size_t n, std::align_val_t a) { return counted(n, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t n, std::align_val_t a) { return counted(n, static_cast<std::size_t>(a)); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t& /*tag*/) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

using namespace dpopt;

namespace {

constexpr isize batch = 20, inputs = 30, outputs = 7;

/// One linear layer with bias, its numbers, and the views of them that a trainer hands over.
struct layer {
  std::vector<float> w = std::vector<float>(static_cast<std::size_t>(inputs * outputs));
  std::vector<float> b = std::vector<float>(static_cast<std::size_t>(outputs));
  std::vector<float> activations = test::random_numbers<float>(batch * inputs, 1);
  std::vector<float> derivatives = test::random_numbers<float>(batch * outputs, 2);
  std::vector<float> written_out = test::random_numbers<float>(batch * inputs * outputs, 3);

  [[nodiscard]] std::vector<parameter_view<float>> views() { return {{"w", w}, {"b", b}}; }
  [[nodiscard]] auto factored() const {
    return linear_weight<float>{activations.data(), derivatives.data(), batch, inputs, outputs};
  }
  [[nodiscard]] auto materialized_weight() const {
    return materialized<float>(written_out.data(), batch, inputs * outputs);
  }
};

template <class Optimizer, class Source>
void step(Optimizer& opt, const layer& l, const Source& weight) {
  for (const bool last : {false, true}) { // in two microbatches
    opt.begin({.samples = batch, .last = last, .ends_batch = last});
    opt.gradient_ready(1, materialized<float>(l.derivatives.data(), batch, outputs));
    opt.gradient_ready(0, weight);
  }
  opt.step();
}

/// How often three steps after the first call operator new.
template <class Optimizer, class Source>
std::size_t allocations_after_the_first_step(Optimizer& opt, const layer& l, const Source& weight) {
  step(opt, l, weight);
  const std::size_t before = allocations;
  for (int i = 0; i < 3; ++i) step(opt, l, weight);
  return allocations - before;
}

} // namespace

TEST_CASE("this program counts what operator new hands out") {
  const std::size_t before = allocations;
  const std::vector<int> numbers(100);
  CHECK(allocations == before + 1);
  CHECK(numbers.size() == 100);
}

TEST_CASE("no step after the first allocates: materialized gradients clipped layer by layer") {
  layer l;
  dp_optimizer opt(l.views(), dp_options{}, per_layer{1.0}, sgd{}, counter_gaussian{.noise_multiplier = 1.0},
                   expected_batch{20}, running_sum<double>{});
  CHECK(allocations_after_the_first_step(opt, l, l.materialized_weight()) == 0);
}

TEST_CASE("no step after the first allocates, and scratch memory may be the user's: factored, clipped together") {
  const auto make = [](layer& l) {
    return dp_optimizer(l.views(), dp_options{}, flat{1.0}, adam{},
                        counter_gaussian{.noise_multiplier = 1.0, .seed = 3}, expected_batch{20});
  };
  layer l;
  auto opt = make(l);
  CHECK(opt.workspace_bytes() == 0);
  CHECK(allocations_after_the_first_step(opt, l, l.factored()) == 0);
  const isize needed = opt.workspace_bytes();
  CHECK(needed > 0);

  std::vector<std::byte> memory(static_cast<std::size_t>(needed), std::byte{7});
  layer other;
  auto given = make(other);
  given.use_workspace(memory); // before the first step, by the size of an earlier run
  CHECK(allocations_after_the_first_step(given, other, other.factored()) == 0);
  CHECK(given.workspace_bytes() == needed);
  CHECK(std::ranges::any_of(memory, [](std::byte b) { return b != std::byte{7}; })); // it was used
  CHECK(other.w == l.w);

  CHECK_THROWS_WITH(
      given.use_workspace(std::span(memory).first(100)),
      message("use_workspace: 100 bytes were given, the steps so far needed ", needed, "; give that many"));

  layer third;
  auto short_of = make(third);
  short_of.use_workspace(std::span(memory).first(100)); // nobody knows the need yet
  CHECK(allocations_after_the_first_step(short_of, third, third.factored()) > 0);
  CHECK(short_of.workspace_bytes() == needed); // more than was given, which says why
  CHECK(third.w == l.w);

  given.use_workspace({});
  step(given, other, other.factored());
  step(opt, l, l.factored());
  CHECK(other.w == l.w);
}
