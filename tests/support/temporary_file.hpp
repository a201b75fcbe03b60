// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A path of its own for each object, free at first and removed at the end.
#pragma once

#include <filesystem>
#include <random>
#include <string>

namespace dpopt::test {

struct temporary_file {
  std::string path = (std::filesystem::temp_directory_path() /
                      ("dpopt-test-" + std::to_string(std::random_device{}()) + std::to_string(std::random_device{}())))
                         .string();
  temporary_file() = default;
  temporary_file(const temporary_file&) = delete;
  temporary_file& operator=(const temporary_file&) = delete;
  ~temporary_file() { std::filesystem::remove(path); }
};

} // namespace dpopt::test
