// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What every communicator promises. Each function is one promise, called on every rank with that rank's communicator;
/// it throws std::runtime_error when the promise is broken, so it can run on threads, where Catch2 cannot assert.
#pragma once

#include "dpopt/communication/agreement.hpp"
#include "dpopt/communication/communicator.hpp"
#include "dpopt/core/error.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace dpopt::test {

template <class... Parts>
void expect(bool kept, const Parts&... what) {
  if (!kept) throw std::runtime_error(message("broken promise: ", what...));
}

/// The text of the E that f throws; anything else, or nothing, breaks the promise.
template <class E, class F>
std::string thrown_text(F f) {
  try {
    f();
  } catch (const E& e) {
    return e.what();
  } catch (const std::exception& e) {
    throw std::runtime_error(message("broken promise: another exception was expected than ", e.what()));
  }
  throw std::runtime_error("broken promise: nothing was thrown");
}

template <class C>
void knows_its_place(C& comm) {
  expect(comm.size() >= 1, "size");
  std::vector<double> seen(static_cast<std::size_t>(comm.size()), 0.0);
  seen.at(static_cast<std::size_t>(comm.rank())) = 1.0; // throws when the rank is out of range
  detail::sum_now(comm, seen);
  for (const double times : seen) expect(times == 1.0, "each rank is there once, not ", times, " times");
}

/// Small integers are exact in all types: an exact oracle whatever the order of summation.
template <class T, class C>
void sums_exactly(C& comm) {
  for (const isize n : {0, 1, 2, 3, 511, 512, 513, 16384, 16385, 70001}) {
    std::vector<T> x(static_cast<std::size_t>(n));
    for (isize i = 0; i < n; ++i) x[static_cast<std::size_t>(i)] = static_cast<T>((comm.rank() + 1) * (i % 1000 + 1));
    typename C::request started = comm.start_sum(x.data(), n);
    comm.wait(started);
    const isize ranks = isize{comm.size()} * (comm.size() + 1) / 2;
    for (isize i = 0; i < n; ++i)
      expect(x[static_cast<std::size_t>(i)] == static_cast<T>(ranks * (i % 1000 + 1)), "sum ", i, " of ", n);
  }
}

/// Rounded sums of awkward numbers: the same bits on every rank.
template <class T, class C>
void leaves_the_same_bits_everywhere(C& comm) {
  for (const isize n : {1, 7, 1000, 50021}) {
    std::vector<T> x(static_cast<std::size_t>(n));
    std::uint64_t state = static_cast<std::uint64_t>(comm.rank()) * 7919 + 17;
    for (T& v : x) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const double unit = static_cast<double>(state >> 11) * 0x1p-53 - 0.5;
      v = static_cast<T>(std::ldexp(unit, static_cast<int>(state >> 58))); // magnitudes over 64 binades
    }
    typename C::request started = comm.start_sum(x.data(), n);
    comm.wait(started);
    std::vector<T> of_root = x;
    detail::broadcast_now(comm, std::span(of_root), 0);
    expect(std::memcmp(x.data(), of_root.data(), x.size() * sizeof(T)) == 0, "same bits on all ranks, n = ", n);
  }
}

template <class C>
void keeps_several_sums_apart(C& comm) {
  std::vector<float> a(1000, 1.0f);
  std::vector<double> b(40000, 2.0);
  std::vector<std::int64_t> c(3, -4);
  std::vector<std::uint64_t> d(20000, 8);
  std::vector<typename C::request> started;
  started.push_back(comm.start_sum(a.data(), std::ssize(a)));
  started.push_back(comm.start_sum(b.data(), std::ssize(b)));
  started.push_back(comm.start_sum(c.data(), std::ssize(c)));
  started.push_back(comm.start_sum(d.data(), std::ssize(d)));
  for (const std::size_t k : {3u, 0u, 2u, 1u}) comm.wait(started[k]); // in any order
  const int w = comm.size();
  for (const float v : a) expect(v == static_cast<float>(w), "first of four sums");
  for (const double v : b) expect(v == 2.0 * w, "second of four sums");
  for (const std::int64_t v : c) expect(v == -4 * w, "third of four sums");
  for (const std::uint64_t v : d) expect(v == 8 * static_cast<std::uint64_t>(w), "fourth of four sums");
}

/// More in flight than any fixed room would hold, of length 0 too.
template <class C>
void takes_many_sums_at_once(C& comm) {
  constexpr std::size_t many = 200;
  std::vector<std::vector<double>> x(many);
  std::vector<typename C::request> started(many);
  for (std::size_t k = 0; k < many; ++k) {
    x[k].assign(k % 5, static_cast<double>(k));
    started[k] = comm.start_sum(x[k].data(), std::ssize(x[k]));
  }
  for (std::size_t k = 0; k < many; ++k) {
    comm.wait(started[k]);
    for (const double v : x[k]) expect(v == static_cast<double>(k) * comm.size(), "sum ", k, " of many");
  }
}

template <class C>
void accepts_nothing(C& comm) {
  typename C::request complete;
  comm.wait(complete); // a default constructed request is complete
  typename C::request empty = comm.start_sum(static_cast<double*>(nullptr), 0);
  comm.wait(empty);
  comm.wait(empty); // and so is one that was waited for
  comm.broadcast(nullptr, 0, 0);
}

/// A request and a communicator that move keep what they were doing.
template <class C>
void moves(C& comm) {
  double x = comm.rank() + 1.0;
  typename C::request started = comm.start_sum(&x, 1);
  typename C::request moved(std::move(started));
  typename C::request assigned;
  assigned = std::move(moved);
  C elsewhere(std::move(comm));
  elsewhere.wait(assigned);
  comm = std::move(elsewhere);
  expect(x == comm.size() * (comm.size() + 1) / 2.0, "a sum whose request and communicator moved");
  detail::sum_now(comm, std::span(&x, 1));
}

template <class C>
void broadcasts_from_each_root(C& comm) {
  for (int root = 0; root < comm.size(); ++root)
    for (const isize n : {1, 8, 1023, 100003}) {
      std::vector<std::byte> x(static_cast<std::size_t>(n));
      if (comm.rank() == root)
        for (isize i = 0; i < n; ++i) x[static_cast<std::size_t>(i)] = static_cast<std::byte>(i * 31 + root);
      comm.broadcast(x.data(), n, root);
      for (isize i = 0; i < n; ++i)
        expect(x[static_cast<std::size_t>(i)] == static_cast<std::byte>(i * 31 + root), "byte ", i, " from ", root);
    }
}

template <class C>
void agrees_on_errors(C& comm) {
  agree(comm, ""); // nobody has one: returns
  const int w = comm.size();
  for (int bad = 0; bad < w; ++bad) {
    const std::string text = "layer " + std::to_string(bad) + std::string(static_cast<std::size_t>(50 * bad), '!');
    try {
      agree(comm, comm.rank() == bad ? text : "");
      expect(false, "agree returned in spite of an error on rank ", bad);
    } catch (const rank_error& e) {
      expect(e.rank() == bad, "the failed rank is ", bad, ", not ", e.rank());
      expect(e.what() == message("rank ", bad, ": ", text, " (1 of ", w, " ranks failed)"), e.what());
    }
  }
  const std::string all = thrown_text<rank_error>([&] { agree(comm, message("r", comm.rank())); });
  expect(all == message("rank 0: r0 (", w, " of ", w, " ranks failed)"), all);
  agree(comm, ""); // and the communicator still works
}

template <class C>
void compares_configurations(C& comm) {
  const std::vector<fingerprint_field> same{{"clipper", 1}, {"noise", 2}, {"shapes", 3}};
  require_equal(comm, same);
  require_equal(comm, std::span<const fingerprint_field>());
  const int w = comm.size();

  for (int bad = 1; bad < w; ++bad) {
    std::vector<fingerprint_field> fields = same;
    if (comm.rank() == bad) fields[1].digest = 99;
    const std::string text = thrown_text<invalid_argument>([&] { require_equal(comm, fields); });
    expect(text == message("configuration differs between ranks: noise (rank ", bad,
                           " differs from rank 0); give all ranks the same options"),
           text);

    fields = same;
    if (comm.rank() == bad) fields.pop_back(); // a field less
    const std::string fewer = thrown_text<invalid_argument>([&] { require_equal(comm, fields); });
    expect(fewer == message("configuration differs between ranks: number of fields (rank ", bad,
                            " differs from rank 0); give all ranks the same options"),
           fewer);

    fields = same;
    if (comm.rank() == bad) fields[2].name = "names"; // the digest alone is not enough
    const std::string renamed = thrown_text<invalid_argument>([&] { require_equal(comm, fields); });
    expect(renamed.find("shapes (rank " + std::to_string(bad)) != std::string::npos, renamed);
  }
  if (w >= 3) {
    std::vector<fingerprint_field> fields = same;
    if (comm.rank() == 1 || comm.rank() == w - 1) fields[0].digest = 7;
    if (comm.rank() == 1) fields[2].digest = 8;
    const std::string text = thrown_text<invalid_argument>([&] { require_equal(comm, fields); });
    expect(text ==
               message("configuration differs between ranks: clipper (ranks 1, ", w - 1,
                       " differ from rank 0), shapes (rank 1 differs from rank 0); give all ranks the same options"),
           text);
  }
  require_equal(comm, same);
}

/// The lengths of a part a rank: uneven, some 0, all 0 but one, and none at all.
inline std::vector<std::vector<isize>> part_lengths(int ranks) {
  std::vector<std::vector<isize>> out;
  for (int kind = 0; kind < 5; ++kind) {
    std::vector<isize> counts;
    for (int r = 0; r < ranks; ++r)
      counts.push_back(kind == 0   ? 3
                       : kind == 1 ? (r % 2 == 0 ? 1700 * (r + 1) : 0)
                       : kind == 2 ? (r % 2 == 1 ? 33001 : 0)
                       : kind == 3 ? (r == ranks - 1 ? 1 : 0)
                                   : 0);
    out.push_back(std::move(counts));
  }
  return out;
}

/// Each rank's part of a reduce-scatter is that part of the sum: exactly for small integers, and the same for any
/// lengths in flight at once. Then an all-gather gives every rank the whole.
template <class T, class C>
void scatters_and_gathers(C& comm) {
  const auto me = static_cast<std::size_t>(comm.rank());
  const auto all_counts = part_lengths(comm.size());
  const auto number = [](isize i) { return i % 1000 + 1; };
  const isize ranks = isize{comm.size()} * (comm.size() + 1) / 2;
  std::vector<std::vector<T>> x;
  std::vector<typename C::request> started;
  for (const auto& counts : all_counts) {
    isize n = 0;
    for (const isize c : counts) n += c;
    std::vector<T>& v = x.emplace_back(static_cast<std::size_t>(n));
    for (isize i = 0; i < n; ++i) v[static_cast<std::size_t>(i)] = static_cast<T>((comm.rank() + 1) * number(i));
    started.push_back(comm.start_reduce_scatter(v.data(), std::span(counts)));
  }
  for (std::size_t k = 0; k < x.size(); ++k) { // all waits before the first judgement: nobody is left alone
    comm.wait(started[k]);
    started[k] = {};
  }
  std::string wrong;
  for (std::size_t k = 0; k < x.size(); ++k) {
    isize first = 0;
    for (std::size_t r = 0; r < me; ++r) first += all_counts[k][r];
    const isize end = first + all_counts[k][me];
    for (isize i = 0; i < std::ssize(x[k]); ++i) {
      T& v = x[k][static_cast<std::size_t>(i)];
      if (i < first || i >= end) v = static_cast<T>(7); // an all-gather must not look at these
      else if (v != static_cast<T>(ranks * number(i))) wrong = message("element ", i, " of reduce-scatter ", k);
    }
    started[k] = comm.start_all_gather(x[k].data(), std::span(all_counts[k]));
  }
  for (std::size_t k = x.size(); k-- > 0;) comm.wait(started[k]);
  expect(wrong.empty(), wrong);
  for (std::size_t k = 0; k < x.size(); ++k)
    for (isize i = 0; i < std::ssize(x[k]); ++i)
      expect(x[k][static_cast<std::size_t>(i)] == static_cast<T>(ranks * number(i)), "element ", i, " of all-gather ",
             k);
}

/// Every rank makes the same wrong call. The communicator may be unusable afterwards, so call this last.
template <class C>
void refuses_wrong_arguments(C& comm) {
  double x = 0;
  std::byte b{};
  const int w = comm.size();
  expect(thrown_text<invalid_argument>([&] { (void)comm.start_sum(&x, -1); }).find("-1") != std::string::npos,
         "length");
  thrown_text<invalid_argument>([&] { (void)comm.start_sum(static_cast<double*>(nullptr), 2); });
  thrown_text<invalid_argument>([&] { comm.broadcast(&b, -1, 0); });
  thrown_text<invalid_argument>([&] { comm.broadcast(&b, 1, w); });
  thrown_text<invalid_argument>([&] { comm.broadcast(&b, 1, -1); });
  const std::vector<isize> too_many(static_cast<std::size_t>(w) + 1, 0);
  const std::string parts = thrown_text<invalid_argument>([&] { (void)comm.start_all_gather(&x, too_many); });
  expect(parts.find(message(w + 1, " parts were given for ", w, " ranks")) != std::string::npos, parts);
  std::vector<isize> negative(static_cast<std::size_t>(w), 0);
  negative.back() = -2;
  thrown_text<invalid_argument>([&] { (void)comm.start_reduce_scatter(&x, negative); });
  negative.back() = 1;
  thrown_text<invalid_argument>([&] { (void)comm.start_reduce_scatter(static_cast<float*>(nullptr), negative); });
}

/// All promises, in one order, on every rank.
template <class C>
void keeps_every_promise(C comm) {
  knows_its_place(comm);
  sums_exactly<float>(comm);
  sums_exactly<double>(comm);
  sums_exactly<std::int64_t>(comm);
  sums_exactly<std::uint64_t>(comm);
  leaves_the_same_bits_everywhere<float>(comm);
  leaves_the_same_bits_everywhere<double>(comm);
  keeps_several_sums_apart(comm);
  takes_many_sums_at_once(comm);
  scatters_and_gathers<float>(comm);
  scatters_and_gathers<std::int64_t>(comm);
  accepts_nothing(comm);
  moves(comm);
  broadcasts_from_each_root(comm);
  agrees_on_errors(comm);
  compares_configurations(comm);
  refuses_wrong_arguments(comm);
}

} // namespace dpopt::test
