// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A checkpoint's bytes: named fields between a version and a checksum. The checksum finds damage, not forgery.
///
///     "dpopt checkpoint" | version u32 | byte order u32 | {name, length u64, bytes} ... | checksum u64
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/parameters/fingerprint.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace dpopt {

namespace detail {
inline constexpr std::string_view checkpoint_magic = "dpopt checkpoint";
inline constexpr std::uint32_t checkpoint_version = 1;
inline constexpr std::uint32_t checkpoint_byte_order = 0x01020304;

[[nodiscard]] inline std::uint64_t checkpoint_checksum(std::span<const std::byte> bytes) {
  fingerprint digest;
  digest.add(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  return digest.value();
}
} // namespace detail

/// Collects fields in any order, each name once.
class record_writer {
public:
  record_writer() {
    raw(detail::checkpoint_magic.data(), detail::checkpoint_magic.size());
    number(detail::checkpoint_version);
    number(detail::checkpoint_byte_order);
  }

  void add(std::string_view name, std::span<const std::byte> bytes) {
    number(static_cast<std::uint64_t>(name.size()));
    raw(name.data(), name.size());
    number(static_cast<std::uint64_t>(bytes.size()));
    raw(bytes.data(), bytes.size());
  }
  void add(std::string_view name, std::string_view text) { add(name, std::as_bytes(std::span(text))); }
  template <class V>
    requires std::is_arithmetic_v<V>
  void add(std::string_view name, V value) {
    add(name, std::as_bytes(std::span(&value, 1)));
  }

  /// The whole record; the writer is used up.
  [[nodiscard]] std::vector<std::byte> finish() {
    number(detail::checkpoint_checksum(bytes_));
    return std::move(bytes_);
  }

private:
  template <class V>
  void number(V value) {
    raw(&value, sizeof value);
  }
  void raw(const void* data, std::size_t size) {
    const auto* first = static_cast<const std::byte*>(data);
    bytes_.insert(bytes_.end(), first, first + size);
  }

  std::vector<std::byte> bytes_;
};

/// A checked view of a record, which must outlive it.
class record_reader {
public:
  /// @throw invalid_argument for bytes that are no record, damaged, cut off, or of another version or byte order.
  explicit record_reader(std::span<const std::byte> bytes) : rest_(bytes) {
    const auto magic = take(detail::checkpoint_magic.size());
    if (std::memcmp(magic.data(), detail::checkpoint_magic.data(), magic.size()) != 0)
      throw invalid_argument("checkpoint: these bytes are no checkpoint of this library");
    const auto version = number<std::uint32_t>();
    if (number<std::uint32_t>() != detail::checkpoint_byte_order)
      throw invalid_argument("checkpoint: it was written on a machine with another byte order");
    if (version != detail::checkpoint_version)
      throw invalid_argument(message("checkpoint: its format has version ", version, ", this library reads version ",
                                     detail::checkpoint_version));
    if (rest_.size() < sizeof(std::uint64_t)) throw cut_off();
    const auto body = bytes.first(bytes.size() - sizeof(std::uint64_t));
    std::uint64_t checksum = 0;
    std::memcpy(&checksum, bytes.data() + body.size(), sizeof checksum);
    if (checksum != detail::checkpoint_checksum(body))
      throw invalid_argument("checkpoint: its checksum does not fit; the bytes are damaged or cut off");
    rest_ = rest_.first(rest_.size() - sizeof checksum);
    while (!rest_.empty()) {
      const auto name = take(number<std::uint64_t>());
      fields_[std::string(reinterpret_cast<const char*>(name.data()), name.size())] = take(number<std::uint64_t>());
    }
  }

  /// @throw invalid_argument when there is no such field.
  [[nodiscard]] std::span<const std::byte> bytes(const std::string& name) const {
    const auto found = fields_.find(name);
    if (found == fields_.end()) throw invalid_argument(message("checkpoint: it holds no field '", name, "'"));
    return found->second;
  }
  [[nodiscard]] bool holds(const std::string& name) const { return fields_.contains(name); }
  [[nodiscard]] std::string text(const std::string& name) const {
    const auto field = bytes(name);
    return {reinterpret_cast<const char*>(field.data()), field.size()};
  }
  /// @throw invalid_argument when the field holds another number of bytes.
  template <class V>
    requires std::is_trivially_copyable_v<V>
  void read(const std::string& name, std::span<V> out) const {
    const auto field = bytes(name);
    if (field.size() != out.size_bytes())
      throw invalid_argument(message("checkpoint: field '", name, "' holds ", field.size(),
                                     " bytes where this run has ", out.size_bytes()));
    if (!field.empty()) std::memcpy(out.data(), field.data(), field.size());
  }
  template <class V>
    requires std::is_arithmetic_v<V>
  [[nodiscard]] V number(const std::string& name) const {
    V value{};
    read(name, std::span(&value, 1));
    return value;
  }

private:
  static invalid_argument cut_off() { return invalid_argument("checkpoint: the bytes end too early"); }

  std::span<const std::byte> take(std::uint64_t size) {
    if (size > rest_.size()) throw cut_off();
    const auto out = rest_.first(static_cast<std::size_t>(size));
    rest_ = rest_.subspan(static_cast<std::size_t>(size));
    return out;
  }
  template <class V>
  V number() {
    V value{};
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  std::span<const std::byte> rest_;
  std::map<std::string, std::span<const std::byte>> fields_;
};

} // namespace dpopt
