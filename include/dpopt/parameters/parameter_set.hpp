// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The checked list of parameters that one optimizer owns for its life: names are copied, sizes agree, nothing
/// overlaps.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/parameters/parameter_view.hpp"

#include <span>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace dpopt {

/// Owner of the names and of a copy of the views. Construction never throws on bad content: call validate(), whose
/// error all ranks can then agree on.
template <std::floating_point T>
class parameter_set {
public:
  struct entry {
    std::string name;
    std::span<T> value;
    std::span<T> gradient;
    [[nodiscard]] isize size() const noexcept { return static_cast<isize>(value.size()); }
  };

  template <ParameterList R>
  explicit parameter_set(const R& views) {
    for (const auto& v : views)
      entries_.push_back({std::string(std::string_view(v.name)), std::span<T>(v.value), std::span<T>(v.gradient)});
  }

  /// @throw invalid_argument for an empty list, a name that is empty or used twice, or a gradient of another size.
  void validate() const {
    if (entries_.empty()) throw invalid_argument("parameters: the list is empty; give at least one parameter");
    std::unordered_set<std::string_view> names;
    for (const entry& e : entries_) {
      if (e.name.empty()) throw invalid_argument("parameters: a name is empty; bounds and errors go by name");
      if (!names.insert(e.name).second)
        throw invalid_argument(message("parameters: two are named '", e.name, "'; give each its own name"));
      if (!e.gradient.empty() && e.gradient.size() != e.value.size())
        throw invalid_argument(message("parameter '", e.name, "': gradient holds ", e.gradient.size(),
                                       " elements and value ", e.value.size(), "; give equal sizes or no gradient"));
    }
  }

  [[nodiscard]] isize count() const noexcept { return static_cast<isize>(entries_.size()); }
  [[nodiscard]] const entry& operator[](isize p) const { return entries_[static_cast<std::size_t>(p)]; }
  [[nodiscard]] auto begin() const noexcept { return entries_.begin(); }
  [[nodiscard]] auto end() const noexcept { return entries_.end(); }

  /// Names and sizes in registration order; valid while this set lives and is not moved.
  [[nodiscard]] std::vector<parameter_info> infos() const {
    std::vector<parameter_info> out;
    out.reserve(entries_.size());
    for (const entry& e : entries_) out.push_back({e.name, e.size()});
    return out;
  }

private:
  std::vector<entry> entries_;
};

} // namespace dpopt
