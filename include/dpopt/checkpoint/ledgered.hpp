// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// An accountant whose events are on stable storage before the release that they stand for.
#pragma once

#include "dpopt/accounting/accountant.hpp"
#include "dpopt/accounting/rdp_accountant.hpp"
#include "dpopt/checkpoint/ledger.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace dpopt {

/// ledgered{"patients.ledger"}: one file for each data set. What any earlier run released counts from the start, and
/// epsilon() is that of all of them together. Only the root touches the file; each release costs one sync (some
/// milliseconds on a disk). Copies share the open file.
template <RecallsEvents Inner = rdp_accountant>
class ledgered {
public:
  using role = roles::accountant;

  explicit ledgered(std::string path, Inner inner = {}) : path_(std::move(path)), inner_(std::move(inner)) {}

  /// @throw invalid_argument for an empty path, or as the accountant inside does.
  void validate() const {
    if (path_.empty()) throw invalid_argument("ledgered: the path is empty; name the ledger's file");
    if constexpr (requires { inner_.validate(); }) inner_.validate();
  }

  /// Root only. @return what the ledger holds. @throw state_error when it is in use, damaged, or cannot be written.
  [[nodiscard]] std::vector<gaussian_event> open() {
    ledger_ = std::make_shared<ledger>(path_);
    return ledger_->releases();
  }
  /// Counts what the ledger held.
  void adopt(std::span<const gaussian_event> past) {
    for (const auto& event : past) inner_.record(event);
  }

  /// Writes, syncs, then counts. @throw state_error when it cannot be written: nothing may be released then.
  void record(const gaussian_event& event) {
    event.validate();
    if (ledger_) ledger_->release(event);
    inner_.record(event);
  }
  [[nodiscard]] double epsilon(double delta) const { return inner_.epsilon(delta); }
  [[nodiscard]] const std::vector<gaussian_event>& history() const noexcept { return inner_.history(); }
  [[nodiscard]] std::string describe() const { return message("ledgered(", inner_.describe(), ")"); }

  /// Of the root; absent elsewhere.
  [[nodiscard]] std::optional<std::uint64_t> position() const {
    return ledger_ ? std::optional(ledger_->position()) : std::nullopt;
  }
  /// Notes that a run goes on from a checkpoint. @throw state_error when it cannot be written.
  void resumed() {
    if (ledger_) ledger_->resumed();
  }

private:
  std::string path_;
  Inner inner_;
  std::shared_ptr<ledger> ledger_;
};

ledgered(const char*) -> ledgered<rdp_accountant>;
ledgered(std::string) -> ledgered<rdp_accountant>;

static_assert(KeepsLedger<ledgered<>>);

} // namespace dpopt
