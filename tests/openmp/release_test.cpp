// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Compiled with OpenMP, which the other programs are not.
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/accumulation/running_sum.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/core/parallel.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/dp_optimizer/release.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/sequential_gaussian.hpp"
#include "dpopt/optimizers/adam.hpp"

#include "support/catch.hpp"
#include "support/random_numbers.hpp"

#include <algorithm>
#include <omp.h>
#include <random>
#include <stdexcept>
#include <vector>

using dpopt::isize;

namespace {

constexpr isize size = 40 * dpopt::release_tile_elements + 77;

/// A whole parameter released in tiles by a number of threads; `used` is how many of them did something.
std::vector<float> released(int threads, int& used) {
  omp_set_num_threads(threads);
  dpopt::counter_gaussian noise{.noise_multiplier = 1.0, .seed = 5};
  noise.draw_secret();
  std::vector<float> sum(static_cast<std::size_t>(size), 2.0F);
  std::vector<float> out(sum.size());
  std::vector<int> worked(static_cast<std::size_t>(threads));
  dpopt::for_each_release_tile<dpopt::counter_gaussian, float>(size, [&](isize first, isize count) {
    worked[static_cast<std::size_t>(omp_get_thread_num())] = 1;
    dpopt::release_tile(sum.data() + first, count, {.step = 3, .element = static_cast<std::uint64_t>(first)},
                        dpopt::release_constants{.unit = 1, .noise_std = 1.5, .divisor = 7}, noise, out.data() + first);
  });
  used = static_cast<int>(std::count(worked.begin(), worked.end(), 1));
  return out;
}

TEST_CASE("a release has the same bits for 1 to 4 threads, and all of them work") {
  omp_set_dynamic(0); // as many as asked for
  int used = 0;
  const std::vector<float> alone = released(1, used);
  CHECK(used == 1);
  CHECK(*std::max_element(alone.begin(), alone.end()) > 0.5F); // there is noise on 2 / 7
  for (int threads = 2; threads <= 4; ++threads) {
    CHECK(released(threads, used) == alone);
    CHECK(used == threads);
  }
}

static_assert(dpopt::ThreadedNoise<dpopt::counter_gaussian, float>);
static_assert(!dpopt::ThreadedNoise<dpopt::sequential_gaussian<std::mt19937_64>, float>); // one number after another

TEMPLATE_TEST_CASE("whole steps end at the same values for 1 and 3 threads", "", dpopt::running_sum<float>,
                   dpopt::integer_grid) {
  constexpr isize samples = 3;
  const std::vector<float> gradients = dpopt::test::random_numbers<float>(samples * size, 4);
  std::vector<std::vector<float>> values;
  values.reserve(2);
  for (const int threads : {1, 3}) {
    omp_set_num_threads(threads);
    std::vector<float>& w = values.emplace_back(static_cast<std::size_t>(size), 1.0F);
    const std::vector<dpopt::parameter_view<float>> views{{"w", w}};
    dpopt::dp_optimizer opt(views, dpopt::dp_options{}, dpopt::flat{1.0}, dpopt::adam{},
                            dpopt::counter_gaussian{.noise_multiplier = 1.0, .seed = 9}, dpopt::expected_batch{4.0},
                            TestType{});
    for (int step = 0; step < 2; ++step) {
      opt.begin({.samples = samples});
      opt.gradient_ready(0, dpopt::materialized(gradients.data(), samples, size));
      opt.step();
    }
  }
  CHECK(values[0] == values[1]);
  CHECK(values[0] != std::vector<float>(static_cast<std::size_t>(size), 1.0F));
}

TEST_CASE("an exception of a thread reaches the caller") {
  omp_set_num_threads(3);
  CHECK_THROWS_AS(dpopt::parallel_pieces(100,
                                         [](isize k) {
                                           if (k == 57) throw std::out_of_range("57");
                                         }),
                  std::out_of_range);
}

} // namespace
