// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
//
// Every kernel once in each kind of number that it is made for; tools/check_ptx compiles this and looks at the result.
// It says so when a header with a kernel is missing here, or a kernel in it.
#include "dpopt/clipping/automatic.hpp"
#include "dpopt/clipping/drop_above.hpp"
#include "dpopt/clipping/norm_bound.hpp"
#include "dpopt/clipping/psac.hpp"
#include "dpopt/clipping/unit_norm.hpp"
#include "dpopt/cuda/add_integers.cuh"
#include "dpopt/cuda/clip_factors.cuh"
#include "dpopt/cuda/embedding.cuh"
#include "dpopt/cuda/fused_release.cuh"
#include "dpopt/cuda/gaussian_noise.cuh"
#include "dpopt/cuda/grid_sum.cuh"
#include "dpopt/cuda/linear_norms.cuh"
#include "dpopt/cuda/many_embeddings.cuh"
#include "dpopt/cuda/many_parameters.cuh"
#include "dpopt/cuda/many_sequences.cuh"
#include "dpopt/cuda/product_operands.cuh"
#include "dpopt/cuda/release_once.cuh"
#include "dpopt/cuda/row_norms.cuh"
#include "dpopt/cuda/sequence_norms.cuh"
#include "dpopt/cuda/weighted_sum.cuh"
#include "dpopt/gradients/half.hpp"

#include <cstddef>
#include <cstdint>

using namespace dpopt;

namespace {

/// A kernel of which the address is taken is compiled.
template <class... P>
const void* kernel(void (*function)(P...)) {
  return reinterpret_cast<const void*>(function);
}

template <class V, class T, class Update>
const void* release() {
  return kernel(&cuda::fused_release<V, T, Update>);
}

} // namespace

extern const void* const all_kernels[];
const void* const all_kernels[] = {
    kernel(&cuda::add_gaussian_noise<float>),
    kernel(&cuda::add_gaussian_noise<double>),
    kernel(&cuda::add_gaussian_noise_to_range<float>),
    kernel(&cuda::add_gaussian_noise_to_range<double>),
    kernel(&cuda::add_integers<std::int64_t>),

    release<float, float, cuda::no_update<float>>(),
    release<float, float, cuda::sgd_update<float>>(),
    release<float, float, cuda::adam_update<float, 2>>(),
    release<float, float, cuda::adam_update<float, 3>>(),
    release<float, float, cuda::loop_update<float, rmsprop_step, rmsprop::slots>>(),
    release<float, float, cuda::loop_update<float, adagrad_step, adagrad::slots>>(),
    release<float, float, cuda::loop_update<float, adam_bc_step, adam_bc::slots>>(),
    release<float, float, cuda::averaged_update<cuda::adam_update<float, 2>>>(),
    release<double, double, cuda::sgd_update<double>>(),
    release<double, double, cuda::adam_update<double, 2>>(),
    release<double, float, cuda::sgd_update<float>>(),
    release<std::int64_t, float, cuda::sgd_update<float>>(),
    release<std::int64_t, float, cuda::adam_update<float, 2>>(),
    release<std::int64_t, double, cuda::adam_update<double, 2>>(),
    kernel(&cuda::permit_release<cuda::release_permit>),
    kernel(&cuda::release_once<float, float, cuda::sgd_update<float>>),
    kernel(&cuda::release_once<float, float, cuda::adam_update<float, 2>>),
    kernel(&cuda::release_once<std::int64_t, float, cuda::adam_update<float, 2>>),
    kernel(&cuda::release_once<std::int64_t, double, cuda::adam_update<double, 2>>),

    kernel(&cuda::clip_factors<norm_bound>),
    kernel(&cuda::clip_factors<automatic_rule>),
    kernel(&cuda::clip_factors<psac_rule>),
    kernel(&cuda::clip_factors<drop_above_rule>),
    kernel(&cuda::clip_factors<scaled_rule<norm_bound>>),
    kernel(&cuda::clip_factors_of_many<norm_bound>),
    kernel(&cuda::clip_factors_of_many<automatic_rule>),
    kernel(&cuda::add_norms_of_many<cuda::row_view<float>>),
    kernel(&cuda::add_norms_of_many<cuda::row_view<bfloat16>>),
    kernel(&cuda::add_norms_of_many<cuda::outer_view<float>>),
    kernel(&cuda::add_sums_of_many<cuda::row_view<float>, float>),
    kernel(&cuda::add_sums_of_many<cuda::row_view<double>, double>),
    kernel(&cuda::add_sums_of_many<cuda::row_view<bfloat16>, float>),
    kernel(&cuda::add_sums_of_many<cuda::outer_view<float16>, float>),
    kernel(&cuda::add_sums_of_many<cuda::outer_view<float>, float>),
    kernel(&cuda::add_grid_sums_of_many<cuda::row_view<float>>),
    kernel(&cuda::add_grid_sums_of_many<cuda::outer_view<float>>),
    kernel(&cuda::add_sequence_norms_of_many<float>),
    kernel(&cuda::add_sequence_norms_of_many<bfloat16>),
    kernel(&cuda::add_sums_of_many<cuda::sequence_view<float>, float>),
    kernel(&cuda::add_sums_of_many<cuda::sequence_view<bfloat16>, float>),
    kernel(&cuda::add_grid_sums_of_many<cuda::sequence_view<float>>),
    kernel(&cuda::add_token_norms_of_many<float, std::int32_t>),
    kernel(&cuda::add_token_norms_of_many<bfloat16, std::int32_t>),
    kernel(&cuda::add_sums_of_many<cuda::token_view<float, std::int32_t>, float>),
    kernel(&cuda::add_sums_of_many<cuda::token_view<bfloat16, std::int32_t>, float>),
    kernel(&cuda::add_grid_sums_of_many<cuda::token_view<float, std::int32_t>>),
    kernel(&cuda::add_row_norms_by_warp<float>),
    kernel(&cuda::add_row_norms_by_warp<double>),
    kernel(&cuda::row_norm_parts<float>),
    kernel(&cuda::row_norm_parts<double>),
    kernel(&cuda::add_norm_parts<double>),
    kernel(&cuda::add_row_norms_by_warp<bfloat16>),
    kernel(&cuda::add_row_norms_by_warp<float16>),
    kernel(&cuda::row_norm_parts<bfloat16>),
    kernel(&cuda::row_norm_parts<float16>),
    kernel(&cuda::add_linear_norms<float>),
    kernel(&cuda::add_linear_norms<bfloat16>),
    kernel(&cuda::add_linear_norms<float16>),
    kernel(&cuda::add_sequence_norms<float>),
    kernel(&cuda::add_sequence_norms<bfloat16>),
    kernel(&cuda::add_weighted_rows<float, float>),
    kernel(&cuda::add_weighted_rows<bfloat16, float>),
    kernel(&cuda::add_weighted_rows<float16, float>),
    kernel(&cuda::add_weighted_rows<double, double>),
    kernel(&cuda::product_operands<float, float>),
    kernel(&cuda::product_operands<bfloat16, float>),
    kernel(&cuda::product_operands<float16, float>),
    kernel(&cuda::add_grid_sum<cuda::row_view<float>>),
    kernel(&cuda::add_grid_sum<cuda::row_view<bfloat16>>),
    kernel(&cuda::add_grid_sum<cuda::outer_view<float>>),
    kernel(&cuda::add_grid_sum<cuda::sequence_view<float>>),
    kernel(&cuda::link_tokens<float, std::int32_t>),
    kernel(&cuda::add_token_norms<float, std::int32_t>),
    kernel(&cuda::add_token_sum<float, std::int32_t, float>),
    kernel(&cuda::add_token_norms<bfloat16, std::int32_t>),
    kernel(&cuda::add_token_sum<bfloat16, std::int32_t, float>),
    kernel(&cuda::add_token_grid_sum<float, std::int32_t>),
};
