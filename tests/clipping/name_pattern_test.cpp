// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/clipping/name_pattern.hpp"

#include "support/catch.hpp"

#include <string>

using dpopt::matches_pattern;

TEST_CASE("a plain pattern is the name itself") {
  CHECK(matches_pattern("fc1.weight", "fc1.weight"));
  CHECK_FALSE(matches_pattern("fc1.weight", "fc1.weigh"));
  CHECK_FALSE(matches_pattern("fc1.weight", "c1.weight"));
  CHECK_FALSE(matches_pattern("fc1.weight", "FC1.weight"));
  CHECK(matches_pattern("", ""));
  CHECK_FALSE(matches_pattern("x", ""));
  CHECK_FALSE(matches_pattern("", "x"));
}

TEST_CASE("? stands for one character") {
  CHECK(matches_pattern("fc1.bias", "fc?.bias"));
  CHECK_FALSE(matches_pattern("fc.bias", "fc?.bias"));
  CHECK_FALSE(matches_pattern("fc12.bias", "fc?.bias"));
  CHECK_FALSE(matches_pattern("", "?"));
}

TEST_CASE("* stands for any characters or none, dots included") {
  CHECK(matches_pattern("conv1.weight", "conv*"));
  CHECK(matches_pattern("conv", "conv*"));
  CHECK(matches_pattern("block.3.conv.weight", "block.*.weight"));
  CHECK(matches_pattern("", "*"));
  CHECK(matches_pattern("abcabc", "*abc")); // the first "abc" does not end the name
  CHECK(matches_pattern("aXbXbc", "a*b*c"));
  CHECK(matches_pattern("abc", "**a**c**"));
  CHECK_FALSE(matches_pattern("abcd", "a*c"));
  CHECK_FALSE(matches_pattern("conv1.bias", "*.weight"));
  CHECK(matches_pattern("a*b", "a*b"));
}

TEST_CASE("a hard pattern takes no exponential time") {
  const std::string name(2000, 'a');
  std::string pattern;
  for (int i = 0; i < 40; ++i) pattern += "a*";
  CHECK(matches_pattern(name, pattern));
  CHECK_FALSE(matches_pattern(name, pattern + "b"));
}
