# SPDX-FileCopyrightText: The dpopt authors
# SPDX-License-Identifier: Apache-2.0
#
# Every public header by component, for FILE_SET HEADERS. Written by `tools/check_headers --write`; the
# test check_headers fails when a header is missing here.

set(dpopt_core_headers
    dpopt/accounting/accountant.hpp
    dpopt/accounting/calibration.hpp
    dpopt/accounting/log_sum.hpp
    dpopt/accounting/no_accountant.hpp
    dpopt/accounting/rdp.hpp
    dpopt/accounting/rdp_accountant.hpp
    dpopt/accounting/rdp_fractional_order.hpp
    dpopt/accounting/rdp_integer_order.hpp
    dpopt/accumulation/accumulator.hpp
    dpopt/accumulation/deferred_source.hpp
    dpopt/accumulation/integer_grid.hpp
    dpopt/accumulation/running_sum.hpp
    dpopt/clipping/clip_bounds.hpp
    dpopt/clipping/clipper.hpp
    dpopt/clipping/flat.hpp
    dpopt/clipping/norm_bound.hpp
    dpopt/clipping/per_layer.hpp
    dpopt/communication/agreement.hpp
    dpopt/communication/buckets.hpp
    dpopt/communication/communicator.hpp
    dpopt/communication/failure.hpp
    dpopt/communication/meeting.hpp
    dpopt/communication/serial.hpp
    dpopt/communication/shared_secret.hpp
    dpopt/communication/threads.hpp
    dpopt/communication/wire.hpp
    dpopt/core/error.hpp
    dpopt/core/platform.hpp
    dpopt/core/types.hpp
    dpopt/core/workspace.hpp
    dpopt/dp_optimizer/base_adaptor.hpp
    dpopt/dp_optimizer/batch_state.hpp
    dpopt/dp_optimizer/contributions.hpp
    dpopt/dp_optimizer/control_message.hpp
    dpopt/dp_optimizer/dp_optimizer.hpp
    dpopt/dp_optimizer/microbatch.hpp
    dpopt/dp_optimizer/release.hpp
    dpopt/dp_optimizer/roles.hpp
    dpopt/dp_optimizer/schedule.hpp
    dpopt/gradients/linear_weight.hpp
    dpopt/gradients/materialized.hpp
    dpopt/gradients/per_sample_gradients.hpp
    dpopt/noise/box_muller.hpp
    dpopt/noise/counter_gaussian.hpp
    dpopt/noise/multiplier.hpp
    dpopt/noise/noise_mechanism.hpp
    dpopt/noise/philox.hpp
    dpopt/noise/placement.hpp
    dpopt/noise/portable_math.hpp
    dpopt/noise/sequential_gaussian.hpp
    dpopt/noise/stream_address.hpp
    dpopt/noise/stream_secret.hpp
    dpopt/optimizers/adagrad.hpp
    dpopt/optimizers/adam.hpp
    dpopt/optimizers/adam_step.hpp
    dpopt/optimizers/adamw.hpp
    dpopt/optimizers/amsgrad.hpp
    dpopt/optimizers/base_optimizer.hpp
    dpopt/optimizers/option_check.hpp
    dpopt/optimizers/rmsprop.hpp
    dpopt/optimizers/sgd.hpp
    dpopt/parameters/fingerprint.hpp
    dpopt/parameters/ownership.hpp
    dpopt/parameters/parameter_set.hpp
    dpopt/parameters/parameter_view.hpp
    dpopt/sampling/parts.hpp
    dpopt/sampling/poisson.hpp
    dpopt/sampling/sampling_source.hpp
    dpopt/sampling/token.hpp
    dpopt/scaling/expected_batch.hpp
    dpopt/scaling/scaling.hpp)

set(dpopt_sodium_headers
    dpopt/sodium/chacha_stream.hpp
    dpopt/sodium/secure_bits.hpp
    dpopt/sodium/secure_gaussian.hpp
    dpopt/sodium/seed_bits.hpp
    dpopt/sodium/seed_gaussian.hpp)

set(dpopt_dpopt_headers
    dpopt/dp_optimizer/per_layer_optimizers.hpp
    dpopt/dpopt.hpp)

set(dpopt_mpi_headers
    dpopt/mpi/check.hpp
    dpopt/mpi/mpi.hpp
    dpopt/mpi/mpi_environment.hpp)

set(dpopt_eigen_headers
    dpopt/eigen/eigen.hpp)
