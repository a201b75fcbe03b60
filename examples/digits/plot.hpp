// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Accuracy and epsilon over epochs as plot.png and plot.svg, drawn by gnuplot.
#pragma once

#include <string>
#include <vector>

namespace digits {

struct plot_point {
  int epoch;
  double accuracy; ///< 0..1, on held-out images
  double epsilon;  ///< infinity is not drawn
};

/// @param title one line; @param folder exists.
/// @return nothing when both files were written, else a sentence on what is missing.
[[nodiscard]] std::string write_plots(const std::vector<plot_point>& points, const std::string& title,
                                      const std::string& folder);

} // namespace digits
