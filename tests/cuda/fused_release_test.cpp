// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/simt/simt.hpp"

#include "dpopt/cuda/fused_release.cuh"
#include "dpopt/cuda/release_once.cuh"
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/adamw.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <vector>

using namespace dpopt;

namespace {

counter_gaussian seeded(std::uint64_t seed) {
  counter_gaussian out{.noise_multiplier = 1.0, .seed = seed};
  out.draw_secret();
  return out;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// Sums, values, gradients and state of some tensors, which start `offset` elements into their arrays.
template <class V, class T, std::size_t Slots>
struct model {
  std::vector<isize> sizes;
  std::size_t offset;
  std::vector<std::vector<V>> sum;
  std::vector<std::vector<T>> value, gradient;
  std::array<std::vector<std::vector<T>>, Slots == 0 ? 1 : Slots> state;

  model(std::vector<isize> of_sizes, std::size_t from) : sizes(std::move(of_sizes)), offset(from) {
    for (const isize n : sizes) {
      const std::size_t room = offset + static_cast<std::size_t>(n) + 2;
      value.emplace_back(room);
      for (std::size_t i = 0; i < room; ++i) value.back()[i] = static_cast<T>(0.01) * static_cast<T>(i % 37);
      gradient.emplace_back(room, T(9));
      for (auto& s : state) s.emplace_back(room, T(0));
      sum.emplace_back(room);
    }
    put_sums(0);
  }
  void put_sums(int step) {
    for (auto& s : sum)
      for (std::size_t i = 0; i < s.size(); ++i) {
        const auto number = static_cast<std::int64_t>((i * 7919 + static_cast<std::size_t>(step) * 31) % 1000) - 500;
        if constexpr (std::floating_point<V>) s[i] = static_cast<V>(number) / V(300);
        else s[i] = number * 123456789;
      }
  }
  bool operator==(const model& other) const {
    bool same = true;
    for (std::size_t p = 0; p < sizes.size(); ++p) {
      same = same && same_bits(sum[p], other.sum[p]) && same_bits(value[p], other.value[p]) &&
             same_bits(gradient[p], other.gradient[p]);
      for (std::size_t s = 0; s < state.size(); ++s) same = same && same_bits(state[s][p], other.state[s][p]);
    }
    return same;
  }
};

/// Fewer blocks than chunks, so that each strides over several; and few threads in all, since the executor makes a
/// fiber for each.
dim3 small_grid(const std::vector<cuda::tensor_chunk>& chunks) {
  return dim3(static_cast<unsigned>(std::min<std::size_t>(chunks.size(), 5)));
}

constexpr address at_step(int t) { return {.lane = 1, .step = static_cast<std::uint64_t>(t) + 6}; }

template <class V, class T, std::size_t Slots, class Update>
void release_by_cpu(model<V, T, Slots>& m, const counter_gaussian& noise, int t, const release_constants& k,
                    const Update* update) {
  for (std::size_t p = 0; p < m.sizes.size(); ++p)
    for_each_release_tile<counter_gaussian, V>(m.sizes[p], [&](isize first, isize count) {
      address where = at_step(t);
      where.parameter = static_cast<std::uint32_t>(p);
      where.element = static_cast<std::uint64_t>(first);
      const auto from = static_cast<std::ptrdiff_t>(m.offset) + first;
      T* const g = m.gradient[p].data() + from;
      release_tile(m.sum[p].data() + from, count, where, k, noise, g);
      if constexpr (!std::same_as<Update, cuda::no_update<T>>) {
        std::array<T*, Slots> slots{};
        for (std::size_t s = 0; s < Slots; ++s) slots[s] = m.state[s][p].data() + from;
        update->update(m.value[p].data() + from, g, slots, count);
      }
    });
}

/// @param permit null: fused_release; else the two kernels of a step.
template <class V, class T, std::size_t Slots, class Update>
void release_by_kernel(model<V, T, Slots>& m, const counter_gaussian& noise, int t, const release_constants& k,
                       const Update& update, bool with_values = true, cuda::release_permit* permit = nullptr) {
  std::vector<cuda::release_tensor<V, T, Slots>> tensors;
  for (std::size_t p = 0; p < m.sizes.size(); ++p) {
    cuda::release_tensor<V, T, Slots> to{m.sum[p].data() + m.offset,
                                         with_values ? m.value[p].data() + m.offset : nullptr,
                                         m.gradient[p].data() + m.offset,
                                         {},
                                         {static_cast<std::uint32_t>(p), 0}};
    for (std::size_t s = 0; s < Slots; ++s) to.slots[s] = m.state[s][p].data() + m.offset;
    cuda::require_in_stream<cuda::noise_type_of<V>>(to.place, m.sizes[p]);
    tensors.push_back(to);
  }
  const auto chunks = cuda::tensor_chunks(m.sizes);
  const cuda::tensor_chunk* const first = chunks.data();
  const cuda::release_tensor<V, T, Slots>* const to = tensors.data();
  const auto terms = cuda::release_terms_of<V, T>(noise, at_step(t), k);
  if (permit == nullptr) {
    simt::launch(&cuda::fused_release<V, T, Update>, small_grid(chunks), dim3(64), first, std::ssize(chunks), to, terms,
                 update);
    return;
  }
  simt::launch(&cuda::permit_release<cuda::release_permit>, dim3(1), dim3(32), permit, at_step(t).step);
  simt::launch(&cuda::release_once<V, T, Update>, small_grid(chunks), dim3(64),
               static_cast<const cuda::release_permit*>(permit), first, std::ssize(chunks), to, terms, update);
}

/// Two steps by both, the first and a later one; everything must have the same bits, also what lies around the tensors.
/// @param once the kernels of a step, and the last step again, which leaves nothing but empty sums.
template <class V, class T, class B>
void check(const B& base, const release_constants& k, const std::vector<isize>& sizes, std::size_t offset,
           bool once = false) {
  const counter_gaussian noise = seeded(7);
  model<V, T, B::slots> expected(sizes, offset);
  model<V, T, B::slots> m = expected;
  std::vector<cuda::release_permit> permit(1);
  for (int t = 0; t < 2; ++t) {
    const auto step = base.at(static_cast<std::uint64_t>(t));
    release_by_cpu(expected, noise, t, k, &step);
    release_by_kernel(m, noise, t, k, cuda::element_update<T>(step), true, once ? permit.data() : nullptr);
    INFO(base.describe() << ", step " << t << ", offset " << offset << ", noise " << k.noise_std << ", once " << once);
    REQUIRE(m == expected);
    REQUIRE(m.sum[0][offset] == V{});
    if (once && t == 1) {
      for (std::size_t p = 0; p < sizes.size(); ++p)
        std::fill_n(m.sum[p].begin() + static_cast<std::ptrdiff_t>(offset), sizes[p], V(5));
      release_by_kernel(m, noise, t, k, cuda::element_update<T>(step), true, permit.data());
      REQUIRE(m == expected);
    }
    m.put_sums(t + 1);
    expected.put_sums(t + 1);
  }
}

const std::vector<isize> edges{1, 0, 31, 32, 33, 255, 256, 257, cuda::chunk_elements + 130};
const std::vector<isize> few{300, 7};

} // namespace

TEST_CASE("the fused kernel releases and updates with the CPU's bits, for every size, alignment and schedule") {
  for (simt::cfg.seed = 0; simt::cfg.seed < 4; ++simt::cfg.seed) {
    check<float, float>(sgd{.learning_rate = 0.1, .momentum = 0.9}, {1, 0.7, 48}, edges, simt::cfg.seed);
    check<std::int64_t, float>(adam{}, {0x1p-30, 0.7, 48}, edges, simt::cfg.seed % 3);
  }
  simt::cfg.seed = 0;
}

TEST_CASE("a step's two kernels have the CPU's bits for every size, alignment and schedule, and happen once") {
  for (simt::cfg.seed = 0; simt::cfg.seed < 4; ++simt::cfg.seed) {
    check<float, float>(sgd{.learning_rate = 0.1, .momentum = 0.9}, {1, 0.7, 48}, edges, simt::cfg.seed, true);
    check<std::int64_t, float>(adam{}, {0x1p-30, 0.7, 48}, edges, simt::cfg.seed % 3, true);
  }
  simt::cfg.seed = 0;
}

TEST_CASE("sgd's variants have the CPU's bits after the fused kernel") {
  for (const sgd& base :
       {sgd{.learning_rate = 0.1}, sgd{.learning_rate = 0.1, .weight_decay = 0.03},
        sgd{.learning_rate = 0.1, .momentum = 0.9, .dampening = 0.5, .weight_decay = 0.03, .maximize = true},
        sgd{.learning_rate = 0.1, .momentum = 0.8, .weight_decay = 0.03, .nesterov = true}}) {
    check<float, float>(base, {1, 1.3, 10}, few, 0);
    check<double, double>(base, {1, 1.3, 10}, few, 1);
  }
}

TEST_CASE("a slot that sgd does not use is not touched") {
  model<float, float, 1> m({40}, 0);
  m.state[0][0].assign(m.state[0][0].size(), -3.0F);
  const auto before = m.state;
  release_by_kernel(m, seeded(1), 0, {1, 0.5, 2}, cuda::element_update<float>(sgd{.learning_rate = 0.1}.at(0)));
  CHECK(m.state == before);
}

TEST_CASE("the other base optimizers have the CPU's bits after the fused kernel") {
  check<float, float>(adam{.weight_decay = 0.01, .maximize = true}, {1, 1.3, 10}, few, 0);
  check<double, float>(adamw{}, {1, 1.3, 10}, few, 0); // sums in double, values in float
  check<float, float>(rmsprop{.momentum = 0.5, .centered = true}, {1, 1.3, 10}, few, 0);
  check<float, float>(rmsprop{}, {1, 1.3, 10}, few, 0);
  check<float, float>(exponential_average{sgd{.learning_rate = 0.1}, 0.9}, {1, 1.3, 10}, few, 0);
}

TEST_CASE("without noise no secret is needed, and the sums are released as they are") {
  const counter_gaussian none{.noise_multiplier = 0.0};
  model<std::int64_t, double, 0> expected(few, 0);
  model<std::int64_t, double, 0> m = expected;
  const cuda::no_update<double> update;
  release_by_cpu(expected, none, 0, {0x1p-20, 0, 3}, &update);
  release_by_kernel(m, none, 0, {0x1p-20, 0, 3}, update, false);
  CHECK(m == expected);
  CHECK_THROWS_AS((cuda::release_terms_of<double, double>(none, {}, {1, 0.5, 1})), state_error);
}

TEST_CASE("300 small parameters are released by one launch") {
  std::vector<isize> sizes;
  for (isize t = 0; t < 300; ++t) sizes.push_back(1 + t * 11 % 90);
  const counter_gaussian noise = seeded(8);
  model<float, float, 2> expected(sizes, 1);
  model<float, float, 2> m = expected;
  const auto step = adam{}.at(0);
  release_by_cpu(expected, noise, 0, {1, 0.4, 7}, &step);
  release_by_kernel(m, noise, 0, {1, 0.4, 7}, cuda::element_update<float>(step));
  CHECK(m == expected);
}

TEST_CASE("chunks cover each element of each tensor once, and refuse ranges that do not exist") {
  const std::vector<isize> sizes{0, 1, cuda::chunk_elements, 3 * cuda::chunk_elements + 1};
  std::vector<isize> next(sizes.size(), 0);
  for (const auto& c : cuda::tensor_chunks(sizes)) {
    CHECK(c.first == next[c.tensor]);
    CHECK((c.count > 0 && c.count <= cuda::chunk_elements));
    next[c.tensor] += c.count;
  }
  CHECK(next == sizes);
  std::vector<cuda::tensor_chunk> part; // a part begins inside a chunk and is cut where the whole is
  cuda::append_chunks(part, 5, 100, cuda::chunk_elements);
  REQUIRE(part.size() == 2);
  CHECK((part[0].first == 100 && part[1].first == cuda::chunk_elements && part[1].count == 100));
  CHECK_THROWS_WITH(cuda::append_chunks(part, 5, 0, -1), contains_text("tensor 5 has the range 0 + -1"));
}
