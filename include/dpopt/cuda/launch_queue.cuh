// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Where small parameters wait for a launch together.
#pragma once

#include "dpopt/cuda/waiting_source.cuh"

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace dpopt::cuda {

/// What a list of a queue is launched by; a source by itself needs no table.
template <class A, class D>
struct norms_launch {
  device_work<D>& on;
  isize batch;

  void operator()(const source_kind<A, D>& kind, std::span<const listed_source<A, D, double>> list) const {
    if (list.size() > 1) kind.norms_of_many(list, on, batch);
    else list[0].source->add_squared_norms(on, list[0].to);
  }
};
template <class A, class D>
struct sums_launch {
  device_work<D>& on;
  const A& sum;
  isize batch;

  void operator()(const source_kind<A, D>& kind,
                  std::span<const listed_source<A, D, typename A::value_type>> list) const {
    if (list.size() > 1) kind.sums_of_many(list, sum, on, batch);
    else list[0].source->add_to(sum, on, list[0].factors, list[0].to);
  }
};

/// Sources that share launches, a list for each kind, until a list is full or flush() is called. What they stand for
/// outlives that. Allocates when it meets a new kind.
template <class A, class D, class To>
class launch_queue {
public:
  using entry = listed_source<A, D, To>;

  /// @param launch norms_launch or sums_launch, for a list that is full. Entries with the same `to` are side by side in
  ///   it, in the order in which they came.
  template <class Launch>
  void add(const entry& one, const Launch& launch) {
    const source_kind<A, D>* const kind = one.source->kind();
    std::vector<entry>& list = list_of(kind);
    const auto last = std::find_if(list.rbegin(), list.rend(), [&](const entry& e) { return e.to == one.to; });
    list.insert(last.base(), one);
    if (std::ssize(list) == kind->most) empty(kind, list, launch);
  }
  template <class Launch>
  void flush(const Launch& launch) {
    for (auto& [kind, list] : lists_)
      if (!list.empty()) empty(kind, list, launch);
  }
  void forget() noexcept {
    for (auto& one : lists_) one.list.clear();
  }

private:
  struct kind_list {
    const source_kind<A, D>* kind;
    std::vector<entry> list;
  };

  [[nodiscard]] std::vector<entry>& list_of(const source_kind<A, D>* kind) {
    for (auto& one : lists_)
      if (one.kind == kind) return one.list;
    lists_.push_back({kind, {}});
    lists_.back().list.reserve(static_cast<std::size_t>(kind->most));
    return lists_.back().list;
  }
  template <class Launch>
  static void empty(const source_kind<A, D>* kind, std::vector<entry>& list, const Launch& launch) {
    launch(*kind, std::span<const entry>(list));
    list.clear();
  }

  std::vector<kind_list> lists_;
};

} // namespace dpopt::cuda
