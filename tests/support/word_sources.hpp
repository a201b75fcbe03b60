// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A source of words that says exactly what a test wants to be said.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace dpopt::test {

/// Gives the words of a script, then the last word given for ever.
struct scripted_words {
  using result_type = std::uint64_t;
  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return ~std::uint64_t{0}; }

  std::vector<std::uint64_t> script;
  std::uint64_t then = ~std::uint64_t{0};
  std::size_t used = 0;

  std::uint64_t operator()() {
    const std::size_t at = used++;
    return at < script.size() ? script[at] : then;
  }
};

/// Words that an exact_coin cuts into these 16-bit digits; the last word is filled up with 0xFFFF.
[[nodiscard]] inline std::vector<std::uint64_t> words_of(const std::vector<std::uint64_t>& digits) {
  std::vector<std::uint64_t> out;
  for (std::size_t i = 0; i < digits.size(); i += 4) {
    std::uint64_t word = 0;
    for (std::size_t k = 0; k < 4; ++k) word |= (i + k < digits.size() ? digits[i + k] : 0xFFFFu) << (16 * k);
    out.push_back(word);
  }
  return out;
}

/// Digits with which `count` coins of probability 1/e in a row come up true and the next one false.
[[nodiscard]] inline std::vector<std::uint64_t> digits_of_successes(std::size_t count) {
  std::vector<std::uint64_t> out;
  for (std::size_t i = 0; i < count; ++i) out.insert(out.end(), {0, 0xFFFFu}); // 1/2 holds, 1/3 fails: 3 is odd
  out.push_back(0xFFFFu);                                                      // 1/2 fails: 2 is even
  return out;
}

} // namespace dpopt::test
