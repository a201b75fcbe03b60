// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/dp_optimizer/microbatch.hpp"

#include "dpopt/accumulation/running_sum.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/contributions.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "support/catch.hpp"

#include <vector>

using namespace dpopt;

TEST_CASE("gradient_scale_of: a mean and a sum over samples, and a loss scale, lead to the same clipped sum") {
  // Three samples of norms 1, 4 and 0.25 against a bound of 1: only true per-sample gradients clip the second alone.
  const std::vector<double> a = {1, 1, 1};
  const std::vector<double> e = {1, 4, 0.25};
  for (const auto reduction : {loss_reduction::sum, loss_reduction::mean})
    for (const double loss_scale : {1.0, 1024.0}) {
      std::vector<double> given = e; // what backward gives
      for (double& x : given) x *= loss_scale / (reduction == loss_reduction::mean ? 3 : 1);
      contributions<per_layer, running_sum<double>> sum(per_layer{{1.0}}, running_sum<double>{});
      sum.bind({{"w", 1}}, {0});
      sum.begin({.samples = 3, .gradient_scale = gradient_scale_of(reduction, 3, loss_scale)});
      sum.add(0, linear_weight<double>{a.data(), given.data(), 3, 1, 1}, [](isize) {});
      CHECK(sum.sum().data()[0] == Approx(2.25).epsilon(1e-5));
    }
  CHECK(gradient_scale_of(loss_reduction::mean, 0) == 0); // an empty batch
}
