// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A clipper as it is after the optimizer's construction: bound to two parameters.
#pragma once

#include "dpopt/parameters/parameter_view.hpp"

#include <vector>

namespace dpopt::test {

inline const std::vector<parameter_info> parameters = {{"conv", 12}, {"bias", 3}};

template <class C>
C bound(C clipper) {
  clipper.bind(parameters);
  return clipper;
}

} // namespace dpopt::test
