// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Poisson sampling, the batch selection that subsampled accounting is proven for: each record is in a logical batch
/// with probability `rate`, independently of everything else. Sizes vary and are private; empty batches happen.
#pragma once

#include "dpopt/communication/agreement.hpp"
#include "dpopt/communication/failure.hpp"
#include "dpopt/communication/serial.hpp"
#include "dpopt/communication/shared_secret.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/own_process.hpp"
#include "dpopt/sampling/sampling_source.hpp"
#include "dpopt/sampling/token.hpp"
#include "dpopt/scaling/expected_batch.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace dpopt {

/// This rank's part of one logical batch, and the token that begin() wants with each of its physical parts.
struct sampled_batch {
  std::vector<isize> records; ///< global numbers, ascending; may be empty
  sampling_token token;
};

/// Over ranks: rank r owns a contiguous shard of the records and decides about those alone, so nothing is communicated
/// after construction. Whether a record is drawn depends on (secret, draw, record) only: the union over ranks is the
/// same for any number of ranks.
template <SamplingSource Source = counter_bits>
class poisson_sampler {
public:
  /// COLLECTIVE. @param records of the whole data set. @param rate in (0, 1].
  /// @throw invalid_argument, or rank_error on all ranks, for a bad option or ranks that differ; randomness_error for
  ///   more records than the source has bits for.
  template <class C>
    requires Reduces<C, double>
  poisson_sampler(C& communicator, isize records, double rate, Source source = {})
      : records_(records), rate_(rate), source_(std::move(source)), rank_(communicator.rank()),
        ranks_(communicator.size()) {
    failure bad_option;
    bad_option.record([&] { validate(); });
    bad_option.raise_together(communicator);
    const std::array fields{fingerprint_field{"sampled records", fingerprint().add(records_).value()},
                            fingerprint_field{"sampling rate", fingerprint().add(rate_).value()}};
    require_equal(communicator, fields);
    share_secret(communicator, source_);
    static_cast<void>(source_.bits(0, static_cast<std::uint64_t>(records_ - 1))); // throws on all ranks alike
  }

  /// For one process.
  poisson_sampler(isize records, double rate, Source source = {})
      : poisson_sampler(own_serial(), records, rate, std::move(source)) {}

  /// Draws the next logical batch. Call it as often on every rank. @throw randomness_error when the stream is used up;
  /// state_error in a forked child, which would sample as its parent does, unless the seed is the user's.
  [[nodiscard]] sampled_batch next() {
    if (!reproducible()) process_.require("the sampler");
    sampled_batch out{{}, {sampling_scheme::poisson, rate_, draw_, source_.reproducible()}};
    // Rounded down, so that the true rate is never above the one that the accountant is told.
    const auto threshold = rate_ < 1 ? static_cast<std::uint64_t>(std::ldexp(rate_, 64)) : 0;
    for (isize i = first_record(); i < end_record(); ++i)
      if (rate_ >= 1 || source_.bits(draw_, static_cast<std::uint64_t>(i)) < threshold) out.records.push_back(i);
    ++draw_;
    return out;
  }

  /// This rank's shard is [first_record(), end_record()).
  [[nodiscard]] isize first_record() const noexcept { return records_ * rank_ / ranks_; }
  [[nodiscard]] isize end_record() const noexcept { return records_ * (rank_ + 1) / ranks_; }
  [[nodiscard]] double rate() const noexcept { return rate_; }
  /// rate x records, over all ranks: the public number to divide by.
  [[nodiscard]] batch_size expected_batch_size() const noexcept {
    return across_ranks{rate_ * static_cast<double>(records_)};
  }
  /// True when the user's own seed decides who is sampled: then nobody else's amplification holds against the user.
  [[nodiscard]] bool reproducible() const noexcept { return source_.reproducible(); }

  /// Calls f(std::span<std::byte>) for each piece of what the next batches depend on: a companion of checkpoints. Holds
  /// the secret.
  template <class F>
  void visit_state(F&& f) {
    f(std::as_writable_bytes(std::span(&draw_, 1)));
    f(std::as_writable_bytes(std::span(&records_, 1)));
    f(std::as_writable_bytes(std::span(&rate_, 1)));
    f(source_.secret());
  }

private:
  static serial& own_serial() {
    static serial s;
    return s;
  }
  void validate() const {
    if (records_ < 1) throw invalid_argument(message("poisson_sampler: records is ", records_, "; give 1 or more"));
    if (!(rate_ > 0 && rate_ <= 1))
      throw invalid_argument(message("poisson_sampler: rate is ", rate_, "; give a rate in (0, 1]"));
  }

  isize records_;
  double rate_;
  Source source_;
  own_process process_;
  int rank_;
  int ranks_;
  std::uint64_t draw_ = 0;
};

} // namespace dpopt
