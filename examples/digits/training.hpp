// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Private training on real data over MPI: Poisson batches over the ranks, per-layer clipping as backward runs, noise
/// once a step, Adam, and an accountant that knows what it all cost. Where the sums, the noise and the update are
/// computed is a Place: the host's are in main.cpp, a device's in ../digits_cuda.
#pragma once

#include "data.hpp"
#include "mlp.hpp"
#include "options.hpp"
#include "report.hpp"

#include <dpopt/dpopt.hpp>
#include <dpopt/mpi/mpi.hpp>
#include <dpopt/mpi/mpi_environment.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <iostream>
#include <optional>
#include <string_view>
#include <vector>

namespace digits {

/// What a Place makes an optimizer of.
struct privacy {
  double noise_multiplier;
  dpopt::clip_bounds bounds;
  dpopt::batch_size expected_batch_size;
  double learning_rate;
  std::optional<std::uint64_t> seed; ///< of the noise; none: a secret of the operating system
  bool secure_mode;
};

/// Private sums over the samples of an epoch, on this rank.
struct private_sums {
  double loss = 0;
  double samples = 0;
  double pairs = 0; ///< (sample, layer)
  double clipped = 0;

  void add(double batch_loss, const dpopt::private_counts& counts, std::size_t layers) {
    loss += batch_loss;
    samples += static_cast<double>(counts.samples) / static_cast<double>(layers);
    pairs += static_cast<double>(counts.samples);
    clipped += static_cast<double>(counts.clipped);
  }

  /// COLLECTIVE.
  [[nodiscard]] private_figures over_ranks(dpopt::mpi& world, int steps) const {
    std::array<double, 4> all{loss, samples, pairs, clipped};
    auto sum = world.start_sum(all.data(), std::ssize(all));
    world.wait(sum);
    return {all[0] / std::max(1.0, all[1]), all[3] / std::max(1.0, all[2]), all[1] / steps};
  }
};

inline double noise_multiplier(const options& o) {
  if (o.no_privacy) return 0;
  return dpopt::find_noise_multiplier(
      {.epsilon = o.target_epsilon,
       .delta = o.delta,
       .sampling_rate = o.rate,
       .steps = static_cast<std::uint64_t>(o.steps()),
       .kind = o.hardened() ? dpopt::noise_kind::discrete_gaussian : dpopt::noise_kind::gaussian});
}

inline dpopt::clip_bounds bounds(const options& o) {
  if (o.no_privacy) return 1e30; // no gradient of a float network is longer
  if (o.bounds.size() == 1) return o.bounds.front();
  return o.bounds;
}

/// COLLECTIVE. @throw dpopt::error, alike on all ranks.
template <class Place>
void train(const options& o, dpopt::mpi& world) {
  dpopt::failure problem; // what fails on one rank is thrown on all
  split data;
  double multiplier = 0;
  problem.record([&] {
    data = hold_out_fifth(prepared(load(o.data)));
    multiplier = noise_multiplier(o);
  });
  problem.raise_together(world);

  // Each rank draws from its own share of the images; together they draw the same ones whatever the number of ranks.
  dpopt::seed_bits bits;
  bits.generator_seed = o.seed;
  bits.secure_mode = o.secure_mode();
  dpopt::poisson_sampler sampler(world, data.train.count(), o.rate, bits);

  mlp net({pixels_per_image, o.hidden, classes}, o.init_seed);
  std::ptrdiff_t size = 0;
  for (std::size_t l = 0; l < net.layers(); ++l) size += net.weight(l).size();

  Place place(net);
  auto optimizer = place.optimizer(privacy{.noise_multiplier = multiplier,
                                           .bounds = bounds(o),
                                           .expected_batch_size = sampler.expected_batch_size(),
                                           .learning_rate = o.learning_rate,
                                           .seed = o.seed,
                                           .secure_mode = o.secure_mode()});

  std::optional<report> out; // one rank speaks
  problem.record([&] {
    if (world.rank() != 0) return;
    out.emplace(o, run_facts{.ranks = world.size(),
                             .train_images = data.train.count(),
                             .held_out_images = data.held_out.count(),
                             .parameters = size,
                             .noise_multiplier = multiplier,
                             .reproducible = optimizer.reproducible() || sampler.reproducible()});
  });
  problem.raise_together(world);

  matrix written_out;
  int done = 0;
  for (int epoch = 1; epoch <= o.epochs; ++epoch) {
    private_sums sums;
    for (int step = 0; step < o.steps_per_epoch(); ++step) {
      const double left = 1 - static_cast<double>(done) / o.steps();
      optimizer.base_optimizer().learning_rate = o.learning_rate * left;
      const dpopt::sampled_batch sampled = sampler.next();
      const images batch = data.train.at(sampled.records);
      double private_loss = 0;
      optimizer.step([&] {
        optimizer.begin({.samples = batch.count(), .token = sampled.token});
        private_loss = net.gradients(batch.values, batch.labels,
                                     [&](std::size_t layer, const matrix& activations, const matrix& errors) {
                                       const auto p = static_cast<dpopt::isize>(layer);
                                       if (o.materialized) {
                                         write_out(activations, errors, written_out);
                                         place.materialized_ready(optimizer, p, written_out);
                                       } else {
                                         place.linear_ready(optimizer, p, activations, errors);
                                       }
                                     });
      });
      place.after_step();
      ++done;
      if (o.show_private) sums.add(private_loss, optimizer.private_sample_counts(), net.layers());
      if (out) out->step(done);
    }
    std::optional<private_figures> figures;
    if (o.show_private) figures = sums.over_ranks(world, o.steps_per_epoch());
    if (!out) continue;
    out->epoch({.epoch = epoch,
                .accuracy = net.accuracy(data.held_out.values, data.held_out.labels),
                .epsilon = optimizer.epsilon(o.delta),
                .private_ = figures});
  }
  if (out) out->finish();
}

/// main() of a program named `name`. @tparam Hardened the Place of --noise hardened.
template <class Place, class Hardened = Place>
int run(std::string_view name, int argc, char** argv) {
  dpopt::mpi_environment environment(argc, argv);
  try {
    dpopt::mpi world(MPI_COMM_WORLD);
    options chosen;
    if (const auto exit_code = read_options(argc, argv, world.rank() == 0, chosen)) return *exit_code;
    try {
      if (chosen.hardened()) train<Hardened>(chosen, world);
      else train<Place>(chosen, world);
      return 0;
    } catch (const dpopt::rank_error& e) { // the same on every rank
      if (world.rank() == 0) std::cerr << name << ": " << e.what() << std::endl;
      return 1;
    }
  } catch (const std::exception& e) {
    std::cerr << name << ": " << e.what() << std::endl;
    int ranks = 1;
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    if (ranks == 1) return 1;
    environment.abort(); // nobody knows where the other ranks are
  }
}

} // namespace digits
