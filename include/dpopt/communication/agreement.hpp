// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Errors that every rank throws alike. A rank that throws alone leaves the others waiting in their next collective;
/// so a rank first catches its own error, then all ranks agree, then all throw or none does.
///
/// Error texts travel to all ranks: they must hold no seed, key or private data, like every message of the library.
#pragma once

#include "dpopt/communication/communicator.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/parameters/fingerprint.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dpopt {

/// One named part of the configuration. The name may appear in messages; it holds no newline.
struct fingerprint_field {
  std::string_view name;
  std::uint64_t digest = 0;
};

namespace detail {

/// Sums over ranks and returns when done.
template <class C>
  requires Reduces<C, double>
void sum_now(C& comm, std::span<double> values) {
  typename C::request started = comm.start_sum(values.data(), std::ssize(values));
  comm.wait(started);
}

/// Copies the root's values to all ranks.
template <Communicator C, class T, std::size_t N>
void broadcast_now(C& comm, std::span<T, N> values, int root) {
  const auto bytes = std::as_writable_bytes(values);
  comm.broadcast(bytes.data(), std::ssize(bytes), root);
}

/// "ranks 1, 3 differ from rank 0", at most eight of them by number.
[[nodiscard]] inline std::string differing_ranks(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  const std::size_t shown = std::min<std::size_t>(ranks.size(), 8);
  for (std::size_t i = 0; i < shown; ++i) text += (i == 0 ? "" : ", ") + std::to_string(ranks[i]);
  if (shown < ranks.size()) text += " and " + std::to_string(ranks.size() - shown) + " more";
  return text + (ranks.size() == 1 ? " differs" : " differ") + " from rank 0";
}

/// The sentence that require_equal throws. `names` holds one name a line, and `flags` one row a rank with one column a
/// name: above 0 where the rank differs from rank 0.
[[nodiscard]] inline std::string difference_text(std::string_view names, std::span<const double> flags, int ranks) {
  const std::size_t columns = flags.size() / static_cast<std::size_t>(ranks);
  std::string text = "configuration differs between ranks: ";
  bool first = true;
  for (std::size_t column = 0; column < columns; ++column) {
    const std::string_view name = names.substr(0, names.find('\n'));
    names.remove_prefix(std::min(names.size(), name.size() + 1));
    std::vector<int> differing;
    for (int r = 0; r < ranks; ++r)
      if (flags[static_cast<std::size_t>(r) * columns + column] > 0) differing.push_back(r);
    if (differing.empty()) continue;
    text += (first ? "" : ", ") + std::string(name) + " (" + differing_ranks(differing) + ")";
    first = false;
  }
  return text + "; give all ranks the same options";
}

} // namespace detail

/// Returns when no rank has an error. Collective. Costs one sum of one double; only a failure costs more.
/// @param local_error This rank's error text, empty for none.
/// @throw rank_error On every rank if any has one: "rank R: <text of R> (K of W ranks failed)", R the lowest of them.
template <class C>
  requires Reduces<C, double>
void agree(C& comm, const std::string& local_error) {
  std::array<double, 1> failed{local_error.empty() ? 0.0 : 1.0};
  detail::sum_now(comm, failed);
  if (failed[0] == 0.0) return;

  std::vector<double> lengths(static_cast<std::size_t>(comm.size()), 0.0); // a length is exact in double
  lengths[static_cast<std::size_t>(comm.rank())] = static_cast<double>(local_error.size());
  detail::sum_now(comm, lengths);
  const auto lowest = std::find_if(lengths.begin(), lengths.end(), [](double length) { return length > 0; });
  const int root = static_cast<int>(lowest - lengths.begin());

  std::string text = comm.rank() == root ? local_error : std::string(static_cast<std::size_t>(*lowest), ' ');
  detail::broadcast_now(comm, std::span(text), root);
  throw rank_error(root, message("rank ", root, ": ", text, " (", failed[0], " of ", comm.size(), " ranks failed)"));
}

/// Returns when all ranks have the same fields: as many, with the same names and digests, in the same order.
/// Collective. Costs two broadcasts and one sum of one double; only a difference costs more.
/// @throw invalid_argument On every rank alike, naming each field that differs and the ranks that differ from rank 0.
template <class C>
  requires Reduces<C, double>
void require_equal(C& comm, std::span<const fingerprint_field> fields) {
  std::array<std::uint64_t, 1> root_count{fields.size()};
  detail::broadcast_now(comm, std::span(root_count), 0);
  const std::size_t count = static_cast<std::size_t>(root_count[0]);

  std::vector<std::uint64_t> own; // name and digest in one number
  for (const fingerprint_field& field : fields) own.push_back(fingerprint().add(field.name).add(field.digest).value());
  std::vector<std::uint64_t> root = own;
  root.resize(count);
  detail::broadcast_now(comm, std::span(root), 0);

  // One row a rank; the last column says that the number of fields differs, and then the others say nothing.
  const std::size_t columns = count + 1;
  std::vector<double> flags(static_cast<std::size_t>(comm.size()) * columns, 0.0);
  const std::span<double> row = std::span(flags).subspan(static_cast<std::size_t>(comm.rank()) * columns, columns);
  if (own.size() == count)
    for (std::size_t i = 0; i < count; ++i) row[i] = own[i] == root[i] ? 0.0 : 1.0;
  else row[count] = 1.0;

  std::array<double, 1> differences{static_cast<double>(std::count(row.begin(), row.end(), 1.0))};
  detail::sum_now(comm, differences);
  if (differences[0] == 0.0) return;

  detail::sum_now(comm, flags);
  std::string names; // the root's: every rank must say the same
  for (const fingerprint_field& field : fields) names += std::string(field.name) + '\n';
  std::array<std::uint64_t, 1> length{names.size()};
  detail::broadcast_now(comm, std::span(length), 0);
  names.resize(static_cast<std::size_t>(length[0]));
  detail::broadcast_now(comm, std::span(names), 0);
  throw invalid_argument(detail::difference_text(names + "number of fields\n", flags, comm.size()));
}

} // namespace dpopt
