// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A program of its own, because it replaces operator new.
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/optimizers/adam.hpp"

#include "support/catch.hpp"
#include "support/random_numbers.hpp"

#include <cstddef>
#include <cstdlib>
#include <new>
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

/// How often each of three steps after the first calls operator new.
template <class Optimizer, class Source>
std::size_t allocations_after_the_first_step(Optimizer& opt, const layer& l, const Source& weight) {
  const auto step = [&] {
    for (const bool last : {false, true}) { // in two microbatches
      opt.begin({.samples = batch, .last = last, .ends_batch = last});
      opt.gradient_ready(1, materialized<float>(l.derivatives.data(), batch, outputs));
      opt.gradient_ready(0, weight);
    }
    opt.step();
  };
  step();
  const std::size_t before = allocations;
  for (int i = 0; i < 3; ++i) step();
  return allocations - before;
}

} // namespace

TEST_CASE("this program counts what operator new hands out") {
  const std::size_t before = allocations;
  const std::vector<int> numbers(100);
  CHECK(allocations == before + 1);
  CHECK(numbers.size() == 100);
}

TEST_CASE("no step after the first allocates: factored gradients clipped together") {
  layer l;
  dp_optimizer opt(l.views(), dp_options{}, flat{1.0}, adam{}, counter_gaussian{.noise_multiplier = 1.0},
                   expected_batch{20});
  CHECK(allocations_after_the_first_step(opt, l, l.factored()) == 0);
}

TEST_CASE("no step after the first allocates: materialized gradients clipped layer by layer") {
  layer l;
  dp_optimizer opt(l.views(), dp_options{}, per_layer{1.0}, sgd{}, counter_gaussian{.noise_multiplier = 1.0},
                   expected_batch{20}, running_sum<double>{});
  CHECK(allocations_after_the_first_step(opt, l, l.materialized_weight()) == 0);
}

TEST_CASE("scratch memory can be asked for its size and given by the user, and then comes from nowhere else") {
  layer l;
  const auto use = [&](workspace& scratch) {
    const workspace::scope scope(scratch);
    std::vector<float> sum(static_cast<std::size_t>(inputs * outputs), 0.0F);
    const std::vector<double> factors(static_cast<std::size_t>(batch), 0.5);
    const std::size_t before = allocations;
    l.factored().add_weighted_sum({0, batch}, factors.data(), sum.data(), scratch);
    return allocations - before;
  };
  workspace first;
  CHECK(first.bytes() == 0);
  CHECK(use(first) > 0);
  const isize needed = first.bytes();
  CHECK(needed > 0);
  CHECK(use(first) == 0);
  CHECK(first.bytes() == needed);

  std::vector<std::byte> memory(static_cast<std::size_t>(needed));
  workspace lent(memory);
  CHECK(use(lent) == 0);
  CHECK(lent.bytes() == needed);
}
