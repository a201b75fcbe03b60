// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A source whose sum must wait until its group's factors exist: kept inline, without allocation, erased against the
/// accumulator's type so that element types of different sources never meet.
#pragma once

#include "dpopt/accumulation/accumulator.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"

#include <cstddef>
#include <cstring>
#include <new>

namespace dpopt {

/// Copy of a source view with the same questions as the source. The data behind the view must stay alive.
template <Accumulator A>
class deferred_source {
public:
  deferred_source() = default;

  template <class S>
    requires AccumulatesFrom<A, S> && GradientView<S>
  explicit deferred_source(const S& source) noexcept : table_(&table_of<S>) {
    std::memcpy(bytes_, &source, sizeof source);
  }

  [[nodiscard]] explicit operator bool() const noexcept { return table_ != nullptr; }
  [[nodiscard]] isize block() const { return table_->block(bytes_); }
  void add_squared_norms(samples range, double* out, workspace& scratch) const {
    table_->norms(bytes_, range, out, scratch);
  }
  void add_to(A& sum, isize at, samples range, const double* factors, workspace& scratch) const {
    table_->add(bytes_, sum, at, range, factors, scratch);
  }

  [[nodiscard]] isize size() const { return table_->size(bytes_); }
  [[nodiscard]] bool rows_are_cheaper() const { return table_->write != nullptr && table_->rows_are_cheaper(bytes_); }
  template <class V>
    requires TakesRows<A> && std::same_as<V, typename A::value_type> // nvcc looks for a row_type in any A
  void write_rows(samples range, V* rows, workspace& scratch) const {
    table_->write(bytes_, range, rows, scratch);
  }

private:
  using row_type = typename A::value_type; // of the pointer alone where A takes no rows
  struct operations {
    isize (*block)(const std::byte*);
    isize (*size)(const std::byte*);
    void (*norms)(const std::byte*, samples, double*, workspace&);
    void (*add)(const std::byte*, A&, isize, samples, const double*, workspace&);
    bool (*rows_are_cheaper)(const std::byte*) = nullptr;
    void (*write)(const std::byte*, samples, row_type*, workspace&) = nullptr; // null: the source writes none
  };
  template <class S>
  static const S& restored(const std::byte* bytes) noexcept {
    return *std::launder(reinterpret_cast<const S*>(bytes)); // memcpy into suitably aligned bytes made it an S
  }
  template <class S>
  static constexpr operations table_of = [] {
    operations t{[](const std::byte* bytes) { return restored<S>(bytes).block(); },
                 [](const std::byte* bytes) { return restored<S>(bytes).size(); },
                 [](const std::byte* bytes, samples r, double* out, workspace& w) {
                   restored<S>(bytes).add_squared_norms(r, out, w);
                 },
                 [](const std::byte* bytes, A& sum, isize at, samples r, const double* f, workspace& w) {
                   sum.add(at, restored<S>(bytes), r, f, w);
                 }};
    if constexpr (WritesRowsFor<S, A>) {
      t.rows_are_cheaper = [](const std::byte* bytes) { return restored<S>(bytes).rows_are_cheaper(); };
      t.write = [](const std::byte* bytes, samples r, row_type* rows, workspace& w) {
        restored<S>(bytes).write_rows(r, rows, w);
      };
    }
    return t;
  }();

  alignas(16) std::byte bytes_[source_capacity] = {};
  const operations* table_ = nullptr;
};

} // namespace dpopt
