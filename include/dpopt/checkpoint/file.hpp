// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Files that privacy depends on: whole or not at all, on stable storage before a call returns, readable by their owner
/// alone (a checkpoint holds the noise's secret). POSIX.
#pragma once

#include "dpopt/core/error.hpp"

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <ios>
#include <span>
#include <string>
#include <sys/file.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace dpopt {

namespace detail {

enum class opened { anew, for_appending, as_directory };

/// An open file of this process.
class owned_file {
public:
  /// @throw state_error when it cannot be opened.
  owned_file(std::string path, opened how) : path_(std::move(path)), handle_(::open(path_.c_str(), flags(how), 0600)) {
    if (handle_ < 0) fail("open");
  }
  owned_file(const owned_file&) = delete;
  owned_file& operator=(const owned_file&) = delete;
  ~owned_file() { ::close(handle_); }

  void write(std::span<const std::byte> bytes) const {
    while (!bytes.empty()) {
      const auto done = ::write(handle_, bytes.data(), bytes.size());
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) fail("write");
      bytes = bytes.subspan(static_cast<std::size_t>(done));
    }
  }
  void sync() const {
    if (::fsync(handle_) != 0) fail("sync");
  }
  void truncate(std::size_t size) const {
    if (::ftruncate(handle_, static_cast<off_t>(size)) != 0) fail("shorten");
  }
  /// False when another process, or another part of this one, holds it.
  [[nodiscard]] bool lock() const { return ::flock(handle_, LOCK_EX | LOCK_NB) == 0; }

  [[noreturn]] void fail(const char* what) const {
    throw state_error(message("cannot ", what, " '", path_, "': ", std::strerror(errno)));
  }

private:
  static int flags(opened how) {
    if (how == opened::as_directory) return O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    return O_WRONLY | O_CREAT | O_CLOEXEC | (how == opened::anew ? O_EXCL : O_APPEND);
  }

  std::string path_;
  int handle_;
};

/// Makes the name of a new file as durable as its contents.
inline void sync_directory_of(const std::string& path) {
  auto directory = std::filesystem::path(path).parent_path();
  if (directory.empty()) directory = ".";
  owned_file(directory.string(), opened::as_directory).sync();
}

} // namespace detail

/// Replaces `path` by the bytes, or leaves it as it was. Local: one rank calls it. @throw state_error naming the path.
inline void write_file(const std::string& path, std::span<const std::byte> bytes) {
  const std::string unfinished = path + ".unfinished";
  std::remove(unfinished.c_str()); // of a run that died, or somebody's whom others may read
  try {
    const detail::owned_file file(unfinished, detail::opened::anew);
    file.write(bytes);
    file.sync();
    if (std::rename(unfinished.c_str(), path.c_str()) != 0) file.fail("rename to the name without .unfinished");
  } catch (...) {
    std::remove(unfinished.c_str());
    throw;
  }
  detail::sync_directory_of(path);
}

/// The bytes of a file. @throw state_error naming the path.
[[nodiscard]] inline std::vector<std::byte> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = file ? std::streamoff{file.tellg()} : -1;
  if (size < 0 || !std::filesystem::is_regular_file(path)) throw state_error(message("cannot read '", path, "'"));
  std::vector<std::byte> bytes(static_cast<std::size_t>(size));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!file) throw state_error(message("cannot read '", path, "'"));
  return bytes;
}

} // namespace dpopt
