# SPDX-FileCopyrightText: The dpopt authors
# SPDX-License-Identifier: Apache-2.0
#
# What tools/demo and tools/test share; sourced. Sets `root` to the source tree.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)

packages=(g++ cmake ninja-build pkg-config catch2 libeigen3-dev libopenmpi-dev openmpi-bin libsodium-dev
          nlohmann-json3-dev libcli11-dev libbenchmark-dev zlib1g-dev gnuplot-nox python3 python3-tqdm)
packages_all=(clang-16 libclang-rt-16-dev clang-format-16 meson libopenblas-dev) # for tools/test --all; skipped by name without them

say() { printf '%s\n' "$*"; }

# missing_packages PACKAGE...: prints those that dpkg does not have. Prints nothing where there is no dpkg: there the
# build itself tells what it does not find.
missing_packages() {
  command -v dpkg-query >/dev/null || return 0
  local have
  have=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "$@" 2>/dev/null | sed -n 's/^installed //p') || true
  local package
  for package in "$@"; do
    grep -qxF -- "$package" <<<"$have" || printf '%s\n' "$package"
  done
}

# apt_install PACKAGE...: as root, or else with sudo; updates the lists of packages only when they do not suffice.
apt_install() {
  local as=()
  if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null || return 2
    as=(sudo)
  fi
  local install=("${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@")
  if ! apt-get install -s -q --no-install-recommends "$@" >/dev/null 2>&1; then
    "${as[@]}" apt-get update -q || return 1
  fi
  # The lists may name versions that the archive has replaced since.
  "${install[@]}" || { "${as[@]}" apt-get update -q && "${install[@]}"; }
}

# require_packages PACKAGE...: installs what is missing, or ends with the list of it.
require_packages() {
  local missing
  mapfile -t missing < <(missing_packages "$@")
  [[ ${#missing[@]} -eq 0 ]] && return 0
  say "installing: ${missing[*]}"
  if ! apt_install "${missing[@]}" >&2; then
    say "These packages are missing and could not be installed (it takes root or sudo, and a package archive):" >&2
    say "  ${missing[*]}" >&2
    say "Install them, on Debian or Ubuntu with: apt-get install ${missing[*]}" >&2
    exit 1
  fi
}

# wish_packages PACKAGE...: installs what can be had; the tests that need the rest are skipped by name.
wish_packages() {
  local missing package
  mapfile -t missing < <(missing_packages "$@")
  [[ ${#missing[@]} -eq 0 ]] && return 0
  say "installing: ${missing[*]}"
  apt_install "${missing[@]}" >&2 && return 0
  for package in "${missing[@]}"; do
    apt_install "$package" >&2 || say "not installed: $package"
  done
}

# Two jobs fit small machines; DPOPT_JOBS asks for more.
jobs=${DPOPT_JOBS:-2}
