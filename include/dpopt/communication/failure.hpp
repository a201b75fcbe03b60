// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A failure on one rank must become the same error on all: it is recorded where it happens and raised where all ranks
/// meet.
#pragma once

#include "dpopt/communication/agreement.hpp"

#include <exception>
#include <string>
#include <utility>

namespace dpopt {

/// Holds the first exception of a step.
class failure {
public:
  /// Runs f and keeps its exception. After a failure nothing is run until it is raised.
  template <class F>
  void record(F&& f) noexcept {
    if (exception_) return;
    try {
      f();
    } catch (...) {
      exception_ = std::current_exception();
    }
  }

  [[nodiscard]] explicit operator bool() const noexcept { return exception_ != nullptr; }

  /// COLLECTIVE. Returns when no rank recorded a failure. Otherwise every rank throws: the exception itself where there
  /// is one rank only, else rank_error with the lowest failing rank's text.
  template <Communicator C>
  void raise_together(C& communicator) {
    if (communicator.size() == 1) {
      if (exception_) std::rethrow_exception(std::exchange(exception_, nullptr));
      return;
    }
    const std::string what = text();
    exception_ = nullptr;
    agree(communicator, what);
  }

  /// For a failure that is alike on all ranks already.
  void raise() {
    if (exception_) std::rethrow_exception(std::exchange(exception_, nullptr));
  }

private:
  [[nodiscard]] std::string text() const {
    if (!exception_) return {};
    try {
      std::rethrow_exception(exception_);
    } catch (const std::exception& e) {
      return *e.what() != '\0' ? e.what() : "an exception without a text";
    } catch (...) {
      return "an exception that is not a std::exception";
    }
  }

  std::exception_ptr exception_;
};

} // namespace dpopt
