// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "plot.hpp"

#include "pipe.hpp"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

namespace digits {
namespace {

/// Single quotes keep gnuplot from reading anything into the text but themselves, which are doubled.
std::string literal(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? "''" : std::string(1, c);
  return out + "'";
}

/// The data and everything that both files share.
std::string preamble(const std::vector<plot_point>& points, const std::string& title) {
  std::ostringstream out;
  out << std::setprecision(10) << "$run << END\n";
  for (const auto& p : points) {
    out << p.epoch << ' ' << 100 * p.accuracy << ' ';
    if (std::isfinite(p.epsilon)) out << p.epsilon << '\n';
    else out << "?\n"; // declared as missing below
  }
  out << "END\nset datafile missing '?'\n"
      << "set title " << literal(title) << " noenhanced\n"
      << "set xlabel 'epoch'\nset ylabel 'accuracy on held-out images (%)'\nset grid\nset key bottom right\n"
      << "set yrange [0:100]\nset xrange [1:" << std::max(2, points.back().epoch) << "]\n";
  return out.str();
}

} // namespace

std::string write_plots(const std::vector<plot_point>& points, const std::string& title, const std::string& folder) {
  if (points.empty()) return "no plot: there is no epoch to draw";
  if (!succeeds("command -v gnuplot")) return "no plot: gnuplot is not installed (Debian: apt-get install gnuplot-nox)";
  const bool has_epsilon = std::isfinite(points.back().epsilon);
  std::string curves = "plot $run using 1:2 with lines linewidth 2 linecolor rgb '#0060ad' title 'accuracy'";
  std::string axes;
  if (has_epsilon) {
    axes = "set ytics nomirror\nset y2tics\nset y2label 'epsilon spent'\nset y2range [0:*]\n";
    curves += ", $run using 1:3 axes x1y2 with lines linewidth 2 dashtype 2 linecolor rgb '#b0401a' title 'epsilon'";
  }
  pipe_to gnuplot("gnuplot");
  gnuplot.write(preamble(points, title) + axes);
  gnuplot.write("set terminal pngcairo size 900,560 font ',11'\nset output " + literal(folder + "/plot.png") + "\n" +
                curves + "\nset terminal svg size 900,560 dynamic background 'white'\nset output " +
                literal(folder + "/plot.svg") + "\n" + curves + "\n");
  return gnuplot.close() ? std::string() : "no plot: gnuplot failed, see above";
}

} // namespace digits
