// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The steps of bench/support/*mlp.hpp for e2e.py: make one, run it, free it.
#include "support/private_mlp.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace {

struct trainer {
  explicit trainer(const bench::shape& s) : model(s) {}
  bench::mlp model;
  std::function<void()> step;
};

template <class T>
void take_steps_of(trainer& t) {
  const auto one = std::make_shared<T>(t.model);
  if constexpr (requires { one->step(0.01F); }) t.step = [one] { one->step(0.01F); };
  else t.step = [one] { one->step(); };
}

} // namespace

extern "C" {

/// kind: 0 plain; 1, 2 factored per layer, flat; 3, 4 materialized per layer, flat.
trainer* dpopt_make(const std::int64_t* widths, std::int64_t count, std::int64_t batch, std::int64_t kind) {
  auto t = std::make_unique<trainer>(bench::shape{std::vector<bench::isize>(widths, widths + count), batch});
  if (kind == 0) take_steps_of<bench::plain_sgd>(*t);
  if (kind == 1) take_steps_of<bench::private_sgd<bench::factored, dpopt::per_layer>>(*t);
  if (kind == 2) take_steps_of<bench::private_sgd<bench::factored, dpopt::flat>>(*t);
  if (kind == 3) take_steps_of<bench::private_sgd<bench::materialized, dpopt::per_layer>>(*t);
  if (kind == 4) take_steps_of<bench::private_sgd<bench::materialized, dpopt::flat>>(*t);
  return t.release();
}
void dpopt_step(trainer* t) { t->step(); }
void dpopt_free(trainer* t) { delete t; }
}
