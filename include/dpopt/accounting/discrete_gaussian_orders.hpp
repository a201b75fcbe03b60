// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Why the discrete Gaussian is charged as the Gaussian of the same multiplier, and only at integer orders.
///
/// The mechanism. P_m is the discrete Gaussian on Z^d around m in Z^d: P_m(x) = exp(-|x - m|^2 / (2 s^2)) / Z, where Z
/// is the same for every m, since Z^d moved by m is Z^d. A release is P_m of the integer sum m of a Poisson-sampled
/// batch. One unit of privacy more adds v in Z^d with probability q, and |v| / s <= 1 / noise_multiplier: integer_grid
/// keeps |v| <= sensitivity / unit, and s >= noise_multiplier x sensitivity / unit. The divergence of a mixture over
/// the other samples is at most the largest of its parts (joint quasi-convexity, van Erven and Harremoes 2014,
/// theorem 13), and subtracting their integer sum is a bijection of Z^d: it remains to compare P = P_0 with
/// M = (1 - q) P_0 + q P_v.
///
/// One unit more. For an integer k,
///
///     E_P (P_v / P)^k = sum_x exp(-(k |x - v|^2 - (k - 1) |x|^2) / (2 s^2)) / Z
///                     = exp((k^2 - k) |v|^2 / (2 s^2)) sum_x exp(-|x - k v|^2 / (2 s^2)) / Z,
///
/// where the last factor is 1, because k v is in Z^d. So for an integer order a >= 2 the binomial sum
/// E_P (M / P)^a = sum_k C(a, k) (1 - q)^(a - k) q^k exp((k^2 - k) |v|^2 / (2 s^2)) equals that of the Gaussian (see
/// rdp_integer_order.hpp), not approximately, and grows with |v|. Without sampling (q = 1) this is theorem 14's
/// identity of Canonne, Kamath and Steinke 2020, arXiv:2004.00010. At other orders k v would be off the grid; the
/// Gaussian's value still bounds q = 1 there, but we know of no proof for q < 1, and such orders are not used.
///
/// One unit less. With r = P_v / P, w(r) = 1 + q (r - 1) and a >= 1 we compare E_P w^a, above, with E_M (P / M)^a =
/// E_P w^(1 - a). The bijection x -> v - x of Z^d exchanges P and P_v, so a value 1 / r has r times the weight of r.
/// Pairing r >= 1 with 1 / r, it is enough that A^a - A^(1 - a) + r (B^a - B^(1 - a)) >= 0 for A = w(r) >= 1, B = w(1 /
/// r) <= 1. With h = a - 1/2 this says f(h, A) sqrt(A) >= r f(h, 1 / B) sqrt(B) for f(h, y) = sinh(h log y). At h = 1/2
/// both sides are equal: A - 1 = r (1 - B). From there to h > 1/2 the left side grows by f(h, A) / f(1/2, A), the right
/// one by f(h, 1 / B) / f(1/2, 1 / B), which is no more: sinh(h y) / sinh(y / 2) increases with y, and A B >= 1,
/// because A B - 1 = (A - 1) (r - A) / r and A <= r. So the first direction is the worse one, as it is for Gaussians
/// (Mironov, Talwar and Zhang 2019, arXiv:1908.10530, theorem 5).
#pragma once

#include <cmath>

namespace dpopt {

/// Whether the formula of the Gaussian bounds the discrete Gaussian at this order.
[[nodiscard]] inline bool holds_for_discrete_gaussian(double order) { return order >= 2 && order == std::floor(order); }

} // namespace dpopt
