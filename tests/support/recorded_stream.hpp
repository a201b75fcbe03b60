// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The golden stream of counter_gaussian, which every backend must reproduce bit for bit.
#pragma once

#include "dpopt/noise/counter_gaussian.hpp"
#include "support/catch.hpp"

#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace dpopt::test {

/// Checks draw(noise, where, V{}) -> V against every line: type seed incarnation purpose lane step parameter element
/// number. A change of these numbers is a change of every reproducible run, and of the noise on ranks that were not
/// rebuilt.
template <class Draw>
void check_recorded_stream(Draw draw) {
  std::ifstream file(DPOPT_TEST_DATA "/noise/counter_gaussian.txt");
  REQUIRE(file.is_open());
  int checked = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream fields(line);
    std::string type;
    std::uint64_t seed = 0;
    std::uint64_t incarnation = 0;
    unsigned what = 0;
    address where;
    std::string number;
    fields >> type >> seed >> incarnation >> what >> where.lane >> where.step >> where.parameter >> where.element >>
        number;
    where.what = static_cast<purpose>(what);
    INFO(line);
    REQUIRE(!number.empty());
    counter_gaussian noise{.noise_multiplier = 1, .seed = seed, .incarnation = incarnation};
    noise.draw_secret();
    if (type == "float") CHECK(draw(noise, where, float{}) == std::strtof(number.c_str(), nullptr));
    else CHECK(draw(noise, where, double{}) == std::strtod(number.c_str(), nullptr));
    ++checked;
  }
  CHECK(checked == 64);
}

} // namespace dpopt::test
