// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A program outside the tree that uses everything through the umbrella.
#include "dpopt/dpopt.hpp"

int main() {
  const dpopt::samples none{};
  return none.count == 0 ? 0 : 1;
}
