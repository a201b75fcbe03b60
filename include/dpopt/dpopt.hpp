// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The whole library except its components (dpopt::mpi, dpopt::eigen, dpopt::blas), as a table of contents in the order
/// of the data.
/// Include single headers instead where compile time matters; every header stands alone.
#pragma once

// What everything uses.
#include "dpopt/core/batch_size.hpp"  // defines: batch_size, per_rank, across_ranks
#include "dpopt/core/entropy.hpp"     // defines: EntropySource, system_entropy
#include "dpopt/core/error.hpp"       // defines: error, invalid_argument, state_error, rank_error, ...
#include "dpopt/core/own_process.hpp" // defines: own_process
#include "dpopt/core/parallel.hpp"    // defines: parallel_pieces
#include "dpopt/core/schedules.hpp"   // defines: exponential_decay, step_decay, cosine_decay, lambda_schedule
#include "dpopt/core/types.hpp"       // defines: isize, samples, neighbouring, loss_reduction, roles
#include "dpopt/core/workspace.hpp"   // defines: workspace

// Where the model lives.
#include "dpopt/parameters/fingerprint.hpp"    // defines: fingerprint
#include "dpopt/parameters/ownership.hpp"      // defines: ownership
#include "dpopt/parameters/parameter_set.hpp"  // defines: parameter_set
#include "dpopt/parameters/parameter_view.hpp" // defines: ParameterView, parameter_view

// Per-sample gradients of one parameter.
#include "dpopt/gradients/bias.hpp"                 // defines: bias
#include "dpopt/gradients/callback.hpp"             // defines: callback
#include "dpopt/gradients/channel_layout.hpp"       // defines: channel_layout
#include "dpopt/gradients/convolution_geometry.hpp" // defines: convolution_geometry
#include "dpopt/gradients/convolution_weight.hpp"   // defines: convolution_weight
#include "dpopt/gradients/embedding.hpp"            // defines: embedding
#include "dpopt/gradients/half.hpp"                 // defines: bfloat16, float16
#include "dpopt/gradients/linear_sequence.hpp"      // defines: linear_sequence
#include "dpopt/gradients/linear_weight.hpp"        // defines: linear_weight
#include "dpopt/gradients/materialized.hpp"         // defines: materialized
#include "dpopt/gradients/normalization_weight.hpp" // defines: normalization_weight
#include "dpopt/gradients/outer_products.hpp"       // defines: outer_product, add_outer_products
#include "dpopt/gradients/patch_products.hpp"       // defines: kernels of convolution_weight
#include "dpopt/gradients/patch_table.hpp"          // defines: factors of convolution_weight
#include "dpopt/gradients/per_sample_gradients.hpp" // defines: PerSampleGradients, SampleAccess, CheckedSource
#include "dpopt/gradients/preconditioned.hpp"       // defines: preconditioned
#include "dpopt/gradients/product.hpp"              // defines: MatrixProduct, portable_product
#include "dpopt/gradients/row_norms.hpp"            // defines: add_row_norms
#include "dpopt/gradients/sample_tiles.hpp"         // defines: sample_tile
#include "dpopt/gradients/sequence_norm.hpp"        // defines: norms of linear_sequence
#include "dpopt/gradients/stride_check.hpp"         // defines: checks of strides
#include "dpopt/gradients/tied.hpp"                 // defines: tied
#include "dpopt/gradients/tied_embedding.hpp"       // defines: tied_embedding
#include "dpopt/gradients/units.hpp"                // defines: units, averaged_views
#include "dpopt/gradients/written_rows.hpp"         // defines: WritesRows, rows_hold, rows_at_once

// Bound each sample's contribution.
#include "dpopt/clipping/adaptive.hpp"    // defines: adaptive, adaptive_options
#include "dpopt/clipping/automatic.hpp"   // defines: automatic
#include "dpopt/clipping/clip_bounds.hpp" // defines: clip_bounds
#include "dpopt/clipping/clipper.hpp"     // defines: Clipper, BoundedClipper, AdjustableClipper, LearningClipper, ...
#include "dpopt/clipping/drop_above.hpp"  // defines: drop_above, norm_limit
#include "dpopt/clipping/flat.hpp"        // defines: flat
#include "dpopt/clipping/norm_bound.hpp"  // defines: norm_bound
#include "dpopt/clipping/norm_quantiles.hpp" // defines: norm_quantiles, geometric_edges
#include "dpopt/clipping/per_group.hpp"      // defines: per_group, clip_group, weight_and_bias
#include "dpopt/clipping/per_layer.hpp"      // defines: per_layer
#include "dpopt/clipping/psac.hpp"           // defines: psac
#include "dpopt/clipping/scheduled.hpp"      // defines: scheduled
#include "dpopt/clipping/unit_norm.hpp"      // defines: unit_norm

// Sum on this rank.
#include "dpopt/accumulation/accumulator.hpp"     // defines: Accumulator, SealedAccumulator, AccumulatesFrom
#include "dpopt/accumulation/compensated_sum.hpp" // defines: compensated_sum
#include "dpopt/accumulation/deferred_source.hpp" // defines: deferred_source
#include "dpopt/accumulation/integer_grid.hpp"    // defines: integer_grid
#include "dpopt/accumulation/running_sum.hpp"     // defines: running_sum

// Sum over ranks.
#include "dpopt/communication/agreement.hpp"    // defines: agree, require_equal
#include "dpopt/communication/buckets.hpp"      // defines: bucket_plan, bucket_progress
#include "dpopt/communication/communicator.hpp" // defines: Communicator, Reduces, Scatters
#include "dpopt/communication/serial.hpp"       // defines: serial
#include "dpopt/communication/shards.hpp"       // defines: shard_plan
#include "dpopt/communication/threads.hpp"      // defines: threads

// Add noise, once.
#include "dpopt/noise/banded.hpp"            // defines: banded
#include "dpopt/noise/banded_inverse.hpp"    // defines: banded_inverse, stored_banded_inverse
#include "dpopt/noise/blt.hpp"               // defines: blt
#include "dpopt/noise/blt_parameters.hpp"    // defines: blt_parameters, square_root_blt
#include "dpopt/noise/correlated.hpp"        // defines: correlated
#include "dpopt/noise/counter_gaussian.hpp"  // defines: counter_gaussian
#include "dpopt/noise/discrete_gaussian.hpp" // defines: discrete_gaussian (the sampler)
#include "dpopt/noise/discrete_laplace.hpp"  // defines: discrete_laplace
#include "dpopt/noise/exact_coin.hpp"        // defines: WordSource, exact_coin
#include "dpopt/noise/honaker_tree.hpp"      // defines: honaker_tree
#include "dpopt/noise/noise_mechanism.hpp"   // defines: NoiseMechanism, AddressableNoise, CorrelatedNoise, ...
#include "dpopt/noise/placement.hpp"         // defines: replicated, root_before_reduction, independent_shares, sharded
#include "dpopt/noise/run_plan.hpp"          // defines: run_plan
#include "dpopt/noise/scheduled_multiplier.hpp" // defines: scheduled_multiplier
#include "dpopt/noise/sequential_gaussian.hpp"  // defines: sequential_gaussian
#include "dpopt/noise/strategy.hpp"             // defines: NoiseStrategy, RegeneratingStrategy, StoringStrategy
#include "dpopt/noise/strategy_search.hpp"      // defines: optimal_banded, optimal_blt, strategy_loss
#include "dpopt/noise/toeplitz.hpp"             // defines: square_root_coefficients, toeplitz_sensitivity, ...
#include "dpopt/noise/tree.hpp"                 // defines: tree
#include "dpopt/sodium/hardened_gaussian.hpp"   // defines: hardened_gaussian
#include "dpopt/sodium/secure_gaussian.hpp"     // defines: secure_gaussian (opacus_secure)
#include "dpopt/sodium/seed_gaussian.hpp"       // defines: seed_gaussian

// Divide, once.
#include "dpopt/scaling/expected_batch.hpp" // defines: expected_batch
#include "dpopt/scaling/scaling.hpp"        // defines: Scaling, unscaled

// Update the parameters.
#include "dpopt/optimizers/adagrad.hpp"              // defines: adagrad
#include "dpopt/optimizers/adam.hpp"                 // defines: adam
#include "dpopt/optimizers/adam_bc.hpp"              // defines: adam_bc
#include "dpopt/optimizers/adamw.hpp"                // defines: adamw
#include "dpopt/optimizers/amsgrad.hpp"              // defines: amsgrad
#include "dpopt/optimizers/base_optimizer.hpp"       // defines: BaseOptimizer, parameter_update
#include "dpopt/optimizers/exponential_average.hpp"  // defines: exponential_average
#include "dpopt/optimizers/rmsprop.hpp"              // defines: rmsprop
#include "dpopt/optimizers/scale_then_privatize.hpp" // defines: scale_then_privatize
#include "dpopt/optimizers/sgd.hpp"                  // defines: sgd

// Account for it.
#include "dpopt/accounting/accountant.hpp"               // defines: Accountant, gaussian_event
#include "dpopt/accounting/analytic_gaussian.hpp"        // defines: analytic_gaussian_epsilon, _delta, _multiplier
#include "dpopt/accounting/calibration.hpp"              // defines: find_noise_multiplier
#include "dpopt/accounting/discrete_gaussian_orders.hpp" // defines: holds_for_discrete_gaussian, with the proof
#include "dpopt/accounting/no_accountant.hpp"            // defines: no_accountant
#include "dpopt/accounting/rdp.hpp"                      // defines: subsampled_gaussian_rdp, rdp_to_epsilon
#include "dpopt/accounting/rdp_accountant.hpp"           // defines: rdp_accountant

// Choose the batches.
#include "dpopt/sampling/parts.hpp"           // defines: parts
#include "dpopt/sampling/poisson.hpp"         // defines: poisson_sampler
#include "dpopt/sampling/sampling_source.hpp" // defines: SamplingSource, counter_bits
#include "dpopt/sampling/token.hpp"           // defines: sampling_token
#include "dpopt/sodium/secure_bits.hpp"       // defines: secure_bits
#include "dpopt/sodium/seed_bits.hpp"         // defines: seed_bits

// The step itself.
#include "dpopt/dp_optimizer/dp_optimizer.hpp"         // defines: dp_optimizer, dp_options
#include "dpopt/dp_optimizer/microbatch.hpp"           // defines: microbatch, gradient_scale_of
#include "dpopt/dp_optimizer/per_layer_optimizers.hpp" // defines: (simple_)distributed_per_layer_optimizer
#include "dpopt/dp_optimizer/schedule.hpp"             // defines: as_ready, at_step

// Runs that stop and go on.
#include "dpopt/checkpoint/checkpoint.hpp" // defines: save, resume, resume_options, resumed, Companion
#include "dpopt/checkpoint/file.hpp"       // defines: write_file, read_file
#include "dpopt/checkpoint/ledger.hpp"     // defines: ledger
#include "dpopt/checkpoint/ledgered.hpp"   // defines: ledgered
#include "dpopt/checkpoint/record.hpp"     // defines: record_writer, record_reader
