// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Finds and parses the JSON files of a golden folder. The folder named by an environment variable wins, so that the
/// same binary can be run on other cases; nothing depends on the files' names or number.
#pragma once

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace dpopt::testing {

/// A parsed file and its name without the folder.
struct golden_file {
  std::string name;
  nlohmann::json content;
};

/// Every *.json of the folder, sorted by name.
/// @throw std::runtime_error if the folder is missing, holds no such file, or one cannot be parsed.
inline std::vector<golden_file> load_golden_files(const char* env_name, const std::string& fallback_dir) {
  const char* const given = std::getenv(env_name);
  const std::filesystem::path folder = given != nullptr && *given != '\0' ? std::string(given) : fallback_dir;
  if (!std::filesystem::is_directory(folder)) {
    throw std::runtime_error("no golden folder '" + folder.string() + "'; set " + env_name + " to one");
  }
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".json") paths.push_back(entry.path());
  }
  if (paths.empty()) {
    throw std::runtime_error("golden folder '" + folder.string() + "' holds no *.json file; set " + env_name);
  }
  std::sort(paths.begin(), paths.end());
  std::vector<golden_file> files;
  for (const auto& path : paths) {
    std::ifstream in(path);
    try {
      files.push_back({path.filename().string(), nlohmann::json::parse(in)});
    } catch (const nlohmann::json::exception& e) {
      throw std::runtime_error("golden file '" + path.string() + "': " + e.what());
    }
  }
  return files;
}

} // namespace dpopt::testing
