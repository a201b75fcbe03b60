// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Rows whose factors wait for other parameters' norms: as many samples' as there is room for are kept, those of the
/// others are written a second time.
///
/// Privacy: a factor is from the norm of the rows as they were first. A product may round otherwise the second time;
/// what is added is then shortened to that norm.
#pragma once

#include "dpopt/core/types.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <new>
#include <vector>

namespace dpopt {

/// Memory that stays from step to step, by parameter.
template <class V>
class waiting_rows {
public:
  static constexpr isize default_room = isize{64} << 20;

  void bind(isize parameters) { of_.assign(static_cast<std::size_t>(parameters), {}), bytes_ = 0; }

  /// Bytes for the rows of all parameters; what was taken already stays. 0: no samples are to be written out for norms
  /// that wait.
  void set_room(isize bytes) noexcept { room_ = bytes; }
  [[nodiscard]] bool any_room() const noexcept { return room_ > 0; }

  /// Makes room for as many of parameter p's samples as there is memory for: the first kept(p). For the others it is
  /// noted() what squared norms their rows had. Memory for rows that the system does not have is no error: a step that
  /// failed for it would cost privacy.
  void prepare(isize p, isize samples, isize size) {
    entry& e = at(p);
    const isize row = std::max<isize>(1, size), elsewhere = bytes_ - std::ssize(e.rows) * width;
    if (const isize most = std::min(samples, (room_ - elsewhere) / width / row) * row; most > std::ssize(e.rows)) {
      bytes_ = elsewhere;
      e.rows = {}; // nothing to copy
      try {
        e.rows.resize(static_cast<std::size_t>(most));
        bytes_ += most * width;
      } catch (const std::bad_alloc&) { // written twice, then
      }
    }
    e.kept = std::min(samples, std::ssize(e.rows) / row);
    e.squares.assign(static_cast<std::size_t>(samples - e.kept), 0.0);
    e.wait = true;
  }
  /// Whether prepare(p) was called since release().
  [[nodiscard]] bool wait(isize p) const noexcept { return at(p).wait; }
  void release(isize p) noexcept { at(p).wait = false; }
  void release() noexcept {
    for (entry& e : of_) e.wait = false;
  }

  [[nodiscard]] isize kept(isize p) const noexcept { return at(p).kept; }
  [[nodiscard]] V* rows(isize p) noexcept { return at(p).rows.data(); }
  [[nodiscard]] const V* rows(isize p) const noexcept { return at(p).rows.data(); }
  /// Of sample kept(p) first.
  [[nodiscard]] double* noted(isize p) noexcept { return at(p).squares.data(); }

private:
  static constexpr isize width = sizeof(V);
  struct entry {
    std::vector<V> rows;
    std::vector<double> squares;
    isize kept = 0; // samples
    bool wait = false;
  };
  [[nodiscard]] entry& at(isize p) noexcept { return of_[static_cast<std::size_t>(p)]; }
  [[nodiscard]] const entry& at(isize p) const noexcept { return of_[static_cast<std::size_t>(p)]; }

  std::vector<entry> of_;
  isize room_ = default_room;
  isize bytes_ = 0; // of all rows
};

/// The factor for a row that is written again: what it adds is no longer than what the first would have added.
[[nodiscard]] inline double factor_again(double factor, double first_squares, double squares) noexcept {
  if (factor == 0 || squares <= first_squares) return factor;
  if (!(squares <= std::numeric_limits<double>::max())) return 0;
  return factor * std::sqrt(first_squares / squares) * (1 - 0x1p-50); // the roundings of this line
}

} // namespace dpopt
