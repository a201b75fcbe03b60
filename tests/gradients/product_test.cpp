// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/product.hpp"

#include "dpopt/gradients/outer_products.hpp"
#include "support/catch.hpp"
#include "support/random_numbers.hpp"

#include <array>
#include <cmath>
#include <vector>

using namespace dpopt;
using test::random_numbers;

namespace {

// out[m x n] += A^T B with every number read where it lies, in a row longer than it need be.
template <class T>
struct operands {
  isize m, n, count;
  std::vector<T> a = random_numbers<T>(count * (m + 3), 1);
  std::vector<T> b = random_numbers<T>(count * (n + 1), 2);
  std::vector<T> out = random_numbers<T>(m * (n + 2), 3);

  [[nodiscard]] strided_rows<const T> left() const { return {a.data(), m + 3}; }
  [[nodiscard]] strided_rows<const T> right() const { return {b.data(), n + 1}; }
  [[nodiscard]] std::vector<T> expected() const { // in the order of the rows
    std::vector<T> sum = out;
    for (isize i = 0; i < count; ++i)
      for (isize r = 0; r < m; ++r)
        for (isize c = 0; c < n; ++c) {
          volatile T product = a[at(i, m + 3, r)] * b[at(i, n + 1, c)]; // never fused
          sum[at(r, n + 2, c)] += product;
        }
    return sum;
  }
  static std::size_t at(isize i, isize width, isize k) { return static_cast<std::size_t>(i * width + k); }
};

/// [count x width] row by row, or the other way round.
template <class T>
std::vector<T> turned(const std::vector<T>& x, isize width, isize count) {
  std::vector<T> out(x.size());
  for (isize i = 0; i < count; ++i)
    for (isize k = 0; k < width; ++k)
      out[static_cast<std::size_t>(k * count + i)] = x[static_cast<std::size_t>(i * width + k)];
  return out;
}

template <class T>
void same_bits_as_loops() {
  for (const auto& [m, n, count] : {std::array<isize, 3>{1, 1, 1},
                                    {0, 3, 2},
                                    {3, 0, 2},
                                    {3, 4, 0},
                                    {5, 33, 7},
                                    {64, 64, 3},
                                    {17, 70, 300},
                                    {250, 9, 5}}) {
    const operands<T> o{.m = m, .n = n, .count = count};
    const std::vector<T> expected = o.expected();
    std::vector<T> got = o.out;
    workspace w;
    portable_product{}.add(m, n, count, o.left(), o.right(), strided_rows<T>{got.data(), n + 2}, w);
    CHECK(got == expected);
    // The same positions as columns.
    const std::vector<T> a = turned(o.a, m + 3, count), b = turned(o.b, n + 1, count);
    got = o.out;
    portable_product{}.add_transposed(m, n, count, strided_rows<const T>{a.data(), count},
                                      strided_rows<const T>{b.data(), count}, strided_rows<T>{got.data(), n + 2}, w);
    CHECK(got == expected);
  }
}

template <class T, isize Height, isize Width>
void same_bits_at(vector_level level) {
  if (!runs_here(level)) return;
  using kernel = detail::product_kernel<T, Height, Width>;
  const operands<T> o{.m = 21, .n = 75, .count = 270};
  std::vector<T> got = o.out, rooms(static_cast<std::size_t>(kernel::left_room(21) + kernel::right_room));
  T* const left = rooms.data();
  T* const right = left + kernel::left_room(21);
  const detail::positions_of<T> a{o.a.data(), 24, 1}, b{o.b.data(), 76, 1};
  const strided_rows<T> out{got.data(), 77};
  at_vector_level(level, [=]() DPOPT_FORCE_INLINE_LAMBDA { kernel::add(21, 75, 270, a, b, out, left, right); });
  CHECK(got == o.expected());
}

} // namespace

TEST_CASE("portable_product: has the bits of the plain loops, and touches nothing beside") {
  same_bits_as_loops<float>();
  same_bits_as_loops<double>();
}

TEST_CASE("portable_product: has the same bits at every vector level that runs here") {
  same_bits_at<float, 4, 8>(vector_level::plain);
  same_bits_at<float, 3, 32>(vector_level::avx2);
  same_bits_at<float, 8, 32>(vector_level::avx512);
  same_bits_at<double, 4, 32>(vector_level::avx512);
}

TEST_CASE("add_outer_products: leaves out rows of factor 0, which may hold anything, across chunks") {
  const isize rows = 600; // several chunks
  for (const auto& [inputs, outputs] : {std::array<isize, 2>{7, 4}, {3, 5}})
    for (const int left_out : {1, 2, 3}) { // all but every first, second, third row
      std::vector<float> a = random_numbers<float>(rows * inputs, 4), e = random_numbers<float>(rows * outputs, 5);
      std::vector<double> expected(static_cast<std::size_t>(inputs * outputs), 0.0);
      const auto at = [&](isize i) {
        const double factor = i % left_out == 0 && i != 300 ? 0.5 + static_cast<double>(i % 5) : 0;
        return outer_product<float>{a.data() + i * inputs, e.data() + i * outputs, factor};
      };
      for (isize i = 0; i < rows; ++i) {
        const auto [x, y, factor] = at(i);
        for (isize k = 0; k < inputs * outputs; ++k)
          expected[static_cast<std::size_t>(k)] +=
              factor * static_cast<double>(y[k / inputs]) * static_cast<double>(x[k % inputs]);
        if (factor != 0) continue;
        for (isize k = 0; k < inputs; ++k) a[static_cast<std::size_t>(i * inputs + k)] = NAN;
        for (isize k = 0; k < outputs; ++k) e[static_cast<std::size_t>(i * outputs + k)] = INFINITY;
      }
      std::vector<double> out(expected.size(), 0.0);
      std::vector<float> narrow(expected.size(), 0.0F);
      workspace w;
      add_outer_products<float>(portable_product{}, rows, inputs, outputs, at, out.data(), w);
      add_outer_products<float>(portable_product{}, rows, inputs, outputs, at, narrow.data(), w);
      for (std::size_t k = 0; k < out.size(); ++k) {
        CHECK(out[k] == Approx(expected[k]).epsilon(1e-12).margin(1e-12));
        CHECK(narrow[k] == Approx(expected[k]).epsilon(1e-4).margin(1e-4));
      }
    }
}
