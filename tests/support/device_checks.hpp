// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// One run of every kernel, compared with what the CPU makes of the same numbers: on a GPU by
/// tests/cuda/device_check.cu, which also times them, and on the executor by device_checks_test.cpp, which keeps the
/// comparisons themselves honest.
///
/// Include an executor of kernels before, or compile with nvcc.
#pragma once

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/clipping/norm_bound.hpp"
#include "dpopt/core/workspace.hpp"
#include "dpopt/cuda/accumulators.hpp"
#include "dpopt/cuda/clip_factors.cuh"
#include "dpopt/cuda/device_vector.hpp"
#include "dpopt/cuda/device_work.hpp"
#include "dpopt/cuda/embedding_source.cuh"
#include "dpopt/cuda/gaussian_noise.cuh"
#include "dpopt/cuda/host_noise.cuh"
#include "dpopt/cuda/linear_source.cuh"
#include "dpopt/cuda/many_parameters.cuh"
#include "dpopt/cuda/materialized_source.cuh"
#include "dpopt/cuda/product_operands.cuh"
#include "dpopt/cuda/release_once.cuh"
#include "dpopt/gradients/embedding.hpp"
#include "dpopt/gradients/half.hpp"
#include "dpopt/gradients/linear_sequence.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/gradients/outer_products.hpp"
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/sgd.hpp"
#include "dpopt/sodium/hardened_gaussian.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace dpopt::testing {

/// One kernel, or the few that do one thing together.
struct kernel_report {
  std::string name;
  double bytes = 0;      ///< that a launch has to move: each number read once and written once
  double difference = 0; ///< from the CPU; 0 is the same bits
  double allowed = 0;
  std::function<void()> launch; ///< puts it on the stream once more

  [[nodiscard]] bool as_on_cpu() const { return difference <= allowed; } // false for NaN
};

template <class T>
[[nodiscard]] double bit_difference(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0 ? 0.0 : 1.0;
}

/// The greatest |a - b| / |b|; infinite where one of them is no number.
template <class T>
[[nodiscard]] double relative_difference(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return HUGE_VAL;
  double most = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (d == 0) continue;
    const double relative = d / std::abs(static_cast<double>(b[i]));
    if (std::isnan(relative)) return HUGE_VAL;
    most = std::max(most, relative);
  }
  return most;
}

template <cuda::DeviceApi D>
class device_checks {
public:
  using reporter = std::function<void(const kernel_report&)>;

  /// @param n numbers in the larger arrays, at least 4096. @param report called after each comparison.
  device_checks(D device, isize n, reporter report) : on_(std::move(device)), n_(n), report_(std::move(report)) {
    noise_.seed = 12345;
    noise_.draw_secret();
  }

  void run() {
    check_noise<float>("add_gaussian_noise_to_range<float>");
    check_noise<double>("add_gaussian_noise_to_range<double>");
    check_noise_on_tensors();
    check_release<float, float>("release_once, sgd, float", sgd{.learning_rate = 0.1});
    check_release<float, float>("release_once, sgd with momentum, float",
                                sgd{.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 0.01, .nesterov = true});
    check_release<float, float>("release_once, adam, float", adam{});
    check_release<std::int64_t, float>("release_once, adam, integer grid", adam{});
    check_host_noise();
    check_rows<float>("");
    check_rows<bfloat16>(" of bfloat16");
    check_linear();
    check_tokens();
    check_many();
    check_factors();
  }

private:
  template <class T>
  using memory = cuda::device_vector<T, D>;

  template <class T>
  static std::size_t bytes(const std::vector<T>& x) {
    return x.size() * sizeof(T);
  }
  template <class T>
  memory<T> upload(const std::vector<T>& x) {
    memory<T> to(on_.device(), std::ssize(x));
    if (x.empty()) return to;
    cuda::pinned_vector<T, D> staging(on_.device(), std::ssize(x));
    std::copy(x.begin(), x.end(), staging.data());
    on_.copy(to.data(), staging.data(), bytes(x), cuda::copy_direction::to_device, "upload");
    on_.device().synchronize(on_.stream(), "synchronize");
    return to;
  }
  template <class T>
  std::vector<T> download(const memory<T>& from) {
    std::vector<T> x(static_cast<std::size_t>(from.size()));
    if (x.empty()) return x;
    cuda::pinned_vector<T, D> staging(on_.device(), from.size());
    on_.copy(staging.data(), from.data(), bytes(x), cuda::copy_direction::to_host, "download");
    on_.device().synchronize(on_.stream(), "synchronize");
    std::copy_n(staging.data(), x.size(), x.begin());
    return x;
  }
  /// Numbers in (0, 1]: sums of them have no cancellation that would hide or make up a difference.
  template <class T>
  static std::vector<T> numbers(isize count, std::size_t factor = 7919) {
    std::vector<T> x(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(static_cast<double>(i * factor % 1009 + 1) / 1009);
    return x;
  }

  // ---- noise and release -----------------------------------------------------------------------------------------

  template <class R>
  void check_noise(const char* name) {
    const address where{.lane = 2, .step = 7, .parameter = 3, .element = 77};
    auto expected = numbers<R>(n_ + 1);
    memory<R> x = upload(expected);
    noise_.add(where, 1.25, expected.data() + 1, n_);
    const cuda::noise_tensor<R> to{x.data() + 1, {where.parameter, where.element}};
    const auto stream = cuda::stream_of<R>(noise_, where, 1.25);
    const auto launch = [&] {
      on_.launch("noise", cuda::range_shape(n_), &cuda::add_gaussian_noise_to_range<R>, to, n_, stream);
    };
    launch();
    const double difference = bit_difference(download(x), expected);
    report_({name, static_cast<double>(2 * sizeof(R)) * static_cast<double>(n_), difference, 0, launch});
  }

  /// 300 small tensors and a large one.
  [[nodiscard]] std::vector<isize> tensor_sizes() const {
    std::vector<isize> sizes;
    isize left = n_;
    for (isize t = 0; t < 300 && left > 0; ++t) {
      sizes.push_back(std::min(left, t * 11 % 90));
      left -= sizes.back();
    }
    sizes.push_back(left);
    return sizes;
  }

  void check_noise_on_tensors() {
    const address where{.step = 8};
    const auto sizes = tensor_sizes();
    auto expected = numbers<float>(n_);
    memory<float> x = upload(expected);
    std::vector<cuda::noise_tensor<float>> tensors;
    isize at = 0;
    for (std::size_t t = 0; t < sizes.size(); ++t) {
      address there = where;
      there.parameter = static_cast<std::uint32_t>(t);
      noise_.add(there, 0.5, expected.data() + at, sizes[t]);
      tensors.push_back({x.data() + at, {there.parameter, 0}});
      at += sizes[t];
    }
    const auto chunks = cuda::tensor_chunks(sizes);
    memory<cuda::tensor_chunk> chunk_table = upload(chunks);
    memory<cuda::noise_tensor<float>> tensor_table = upload(tensors);
    const auto stream = cuda::stream_of<float>(noise_, where, 0.5);
    const auto launch = [&] {
      on_.launch("noise", cuda::chunk_shape(std::ssize(chunks)), &cuda::add_gaussian_noise<float>, chunk_table.data(),
                 std::ssize(chunks), tensor_table.data(), stream);
    };
    launch();
    const double difference = bit_difference(download(x), expected);
    report_({"add_gaussian_noise<float>, 301 tensors", 8.0 * static_cast<double>(n_), difference, 0, launch});
  }

  template <class V, class T, class Base>
  void check_release(const char* name, const Base& base) {
    const auto sizes = tensor_sizes();
    const release_constants k{std::is_integral_v<V> ? 0x1p-20 : 1.0, 0.7, 96};
    std::vector<V> sum(static_cast<std::size_t>(n_));
    for (std::size_t i = 0; i < sum.size(); ++i)
      sum[i] = static_cast<V>(static_cast<double>(i * 7919 % 2003) - 1001) * static_cast<V>(3);
    std::vector<T> value = numbers<T>(n_);
    std::array<std::vector<T>, Base::slots> state;
    for (auto& s : state) s = numbers<T>(n_, 31);

    memory<V> sum_on = upload(sum);
    memory<T> value_on = upload(value);
    std::array<memory<T>, Base::slots> state_on;
    for (std::size_t s = 0; s < Base::slots; ++s) state_on[s] = upload(state[s]);

    const auto step = base.at(4);
    const auto update = cuda::element_update<T>(step);
    using update_type = std::remove_const_t<decltype(update)>;
    std::vector<cuda::release_tensor<V, T, Base::slots>> tensors;
    isize at = 0;
    for (std::size_t t = 0; t < sizes.size(); ++t) {
      for_each_release_tile<counter_gaussian, V>(sizes[t], [&, at](isize first, isize count) {
        std::array<T, release_tile_elements> gradient;
        const address where{
            .step = 9, .parameter = static_cast<std::uint32_t>(t), .element = static_cast<std::uint64_t>(first)};
        release_tile(sum.data() + at + first, count, where, k, noise_, gradient.data());
        std::array<T*, Base::slots> slots;
        for (std::size_t s = 0; s < Base::slots; ++s) slots[s] = state[s].data() + at + first;
        step.update(value.data() + at + first, gradient.data(), slots, count);
      });
      cuda::release_tensor<V, T, Base::slots> tensor{
          sum_on.data() + at, value_on.data() + at, nullptr, {}, {static_cast<std::uint32_t>(t), 0}};
      for (std::size_t s = 0; s < Base::slots; ++s) tensor.slots[s] = state_on[s].data() + at;
      tensors.push_back(tensor);
      at += sizes[t];
    }
    const auto chunks = cuda::tensor_chunks(sizes);
    memory<cuda::tensor_chunk> chunk_table = upload(chunks);
    memory<cuda::release_tensor<V, T, Base::slots>> tensor_table = upload(tensors);
    memory<cuda::release_permit> permit = upload(std::vector<cuda::release_permit>(1));
    const auto terms = cuda::release_terms_of<V, T>(noise_, {.step = 9}, k);
    const auto launch = [&, of = std::uint64_t{0}]() mutable { // each launch a step of its own, or it would be refused
      on_.launch("permit", cuda::launch_shape{1, cuda::warp_size}, &cuda::permit_release<cuda::release_permit>,
                 permit.data(), of++);
      on_.launch("release", cuda::chunk_shape(std::ssize(chunks)), &cuda::release_once<V, T, update_type>,
                 permit.data(), chunk_table.data(), std::ssize(chunks), tensor_table.data(), terms, update);
    };
    std::function<void()> again = launch; // a copy counts on by itself
    again();
    double difference = bit_difference(download(sum_on), sum) + bit_difference(download(value_on), value);
    double per_element = 2 * sizeof(V) + 2 * sizeof(T);
    for (std::size_t s = 0; s < Base::slots; ++s) {
      difference += bit_difference(download(state_on[s]), state[s]);
      if (update.uses(s)) per_element += 2 * sizeof(T);
    }
    report_({name, per_element * static_cast<double>(n_), difference, 0, again});
  }

  void check_host_noise() {
    const isize n = std::min(n_, isize{1} << 20); // drawing is the host's work
    hardened_gaussian noise{.noise_multiplier = 1.0};
    noise.draw_secret();
    std::vector<std::int64_t> expected(static_cast<std::size_t>(n), 5);
    memory<std::int64_t> sums = upload(expected);
    const std::array<samples, 1> places{samples{0, n}};
    cuda::host_noise<hardened_gaussian, D> drawn;
    drawn.bind(on_, places, n, 1 + n / 3);
    drawn.draw(on_, noise, {.step = 3}, 1e8);
    drawn.add(on_, sums.data());
    noise.add({.step = 3}, 1e8, expected.data(), n);
    const double difference = bit_difference(download(sums), expected);
    memory<std::int64_t> more = upload(std::vector<std::int64_t>(static_cast<std::size_t>(n_), 1));
    memory<std::int64_t> to = upload(std::vector<std::int64_t>(static_cast<std::size_t>(n_), 2));
    const auto launch = [&] {
      on_.launch("add_integers", cuda::add_integers_shape(n_), &cuda::add_integers<std::int64_t>, to.data(),
                 more.data(), n_);
    };
    report_({"add_integers, hardened noise", 24.0 * static_cast<double>(n_), difference, 0, launch});
  }

  // ---- gradients -------------------------------------------------------------------------------------------------

  /// A source on the device against the core's.
  template <class Device, class Host>
  void check_norms(const std::string& name, const Device& source, const Host& host, double bytes_read) {
    const isize batch = source.batch();
    std::vector<double> norms(static_cast<std::size_t>(batch), 0);
    memory<double> norms_on = upload(norms);
    const auto norm = [&] { source.add_squared_norms(on_, norms_on.data()); };
    norm();
    host.add_squared_norms({0, batch}, norms.data(), scratch_);
    report_({name + ": norms", bytes_read + 16.0 * static_cast<double>(batch),
             relative_difference(download(norms_on), norms), 1e-6, norm});
  }

  /// @param changed numbers of the sum that are read and written.
  template <class Device, class Host>
  void check_sum(const std::string& name, const Device& source, const Host& host, double bytes_read, isize changed) {
    const isize batch = source.batch();
    const auto factors = numbers<double>(batch);
    memory<double> factors_on = upload(factors);
    std::vector<float> sum(static_cast<std::size_t>(source.size()), 0.25F);
    memory<float> sum_on = upload(sum);
    const auto add = [&] { source.add_weighted_sum(on_, factors_on.data(), sum_on.data()); };
    add();
    host.add_weighted_sum({0, batch}, factors.data(), sum.data(), scratch_);
    report_({name + ": weighted sum", bytes_read + 8.0 * static_cast<double>(changed),
             relative_difference(download(sum_on), sum), 1e-5, add});
  }

  template <class Device, class Host>
  void check_grid(const std::string& name, const Device& source, const Host& host, double bytes_read,
                  isize changed = -1) {
    if (changed < 0) changed = source.size();
    const auto factors = numbers<double>(source.batch());
    memory<double> factors_on = upload(factors);
    integer_grid grid(30, 65536);
    grid.resize(source.size(), 2.0);
    grid.add(0, host, {0, source.batch()}, factors.data(), scratch_);
    cuda::integer_grid grid_on(30, 65536);
    grid_on.bind(2.0);
    memory<std::int64_t> sums = upload(std::vector<std::int64_t>(static_cast<std::size_t>(source.size()), 0));
    const auto add = [&] { grid_on.add(on_, source, factors_on.data(), sums.data()); };
    add();
    const std::vector<std::int64_t> expected(grid.data(), grid.data() + source.size());
    report_({name + ": sum on the grid", bytes_read + 16.0 * static_cast<double>(changed),
             bit_difference(download(sums), expected), 0, add});
  }

  template <class U>
  void check_rows(const std::string& of) {
    const isize count = n_ * 4 / static_cast<isize>(sizeof(U));
    for (const isize size : {count / 64, n_ < 100000 ? isize{40} : isize{1024}}) { // norms in parts; by a warp a row
      const isize batch = count / size;
      const auto rows = numbers<U>(batch * size);
      memory<U> rows_on = upload(rows);
      const cuda::materialized<U> source(rows_on.data(), batch, size);
      const dpopt::materialized<U> host(rows.data(), batch, size);
      const std::string name = (size == count / 64 ? "long rows" : "short rows") + of;
      const double bytes_read = static_cast<double>(sizeof(U)) * static_cast<double>(batch * size);
      check_norms(name, source, host, bytes_read);
      check_sum(name, source, host, bytes_read, size);
      check_grid(name, source, host, bytes_read);
    }
  }

  /// The norms of a layer as large as memory; sums, which are bound by arithmetic, of a small one.
  void check_linear() {
    const isize width = n_ < 100000 ? 24 : 1024, samples = n_ / (2 * width);
    const auto a = numbers<float>(samples * width), e = numbers<float>(samples * width, 31);
    memory<float> a_on = upload(a), e_on = upload(e);
    const auto bytes_of = [&](isize batch) { return 8.0 * static_cast<double>(batch * width); };
    check_norms("linear layer", cuda::linear_weight<float>{a_on.data(), e_on.data(), samples, width, width},
                dpopt::linear_weight<float>{a.data(), e.data(), samples, width, width}, bytes_of(samples));

    const isize batch = std::min(isize{256}, samples / 8 * 8);
    const cuda::linear_weight<float> source{a_on.data(), e_on.data(), batch, width, width};
    const dpopt::linear_weight<float> host{a.data(), e.data(), batch, width, width};
    check_sum("linear layer", source, host, bytes_of(batch), source.size());
    check_grid("linear layer", source, host, bytes_of(batch));
    const cuda::linear_sequence<float> sequence{a_on.data(), e_on.data(), batch / 8, 8, width, width};
    const dpopt::linear_sequence<float> host_sequence{a.data(), e.data(), batch / 8, 8, width, width};
    check_norms("linear layer, 8 positions", sequence, host_sequence, bytes_of(batch));
    check_sum("linear layer, 8 positions", sequence, host_sequence, bytes_of(batch), sequence.size());
    check_operands(a, e, a_on, e_on, samples, width);
  }

  /// The kernel in front of the product.
  void check_operands(const std::vector<float>& a, const std::vector<float>& e, const memory<float>& a_on,
                      const memory<float>& e_on, isize samples, isize size) {
    auto factors = numbers<double>(samples);
    factors[1] = 0;
    memory<double> factors_on = upload(factors);
    std::vector<float> scaled(e.size()), selected = a;
    std::fill_n(selected.begin() + size, size, 0.0F);
    for (isize i = 0; i < samples; ++i)
      if (const double f = factors[static_cast<std::size_t>(i)]; f != 0)
        dpopt::detail::scale_row(e.data() + i * size, size, rounded_down<float, double>(f), scaled.data() + i * size);
    memory<float> scaled_on(on_.device(), std::ssize(e)), selected_on(on_.device(), std::ssize(a));
    const cuda::sequence_view<float> view{{a_on.data(), samples, 1, size, size, size},
                                          {e_on.data(), samples, 1, size, size, size}};
    const auto launch = [&] {
      on_.launch("product_operands", cuda::product_operands_shape(samples, 1), &cuda::product_operands<float, float>,
                 view, factors_on.data(), scaled_on.data(), selected_on.data());
    };
    launch();
    report_({"product_operands", 16.0 * static_cast<double>(samples * size),
             bit_difference(download(scaled_on), scaled) + bit_difference(download(selected_on), selected), 0, launch});
  }

  void check_tokens() {
    const bool small = n_ < 100000;
    const isize positions = small ? 8 : 128, dimension = small ? 24 : 512, vocabulary = small ? 500 : 50000;
    const isize batch = std::min(isize{16384}, n_ / (positions * dimension));
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(batch * positions));
    for (std::size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = static_cast<std::int32_t>(i * i % 49999 % static_cast<std::size_t>(vocabulary));
    auto distinct = tokens;
    std::sort(distinct.begin(), distinct.end());
    distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
    const auto e = numbers<float>(batch * positions * dimension);
    memory<std::int32_t> tokens_on = upload(tokens);
    memory<float> e_on = upload(e);
    const cuda::embedding<float> source(tokens_on.data(), e_on.data(), batch, positions, vocabulary, dimension);
    const dpopt::embedding<float> host(tokens.data(), e.data(), batch, positions, vocabulary, dimension);
    const double bytes_read = 4.0 * static_cast<double>(batch * positions * (dimension + 1));
    check_norms("embedding", source, host, bytes_read);
    check_sum("embedding", source, host, bytes_read, std::ssize(distinct) * dimension);
    check_grid("embedding", source, host, bytes_read, std::ssize(distinct) * dimension);
  }

  /// A matrix whose columns are the parameters of one launch, one after the other.
  struct columns {
    cuda::row_view<float> all;
    isize parameters;

    [[nodiscard]] isize batch() const { return all.batch; }
    [[nodiscard]] isize size() const { return all.size; }
    template <class To>
    [[nodiscard]] cuda::many_parameters<cuda::row_view<float>, To> many(To* to, isize apart,
                                                                        const double* factors) const {
      cuda::many_parameters<cuda::row_view<float>, To> out(batch());
      const isize each = size() / parameters;
      for (isize p = 0; p < parameters; ++p)
        out.add({all.first + p * each, all.batch, each, all.stride}, to + p * apart, factors);
      return out;
    }
    void add_squared_norms(cuda::device_work<D>& on, double* norms) const {
      many(norms, 0, nullptr).add_squared_norms(on);
    }
    void add_weighted_sum(cuda::device_work<D>& on, const double* factors, float* out) const {
      many(out, size() / parameters, factors).add_weighted_sums(on);
    }
    void add_grid_sum(cuda::device_work<D>& on, const double* factors, cuda::grid_scale grid, std::int64_t* out) const {
      many(out, size() / parameters, factors).add_grid_sums(on, grid);
    }
  };

  void check_many() {
    const isize parameters = cuda::many_parameters<cuda::row_view<float>, float>::capacity;
    const isize batch = std::max(isize{8}, n_ / (parameters * cuda::most_shared_elements));
    const isize size = parameters * std::min(cuda::most_shared_elements, n_ / (batch * parameters));
    const auto rows = numbers<float>(batch * size);
    memory<float> rows_on = upload(rows);
    const columns source{{rows_on.data(), batch, size, size}, parameters};
    const dpopt::materialized<float> host(rows.data(), batch, size);
    const std::string name = message("rows of ", parameters, " parameters");
    const double bytes_read = 4.0 * static_cast<double>(batch * size);
    check_norms(name, source, host, bytes_read);
    check_sum(name, source, host, bytes_read, size);
    check_grid(name, source, host, bytes_read);
  }

  void check_factors() {
    const isize batch = n_ / 2;
    const auto squares = numbers<double>(batch);
    const norm_bound rule{0.5};
    std::vector<double> expected(squares.size());
    for (std::size_t i = 0; i < squares.size(); ++i) expected[i] = rule(std::sqrt(squares[i]));
    memory<double> squares_on = upload(squares), factors_on(on_.device(), batch);
    const auto launch = [&] {
      on_.launch("clip_factors", cuda::clip_factors_shape(batch), &cuda::clip_factors<norm_bound>,
                 cuda::group_norms<norm_bound>{rule, squares_on.data(), 1}, cuda::sample_weights{batch, nullptr, 1},
                 factors_on.data(), static_cast<cuda::sample_counts*>(nullptr));
    };
    launch();
    report_(
        {"clip_factors", 16.0 * static_cast<double>(batch), bit_difference(download(factors_on), expected), 0, launch});
  }

  cuda::device_work<D> on_;
  isize n_;
  reporter report_;
  counter_gaussian noise_{.noise_multiplier = 1.0};
  workspace scratch_;
};

} // namespace dpopt::testing
