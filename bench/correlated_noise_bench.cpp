// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: what does correlated noise cost a number, against independent noise of the same base? And for a banded
/// inverse: is it quicker to draw the past again ("ours") or to keep it ("raw:stored")? And what does Honaker's tree
/// cost over the plain one, whose noise has twice the variance? 1 Mi floats a release, added in the tiles of the
/// release; `kept_MB` is what the strategy holds.
#include "dpopt/dp_optimizer/release.hpp"
#include "dpopt/noise/banded.hpp"
#include "dpopt/noise/banded_inverse.hpp"
#include "dpopt/noise/blt.hpp"
#include "dpopt/noise/correlated.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/honaker_tree.hpp"
#include "dpopt/noise/tree.hpp"
#include "dpopt/sodium/secure_gaussian.hpp"

#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace {

using dpopt::isize;

constexpr isize count = 1 << 20;

template <class Noise>
void add_release(Noise& noise, std::uint64_t step, std::vector<float>& x) {
  for (isize first = 0; first < count; first += dpopt::release_tile_elements)
    noise.add({.step = step, .element = static_cast<std::uint64_t>(first)}, 1.0, x.data() + first,
              dpopt::release_tile_elements);
  benchmark::ClobberMemory();
}

template <class Base>
void independent(benchmark::State& state) {
  Base noise{.noise_multiplier = 1};
  noise.draw_secret();
  std::vector<float> x(static_cast<std::size_t>(count));
  std::uint64_t step = 0;
  for (auto _ : state) add_release(noise, step++, x);
  state.SetItemsProcessed(state.iterations() * count);
}

template <class Base, class Strategy>
void releases(benchmark::State& state, Strategy strategy, isize past) {
  const auto plan = dpopt::run_plan::once(1 << 20);
  strategy.validate(plan);
  double vectors = 0;
  if constexpr (requires { strategy.vectors(); }) vectors = static_cast<double>(strategy.vectors());
  dpopt::correlated noise(Base{.noise_multiplier = 1}, std::move(strategy), plan);
  noise.validate();
  noise.draw_secret();
  noise.bind(std::array<isize, 1>{count}, 0);
  std::vector<float> x(static_cast<std::size_t>(count));
  std::uint64_t step = 0;
  for (isize row = 0; row < past; ++row) noise.start_row(step++); // as in the middle of a run
  for (auto _ : state) {
    noise.start_row(step);
    add_release(noise, step++, x);
  }
  state.SetItemsProcessed(state.iterations() * count);
  state.counters["kept_MB"] = vectors * static_cast<double>(count * isize{sizeof(float)}) / 1e6;
}

std::vector<double> inverse_bands(benchmark::State& s) { return dpopt::inverse_square_root_coefficients(s.range(0)); }

template <class Base>
void drawn_again(benchmark::State& s) {
  releases<Base>(s, dpopt::banded_inverse(inverse_bands(s)), s.range(0));
}
template <class Base>
void stored(benchmark::State& s) {
  releases<Base>(s, dpopt::stored_banded_inverse<float>(inverse_bands(s)), s.range(0));
}
template <class Base>
void bands(benchmark::State& s) {
  releases<Base>(s, dpopt::banded<float>(dpopt::square_root_coefficients(s.range(0))), s.range(0));
}
template <class Base>
void buffers(benchmark::State& s) {
  releases<Base>(s, dpopt::blt<float>(dpopt::square_root_blt(s.range(0))), s.range(0));
}
template <class Base>
void nodes(benchmark::State& s) {
  releases<Base>(s, dpopt::tree(), 32);
}
constexpr std::uint64_t tree_size = 1024; // of the run of a tree
template <class Base>
void honaker_nodes(benchmark::State& s) {
  releases<Base>(s, dpopt::honaker_tree<float>(tree_size), 32);
}
template <class Base>
void small_nodes(benchmark::State& s) {
  releases<Base>(s, dpopt::tree(tree_size), 32);
}

using counter = dpopt::counter_gaussian;
using secure = dpopt::secure_gaussian;
constexpr auto widths = [](auto* b) { b->ArgName("b")->Arg(2)->Arg(4)->Arg(8)->Arg(16)->Arg(32); };
constexpr auto narrow = [](auto* b) { b->ArgName("b")->Arg(4); }; // the cipher is slow enough

BENCHMARK(drawn_again<counter>)->Name("banded_inverse/ours")->Apply(widths);
BENCHMARK(stored<counter>)->Name("banded_inverse/raw:stored")->Apply(widths);
BENCHMARK(independent<counter>)->Name("banded_inverse/raw:independent")->Apply(widths);
BENCHMARK(bands<counter>)->Name("banded/ours")->Apply(widths);
BENCHMARK(independent<counter>)->Name("banded/raw:independent")->Apply(widths);
BENCHMARK(buffers<counter>)->Name("blt/ours")->ArgName("buffers")->Arg(2)->Arg(4);
BENCHMARK(independent<counter>)->Name("blt/raw:independent")->ArgName("buffers")->Arg(2)->Arg(4);
BENCHMARK(nodes<counter>)->Name("tree/ours");
BENCHMARK(independent<counter>)->Name("tree/raw:independent");
BENCHMARK(honaker_nodes<counter>)->Name("honaker_tree/ours");
BENCHMARK(small_nodes<counter>)->Name("honaker_tree/raw:tree");
BENCHMARK(drawn_again<secure>)->Name("secure banded_inverse/ours")->Apply(narrow);
BENCHMARK(stored<secure>)->Name("secure banded_inverse/raw:stored")->Apply(narrow);

} // namespace
