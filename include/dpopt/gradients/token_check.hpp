// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Whether the tokens of a source lie in its vocabulary.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"

#include <string>
#include <string_view>

namespace dpopt::detail {

/// Nothing, or a sentence that does not tell which token is wrong: tokens are private. token(sample, position).
template <class TokenAt>
[[nodiscard]] std::string token_problem(std::string_view source, isize samples, isize positions, isize vocabulary,
                                        isize padding_index, const TokenAt& token) {
  for (isize i = 0; i < samples; ++i)
    for (isize t = 0; t < positions; ++t)
      if (const isize v = token(i, t); v != padding_index && (v < 0 || v >= vocabulary))
        return message(source, ": a token is outside of the vocabulary [0, ", vocabulary,
                       "); mask it with padding_index or mend the tokenizer");
  return {};
}

} // namespace dpopt::detail
