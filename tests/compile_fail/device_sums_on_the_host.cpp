// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// The core's accumulator holds a std::vector, which no kernel may write to.
// error: dpopt: the accumulator keeps its sums on the host; use cuda::running_sum or cuda::integer_grid.
#include "support/recording_api.hpp"

#include "dpopt/accumulation/running_sum.hpp"
#include "dpopt/cuda/device_composition.hpp"

#ifdef DPOPT_CORRECTED
using sum = dpopt::cuda::running_sum<float>;
#else
using sum = dpopt::running_sum<float>;
#endif
static_assert(sizeof(dpopt::cuda::device_composition<float, dpopt::testing::recording_api, sum>) > 0);
