// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// One include for both Catch2 generations: v2 (single header) and v3. What they spell differently is here.
#pragma once

#include <string>

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
/// Matches a text that holds `part`.
inline auto contains_text(const std::string& part) { return Catch::Matchers::ContainsSubstring(part); }
#else
#include <catch2/catch.hpp>
/// Matches a text that holds `part`.
inline auto contains_text(const std::string& part) { return Catch::Contains(part); }
#endif
