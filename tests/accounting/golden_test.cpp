// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// What other packages and 30-digit arithmetic give for the RDP accountant's questions. tests/golden/README.md says what
// each field is; a row is used for the fields that it has.
#include "dpopt/accounting/analytic_gaussian.hpp"
#include "dpopt/accounting/calibration.hpp"
#include "dpopt/accounting/rdp.hpp"
#include "dpopt/accounting/rdp_accountant.hpp"
#include "dpopt/noise/banded.hpp"
#include "dpopt/noise/blt_parameters.hpp"
#include "dpopt/noise/discrete_gaussian.hpp"
#include "dpopt/noise/run_plan.hpp"
#include "dpopt/noise/strategy_search.hpp"
#include "dpopt/noise/toeplitz.hpp"
#include "dpopt/noise/tree.hpp"
#include "support/catch.hpp"
#include "support/discrete_law.hpp"
#include "support/golden_files.hpp"
#include "support/strategies.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

using namespace dpopt;
using namespace dpopt::testing;
using nlohmann::json;

namespace {

std::vector<golden_file> files() { return load_golden_files("DPOPT_GOLDEN_ACCOUNTING", DPOPT_TEST_DATA "/accounting"); }

// Calls f(row) for every row of every file with this name. A folder need not hold each kind of file.
template <class F>
void for_each_row(const std::string& name, F&& f) {
  int rows = 0;
  for (const golden_file& file : files()) {
    if (file.content.value("name", "") != name) continue;
    for (const json& row : file.content.at("rows")) {
      INFO(file.name << ": row " << row.value("row", rows) << " " << row.value("id", ""));
      f(row);
      ++rows;
    }
  }
  if (rows == 0) WARN("the folder has no row of " << name);
}

std::vector<double> integer_orders() {
  std::vector<double> orders;
  for (int i = 2; i <= 64; ++i) orders.push_back(i);
  for (const double i : {128.0, 256.0, 512.0, 1024.0}) orders.push_back(i);
  return orders;
}

// 1.1, 1.2 ... 10.9, then integers: what both packages use when none are given.
std::vector<double> tenths_then_integers(int first_integer, bool with_powers) {
  std::vector<double> orders;
  for (int i = 1; i < 100; ++i) orders.push_back(1 + i / 10.0);
  for (int i = first_integer; i < 64; ++i) orders.push_back(i);
  for (int i = 128; with_powers && i <= 1024; i *= 2) orders.push_back(i);
  return orders;
}

std::vector<double> dp_accounting_orders() { return tenths_then_integers(11, true); }
std::vector<double> opacus_orders() { return tenths_then_integers(12, false); }

rdp_accountant accountant_after(const json& row, const std::vector<double>& orders) {
  rdp_accountant accountant(orders);
  for (const json& event : row.at("history")) {
    accountant.record({.noise_multiplier = event.at("noise_multiplier").get<double>(),
                       .sampling_rate = event.at("sampling_rate").get<double>(),
                       .count = event.at("steps").get<std::uint64_t>()});
  }
  return accountant;
}

bool is_whole(double order) { return order == std::floor(order); }

// A number of a row's field, if the row has it: packages that did not converge left null.
std::optional<double> figure(const json& row, const char* field, const char* key) {
  if (!row.contains(field) || !row[field].is_object() || !row[field].value(key, json()).is_number()) return {};
  return row[field][key].get<double>();
}

} // namespace

TEST_CASE("every golden file is known or reported") {
  const std::set<std::string> known{"rdp_subsampled_gaussian", "epsilon_composed", "calibration", "gaussian_mechanisms",
                                    "matrix_factorization_and_tree"};
  for (const golden_file& file : files()) {
    const std::string name = file.content.value("name", "");
    if (!known.contains(name)) WARN("skipped, no policy for it here: " << file.name << " (\"" << name << "\")");
    CHECK(!name.empty());
  }
}

TEST_CASE("the divergence of one release equals 30-digit arithmetic and is not below it") {
  for_each_row("rdp_subsampled_gaussian", [](const json& row) {
    const double sigma = row.at("noise_multiplier").get<double>();
    const double rate = row.at("sampling_rate").get<double>();
    const auto orders = row.at("orders").get<std::vector<double>>();
    const auto exact = row.at("rdp_exact_mpmath").get<std::vector<double>>();
    REQUIRE(orders.size() == exact.size());
    for (std::size_t i = 0; i < orders.size(); ++i) {
      const double ours = subsampled_gaussian_rdp(orders[i], rate, sigma);
      INFO("order " << orders[i] << " sigma " << sigma << " rate " << rate << ": " << ours << " for " << exact[i]);
      CHECK(ours <= exact[i] * (1 + 1e-9));
      CHECK(ours >= exact[i] * (1 - 4 * std::numeric_limits<double>::epsilon()));
    }
  });
}

TEST_CASE("composed epsilon on the same integer orders equals that of dp_accounting and Opacus") {
  const std::vector<double> orders = integer_orders();
  for_each_row("epsilon_composed", [&](const json& row) {
    const double ours = accountant_after(row, orders).epsilon(row.at("delta").get<double>());
    if (const auto theirs = figure(row, "rdp_dp_accounting_int_orders", "epsilon")) {
      CHECK(ours == Approx(*theirs).epsilon(1e-9));
    }
    if (const auto theirs = figure(row, "rdp_opacus_int_orders", "epsilon")) {
      // It lacks the bound by total variation, with which ours can be 0.
      CHECK((ours == Approx(*theirs).epsilon(1e-9) || (ours == 0 && *theirs >= 0)));
    }
  });
}

TEST_CASE("composed epsilon on the packages' default orders: theirs where exact, tighter where they are loose") {
  for_each_row("epsilon_composed", [&](const json& row) {
    const double delta = row.at("delta").get<double>();
    if (const auto theirs = figure(row, "rdp_dp_accounting_default_orders", "epsilon")) {
      const rdp_accountant ours = accountant_after(row, dp_accounting_orders());
      const auto order = figure(row, "rdp_dp_accounting_default_orders", "order");
      CHECK(ours.epsilon(delta) <= *theirs * (1 + 1e-9)); // it drops alternating signs at fractional orders
      if (order && is_whole(*order) && is_whole(ours.best_order(delta))) {
        CHECK(ours.epsilon(delta) == Approx(*theirs).epsilon(1e-9));
      }
    }
    if (const auto theirs = figure(row, "rdp_opacus_default_alphas", "epsilon")) {
      const double ours = accountant_after(row, opacus_orders()).epsilon(delta);
      CHECK((ours == Approx(*theirs).epsilon(1e-5) || (ours == 0 && *theirs >= 0))); // divergences within 6.3e-6
    }
  });
}

TEST_CASE("epsilon is never below a proven lower bound, and the default orders lose nothing to others") {
  for_each_row("epsilon_composed", [&](const json& row) {
    const double delta = row.at("delta").get<double>();
    const double ours = accountant_after(row, default_rdp_orders()).epsilon(delta);
    const json bracket = row.value("true_epsilon_bracket", json());
    if (bracket.is_array() && bracket.at(0).is_number()) CHECK(ours >= bracket[0].get<double>());
    const json exact = row.value("analytic_gaussian_exact", json());
    if (exact.is_number()) CHECK(ours >= exact.get<double>());
    CHECK(ours <= accountant_after(row, dp_accounting_orders()).epsilon(delta) * (1 + 1e-12));
  });
}

TEST_CASE("calibrated noise equals dp_accounting's on integer orders and is never below the least that is possible") {
  for_each_row("calibration", [&](const json& row) {
    noise_target target{.epsilon = row.at("target_epsilon").get<double>(),
                        .delta = row.at("target_delta").get<double>(),
                        .sampling_rate = row.at("sampling_rate").get<double>(),
                        .steps = row.at("steps").get<std::uint64_t>()};
    const double standard = find_noise_multiplier(target);
    if (const auto tight = figure(row, "dp_accounting_pld_1e-4", "noise_multiplier")) {
      CHECK(standard >= *tight * (1 - 1e-3)); // tight to its grid of 1e-4
    }
    if (const auto theirs = figure(row, "dp_accounting_rdp_default_orders", "noise_multiplier")) {
      CHECK(standard <= *theirs * (1 + 2e-9) + 2 * *figure(row, "dp_accounting_rdp_default_orders", "tol"));
    }
    if (const auto theirs = figure(row, "dp_accounting_rdp_int_orders", "noise_multiplier")) {
      target.orders = integer_orders();
      const double tolerance = *figure(row, "dp_accounting_rdp_int_orders", "tol");
      CHECK(std::abs(find_noise_multiplier(target) - *theirs) <= 2 * tolerance + 2e-9 * *theirs);
    }
    if (const auto theirs = figure(row, "opacus_rdp_tol1e-06", "noise_multiplier")) {
      // Its tolerance is on epsilon, towards more noise; its divergences are within 6.3e-6.
      target.orders = opacus_orders();
      target.epsilon -= *figure(row, "opacus_rdp_tol1e-06", "epsilon_tolerance");
      CHECK(*theirs <= find_noise_multiplier(target) * (1 + 1e-5));
      CHECK(*theirs >= standard * (1 - 1e-5));
    }
  });
}

TEST_CASE("the analytic Gaussian mechanism equals 40-digit arithmetic, and the RDP accountant is above it") {
  for_each_row("gaussian_mechanisms", [](const json& row) {
    const double sensitivity = row.value("sensitivity", 1.0);
    if (row.at("kind") == "analytic_gaussian_sigma") {
      const double epsilon = row.at("epsilon").get<double>();
      const double delta = row.at("delta").get<double>();
      const double exact = row.at("sigma_exact_mpmath").get<double>() / sensitivity;
      CHECK(analytic_gaussian_multiplier(epsilon, delta) == Approx(exact).epsilon(1e-12));
      CHECK(find_noise_multiplier({.epsilon = epsilon, .delta = delta, .steps = 1}) >= exact * (1 - 1e-12));
    }
    if (row.at("kind") == "analytic_gaussian_epsilon") {
      const double sigma = row.at("sigma").get<double>() / sensitivity;
      const double delta = row.at("delta").get<double>();
      const double exact = row.at("epsilon_exact_mpmath").get<double>();
      CHECK(analytic_gaussian_epsilon(delta, sigma) == Approx(exact).epsilon(1e-12));
      rdp_accountant accountant;
      accountant.record({.noise_multiplier = sigma});
      CHECK(accountant.epsilon(delta) >= exact);
      CHECK(accountant.epsilon(delta) <=
            3 * exact); // order 2 is the least that counts, far from the best for small sigma
    }
  });
}

TEST_CASE(
    "the discrete Gaussian: drawn with the probabilities and variance of the golden file, charged above its epsilon") {
  // Two-sided significance 5.7e-7 a check, fixed seed; 120000 draws a row.
  std::uint64_t seed = 400;
  for_each_row("gaussian_mechanisms", [&](const json& row) {
    if (row.at("kind") != "discrete_gaussian") return;
    const double sigma = row.at("sigma_param").get<double>();
    const auto pmf = row.at("pmf_0_to_8").get<std::vector<double>>();
    const double variance = row.at("variance_exact_mpmath").get<double>();
    const dpopt::test::discrete_law law = dpopt::test::discrete_law::gaussian(sigma);
    INFO("sigma " << sigma);
    for (std::size_t x = 0; x < pmf.size(); ++x)
      CHECK(law.probability(static_cast<std::int64_t>(x)) == Approx(pmf[x]).epsilon(1e-12).margin(1e-300));
    CHECK(law.variance() == Approx(variance).epsilon(1e-12));

    const discrete_gaussian distribution = discrete_gaussian::at_least(sigma);
    std::mt19937_64 source(++seed);
    exact_coin coin(source);
    constexpr int n = 120000;
    std::vector<double> counts(pmf.size()); // of |x|, and all beyond
    double squares = 0, fourth = 0;
    for (int i = 0; i < n; ++i) {
      const auto x = std::abs(static_cast<double>(distribution.draw(coin)));
      if (x < static_cast<double>(pmf.size())) ++counts[static_cast<std::size_t>(x)];
      squares += x * x;
      fourth += x * x * x * x;
    }
    for (std::size_t x = 0; x < pmf.size(); ++x) {
      const double p = (x == 0 ? 1 : 2) * pmf[x];
      if (p * n >= 25) CHECK(std::abs(dpopt::test::binomial_score(counts[x], n, p)) < 5);
      else CHECK(counts[x] <= 75); // three times 25: has probability 1e-15
    }
    CHECK(std::abs(squares / n - variance) < 5 * std::sqrt((fourth / n - variance * variance) / n));

    for (const auto& [text, theirs] : row.at("epsilon_pld_dp_accounting").items()) {
      const double delta = std::stod(text);
      const double exact = law.epsilon(delta); // theirs is a bound from above, on a grid
      CHECK(theirs.get<double>() >= exact * (1 - 1e-9) - 1e-9);
      CHECK(theirs.get<double>() <= exact * 1.01 + 1e-3);
      rdp_accountant accountant;
      accountant.record({.noise_multiplier = sigma, .kind = noise_kind::discrete_gaussian});
      CHECK(accountant.epsilon(delta) >= exact);
      CHECK(accountant.epsilon(delta) <=
            3 * exact); // order 2 is the least that counts, far from the best for small sigma
    }
  });
}

namespace {

// Whether ours begins as theirs does; null is a list that was not recorded.
void check_head(const std::vector<double>& ours, const json& theirs, double tolerance) {
  if (!theirs.is_array()) return;
  REQUIRE(ours.size() >= theirs.size());
  for (std::size_t k = 0; k < theirs.size(); ++k)
    CHECK(ours[k] == Approx(theirs[k].get<double>()).epsilon(tolerance).margin(1e-15));
}

double mean(const std::vector<double>& x) {
  return std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
}
double square(double x) { return x * x; }

// The largest and the mean squared error of prefix sums with noise w, where the row has them.
void check_errors(const std::vector<double>& w, isize n, const json& row, double tolerance = 1e-9) {
  const auto errors = prefix_squared_errors(w, n);
  CHECK(errors.back() == Approx(row.at("max_sq_error").get<double>()).epsilon(tolerance));
  if (row.contains("mean_sq_error"))
    CHECK(mean(errors) == Approx(row.at("mean_sq_error").get<double>()).epsilon(tolerance));
  if (row.contains("per_query_sq_error_head")) check_head(errors, row["per_query_sq_error_head"], tolerance);
}

// Calls f(row, releases) for each row of this kind.
template <class F>
void for_each_strategy(const std::string& kind, F&& f) {
  for_each_row("matrix_factorization_and_tree", [&](const json& row) {
    if (row.at("kind") == kind) f(row, row.value("n", isize{0}));
  });
}

} // namespace

TEST_CASE("every kind of strategy is known or reported") {
  const std::set<std::string> known{"toeplitz_sqrt_max_error",
                                    "toeplitz_sqrt_minsep_sensitivity",
                                    "banded_truncated_sqrt_toeplitz",
                                    "column_normalized_banded_toeplitz",
                                    "blt_rational_sqrt",
                                    "optimized_banded_toeplitz_mean",
                                    "optimized_blt_max",
                                    "tree_aggregation_single_epoch"};
  for_each_row("matrix_factorization_and_tree", [&](const json& row) {
    const std::string kind = row.value("kind", "");
    if (!known.contains(kind)) WARN("skipped, no test for this kind of row: " << kind);
    CHECK(!kind.empty());
  });
}

TEST_CASE("square root strategies: coefficients, sensitivity under every participation, errors") {
  for_each_strategy("toeplitz_sqrt_max_error", [](const json& row, isize n) {
    const auto c = square_root_coefficients(n);
    const auto w = inverse_square_root_coefficients(n);
    check_head(c, row.at("strategy_coefs_head"), 1e-13);
    check_head(w, row.at("noising_coefs_head"), 1e-13);
    const run_plan plan = run_plan::once(static_cast<std::uint64_t>(n));
    CHECK(toeplitz_sensitivity(c, plan) ==
          Approx(row.at("single_participation_sensitivity").get<double>()).epsilon(1e-11));
    check_errors(w, n, row);
    CHECK(strategy_loss(c, w, plan, prefix_error::max) ==
          Approx(row.at("max_loss_sens2_times_max_sq_err").get<double>()).epsilon(1e-9));
  });
  for_each_strategy("toeplitz_sqrt_minsep_sensitivity", [](const json& row, isize n) {
    const json most = row.at("max_participations");
    const auto releases = static_cast<std::uint64_t>(n);
    const auto separation = row.at("min_sep").get<std::uint64_t>();
    const run_plan plan = most.is_null() ? run_plan::separated(releases, separation)
                                         : run_plan::separated(releases, separation, most.get<std::uint64_t>());
    const double ours = toeplitz_sensitivity(square_root_coefficients(n), plan);
    CHECK(ours == Approx(row.at("sensitivity").get<double>()).epsilon(1e-11));
    CHECK(square(ours) == Approx(row.at("sensitivity_squared").get<double>()).epsilon(1e-11));
  });
}

TEST_CASE("banded strategies: inverse, sensitivities, errors, and columns of norm 1") {
  for_each_strategy("banded_truncated_sqrt_toeplitz", [](const json& row, isize n) {
    const auto bands = row.at("bands").get<isize>();
    const auto c = square_root_coefficients(bands);
    check_head(c, row.at("strategy_coefs"), 1e-13);
    const auto w = inverse_coefficients(c, n);
    check_head(w, row.at("inverse_coefs_head"), 1e-11);
    const auto releases = static_cast<std::uint64_t>(n);
    CHECK(banded(c).sensitivity(run_plan::once(releases)) ==
          Approx(row.at("single_participation_sensitivity").get<double>()).epsilon(1e-11));
    CHECK(square(banded(c).sensitivity(run_plan::separated(releases, static_cast<std::uint64_t>(bands)))) ==
          Approx(row.at("minsep_eq_bands_sensitivity_squared").get<double>()).epsilon(1e-11));
    check_errors(w, n, row);
  });
  for_each_strategy("column_normalized_banded_toeplitz", [](const json& row, isize n) {
    const auto c = row.at("normalized_coefs").get<std::vector<double>>();
    const run_plan plan = run_plan::once(static_cast<std::uint64_t>(n));
    const dpopt::test::matrix real = dpopt::test::realized_inverse(banded(c, true), plan); // as the mechanism runs
    const json whole = row.at("inverse_matrix");
    for (std::size_t t = 0; whole.is_array() && t < whole.size(); ++t) check_head(real[t], whole[t], 1e-11);
    check_head(real.back(), row.at("inverse_last_row"), 1e-11);
    const dpopt::test::matrix strategy = dpopt::test::inverse_of(real);
    for (std::size_t s = 0; s < strategy.size(); ++s) {
      double squares = 0;
      for (std::size_t t = s; t < strategy.size(); ++t) squares += square(strategy[t][s]);
      CHECK(std::sqrt(squares) >= row.at("strategy_col_norm_min").get<double>() - 1e-12);
      CHECK(std::sqrt(squares) <= row.at("strategy_col_norm_max").get<double>() + 1e-12);
    }
    CHECK(banded(c, true).sensitivity(plan) == Approx(1));
  });
}

TEST_CASE("buffered linear Toeplitz strategies: the rational approximation, its inverse, sensitivity and errors") {
  for_each_strategy("blt_rational_sqrt", [](const json& row, isize n) {
    const blt_parameters p = square_root_blt(row.at("num_buffers").get<isize>(), row.at("max_buf_decay").get<double>());
    check_head(p.decay, row.at("buf_decay"), 1e-12);
    check_head(p.scale, row.at("output_scale"), 1e-6); // theirs come from eigenvectors
    const blt_parameters q = inverse(p);
    check_head(q.decay, row.at("inv_buf_decay"), 1e-12);
    check_head(q.scale, row.at("inv_output_scale"), 1e-6);
    const auto c = blt_coefficients(p, n);
    const auto w = blt_inverse_coefficients(p, n);
    check_head(c, row.at("strategy_coefs_head"), 1e-9);
    check_head(w, row.at("noising_coefs_head"), 1e-9);
    const run_plan plan = run_plan::once(static_cast<std::uint64_t>(n));
    CHECK(square(toeplitz_sensitivity(c, plan)) == Approx(row.at("sensitivity_squared").get<double>()).epsilon(1e-9));
    check_errors(w, n, row);
    CHECK(strategy_loss(c, w, plan, prefix_error::max) == Approx(row.at("max_loss").get<double>()).epsilon(1e-9));
  });
}

TEST_CASE("the best strategies that were found elsewhere are found here, or better ones") {
  for_each_strategy("optimized_banded_toeplitz_mean", [](const json& row, isize n) {
    const run_plan plan = run_plan::once(static_cast<std::uint64_t>(n));
    const auto theirs = row.at("strategy_coefs").get<std::vector<double>>();
    CHECK(square(toeplitz_sensitivity(theirs, plan)) ==
          Approx(row.at("sensitivity_squared").get<double>()).epsilon(1e-9));
    check_errors(inverse_coefficients(theirs, n), n, row);
    const auto ours = optimal_banded(plan, row.at("bands").get<isize>(), prefix_error::mean);
    const double loss = strategy_loss(ours, inverse_coefficients(ours, n), plan, prefix_error::mean);
    CHECK(loss <= row.at("mean_sq_error").get<double>() * row.at("sensitivity_squared").get<double>() * (1 + 1e-4));
    for (std::size_t k = 0; k < ours.size(); ++k) CHECK(ours[k] == Approx(theirs[k]).epsilon(0.01));
  });
  for_each_strategy("optimized_blt_max", [](const json& row, isize n) {
    const run_plan plan = run_plan::once(static_cast<std::uint64_t>(n));
    const auto loss = [&](const blt_parameters& p) {
      return strategy_loss(blt_coefficients(p, n), blt_inverse_coefficients(p, n), plan, prefix_error::max);
    };
    const blt_parameters theirs{row.at("buf_decay").get<std::vector<double>>(),
                                row.at("output_scale").get<std::vector<double>>()};
    const double best = row.at("max_loss").get<double>();
    CHECK(loss(theirs) == Approx(best).epsilon(1e-9));
    CHECK(loss(optimal_blt(plan, std::ssize(theirs.decay))) <= best * (1 + 1e-4));
    CHECK(best >=
          strategy_loss(square_root_coefficients(n), inverse_square_root_coefficients(n), plan, prefix_error::max));
  });
}

TEST_CASE("tree aggregation: one Gaussian mechanism with the sensitivity of the tree, also over trees with restarts") {
  for_each_strategy("tree_aggregation_single_epoch", [](const json& row, isize) {
    const json counts = row.at("step_counts"); // of one tree, or of each tree
    const auto trees =
        counts.is_array() ? counts.get<std::vector<std::uint64_t>>() : std::vector{counts.get<std::uint64_t>()};
    const std::uint64_t longest = *std::max_element(trees.begin(), trees.end());
    const double sensitivity = tree(longest).sensitivity(run_plan::once(longest * trees.size()));
    const double multiplier = row.at("noise_multiplier").get<double>() / sensitivity;
    const auto orders = row.at("orders").get<std::vector<double>>();
    for (std::size_t i = 0; i < orders.size(); ++i)
      CHECK(gaussian_rdp(orders[i], multiplier) == Approx(row.at("rdp")[i].get<double>()).epsilon(1e-11));
    rdp_accountant accountant(integer_orders());
    accountant.record({.noise_multiplier = multiplier, .relation = neighbouring::zero_out});
    CHECK(accountant.epsilon(1e-5) == Approx(row.at("epsilon_delta_1e_5").get<double>()).epsilon(1e-9));
  });
}
