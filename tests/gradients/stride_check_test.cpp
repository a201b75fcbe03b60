// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/stride_check.hpp"

#include "support/catch.hpp"

#include <array>
#include <map>
#include <vector>

using namespace dpopt;
using detail::dimension_extent;

namespace {

// By the definition: no place in memory belongs to two samples.
bool apart_by_hand(dimension_extent all, const std::array<dimension_extent, 2>& others) {
  std::map<isize, isize> owner;
  for (isize i = 0; i < all.count; ++i)
    for (isize j = 0; j < others[0].count; ++j)
      for (isize k = 0; k < others[1].count; ++k) {
        const isize at = i * all.stride + j * others[0].stride + k * others[1].stride;
        if (owner.emplace(at, i).first->second != i) return false;
      }
  return true;
}

} // namespace

TEST_CASE("samples_apart: never takes strides for apart that let samples share a number") {
  const std::vector<isize> counts = {0, 1, 2, 3}, strides = {0, 1, -1, 2, 3, 4, -4, 6, 9, 12, -13};
  int taken = 0, refused = 0;
  for (const isize b : counts)
    for (const isize s : strides)
      for (const isize n : counts)
        for (const isize p : strides)
          for (const isize c : {isize{1}, isize{3}})
            for (const isize k : {isize{1}, isize{2}, isize{9}}) {
              const std::array<dimension_extent, 2> others{{{n, p}, {c, k}}};
              const bool apart = apart_by_hand({b, s}, others), ours = detail::samples_apart({b, s}, others);
              if (ours && !apart) {
                INFO(b << " x " << s << ", " << n << " x " << p << ", " << c << " x " << k);
                CHECK_FALSE(ours);
              }
              (ours ? taken : refused) += 1;
            }
  CHECK(taken > 500);
  CHECK(refused > 500);
}

TEST_CASE(
    "samples_apart: takes dense data in any order of dimensions, with gaps, reversed, and windows over a series") {
  struct row {
    dimension_extent samples;
    std::array<dimension_extent, 2> others;
    bool apart;
  };
  for (const row& r : {row{{4, 15}, {{{3, 5}, {5, 1}}}, true},                   // samples first
                       row{{4, 5}, {{{3, 20}, {5, 1}}}, true},                   // positions first
                       row{{4, 1}, {{{3, 20}, {5, 4}}}, true},                   // features x samples
                       row{{4, 1}, {{{3, 4}, {5, 12}}}, true},                   // features x positions x samples
                       row{{4, -15}, {{{3, 5}, {5, 1}}}, true},                  // reversed
                       row{{4, 8}, {{{3, 40}, {5, 1}}}, true},                   // gaps
                       row{{4, 7}, {{{3, 1}, {5, 1}}}, true},                    // windows within a sample
                       row{{4, 6}, {{{3, 1}, {5, 1}}}, false},                   // windows that reach the next one
                       row{{4, 0}, {{{3, 5}, {5, 1}}}, false},                   // one for all
                       row{{1, 0}, {{{3, 5}, {5, 1}}}, true},                    // one sample
                       row{{4, 0}, {{{0, 5}, {5, 1}}}, true},                    // no numbers
                       row{{4, isize{1} << 62}, {{{3, 1 << 30}, {5, 1}}}, true}, // no overflow
                       row{{4, 14}, {{{3, 5}, {5, 1}}}, false},                  // one too short
                       row{{4, 5}, {{{3, 19}, {5, 1}}}, false}}) {
    INFO("sample stride " << r.samples.stride << ", " << r.others[0].stride);
    CHECK(detail::samples_apart(r.samples, r.others) == r.apart);
  }
}
