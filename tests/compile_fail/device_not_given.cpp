// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Nothing says where the memory of the device is.
// error: dpopt: no device was given; pass cuda::cuda_api(stream) among the policies (cuda/cuda_api.cuh).
#include "support/recording_api.hpp"

#include "dpopt/cuda/device_composition.hpp"

#ifdef DPOPT_CORRECTED
using composed = dpopt::cuda::device_composition<float, dpopt::testing::recording_api>;
#else
using composed = dpopt::cuda::device_composition<float>;
#endif
static_assert(sizeof(composed) > 0);
