// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What the documentation's examples speak of without declaring it; tools/check_docs compiles them below this header.
#pragma once

#include <dpopt/dpopt.hpp>
#ifndef DPOPT_DOCS_WITHOUT_MPI
#include <dpopt/mpi/mpi.hpp>
#endif

#include <cstdint>
#include <vector>

namespace documented {

using namespace dpopt;

extern std::vector<parameter_view<float>> parameters;
extern dp_optimizer<float> opt;
extern isize users;
extern std::vector<isize> first_record_of_user;
extern materialized<float> as_input, as_output;
extern isize batch, T, d, n, vocabulary, padding_index;
extern const float *inputs, *output_gradients, *normalized, *norm_gradients, *token_gradients;
extern const float *x, *down_x, *e, *up_t_e, *states, *h_gradients;
extern isize outputs, rank, hidden;
extern const std::int32_t* tokens;

} // namespace documented
