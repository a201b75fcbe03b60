// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The ledger: an append-only text file of every release made from one data set, each line on stable storage before the
/// release happens. It outlives crashes, which checkpoints alone do not: releases after the last checkpoint are in it.
///
///     dpopt ledger 1
///     release <multiplier> <rate> <count> <neighbouring> <kind> <check>
///     continue <check>
///
/// Numbers are hexadecimal floats, exact. <check> is a digest of the line and of all lines before it. A last line
/// without its end was being written when the process died; its release did not happen, and the line is dropped.
#pragma once

#include "dpopt/accounting/accountant.hpp"
#include "dpopt/checkpoint/file.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/parameters/fingerprint.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dpopt {

/// One open ledger; its process holds a lock on it. Not copyable.
class ledger {
public:
  /// Opens or starts the ledger. @throw state_error when it is in use, damaged, or cannot be written.
  explicit ledger(const std::string& path) : path_(path), file_(path, detail::opened::for_appending) {
    if (!file_.lock()) throw state_error(message("ledger '", path, "' is in use by another run"));
    const auto bytes = read_file(path);
    std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    const auto whole = text.rfind('\n') == std::string_view::npos ? 0 : text.rfind('\n') + 1;
    if (whole < text.size()) file_.truncate(whole);
    text = text.substr(0, whole);
    if (text.empty()) {
      write_line(std::string(title));
      detail::sync_directory_of(path);
      return;
    }
    bool first = true;
    for (; !text.empty(); text.remove_prefix(text.find('\n') + 1)) {
      const std::string line(text.substr(0, text.find('\n')));
      if (!std::exchange(first, false)) take(line);
      else if (line != title) throw damaged();
    }
  }

  /// Everything released, in order.
  [[nodiscard]] const std::vector<gaussian_event>& releases() const noexcept { return releases_; }

  /// Changes with every line; equal only where two ledgers hold the same lines.
  [[nodiscard]] std::uint64_t position() const noexcept { return chain_; }

  /// Writes and syncs a release that is about to happen. Nothing is counted when it throws.
  void release(const gaussian_event& event) {
    append(release_line(event));
    releases_.push_back(event);
  }

  /// Notes that a run goes on from the state that this position stands for, so that no second one can.
  void resumed() { append("continue"); }

private:
  static constexpr std::string_view title = "dpopt ledger 1";

  static std::string release_line(const gaussian_event& event) {
    char numbers[96];
    std::snprintf(numbers, sizeof numbers, "%a %a", event.noise_multiplier, event.sampling_rate);
    return message("release ", numbers, " ", event.count, " ", static_cast<int>(event.relation), " ",
                   static_cast<int>(event.kind));
  }

  [[nodiscard]] std::uint64_t after(const std::string& line) const {
    return fingerprint().add(chain_).add(line).value();
  }

  void append(const std::string& line) {
    const std::uint64_t check = after(line);
    write_line(message(line, " ", check));
    chain_ = check;
  }

  void write_line(const std::string& line) {
    if (torn_) throw state_error(message("ledger '", path_, "': an earlier line could not be written whole"));
    torn_ = true; // until it is known to be whole
    const std::string ended = line + '\n';
    file_.write(std::as_bytes(std::span(ended)));
    file_.sync();
    torn_ = false;
  }

  void take(const std::string& line) {
    const auto end = line.rfind(' ');
    if (end == std::string::npos) throw damaged();
    const std::string body = line.substr(0, end);
    const std::uint64_t check = after(body);
    if (line.substr(end + 1) != message(check)) throw damaged();
    chain_ = check;
    if (body == "continue") return;
    std::istringstream words(body);
    std::string word, multiplier, rate;
    gaussian_event event;
    int relation = 0, kind = 0;
    words >> word >> multiplier >> rate >> event.count >> relation >> kind;
    event.noise_multiplier = std::strtod(multiplier.c_str(), nullptr);
    event.sampling_rate = std::strtod(rate.c_str(), nullptr);
    event.relation = static_cast<neighbouring>(relation);
    event.kind = static_cast<noise_kind>(kind);
    if (!words || word != "release" || release_line(event) != body) throw damaged();
    releases_.push_back(event);
  }

  [[nodiscard]] state_error damaged() const {
    return state_error(
        message("ledger '", path_, "' is damaged or was changed by hand; what it holds after that line is not known"));
  }

  std::string path_;
  detail::owned_file file_;
  std::vector<gaussian_event> releases_;
  std::uint64_t chain_ = 0;
  bool torn_ = false;
};

} // namespace dpopt
