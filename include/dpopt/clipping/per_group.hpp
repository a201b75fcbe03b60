// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Per-group clipping: named groups of parameters, each with one norm and one bound (He et al. 2022, arXiv 2212.01539,
/// "group-wise clipping"). Between flat (one group) and per_layer (one a parameter): a block of a network, or a layer's
/// weight and bias together.
#pragma once

#include "dpopt/clipping/clip_bounds.hpp"
#include "dpopt/clipping/clipper.hpp"
#include "dpopt/clipping/name_pattern.hpp"

#include <algorithm>
#include <functional>
#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dpopt {

/// A group by the names of its parameters.
struct clip_group {
  std::string name;
  std::vector<std::string> parameters;                             ///< names or patterns with * and ?
  double max_grad_norm = std::numeric_limits<double>::quiet_NaN(); ///< C_g > 0; required
};

/// sensitivity = sqrt(sum of C_g^2) for add/remove and zero-out, twice that for replace-one. A non-finite number in one
/// parameter drops the sample from its group. Factors wait for the group's last norm, so its sources must stay alive
/// until then.
///
/// Every parameter belongs to exactly one group, every group has a parameter, or bind() throws, naming it.
class per_group {
public:
  using role = roles::clipper;
  using naming = std::function<std::string(const parameter_info&)>;

  per_group() = default;
  /// per_group{{"encoder", {"conv*", "norm?.weight"}, 0.5}, {"head", {"fc.*"}, 1.0}}
  per_group(std::initializer_list<clip_group> groups) : listed_(groups) {}
  explicit per_group(std::vector<clip_group> groups) : listed_(std::move(groups)) {}
  /// @param group_of gives each parameter the name of its group; alike on all ranks. Groups are in the order of their
  ///   first parameter. @param max_grad_norm One bound for all groups, one each in that order, or by group name.
  per_group(naming group_of, clip_bounds max_grad_norm)
      : naming_(std::move(group_of)), given_bounds_(std::move(max_grad_norm)) {}

  void bind(std::span<const parameter_info> parameters) {
    names_.clear();
    group_of_.assign(parameters.size(), -1);
    if (naming_) bind_by_naming(parameters);
    else bind_by_list(parameters);
    members_.assign(names_.size(), "");
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      std::string& text = members_[static_cast<std::size_t>(group_of_[p])];
      text += message(text.empty() ? "" : ", ", parameters[p].name);
    }
    for (std::size_t g = 0; g < names_.size(); ++g)
      if (members_[g].empty())
        throw invalid_argument(
            message("per_group: no parameter belongs to group '", names_[g], "'; correct its patterns or remove it"));
  }

  [[nodiscard]] isize groups() const noexcept { return static_cast<isize>(names_.size()); }
  [[nodiscard]] isize group_of(isize p) const noexcept { return group_of_[static_cast<std::size_t>(p)]; }
  [[nodiscard]] const std::string& group_name(isize g) const noexcept { return names_[static_cast<std::size_t>(g)]; }
  [[nodiscard]] norm_bound rule(isize g) const noexcept { return {bound(g)}; }
  [[nodiscard]] double bound(isize g) const noexcept { return bounds_[static_cast<std::size_t>(g)]; }
  [[nodiscard]] double clip_norm(isize g) const noexcept { return bound(g); }
  void set_clip_norms(std::span<const double> bounds) noexcept { std::ranges::copy(bounds, bounds_.begin()); }
  [[nodiscard]] double sensitivity(neighbouring relation) const noexcept {
    return contributions_changed(relation) * joint_bound(bounds_);
  }
  [[nodiscard]] std::string describe() const {
    std::string out = "per_group(";
    for (std::size_t g = 0; g < names_.size(); ++g)
      out += message(g == 0 ? "" : "; ", names_[g], ": [", members_[g], "] max_grad_norm=", bounds_[g]);
    return out + ")";
  }

private:
  void bind_by_naming(std::span<const parameter_info> parameters) {
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      std::string name = naming_(parameters[p]);
      if (name.empty())
        throw invalid_argument(message("per_group: parameter '", parameters[p].name, "' was given no group; name one"));
      const auto at = std::ranges::find(names_, name);
      group_of_[p] = at - names_.begin();
      if (at == names_.end()) names_.push_back(std::move(name));
    }
    std::vector<parameter_info> groups;
    for (const std::string& name : names_) groups.push_back({name, 0});
    bounds_ = given_bounds_.resolve(groups, "group");
  }

  void bind_by_list(std::span<const parameter_info> parameters) {
    if (listed_.empty())
      throw invalid_argument("per_group: there are no groups; list them or give a function that names them");
    bounds_.clear();
    for (const clip_group& g : listed_) {
      if (std::ranges::find(names_, g.name) != names_.end())
        throw invalid_argument(message("per_group: group '", g.name, "' is given twice; put its patterns in one"));
      require_positive_bound(message("group '", g.name, "'"), g.max_grad_norm);
      names_.push_back(g.name);
      bounds_.push_back(g.max_grad_norm);
    }
    for (std::size_t p = 0; p < parameters.size(); ++p) group_of_[p] = group_by_list(parameters[p].name);
  }

  [[nodiscard]] isize group_by_list(std::string_view parameter) const {
    isize found = -1;
    for (isize g = 0; g < groups(); ++g) {
      const auto matches = [&](const std::string& pattern) { return matches_pattern(parameter, pattern); };
      if (std::ranges::none_of(listed_[static_cast<std::size_t>(g)].parameters, matches)) continue;
      if (found >= 0)
        throw invalid_argument(message("per_group: parameter '", parameter, "' belongs to groups '", group_name(found),
                                       "' and '", group_name(g), "'; make their patterns disjoint"));
      found = g;
    }
    if (found < 0)
      throw invalid_argument(
          message("per_group: parameter '", parameter, "' belongs to no group; add a pattern for it"));
    return found;
  }

  std::vector<clip_group> listed_;
  naming naming_;
  clip_bounds given_bounds_;
  std::vector<std::string> names_;   // from here on filled by bind(): of each group
  std::vector<std::string> members_; // of each group, as a text
  std::vector<double> bounds_;       // of each group
  std::vector<isize> group_of_;      // of each parameter
};

/// One group for each layer: the parameters whose names are alike before their last dot, as "fc1.weight" and
/// "fc1.bias". A name without a dot is a group of its own. @param max_grad_norm as in per_group's second constructor,
/// by layer.
[[nodiscard]] inline per_group weight_and_bias(clip_bounds max_grad_norm) {
  return {[](const parameter_info& p) { return std::string(p.name.substr(0, p.name.rfind('.'))); },
          std::move(max_grad_norm)};
}

static_assert(AdjustableClipper<per_group> && Grouping<per_group>);

} // namespace dpopt
