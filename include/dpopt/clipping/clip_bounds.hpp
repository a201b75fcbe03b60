// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The value of max_grad_norm: one bound for all parameters (or groups), one each in order, or one each by name.
#pragma once

#include "dpopt/clipping/norm_bound.hpp"
#include "dpopt/parameters/parameter_view.hpp"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dpopt {

/// Implicit from a number, a list of numbers, or a list of {name, number}; `resolve` checks it against the parameters.
class clip_bounds {
public:
  clip_bounds() = default;
  clip_bounds(double one_for_all) : values_{one_for_all}, for_all_(true) {}   // NOLINT: implicit by design
  clip_bounds(std::vector<double> one_each) : values_(std::move(one_each)) {} // NOLINT: implicit by design
  clip_bounds(std::initializer_list<double> one_each) : values_(one_each) {}
  clip_bounds(std::initializer_list<std::pair<std::string, double>> by_name) {
    for (const auto& [name, value] : by_name) {
      names_.push_back(name);
      values_.push_back(value);
    }
  }

  /// One bound a parameter, in the order of `parameters`; `kind` is what messages call one of them.
  /// @throw invalid_argument naming the parameter when a bound is missing, surplus, unknown or not a positive number.
  [[nodiscard]] std::vector<double> resolve(std::span<const parameter_info> parameters,
                                            std::string_view kind = "parameter") const {
    if (values_.empty())
      throw invalid_argument(message("max_grad_norm: not given; give one bound for all or one a ", kind));
    std::vector<double> out(parameters.size(), for_all_ ? values_.front() : 0.0);
    if (!names_.empty()) by_name(parameters, kind, out);
    else if (!for_all_) in_order(parameters, kind, out);
    for (std::size_t p = 0; p < out.size(); ++p) require_positive_bound(message("'", parameters[p].name, "'"), out[p]);
    return out;
  }

private:
  void in_order(std::span<const parameter_info> parameters, std::string_view kind, std::vector<double>& out) const {
    if (values_.size() != parameters.size())
      throw invalid_argument(message("max_grad_norm: ", values_.size(), " bounds for ", parameters.size(), " ", kind,
                                     "s; give one for all, one each, or name them"));
    std::ranges::copy(values_, out.begin());
  }

  void by_name(std::span<const parameter_info> parameters, std::string_view kind, std::vector<double>& out) const {
    std::vector<bool> found(parameters.size(), false);
    for (std::size_t k = 0; k < names_.size(); ++k) {
      const auto at = std::ranges::find(parameters, names_[k], &parameter_info::name);
      if (at == parameters.end())
        throw invalid_argument(message("max_grad_norm: no ", kind, " is named '", names_[k], "'"));
      const auto p = static_cast<std::size_t>(at - parameters.begin());
      if (found[p]) throw invalid_argument(message("max_grad_norm: '", names_[k], "' is given twice"));
      found[p] = true;
      out[p] = values_[k];
    }
    for (std::size_t p = 0; p < found.size(); ++p)
      if (!found[p]) throw invalid_argument(message("max_grad_norm: no bound for '", parameters[p].name, "'; add one"));
  }

  std::vector<double> values_;
  std::vector<std::string> names_;
  bool for_all_ = false;
};

/// Norm of a contribution whose groups are all at their bounds: sqrt(sum of C_g^2), the sensitivity for add/remove.
[[nodiscard]] inline double joint_bound(std::span<const double> bounds) noexcept {
  double squares = 0;
  for (const double c : bounds) squares += c * c;
  return std::sqrt(squares);
}

} // namespace dpopt
