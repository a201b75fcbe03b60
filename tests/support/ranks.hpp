// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Runs the same function on W ranks, each a thread with its own `threads` communicator.
///
/// Catch2's assertions are not safe on several threads at once (v2): inside the function collect results or throw, and
/// assert after run_ranks has returned.
#pragma once

#include "dpopt/communication/threads.hpp"

#include <cstddef>
#include <exception>
#include <string>
#include <thread>
#include <vector>

namespace dpopt::test {

/// Calls f(threads) on each of W ranks, in parallel, and waits for all of them.
/// @return By rank: the exception that left f, or null.
template <class F>
std::vector<std::exception_ptr> run_ranks(int W, F f) {
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(W));
  threads::world shared(W);
  {
    std::vector<std::jthread> ranks;
    for (int r = 0; r < W; ++r)
      ranks.emplace_back([&shared, &f, &error = errors[static_cast<std::size_t>(r)], r] {
        try {
          f(threads(shared, r));
        } catch (...) {
          error = std::current_exception();
        }
      });
  }
  return errors;
}

/// The text of an exception; empty for null.
inline std::string error_text(const std::exception_ptr& error) {
  if (!error) return {};
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "something that is no std::exception";
  }
}

/// Whether the exception is an E.
template <class E>
bool holds(const std::exception_ptr& error) {
  if (!error) return false;
  try {
    std::rethrow_exception(error);
  } catch (const E&) {
    return true;
  } catch (...) {
    return false;
  }
}

/// "rank 0: text; rank 2: text", of the ranks that threw; empty if none did.
inline std::string error_texts(const std::vector<std::exception_ptr>& errors) {
  std::string all;
  for (std::size_t r = 0; r < errors.size(); ++r)
    if (errors[r]) all += (all.empty() ? "rank " : "; rank ") + std::to_string(r) + ": " + error_text(errors[r]);
  return all;
}

/// Throws the lowest rank's exception, if any.
inline void rethrow_first(const std::vector<std::exception_ptr>& errors) {
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

} // namespace dpopt::test
