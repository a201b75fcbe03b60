// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Noise of the release, end to end: std = multiplier x sensitivity / divisor, exactly once, whatever the number of
// ranks, of microbatches, the placement and the schedule.
//
// Every statistical comparison is two-sided. With a fixed seed it has significance 1e-6 (|z| < 4.8916); in secure_mode,
// where nothing can be fixed, 1e-9 (|z| < 6.1094), so that the whole file fails by chance less than once in ten million
// runs. With 16009 numbers a std that is 3 % off is found.
#include "support/catch.hpp"

#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/accumulation/running_sum.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/communication/serial.hpp"
#include "dpopt/communication/threads.hpp"
#include "dpopt/dp_optimizer/per_layer_optimizers.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/placement.hpp"
#include "dpopt/noise/sequential_gaussian.hpp"
#include "dpopt/optimizers/sgd.hpp"
#include "dpopt/sodium/secure_gaussian.hpp"
#include "support/ranks.hpp"

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

constexpr double fixed_seed_limit = 4.8916; // two-sided 1e-6
constexpr double secure_limit = 6.1094;     // two-sided 1e-9

constexpr isize sizes[] = {8000, 8000, 9};
const std::vector<double> bounds{1.0, 1.0, 2.0};
const double whole_sensitivity = std::sqrt(6.0); // sqrt(1 + 1 + 4)
constexpr double multiplier = 1.3;
constexpr double expected_per_rank = 5.0;

/// How many standard errors the variance is off: Wilson and Hilferty's cube root of a chi-square is normal to 1e-5
/// here.
double variance_z(const std::vector<double>& x, double std) {
  const double n = static_cast<double>(x.size());
  double chi_square = 0;
  for (const double v : x) chi_square += (v / std) * (v / std);
  const double spread = 2 / (9 * n);
  return (std::cbrt(chi_square / n) - (1 - spread)) / std::sqrt(spread);
}
double mean_z(const std::vector<double>& x, double std) {
  double sum = 0;
  for (const double v : x) sum += v;
  return sum / (std * std::sqrt(static_cast<double>(x.size())));
}
/// Of two independent vectors the sum of products is close to normal.
double product_z(const std::vector<double>& x, const std::vector<double>& y, double std) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
  return sum / (std * std * std::sqrt(static_cast<double>(x.size())));
}
void check_noise(const std::vector<double>& x, double std, double limit = fixed_seed_limit) {
  CHECK(std::abs(variance_z(x, std)) < limit);
  CHECK(std::abs(mean_z(x, std)) < limit);
}

enum class parts { one, three_physical, three_logical };

struct setting {
  int ranks = 1;
  parts split = parts::one;
  loss_reduction reduction = loss_reduction::sum;
  std::uint64_t seed = 1;
  double noise_multiplier = multiplier;
  isize steps = 1;
  bool empty = false; ///< no samples, else zero gradients of two samples in each microbatch
  isize bucket = 8000;

  [[nodiscard]] double divisor() const {
    if (reduction == loss_reduction::sum) return 1;
    return expected_per_rank * ranks * (split == parts::three_logical ? 3 : 1);
  }
};

/// The three parameters and zeros for their gradients.
template <class T>
struct still_model {
  std::vector<std::vector<T>> values, gradients, zeros;
  std::vector<parameter_view<T>> views;

  still_model() {
    static constexpr const char* names[] = {"a", "b", "c"};
    for (const isize n : sizes) {
      values.emplace_back(static_cast<std::size_t>(n));
      gradients.emplace_back(static_cast<std::size_t>(n), T(7));
      zeros.emplace_back(static_cast<std::size_t>(2 * n));
    }
    for (std::size_t p = 0; p < std::size(sizes); ++p) views.push_back({names[p], values[p], gradients[p]});
  }
  [[nodiscard]] std::vector<double> released() const {
    std::vector<double> out;
    for (const auto& g : gradients) out.insert(out.end(), g.begin(), g.end());
    return out;
  }
  template <class Opt>
  void feed(Opt& opt, bool empty, bool last, bool ends) const {
    opt.begin({.samples = empty ? 0 : 2, .last = last, .ends_batch = ends});
    if (empty) return;
    for (isize p = 2; p >= 0; --p)
      opt.gradient_ready(p, materialized<T>(zeros[static_cast<std::size_t>(p)].data(), 2, sizes[p]));
  }
  template <class Opt>
  void step(Opt& opt, const setting& s) const {
    const int count = s.split == parts::one ? 1 : 3;
    for (int m = 1; m <= count; ++m) feed(opt, s.empty, m == count, s.split == parts::three_logical);
    opt.step();
  }
};

using releases = std::vector<std::vector<double>>; // of each step: all parameters

/// Runs s.steps steps of make(views, communicator) on threads; all ranks must release the same.
template <class T, class Make>
releases run(const setting& s, Make make) {
  std::vector<releases> by_rank(static_cast<std::size_t>(s.ranks));
  const auto errors = run_ranks(s.ranks, [&](threads comm) {
    releases& mine = by_rank[static_cast<std::size_t>(comm.rank())];
    const still_model<T> model;
    auto opt = make(model.views, std::move(comm));
    for (isize k = 0; k < s.steps; ++k) {
      model.step(opt, s);
      mine.push_back(model.released());
    }
  });
  rethrow_first(errors);
  for (const releases& r : by_rank) CHECK(r == by_rank[0]);
  return by_rank[0];
}

/// With the default mechanism. sgd that does not move: the fused pass over sum, noise, scale and update.
template <class T, class Placed, class When, class Sum = running_sum<T>>
releases run_counter(const setting& s) {
  return run<T>(s, [&](const auto& views, threads comm) {
    return dp_optimizer(views, dp_options{.bucket_elements = s.bucket}, per_layer{bounds}, std::move(comm), Sum{},
                        Placed{}, counter_gaussian{.noise_multiplier = s.noise_multiplier, .seed = s.seed},
                        expected_batch{per_rank{expected_per_rank}, s.reduction}, When{}, sgd{.learning_rate = 0},
                        no_accountant{});
  });
}

template <class Placed, class When>
void std_is_right_in_every_setting() {
  std::uint64_t seed = 1000;
  for (int ranks = 1; ranks <= 5; ++ranks)
    for (const parts split : {parts::one, parts::three_physical, parts::three_logical})
      for (const loss_reduction reduction : {loss_reduction::mean, loss_reduction::sum}) {
        const setting s{.ranks = ranks, .split = split, .reduction = reduction, .seed = ++seed};
        INFO(ranks << " ranks, split " << static_cast<int>(split) << ", divisor " << s.divisor());
        check_noise(run_counter<double, Placed, When>(s).front(), multiplier * whole_sensitivity / s.divisor());
      }
}

/// A counter_gaussian that writes down what it was asked for.
struct watched_noise {
  using role = roles::noise;
  static constexpr bool addressable = true;
  using draws = std::map<std::tuple<std::uint32_t, std::uint64_t, std::uint32_t, std::uint64_t, double>, int>;

  counter_gaussian inner;
  std::shared_ptr<draws> seen = std::make_shared<draws>(); ///< (lane, step, parameter, element, std) -> times

  [[nodiscard]] double multiplier() const { return inner.multiplier(); }
  void validate() const { inner.validate(); }
  void draw_secret() { inner.draw_secret(); }
  [[nodiscard]] std::span<std::byte> secret() { return inner.secret(); }
  [[nodiscard]] bool reproducible() const { return inner.reproducible(); }
  template <std::floating_point V>
    requires NoiseMechanism<counter_gaussian, V>
  void add(const address& where, double std, V* x, isize count) {
    for (isize i = 0; i < count; ++i)
      ++(*seen)[{where.lane, where.step, where.parameter, where.element + static_cast<std::uint64_t>(i), std}];
    inner.add(where, std, x, count);
  }
  [[nodiscard]] std::string describe() const { return "watched_noise"; }
};

} // namespace

TEST_CASE("the comparisons find a std that is 3 % off, and a mean that is 5 % of a std off") {
  const std::vector<double> x = run_counter<double, replicated, as_ready>({}).front();
  const double std = multiplier * whole_sensitivity;
  check_noise(x, std);
  CHECK(std::abs(variance_z(x, 1.03 * std)) > fixed_seed_limit);
  CHECK(std::abs(variance_z(x, std / 1.03)) > fixed_seed_limit);
  std::vector<double> moved = x;
  for (double& v : moved) v += 0.05 * std;
  CHECK(std::abs(mean_z(moved, std)) > fixed_seed_limit);
}

TEMPLATE_TEST_CASE("noise is there once, for 1 to 5 ranks, 1 and 3 microbatches, mean and sum: replicated", "",
                   as_ready, at_step) {
  std_is_right_in_every_setting<replicated, TestType>();
}
TEMPLATE_TEST_CASE("noise is there once, for 1 to 5 ranks, 1 and 3 microbatches, mean and sum: root_before_reduction",
                   "", as_ready, at_step) {
  std_is_right_in_every_setting<root_before_reduction, TestType>();
}
TEMPLATE_TEST_CASE("noise is there once, for 1 to 5 ranks, 1 and 3 microbatches, mean and sum: independent_shares", "",
                   as_ready, at_step) {
  std_is_right_in_every_setting<independent_shares, TestType>();
}
TEMPLATE_TEST_CASE("noise is there once, for 1 to 5 ranks, 1 and 3 microbatches, mean and sum: sharded", "", as_ready,
                   at_step) {
  std_is_right_in_every_setting<sharded, TestType>();
}

TEMPLATE_TEST_CASE("noise is there once in float too", "", replicated, root_before_reduction, independent_shares,
                   sharded) {
  const setting s{.ranks = 3, .reduction = loss_reduction::mean, .seed = 77};
  check_noise(run_counter<float, TestType, as_ready>(s).front(), multiplier * whole_sensitivity / s.divisor());
  check_noise(run_counter<float, TestType, as_ready, running_sum<double>>(s).front(),
              multiplier * whole_sensitivity / s.divisor());
}

TEST_CASE("noise is there once on the integer grid") {
  const setting s{.ranks = 3, .reduction = loss_reduction::mean, .seed = 78};
  check_noise(run_counter<double, replicated, as_ready, integer_grid>(s).front(),
              multiplier * whole_sensitivity / s.divisor());
}

TEST_CASE("the std follows the sensitivity of the relation and of the clipper, and is what noise_std() says") {
  const auto released = [](auto clipper, neighbouring relation, double expected) {
    const still_model<double> model;
    dp_optimizer opt(model.views, dp_options{.relation = relation}, clipper,
                     counter_gaussian{.noise_multiplier = multiplier, .seed = 5}, expected_batch{across_ranks{10}},
                     sgd{.learning_rate = 0}, no_accountant{});
    model.step(opt, {});
    CHECK(opt.sensitivity() == Approx(expected).epsilon(1e-14));
    CHECK(opt.noise_std() == Approx(multiplier * expected / 10).epsilon(1e-14));
    check_noise(model.released(), multiplier * expected / 10);
  };
  released(per_layer{bounds}, neighbouring::add_remove, whole_sensitivity);
  released(per_layer{bounds}, neighbouring::zero_out, whole_sensitivity);
  released(per_layer{bounds}, neighbouring::replace_one, 2 * whole_sensitivity);
  released(flat{0.7}, neighbouring::add_remove, 0.7);
  released(flat{0.7}, neighbouring::replace_one, 1.4);
}

TEST_CASE("noise differs from step to step and from parameter to parameter, and its numbers are unrelated") {
  const double std = multiplier * whole_sensitivity;
  const setting s{.ranks = 2, .seed = 31, .steps = 3};
  const auto check_steps = [&](const releases& steps) {
    const auto part = [&](std::size_t step, std::size_t p) {
      const auto begin = steps[step].begin() + static_cast<std::ptrdiff_t>(8000 * p);
      return std::vector<double>(begin, begin + 8000);
    };
    for (std::size_t k = 0; k < 3; ++k) {
      check_noise(steps[k], std);
      CHECK(std::abs(product_z(part(k, 0), part(k, 1), std)) < fixed_seed_limit);
      CHECK(std::abs(product_z(part(k, 0), part((k + 1) % 3, 0), std)) < fixed_seed_limit);
      CHECK(std::abs(product_z(part(k, 0), part((k + 1) % 3, 1), std)) < fixed_seed_limit);
    }
    CHECK(std::abs(product_z(part(0, 0), part(0, 0), std)) > fixed_seed_limit); // what a repetition would look like
  };
  check_steps(run_counter<double, replicated, as_ready>(s));
  check_steps(run_counter<double, root_before_reduction, as_ready>(s));
  check_steps(run_counter<double, independent_shares, as_ready>(s));
}

TEST_CASE("the same seed gives the same noise, another seed other noise") {
  const setting s{.ranks = 2, .seed = 40, .steps = 2};
  setting other = s;
  other.seed = 41;
  const auto check_seed = [&](auto runner) {
    const releases a = runner(s);
    CHECK(a == runner(s));
    const releases b = runner(other);
    CHECK(a[0] != b[0]);
    CHECK(std::abs(product_z(a[0], b[0], multiplier * whole_sensitivity)) < fixed_seed_limit);
  };
  check_seed([](const setting& x) { return run_counter<double, replicated, as_ready>(x); });
  check_seed([](const setting& x) { return run_counter<double, root_before_reduction, as_ready>(x); });
  check_seed([](const setting& x) { return run_counter<double, independent_shares, as_ready>(x); });
}

TEST_CASE("a random seed is the default: two runs differ") {
  const auto released = [] {
    const still_model<double> model;
    dp_optimizer opt(model.views, dp_options{}, per_layer{bounds}, counter_gaussian{.noise_multiplier = multiplier},
                     unscaled{});
    model.step(opt, {});
    CHECK_FALSE(opt.reproducible());
    return model.released();
  };
  CHECK(released() != released());
}

TEST_CASE("noise drawn alike everywhere does not depend on ranks, microbatches, buckets, schedule or placement") {
  const std::vector<double> one = run_counter<double, replicated, as_ready>({.seed = 50}).front();
  for (const int ranks : {2, 5}) {
    const setting s{.ranks = ranks, .split = parts::three_physical, .seed = 50, .bucket = 20000 / ranks};
    CHECK(run_counter<double, replicated, at_step>(s).front() == one);
    CHECK(run_counter<double, root_before_reduction, as_ready>(s).front() == one);
  }
}

TEST_CASE("an empty batch gets the noise that a full one gets") {
  for (const int ranks : {1, 3}) {
    const setting full{.ranks = ranks, .seed = 60, .steps = 2};
    setting empty = full;
    empty.empty = true;
    CHECK(run_counter<double, replicated, as_ready>(empty) == run_counter<double, replicated, as_ready>(full));
    CHECK(run_counter<double, independent_shares, at_step>(empty) ==
          run_counter<double, independent_shares, at_step>(full));
  }
}

TEST_CASE("multiplier 0 adds nothing at all") {
  const setting s{.ranks = 2, .noise_multiplier = 0};
  const std::vector<double> nothing(16009, 0.0);
  CHECK(run_counter<double, replicated, as_ready>(s).front() == nothing);
  CHECK(run_counter<double, root_before_reduction, as_ready>(s).front() == nothing);
  CHECK(run_counter<double, independent_shares, as_ready>(s).front() == nothing);
}

TEST_CASE("a step draws one number an element, at addresses of its own, and a skipped step draws none") {
  const still_model<double> model;
  const watched_noise noise{{.noise_multiplier = multiplier, .seed = 3}};
  dp_optimizer opt(model.views, dp_options{}, per_layer{bounds}, noise, unscaled{}, no_accountant{});
  const double std = multiplier * opt.sensitivity();
  opt.signal_skip_step();
  model.feed(opt, false, true, false);
  CHECK_FALSE(opt.step());
  opt.signal_skip_step();
  model.feed(opt, false, true, false);
  CHECK_FALSE(opt.pre_step());
  CHECK(noise.seen->empty());

  model.feed(opt, false, true, false);
  CHECK(opt.pre_step());
  CHECK(opt.step()); // the update alone
  model.step(opt, {.split = parts::three_logical});
  int once = 0;
  int more = 0;
  for (const auto& [where, times] : *noise.seen)
    if (std::get<4>(where) == std) (times == 1 ? once : more) += 1; // other std: numbers thrown away
  CHECK(once == 2 * 16009);
  CHECK(more == 0);
}

TEST_CASE("add_noise() adds it once, scale_grad() divides, and step() adds no more") {
  const still_model<double> model;
  dp_optimizer opt(model.views, dp_options{}, per_layer{bounds},
                   counter_gaussian{.noise_multiplier = multiplier, .seed = 9}, expected_batch{across_ranks{20}},
                   sgd{.learning_rate = 0}, no_accountant{});
  model.feed(opt, false, true, false);
  opt.add_noise();
  const std::vector<double> sum = model.released();
  check_noise(sum, multiplier * whole_sensitivity);
  CHECK_THROWS_AS(opt.add_noise(), state_error);
  CHECK(model.released() == sum);
  opt.scale_grad();
  CHECK_THROWS_AS(opt.scale_grad(), state_error);
  std::vector<double> divided = sum;
  for (double& v : divided) v /= 20;
  CHECK(model.released() == divided);
  CHECK(opt.step());
  CHECK(model.released() == divided);
}

// ---- secure mode ----------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("secure_gaussian is there once with every placement", "", replicated, root_before_reduction,
                   independent_shares, sharded) {
  const setting s{.ranks = 3, .split = parts::three_physical, .reduction = loss_reduction::mean, .steps = 2};
  const double std = multiplier * whole_sensitivity / s.divisor();
  const auto secure = [&] {
    return run<double>(s, [&](const auto& views, threads comm) {
      return dp_optimizer(views, dp_options{.bucket_elements = 8000}, per_layer{bounds}, std::move(comm), TestType{},
                          secure_gaussian{.noise_multiplier = multiplier},
                          expected_batch{per_rank{expected_per_rank}, s.reduction}, sgd{.learning_rate = 0},
                          no_accountant{});
    });
  };
  const releases a = secure();
  for (const auto& x : a) check_noise(x, std, secure_limit);
  CHECK(std::abs(product_z(a[0], a[1], std)) < secure_limit);
  const releases b = secure();
  CHECK(std::abs(product_z(a[0], b[0], std)) < secure_limit);
  CHECK(a[0] != b[0]);
}

TEST_CASE("both seed classes have the noise once, with secure_mode and with a generator") {
  for (const int ranks : {1, 2, 3})
    for (const bool secure : {true, false}) {
      const setting s{.ranks = ranks, .reduction = loss_reduction::mean, .steps = 2};
      const double std = multiplier * whole_sensitivity / s.divisor();
      per_layer_options o{.noise_multiplier = multiplier,
                          .max_grad_norm = bounds,
                          .expected_batch_size = expected_per_rank,
                          .secure_mode = secure};
      if (!secure) o.generator = philox_generator{static_cast<std::uint64_t>(ranks)};
      const double limit = secure ? secure_limit : fixed_seed_limit;
      const releases ready = run<double>(s, [&](const auto& views, threads comm) {
        return distributed_per_layer_optimizer(views, sgd{.learning_rate = 0}, o, std::move(comm), no_accountant{});
      });
      const releases late = run<double>(s, [&](const auto& views, threads comm) {
        return simple_distributed_per_layer_optimizer(views, sgd{.learning_rate = 0}, o, std::move(comm),
                                                      no_accountant{});
      });
      for (const auto& x : ready) check_noise(x, std, limit);
      for (const auto& x : late) check_noise(x, std, limit);
      CHECK((ready == late) == !secure);
    }
}

// ---- the user's own generator ---------------------------------------------------------------------------------------

TEST_CASE("a sequential generator at the root gives the noise once, and a skipped step takes nothing from it") {
  for (const int ranks : {1, 2, 4}) {
    const setting s{.ranks = ranks, .reduction = loss_reduction::mean, .steps = 2};
    const double std = multiplier * whole_sensitivity / s.divisor();
    const auto with_skips = [&](bool skips) {
      std::vector<releases> by_rank(static_cast<std::size_t>(ranks));
      rethrow_first(run_ranks(ranks, [&](threads comm) {
        releases& mine = by_rank[static_cast<std::size_t>(comm.rank())];
        const still_model<double> model;
        dp_optimizer opt(model.views, dp_options{.bucket_elements = 8000}, per_layer{bounds}, std::move(comm),
                         root_before_reduction{}, sequential_gaussian(multiplier, std::mt19937_64(12)),
                         expected_batch{per_rank{expected_per_rank}, s.reduction}, sgd{.learning_rate = 0},
                         no_accountant{});
        for (isize k = 0; k < s.steps; ++k) {
          if (skips) {
            opt.signal_skip_step();
            model.feed(opt, false, true, false);
            opt.step();
          }
          model.step(opt, s);
          mine.push_back(model.released());
        }
      }));
      for (const releases& r : by_rank) CHECK(r == by_rank[0]);
      return by_rank[0];
    };
    const releases plain = with_skips(false);
    for (const auto& x : plain) check_noise(x, std);
    CHECK(std::abs(product_z(plain[0], plain[1], std)) < fixed_seed_limit);
    CHECK(with_skips(true) == plain);
  }
}

TEST_CASE("a run with the user's generator is called reproducible, one with a secret is not") {
  const still_model<double> model;
  const auto statement = [&](auto noise) {
    dp_optimizer opt(model.views, dp_options{}, per_layer{bounds}, root_before_reduction{}, noise, unscaled{});
    CHECK(opt.reproducible() == (opt.privacy_statement(1e-5).find("reproducible run") != std::string::npos));
    return opt.reproducible();
  };
  CHECK(statement(counter_gaussian{.noise_multiplier = 1, .seed = 3}));
  CHECK(statement(sequential_gaussian(1.0, std::mt19937_64(3))));
  CHECK_FALSE(statement(counter_gaussian{.noise_multiplier = 1}));
  CHECK_FALSE(statement(secure_gaussian{.noise_multiplier = 1}));
}
