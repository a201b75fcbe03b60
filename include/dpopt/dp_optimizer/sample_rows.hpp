// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Gradients of some samples written out by a source (gradients/written_rows.hpp), with those marked that their type
/// cannot hold.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/core/workspace.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/gradients/row_norms.hpp"
#include "dpopt/gradients/written_rows.hpp"

#include <cmath>
#include <limits>
#include <type_traits>

namespace dpopt {

/// View of rows of `size` numbers. A row that does not hold its gradient begins with NaN, which no other does: the norm
/// of a row that holds is finite.
template <class V>
class sample_rows {
public:
  sample_rows(V* rows, isize size) : rows_(rows), size_(size) {}

  /// Writes the samples of `range` out and adds their squared norms: those of the rows, or of the source where a row
  /// does not hold.
  template <class S>
  void write(const S& source, samples range, double* squared_norms, workspace& scratch) const {
    source.write_rows(range, rows_, scratch);
    for (isize i = 0; i < range.count; ++i) {
      double squares = 0;
      add_row_norms(rows_ + i * size_, size_, 1, size_, &squares);
      if (rows_hold<V>(squares)) {
        squared_norms[i] += squares;
        continue;
      }
      source.add_squared_norms({range.first + i, 1}, squared_norms + i, scratch);
      if (size_ > 0) rows_[i * size_] = std::numeric_limits<V>::quiet_NaN();
    }
  }

  [[nodiscard]] bool holds(isize i) const noexcept { return size_ > 0 && !std::isnan(rows_[i * size_]); }
  /// The end of the rows from i on that hold, or do not, as row i; at most `count`.
  [[nodiscard]] isize alike(isize i, isize count) const noexcept {
    isize end = i + 1;
    while (end < count && holds(end) == holds(i)) ++end;
    return end;
  }
  [[nodiscard]] materialized<std::remove_const_t<V>> source(isize count) const noexcept {
    return {rows_, count, size_};
  }

private:
  V* rows_;
  isize size_;
};

} // namespace dpopt
