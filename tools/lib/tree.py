# SPDX-FileCopyrightText: The dpopt authors
# SPDX-License-Identifier: Apache-2.0
"""What the scripts know about the source tree: stages in the order of the data flow, components, headers, tests."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The order of the data flow. A header includes its own stage and those before it.
STAGES = ["core", "parameters", "gradients", "clipping", "accumulation", "communication", "noise", "scaling",
          "optimizers", "accounting", "sampling", "dp_optimizer", "checkpoint"]
# Folders that are components of their own: they may include every stage, and the third-party headers named here.
ADAPTERS = {"sodium": r"sodium\.h", "mpi": r"mpi\.h", "eigen": r"(unsupported/)?Eigen/\w+", "blas": r"cblas\.h",
            "cuda": r"(cuda_runtime|cublas_v2|nccl|mpi|mpi-ext)\.h"}
# The only headers that may ask the system anything.
PLATFORM = {"dpopt/core/platform.hpp": r"(unistd|sys/random)\.h",
            "dpopt/checkpoint/file.hpp": r"(fcntl|unistd|sys/file)\.h"}
# Headers of the component dpopt::dpopt: core and sodium together.
UMBRELLA = ["dpopt/dpopt.hpp", "dpopt/dp_optimizer/per_layer_optimizers.hpp"]
COMPONENTS = ["core", "sodium", "dpopt", "mpi", "eigen", "blas", "cuda"]

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)
# Folders under tests/ that are no stage: what lies in them has rules of its own.
SPECIAL_TESTS = {"support", "golden", "golden_opacus", "mpi", "mpi_golden", "openmp", "static", "compile_fail",
                 "consumer", "mutants", "tools"}


def headers(root):
    """Every public header as the path that a program includes, sorted."""
    base = Path(root) / "include"
    return sorted(path.relative_to(base).as_posix() for ending in ("hpp", "cuh")
                  for path in base.rglob(f"*.{ending}"))


def component(header):
    """The component that a header belongs to."""
    folder = header.split("/")[1]
    if header in UMBRELLA:
        return "dpopt"
    return folder if folder in ADAPTERS else "core"


def includes(text):
    """Pairs (is it <...>, what) of every #include in a text."""
    return [(mark == "<", what) for mark, what in INCLUDE.findall(text)]


def test_binaries(root):
    """Pairs (kind, name, sources) of every test program; kind is plain, mpi, golden or golden_mpi."""
    tests = Path(root) / "tests"
    found = {}
    for path in sorted(tests.rglob("*_test.cpp")):
        relative = path.relative_to(Path(root)).as_posix()
        folder = relative.split("/")[1]
        if relative == "tests/accounting/golden_test.cpp":
            key = ("golden", "golden_accounting")
        elif folder == "golden_opacus":
            key = ("golden", "golden_opacus")
        elif folder == "mpi_golden":
            key = ("golden_mpi", "golden_opacus_mpi")
        elif folder == "mpi":
            key = ("mpi", path.stem.removesuffix("_test"))
        elif folder in SPECIAL_TESTS:
            continue
        else:
            key = ("plain", folder)
        found.setdefault(key, []).append(relative)
    return [(kind, name, sources) for (kind, name), sources in sorted(found.items())]


def ranks(root, source):
    """The numbers of ranks that a test under tests/mpi runs on: a line `// ranks: 2 3`, or else 1 to 5."""
    match = re.search(r"^// ranks:([ \d]+)$", (Path(root) / source).read_text(encoding="utf-8"), re.MULTILINE)
    return match.group(1).split() if match else ["1", "2", "3", "4", "5"]
