// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The digits data: loading, the fixed split into training and held-out images, and the network's inputs.
///
/// One image is one unit of privacy. Nothing here depends on more than one image at a time, so that preparing the data
/// costs no privacy; the split depends on row numbers only.
#pragma once

#include <dpopt/core/error.hpp>

#include <Eigen/Core>
#include <zlib.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace digits {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

inline constexpr int pixels_per_image = 64;
inline constexpr int classes = 10;

/// A row an image.
struct images {
  matrix values; ///< [n x 64]: pixels as loaded, from 0 to 16, or what prepared() made of them
  std::vector<int> labels;

  [[nodiscard]] Eigen::Index count() const noexcept { return values.rows(); }

  /// The images at these rows, in this order.
  [[nodiscard]] images at(const std::vector<Eigen::Index>& rows) const {
    images out{matrix(static_cast<Eigen::Index>(rows.size()), values.cols()), {}};
    out.labels.reserve(rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      out.values.row(static_cast<Eigen::Index>(i)) = values.row(rows[i]);
      out.labels.push_back(labels[static_cast<std::size_t>(rows[i])]);
    }
    return out;
  }

  /// Every stride-th image from `first` on: a rank's share.
  [[nodiscard]] images share(int first, int stride) const {
    std::vector<Eigen::Index> rows;
    for (Eigen::Index i = first; i < count(); i += stride) rows.push_back(i);
    return at(rows);
  }
};

/// One line of the file: 64 pixels and the digit. @throw dpopt::invalid_argument starting with `where`.
inline std::array<int, pixels_per_image + 1> parse_line(std::string_view line, const std::string& where) {
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
  std::array<int, pixels_per_image + 1> out{};
  const char* at = line.data();
  const char* const end = at + line.size();
  for (std::size_t k = 0; k < out.size(); ++k) {
    const bool is_label = k + 1 == out.size();
    const auto [next, problem] = std::from_chars(at, end, out[k]);
    if (problem != std::errc() || out[k] < 0 || out[k] > (is_label ? classes - 1 : 16))
      throw dpopt::invalid_argument(dpopt::message(where, ": field ", k + 1, " is not a ",
                                                   is_label ? "digit from 0 to 9" : "pixel from 0 to 16"));
    if (is_label ? next != end : (next == end || *next != ','))
      throw dpopt::invalid_argument(dpopt::message(where, ": expected 64 pixels and a digit, separated by commas"));
    at = next + 1;
  }
  return out;
}

/// Reads the comma-separated file, compressed by gzip or not.
/// @throw dpopt::invalid_argument naming the file and the line.
inline images load(const std::string& file) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> in(gzopen(file.c_str(), "rb"), gzclose);
  if (!in) throw dpopt::invalid_argument(dpopt::message(file, ": cannot be opened; give the data by --data FILE"));
  std::vector<std::array<int, pixels_per_image + 1>> rows;
  std::array<char, 1024> line{};
  while (true) {
    const bool more = gzgets(in.get(), line.data(), static_cast<int>(line.size())) != nullptr;
    const std::string where = dpopt::message(file, ":", rows.size() + 1);
    int status = Z_OK;
    const char* const text = gzerror(in.get(), &status); // a cut file first gives half a line
    if (status < 0) throw dpopt::invalid_argument(dpopt::message(where, ": ", text));
    if (!more) break;
    rows.push_back(parse_line(line.data(), where));
  }
  if (rows.size() < 10)
    throw dpopt::invalid_argument(dpopt::message(file, ": ", rows.size(), " lines; 10 or more are needed"));

  images out{matrix(static_cast<Eigen::Index>(rows.size()), pixels_per_image), {}};
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (std::size_t k = 0; k < pixels_per_image; ++k)
      out.values(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(k)) = static_cast<float>(rows[i][k]);
    out.labels.push_back(rows[i].back());
  }
  return out;
}

struct split {
  images train, held_out;
};

/// A fifth of the rows, chosen by a fixed shuffle (neighbouring rows stem from one writer and count through the digits,
/// so "every fifth" would hold out two digits only), is held out; it is the same in every run, whatever the seeds.
inline split hold_out_fifth(const images& all) {
  std::vector<Eigen::Index> rows(static_cast<std::size_t>(all.count()));
  std::iota(rows.begin(), rows.end(), Eigen::Index{0});
  std::mt19937_64 random(1);
  for (std::size_t i = rows.size() - 1; i > 0; --i) std::swap(rows[i], rows[random() % (i + 1)]);
  const auto held_out = static_cast<std::ptrdiff_t>((rows.size() + 4) / 5);
  return {all.at({rows.begin() + held_out, rows.end()}), all.at({rows.begin(), rows.begin() + held_out})};
}

/// What the network sees: each image by itself moved to mean 0 and stretched to Euclidean length 6. That makes strokes
/// of any darkness alike, keeps tanh units out of saturation, and bounds how far noise in the first weights can move a
/// hidden unit.
inline images prepared(images raw) {
  constexpr float length = 6;
  raw.values.colwise() -= raw.values.rowwise().mean().eval();
  for (auto image : raw.values.rowwise()) {
    const float norm = image.norm();
    if (norm > 0) image *= length / norm; // a blank image stays 0
  }
  return raw;
}

} // namespace digits
