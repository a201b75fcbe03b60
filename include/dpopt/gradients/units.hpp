// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Units of privacy made of several records: all records of a user (user-level privacy, McMahan et al. 2018, arXiv
/// 1710.06963), or K augmented views of one sample, averaged before clipping (De et al. 2022, arXiv 2204.13650,
/// "augmentation multiplicity").
#pragma once

#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"
#include "dpopt/gradients/sample_tiles.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <string>

namespace dpopt {

/// View of a source as units: the gradient of unit u is `scale` times the SUM of its records' gradients, and that is
/// what is clipped: a unit adds at most the bound, however many records it has. begin() is told the number of units,
/// and its weights are one a unit. An empty unit has gradient zero; a NaN in one record drops its unit.
///
/// All records of a unit belong in one microbatch of a step on one rank: what arrives in two is two units to the
/// clipper. `scale` is one public number for all units, such as 1/K.
template <SampleAccess S>
struct units {
  S records;
  /// [count + 1]: unit u holds the records from offsets[u] to before offsets[u + 1]; null: `each` of them.
  const isize* offsets = nullptr;
  isize count = 0;
  isize each = 1;
  double scale = 1;

  /// Unit u holds the records from offsets[u] to before offsets[u + 1]. The offsets stay alive as long as the records.
  units(S source, std::span<const isize> unit_offsets, double sum_scale = 1)
      : records(source), offsets(unit_offsets.data()), count(std::ssize(unit_offsets) - 1), scale(sum_scale) {}

  /// Every unit holds `records_each` records, one after the other.
  units(S source, isize records_each, double sum_scale)
      : records(source), count(records_each > 0 ? source.batch() / records_each : 0), each(records_each),
        scale(sum_scale) {}

  [[nodiscard]] isize batch() const noexcept { return count; }
  [[nodiscard]] isize size() const noexcept { return records.size(); }
  [[nodiscard]] isize block() const noexcept {
    return std::max<isize>(1, records.block() * std::max<isize>(1, count) / std::max<isize>(1, records.batch()));
  }
  [[nodiscard]] isize sample_tile() const { return dpopt::sample_tile(records); }

  /// Says nothing of numbers of records or units, which are private where batches are sampled.
  [[nodiscard]] std::string problem() const {
    if (std::string text = source_problem(records); !text.empty()) return text;
    if (count < 0) return "units: no offsets; give one more than there are units";
    if (offsets == nullptr && each <= 0) return message("units: ", each, " records a unit; give 1 or more");
    if (offsets == nullptr && count * each != records.batch())
      return message("units: the records do not make whole units of ", each, "; hand over all views of every sample");
    if (!std::isfinite(scale)) return message("units: scale is ", scale, "; give a finite number");
    return offsets == nullptr ? std::string() : offset_problem();
  }

  void add_squared_norms(samples range, double* squared_norms, workspace& scratch) const {
    detail::add_copied_norms(*this, range, squared_norms, scratch);
  }
  template <std::floating_point Out>
  void add_weighted_sum(samples range, const double* factors, Out* out, workspace& scratch) const {
    detail::add_copied_sum(*this, range, factors, out, scratch);
  }

  /// The records are summed before anything is scaled, so that norm, sum and grid see the same numbers.
  void copy_sample(isize unit, isize first, isize n, double extra_scale, double* out, workspace& scratch) const {
    std::fill_n(out, n, 0.0);
    const isize begin = offsets ? offsets[unit] : unit * each;
    const isize end = offsets ? offsets[unit + 1] : begin + each;
    add_records(begin, end, first, n, out, scratch);
    for (isize k = 0; k < n; ++k) out[k] = extra_scale * (scale * out[k]);
  }
  void copy_sample(isize unit, isize first, isize n, double extra_scale, double* out) const {
    workspace scratch;
    copy_sample(unit, first, n, extra_scale, out, scratch);
  }

private:
  [[nodiscard]] std::string offset_problem() const {
    if (offsets[0] != 0) return "units: the first offset is not 0, where the first unit begins";
    for (isize u = 0; u < count; ++u)
      if (offsets[u + 1] < offsets[u]) return "units: an offset is below the one before it; sort the records by unit";
    if (offsets[count] == records.batch()) return {};
    return "units: the last offset is not the number of records; every record belongs to a unit";
  }

  void add_records(isize begin, isize end, isize first, isize n, double* out, workspace& scratch) const {
    if constexpr (RowAccess<S>) {
      for (isize r = begin; r < end; ++r) {
        const auto* g = records.row(r) + first;
        for (isize k = 0; k < n; ++k) out[k] += static_cast<double>(g[k]);
      }
    } else {
      const workspace::scope scope(scratch);
      double* const g = scratch.take<double>(n);
      for (isize r = begin; r < end; ++r) {
        detail::copy_part(records, r, first, n, 1.0, g, scratch);
        for (isize k = 0; k < n; ++k) out[k] += g[k];
      }
    }
  }
};

/// Augmentation multiplicity: each unit is the mean over `views` consecutive records of one sample.
template <SampleAccess S>
[[nodiscard]] units<S> averaged_views(const S& records, isize views) {
  return {records, views, 1.0 / static_cast<double>(views)};
}

static_assert(PerSampleGradients<units<linear_weight<float>>, float> && SampleAccess<units<materialized<float>>>);
static_assert(CheckedSource<units<materialized<double>>>);

} // namespace dpopt
