// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The trainer's own code inside a step: closures, which hand over gradients, and the hook, which looks at the release.
#pragma once

#include "dpopt/communication/failure.hpp"
#include "dpopt/core/error.hpp"

#include <concepts>
#include <functional>
#include <optional>
#include <type_traits>
#include <utility>

namespace dpopt {

/// What a trainer wants called once after each release and before the update. A step is not over before its hook is.
template <class Opt>
class step_hook {
public:
  void attach(std::function<void(Opt&)> f) { hook_ = std::move(f); }
  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(hook_); }

  /// @throw state_error when the hook calls what starts or ends a step.
  void require_outside(const char* what) const {
    if (inside_)
      throw state_error(message(what, " was called by the step hook, whose step is not over; call it later"));
  }

  /// Once until next_step(), also when it throws: what was released stays, and step() goes on with the update.
  void call(Opt& opt) {
    if (!hook_ || std::exchange(called_, true)) return;
    const auto hook = hook_; // it may attach another one
    inside_ = true;
    try {
      hook(opt);
    } catch (...) {
      inside_ = false;
      throw;
    }
    inside_ = false;
  }
  void next_step() noexcept { called_ = false; }

private:
  std::function<void(Opt&)> hook_;
  bool called_ = false;
  bool inside_ = false;
};

/// Runs closure under record(), then `collective`, which raises what the closure threw on all ranks. @return what the
/// closure returned; after a skipped step, whose failure the next real one raises, a value-initialised result.
template <std::invocable F, std::invocable Collective>
auto run_closure(failure& problem, F&& closure, Collective&& collective) {
  using result = std::decay_t<std::invoke_result_t<F>>;
  if constexpr (std::is_void_v<result>) {
    problem.record(closure);
    collective();
  } else {
    std::optional<result> value;
    problem.record([&] { value.emplace(closure()); });
    collective();
    if (!value) {
      if constexpr (std::default_initializable<result>) return result{};
      else throw state_error("the closure failed in a skipped step; the next step() raises why on all ranks");
    }
    return std::move(*value);
  }
}

} // namespace dpopt
