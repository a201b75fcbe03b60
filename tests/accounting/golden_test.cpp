// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// What other packages and 30-digit arithmetic give for the RDP accountant's questions. tests/golden/README.md says what
// each field is; a row is used for the fields that it has.
#include "dpopt/accounting/calibration.hpp"
#include "dpopt/accounting/rdp.hpp"
#include "dpopt/accounting/rdp_accountant.hpp"
#include "support/catch.hpp"
#include "support/golden_files.hpp"

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
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
  const std::set<std::string> known{"rdp_subsampled_gaussian", "epsilon_composed", "calibration"};
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
