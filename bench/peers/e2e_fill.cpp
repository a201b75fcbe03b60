// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The steps of the networks in bench/support for e2e.py: make one, run it, free it.
#include "support/cnn.hpp"
#include "support/mlp.hpp"
#include "support/private_sgd.hpp"
#include "support/transformer.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>
#include <vector>

struct trainer {
  std::function<void()> step;
};

namespace {

template <class Network>
trainer* make(const typename Network::shape& s, std::int64_t kind) {
  const auto network = std::make_shared<Network>(s);
  const auto stepping = [&]<class T>(std::type_identity<T>) -> std::function<void()> {
    const auto one = std::make_shared<T>(*network);
    if constexpr (requires { one->step(0.01F); }) return [one, network] { one->step(0.01F); };
    else return [one, network] { one->step(); };
  };
  using bench::factored_by_default, bench::materialized, bench::private_sgd, dpopt::flat, dpopt::per_layer;
  const auto t = [&] {
    if (kind == 0) return stepping(std::type_identity<bench::plain_sgd<Network>>());
    if (kind == 1) return stepping(std::type_identity<private_sgd<Network, factored_by_default, per_layer>>());
    if (kind == 2) return stepping(std::type_identity<private_sgd<Network, factored_by_default, flat>>());
    if (kind == 3) return stepping(std::type_identity<private_sgd<Network, materialized, per_layer>>());
    if (kind == 4) return stepping(std::type_identity<private_sgd<Network, materialized, flat>>());
    return stepping(std::type_identity<private_sgd<Network, bench::without_rows<factored_by_default>, flat>>());
  }();
  return new trainer{t};
}

} // namespace

// kind: 0 plain; 1, 2 factored per layer, flat; 3, 4 materialized per layer, flat; 5 factored flat without rows.
extern "C" {

trainer* dpopt_make_mlp(const std::int64_t* widths, std::int64_t count, std::int64_t batch, std::int64_t kind) {
  return make<bench::mlp>({std::vector<bench::isize>(widths, widths + count), batch}, kind);
}
trainer* dpopt_make_cnn(std::int64_t side, std::int64_t batch, std::int64_t kind) {
  return make<bench::cnn>({static_cast<std::int32_t>(side), batch}, kind);
}
trainer* dpopt_make_transformer(std::int64_t layers, std::int64_t width, std::int64_t heads, std::int64_t positions,
                                std::int64_t batch, std::int64_t kind) {
  return make<bench::transformer>({layers, width, heads, positions, batch}, kind);
}
void dpopt_step(trainer* t) { t->step(); }
void dpopt_free(trainer* t) { delete t; }
}
