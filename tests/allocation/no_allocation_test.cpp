// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// compiled alone: it replaces operator new.
#include "dpopt/accumulation/compensated_sum.hpp"
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/accumulation/running_sum.hpp"
#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/norm_quantiles.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/communication/threads.hpp"
#include "dpopt/dp_optimizer/contributions.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/bias.hpp"
#include "dpopt/gradients/callback.hpp"
#include "dpopt/gradients/convolution_weight.hpp"
#include "dpopt/gradients/embedding.hpp"
#include "dpopt/gradients/linear_sequence.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/gradients/normalization_weight.hpp"
#include "dpopt/gradients/preconditioned.hpp"
#include "dpopt/gradients/tied.hpp"
#include "dpopt/gradients/tied_embedding.hpp"
#include "dpopt/gradients/units.hpp"
#include "dpopt/noise/banded.hpp"
#include "dpopt/noise/correlated.hpp"
#include "dpopt/noise/placement.hpp"
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/exponential_average.hpp"
#include "dpopt/sodium/hardened_gaussian.hpp"

#include "support/catch.hpp"
#include "support/random_numbers.hpp"
#include "support/ranks.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <limits>
#include <new>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace {

thread_local std::size_t allocations = 0; // of this thread: a rank counts its own
thread_local std::size_t refused = 0;     // bytes that there is no memory for

void* counted(std::size_t bytes, std::size_t alignment) {
  ++allocations;
  if (bytes > 0 && bytes == refused) throw std::bad_alloc();
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
template <class Step>
std::size_t allocations_after_the_first_step(const Step& step) {
  step();
  const std::size_t before = allocations;
  for (int i = 0; i < 3; ++i) step();
  return allocations - before;
}
template <class Optimizer, class Source>
std::size_t allocations_after_the_first_step(Optimizer& opt, const layer& l, const Source& weight) {
  return allocations_after_the_first_step([&] { step(opt, l, weight); });
}

/// A convolution, a linear layer over a sequence and an embedding.
struct deep_network {
  static constexpr isize samples = 8, positions = 16, inputs = 12, outputs = 10, vocabulary = 50, dimension = 6;
  static constexpr convolution_geometry geometry{
      .input_channels = 3, .output_channels = 8, .input_size = {8, 8}, .kernel_size = {3, 3}, .padding = {1, 1}};
  std::vector<float> of_convolution = std::vector<float>(8 * 27), of_sequence = std::vector<float>(inputs * outputs),
                     of_embedding = std::vector<float>(vocabulary * dimension);
  std::vector<float> images = test::random_numbers<float>(samples * 3 * 64, 1);
  std::vector<float> of_images = test::random_numbers<float>(samples * 8 * 64, 2);
  std::vector<float> sequences = test::random_numbers<float>(samples * positions * inputs, 3);
  std::vector<float> of_sequences = test::random_numbers<float>(samples * positions * outputs, 4);
  std::vector<float> looked_up = test::random_numbers<float>(samples * positions * dimension, 5);
  std::vector<std::int32_t> tokens = std::vector<std::int32_t>(samples * positions, 7);

  [[nodiscard]] std::vector<parameter_view<float>> views() {
    return {{"convolution", of_convolution}, {"sequence", of_sequence}, {"embedding", of_embedding}};
  }
  template <class Optimizer>
  [[nodiscard]] std::size_t allocations_of(Optimizer& opt) const {
    return allocations_after_the_first_step([&] {
      for (const bool last : {false, true}) {
        opt.begin({.samples = samples, .last = last, .ends_batch = last});
        opt.gradient_ready(
            2, embedding<float>(tokens.data(), looked_up.data(), samples, positions, vocabulary, dimension));
        opt.gradient_ready(
            1, linear_sequence<float>{sequences.data(), of_sequences.data(), samples, positions, inputs, outputs});
        opt.gradient_ready(0, convolution_weight<float>(images.data(), of_images.data(), samples, geometry));
      }
      opt.step();
    });
  }
};

counter_gaussian some_noise() { return {.noise_multiplier = 1.0, .seed = 3}; }

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

TEST_CASE("no step after the first allocates: a convolution, a sequence and an embedding, clipped together") {
  for (const isize room : {isize{0}, isize{3000}, isize{1} << 20}) {
    deep_network net;
    dp_optimizer opt(net.views(), dp_options{}, flat{1.0}, adam{}, some_noise(), expected_batch{8});
    opt.keep_rows(room);
    INFO("keep_rows(" << room << ")");
    CHECK(net.allocations_of(opt) == 0);
    CHECK_THROWS_WITH(opt.keep_rows(-1), "keep_rows: -1 bytes; give 0 or more");
  }
}

TEST_CASE("a step for which there is no memory to keep rows in goes on without, with the same numbers") {
  deep_network nets[2];
  for (deep_network& net : nets) {
    dp_optimizer opt(net.views(), dp_options{}, flat{1.0}, adam{}, some_noise(), expected_batch{8});
    const std::size_t rows = deep_network::samples * net.of_sequence.size() * sizeof(float);
    refused = &net == nets ? 0 : rows;
    static_cast<void>(net.allocations_of(opt));
    refused = 0;
    CHECK(opt.updates() == 4);
  }
  CHECK(nets[0].of_sequence == nets[1].of_sequence);
  CHECK(nets[0].of_convolution == nets[1].of_convolution);
}

TEST_CASE("no step after the first allocates: a convolution, a sequence and an embedding, layer by layer") {
  deep_network net;
  dp_optimizer opt(net.views(), dp_options{}, per_layer{1.0}, adam{}, some_noise(), expected_batch{8});
  CHECK(net.allocations_of(opt) == 0);
}

TEST_CASE("no step after the first allocates: on the integer grid") {
  deep_network net;
  dp_optimizer opt(net.views(), dp_options{}, flat{1.0}, adam{}, some_noise(), expected_batch{8}, integer_grid{});
  CHECK(net.allocations_of(opt) == 0);
}

TEST_CASE("no step after the first allocates: a clipper that learns its bounds, with counts of norms around it") {
  deep_network net;
  dp_optimizer opt(net.views(), dp_options{},
                   norm_quantiles{adaptive{per_layer{1.0}, {.count_noise_std = 8, .expected_batch_size = 8}},
                                  {.edges = {0.1, 1, 10}, .count_noise_std = 8}},
                   adam{}, some_noise(), expected_batch{8});
  CHECK(net.allocations_of(opt) == 0);
}

TEST_CASE("no step after the first allocates: exact discrete noise, and correlated noise") {
  layer l;
  dp_optimizer exact(l.views(), dp_options{}, flat{1.0}, hardened_gaussian{1.0}, integer_grid{}, expected_batch{20});
  CHECK(allocations_after_the_first_step(exact, l, l.materialized_weight()) == 0);
  layer m;
  dp_optimizer correlation(m.views(), dp_options{}, flat{1.0},
                           correlated(some_noise(), banded(square_root_coefficients(3)), run_plan::once(9)),
                           expected_batch{20});
  CHECK(allocations_after_the_first_step(correlation, m, m.materialized_weight()) == 0);
}

TEMPLATE_TEST_CASE("no step after the first allocates on two ranks that share the noise out", "", independent_shares,
                   sharded) {
  std::size_t counted[2] = {};
  test::rethrow_first(test::run_ranks(2, [&](threads comm) {
    std::size_t& mine = counted[comm.rank()];
    layer l;
    dp_optimizer opt(l.views(), dp_options{}, flat{1.0}, some_noise(), TestType{}, expected_batch{20}, std::move(comm));
    mine = allocations_after_the_first_step(opt, l, l.materialized_weight());
  }));
  CHECK(counted[0] == 0);
  CHECK(counted[1] == 0);
}

TEST_CASE("no step after the first allocates on two ranks, which compare the base optimizer's options") {
  std::size_t counted[2] = {};
  test::rethrow_first(test::run_ranks(2, [&](threads comm) {
    std::size_t& mine = counted[comm.rank()];
    deep_network net;
    dp_optimizer opt(net.views(), dp_options{}, flat{1.0}, exponential_average<adam>{}, some_noise(), expected_batch{8},
                     std::move(comm));
    mine = net.allocations_of(opt);
  }));
  CHECK(counted[0] == 0);
  CHECK(counted[1] == 0);
}

namespace {

/// Every source, of two samples with two positions each, over numbers that a step may change.
struct every_source {
  static constexpr isize samples = 2, width = 64, rows = 48, size = width * rows;
  static constexpr convolution_geometry geometry{
      .input_channels = width, .output_channels = rows, .input_size = {2}, .kernel_size = {1}};
  static constexpr convolution_geometry depthwise{
      .input_channels = width, .output_channels = width, .input_size = {2}, .kernel_size = {1}, .groups = width};
  enum class numbers { random, cancelling, not_finite };

  std::vector<float> a = std::vector<float>(2 * samples * width), e = std::vector<float>(2 * samples * rows), // by row
      a_first = a, e_first = e, // channels first
      written = test::random_numbers<float>(2 * samples * size, 3);
  std::vector<double> divisors = std::vector<double>(size, 2.0);
  std::vector<std::int32_t> tokens = std::vector<std::int32_t>(samples * 6);
  std::function<void(isize, double*)> write = [this](isize i, double* g) {
    std::copy_n(written.begin() + i * size, size, g);
  };

  void fill(numbers how) {
    const auto of = [how](std::vector<float>& by_row, std::vector<float>& first, isize n, int seed, float again) {
      std::ranges::copy(test::random_numbers<float>(std::ssize(by_row), seed), by_row.begin()); // views stay valid
      for (std::size_t k = 0; k < by_row.size(); ++k) {
        const std::size_t t = k / static_cast<std::size_t>(n) % 2;
        if (how == numbers::cancelling && t == 1) by_row[k] = again * by_row[k - static_cast<std::size_t>(n)];
        if (how == numbers::not_finite) by_row[k] = std::numeric_limits<float>::quiet_NaN();
        const std::size_t i = k / static_cast<std::size_t>(2 * n), c = k % static_cast<std::size_t>(n);
        first[(i * static_cast<std::size_t>(n) + c) * 2 + t] = by_row[k];
      }
    };
    of(a, a_first, width, 1, 1);
    of(e, e_first, rows, 2, -1);
    for (std::size_t k = 0; k < tokens.size(); ++k) // padding, different tokens or repeated ones
      tokens[k] = how == numbers::random ? -1 : how == numbers::cancelling ? static_cast<std::int32_t>(k % 6) : 7;
  }

  template <class A>
  [[nodiscard]] std::vector<deferred_source<A>> views() {
    const linear_weight<float> linear{a.data(), e.data(), 2 * samples, width, rows};
    const linear_sequence<float> sequence{a.data(), e.data(), samples, 2, width, rows};
    const convolution_weight<float> convolution(a_first.data(), e_first.data(), samples, geometry);
    const callback function(write, samples, size);
    const embedding<float> looked_up(tokens.data(), written.data(), samples, 6, rows, width, -1);
    const auto from = [](const auto& s) { return deferred_source<A>(s); };
    return {
        from(materialized<float>(written.data(), samples, size)),
        from(linear_weight<float>{a.data(), e.data(), samples, width, rows}),
        from(sequence),
        from(convolution),
        from(convolution_weight<float>(a_first.data(), written.data(), samples, depthwise)),
        from(looked_up),
        from(tied_embedding<float>{tokens.data(), written.data(), a.data(), e.data(), samples, 6, 2, rows, width, -1}),
        from(bias(e.data(), channel_layout::channels_last(samples, 2, rows))),
        from(normalization_weight(e.data(), e.data(), channel_layout::channels_last(samples, 2, rows))),
        from(function),
        from(tied{function, looked_up}),
        from(tied{convolution, function}),
        from(averaged_views(linear, 2)),
        from(averaged_views(callback(write, 2 * samples, size), 2)),
        from(preconditioned(convolution, std::span<const double>(divisors)))};
  }

  /// Of steps with other numbers, after a first one with `first`.
  template <class A, class C>
  [[nodiscard]] std::size_t allocations_after(numbers first, const C& clipper) {
    std::vector<deferred_source<A>> sources = views<A>();
    std::vector<parameter_info> infos;
    std::vector<isize> offsets;
    isize total = 0;
    for (const auto& s : sources) {
      infos.push_back({"p", s.size()}), offsets.push_back(total);
      total += s.size();
    }
    contributions<C, A> sum(clipper, A{});
    sum.bind(infos, offsets);
    const auto step = [&] {
      sum.begin({.samples = samples});
      for (std::size_t p = 0; p < sources.size(); ++p) sum.add(static_cast<isize>(p), sources[p], [](isize) {});
      sum.clear_sum();
      sum.forget();
    };
    fill(first);
    step();
    std::size_t after = 0;
    for (const numbers how : {numbers::random, numbers::cancelling, numbers::not_finite}) {
      fill(how);
      const std::size_t before = allocations;
      step();
      after += allocations - before;
    }
    return after;
  }
};

} // namespace

TEST_CASE("no step after the first allocates for any source, whatever its numbers are") {
  for (const auto first :
       {every_source::numbers::random, every_source::numbers::cancelling, every_source::numbers::not_finite}) {
    every_source s;
    CHECK(s.allocations_after<running_sum<float>>(first, per_layer{1.0}) == 0);
    CHECK(s.allocations_after<running_sum<float>>(first, flat{1.0}) == 0);
    CHECK(s.allocations_after<compensated_sum<float>>(first, flat{1.0}) == 0);
    CHECK(s.allocations_after<integer_grid>(first, flat{1.0}) == 0);
  }
}
