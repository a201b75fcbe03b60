// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: what do norms and weighted sum of a layer's source cost together against the plain batch gradient of the
/// same layer, which clips nothing, as loops in float?
#include "dpopt/gradients/bias.hpp"
#include "dpopt/gradients/convolution_weight.hpp"
#include "dpopt/gradients/embedding.hpp"
#include "dpopt/gradients/normalization_weight.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using dpopt::isize;

std::vector<float> numbers(isize n) {
  std::vector<float> out(static_cast<std::size_t>(n));
  std::uint32_t x = 1;
  for (float& v : out) v = static_cast<float>((x = x * 1664525u + 1013904223u) >> 8) * 0x1p-24F - 0.5F;
  return out;
}

/// Both questions, block by block, as a step asks them.
template <class S>
void both_questions(benchmark::State& state, const S& source) {
  std::vector<float> out(static_cast<std::size_t>(source.size()));
  std::vector<double> norms(static_cast<std::size_t>(source.batch())), factors(norms.size(), 0.25);
  dpopt::workspace scratch;
  for (auto _ : state) {
    for (isize first = 0; first < source.batch(); first += source.block()) {
      const dpopt::samples range{first, std::min(source.block(), source.batch() - first)};
      source.add_squared_norms(range, norms.data() + first, scratch);
      source.add_weighted_sum(range, factors.data() + first, out.data(), scratch);
    }
    benchmark::ClobberMemory();
  }
}

// ---- sequences of 128 positions, 256 wide, in batches of 64
// -----------------------------------------------------------

constexpr isize batch = 64, positions = 128, width = 256;

struct sequences {
  std::vector<float> x = numbers(batch * positions * width), e = numbers(batch * positions * width), out;
  std::vector<std::int32_t> tokens;
  explicit sequences(isize rows) : out(static_cast<std::size_t>(rows * width)) {
    std::uint32_t r = 1;
    for (isize i = 0; i < batch * positions; ++i)
      tokens.push_back(
          static_cast<std::int32_t>(((r = r * 1664525u + 1013904223u) >> 8) % static_cast<std::uint32_t>(rows)));
  }
};

void embedding_ours(benchmark::State& state) {
  const sequences s(state.range(0));
  both_questions(state, dpopt::embedding<float>(s.tokens.data(), s.e.data(), batch, positions, state.range(0), width));
}

void embedding_raw(benchmark::State& state) {
  sequences s(state.range(0));
  for (auto _ : state) {
    for (isize i = 0; i < batch * positions; ++i) {
      float* const row = s.out.data() + s.tokens[static_cast<std::size_t>(i)] * width;
      const float* const e = s.e.data() + i * width;
      for (isize k = 0; k < width; ++k) row[k] += e[k];
    }
    benchmark::ClobberMemory();
  }
}

void bias_ours(benchmark::State& state) {
  const sequences s(1);
  both_questions(state, dpopt::bias(s.e.data(), dpopt::channel_layout::channels_last(batch, positions, width)));
}

void bias_raw(benchmark::State& state) {
  sequences s(1);
  for (auto _ : state) {
    for (isize i = 0; i < batch * positions; ++i)
      for (isize k = 0; k < width; ++k)
        s.out[static_cast<std::size_t>(k)] += s.e[static_cast<std::size_t>(i * width + k)];
    benchmark::ClobberMemory();
  }
}

void normalization_ours(benchmark::State& state) {
  const sequences s(1);
  both_questions(state, dpopt::normalization_weight(s.x.data(), s.e.data(),
                                                    dpopt::channel_layout::channels_last(batch, positions, width)));
}

void normalization_raw(benchmark::State& state) {
  sequences s(1);
  for (auto _ : state) {
    for (isize i = 0; i < batch * positions; ++i)
      for (isize k = 0; k < width; ++k) {
        const auto at = static_cast<std::size_t>(i * width + k);
        s.out[static_cast<std::size_t>(k)] += s.e[at] * s.x[at];
      }
    benchmark::ClobberMemory();
  }
}

// ---- convolutions 3 x 3 with as many outputs as inputs, in batches of 8
// -------------------------------------------------

struct images {
  dpopt::convolution_geometry g;
  std::vector<float> a, e, out, patches;
  images(isize channels, isize size)
      : g{.input_channels = static_cast<std::int32_t>(channels),
          .output_channels = static_cast<std::int32_t>(channels),
          .input_size = {static_cast<std::int32_t>(size), static_cast<std::int32_t>(size)},
          .kernel_size = {3, 3},
          .padding = {1, 1}},
        a(numbers(8 * channels * size * size)), e(numbers(8 * channels * size * size)),
        out(static_cast<std::size_t>(channels * g.columns())),
        patches(static_cast<std::size_t>(size * size * g.columns())) {}
};

void convolution_ours(benchmark::State& state) {
  const images m(state.range(0), state.range(1));
  both_questions(state, dpopt::convolution_weight<float>(m.a.data(), m.e.data(), 8, m.g));
}

void convolution_raw(benchmark::State& state) {
  images m(state.range(0), state.range(1));
  const isize channels = state.range(0), size = state.range(1), columns = m.g.columns(), pixels = size * size;
  for (auto _ : state) {
    for (isize i = 0; i < 8; ++i) {
      for (isize t = 0; t < pixels; ++t)
        for (isize c = 0; c < channels; ++c)
          for (isize k = 0; k < 9; ++k) {
            const isize y = t / size + k / 3 - 1, x = t % size + k % 3 - 1;
            const bool inside = y >= 0 && y < size && x >= 0 && x < size;
            m.patches[static_cast<std::size_t>(t * columns + c * 9 + k)] =
                inside ? m.a[static_cast<std::size_t>(((i * channels + c) * size + y) * size + x)] : 0.0F;
          }
      for (isize o = 0; o < channels; ++o)
        for (isize t = 0; t < pixels; ++t) {
          const float e = m.e[static_cast<std::size_t>((i * channels + o) * pixels + t)];
          float* const row = m.out.data() + o * columns;
          const float* const patch = m.patches.data() + t * columns;
          for (isize k = 0; k < columns; ++k) row[k] += e * patch[k];
        }
    }
    benchmark::ClobberMemory();
  }
}

// ---- depthwise convolutions 3 x 3, in batches of 8: as many groups as channels
// -------------------------------------------

images depthwise(benchmark::State& state) {
  images m(state.range(0), state.range(1));
  m.g.groups = m.g.input_channels;
  return m;
}

void depthwise_ours(benchmark::State& state) {
  const images m = depthwise(state);
  both_questions(state, dpopt::convolution_weight<float>(m.a.data(), m.e.data(), 8, m.g));
}

void depthwise_raw(benchmark::State& state) {
  images m = depthwise(state);
  const isize channels = state.range(0), size = state.range(1), pixels = size * size;
  for (auto _ : state) {
    for (isize c = 0; c < 8 * channels; ++c)
      for (isize k = 0; k < 9; ++k) {
        const isize y0 = k / 3 - 1, x0 = k % 3 - 1;
        const float* const a = m.a.data() + c * pixels + y0 * size + x0;
        const float* const e = m.e.data() + c * pixels;
        float sum = 0;
        for (isize y = std::max<isize>(0, -y0); y < std::min(size, size - y0); ++y)
          for (isize x = std::max<isize>(0, -x0); x < std::min(size, size - x0); ++x)
            sum += e[y * size + x] * a[y * size + x];
        m.out[static_cast<std::size_t>(c % channels * 9 + k)] += sum;
      }
    benchmark::ClobberMemory();
  }
}

BENCHMARK(embedding_ours)->Name("embedding step/ours")->Arg(50000)->Arg(100);
BENCHMARK(embedding_raw)->Name("embedding step/raw:plain batch gradient")->Arg(50000)->Arg(100);
BENCHMARK(bias_ours)->Name("bias step/ours");
BENCHMARK(bias_raw)->Name("bias step/raw:plain batch gradient");
BENCHMARK(normalization_ours)->Name("normalization step/ours");
BENCHMARK(normalization_raw)->Name("normalization step/raw:plain batch gradient");
BENCHMARK(convolution_ours)->Name("convolution step/ours")->Args({32, 28})->Args({64, 14})->Args({256, 7});
BENCHMARK(convolution_raw)
    ->Name("convolution step/raw:plain batch gradient")
    ->Args({32, 28})
    ->Args({64, 14})
    ->Args({256, 7});
BENCHMARK(depthwise_ours)->Name("depthwise step/ours")->Args({32, 28})->Args({64, 14})->Args({256, 7});
BENCHMARK(depthwise_raw)
    ->Name("depthwise step/raw:plain batch gradient")
    ->Args({32, 28})
    ->Args({64, 14})
    ->Args({256, 7});

} // namespace
