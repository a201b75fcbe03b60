// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A program outside the tree that uses the dependency-free core: a concept and the exception hierarchy.
#include "dpopt/core/error.hpp"
#include "dpopt/optimizers/base_optimizer.hpp"

auto descend = [](dpopt::parameter_update<float> p) { p.value[0] -= p.gradient[0]; };
static_assert(dpopt::BaseOptimizer<decltype(descend), float>);

int main() {
  float value = 3;
  const float gradient = 1;
  descend({.step = 0, .parameter = 0, .name = "w", .value = {&value, 1}, .gradient = {&gradient, 1}});
  try {
    throw dpopt::invalid_argument(dpopt::message("bound is ", -1.0));
  } catch (const dpopt::error&) {
    return value == 2 ? 0 : 1;
  }
}
