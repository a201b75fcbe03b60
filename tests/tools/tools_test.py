# SPDX-FileCopyrightText: The dpopt authors
# SPDX-License-Identifier: Apache-2.0
"""The scripts under tools/ judge the library; here each is shown mistakes in tiny trees, and must see them.

usage: tools_test.py [--build FOLDER] [unittest options]    FOLDER: a configured build whose tests are compared
"""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"
BANNER = "// SPDX-FileCopyrightText: The dpopt authors\n// SPDX-License-Identifier: Apache-2.0\n/// @file\n"
BUILD = None


def run(tool, *arguments):
    """(exit status, what it printed)"""
    result = subprocess.run([str(TOOLS / tool), *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, check=False)
    return result.returncode, result.stdout


class TreeTest(unittest.TestCase):
    """A temporary tree to put files into."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="dpopt tools ")  # the space is on purpose
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def write(self, path, text):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        return target

    def header(self, path, *lines):
        return self.write(f"include/dpopt/{path}", BANNER + "#pragma once\n" + "".join(f"{line}\n" for line in lines))

    def assert_fails(self, result, *said):
        self.assertNotEqual(result[0], 0, result[1])
        for text in said:
            self.assertIn(text, result[1])

    def assert_passes(self, result, *said):
        self.assertEqual(result[0], 0, result[1])
        for text in said:
            self.assertIn(text, result[1])


class Stages(TreeTest):
    def check(self):
        return run("check_stages", "--root", self.root)

    def test_earlier_and_own_stages_are_allowed(self):
        self.header("core/a.hpp", "#include <vector>")
        self.header("noise/b.hpp", '#include "dpopt/core/a.hpp"', '#include "dpopt/noise/c.hpp"')
        self.header("noise/c.hpp")
        self.header("sodium/d.hpp", '#include "dpopt/noise/b.hpp"', "#include <sodium.h>")
        self.header("dpopt.hpp", '#include "dpopt/noise/b.hpp"', '#include "dpopt/sodium/d.hpp"')
        self.assert_passes(self.check())

    def test_a_later_stage_is_refused(self):
        self.header("core/a.hpp", '#include "dpopt/noise/b.hpp"')
        self.header("noise/b.hpp")
        self.assert_fails(self.check(), "include/dpopt/core/a.hpp", "stage 'noise' comes after 'core'")

    def test_a_component_is_refused_in_the_core(self):
        self.header("noise/a.hpp", '#include "dpopt/sodium/b.hpp"')
        self.header("sodium/b.hpp")
        self.assert_fails(self.check(), "'sodium' is a component of its own")

    def test_another_component_is_refused(self):
        self.header("eigen/a.hpp", '#include "dpopt/mpi/b.hpp"')
        self.header("mpi/b.hpp")
        self.assert_fails(self.check(), "'mpi' is a component of its own")

    def test_the_umbrella_is_refused_inside(self):
        self.header("noise/a.hpp", '#include "dpopt/dpopt.hpp"')
        self.header("dpopt.hpp", '#include "dpopt/noise/a.hpp"')
        self.assert_fails(self.check(), "the core may not need the component dpopt")

    def test_other_libraries_are_refused_in_the_core(self):
        self.header("core/a.hpp", "#  include <Eigen/Dense>")
        self.assert_fails(self.check(), "only the standard library")
        self.header("core/a.hpp", "#include <unistd.h>")
        self.assert_fails(self.check(), "only the standard library")

    def test_an_unknown_folder_is_refused(self):
        self.header("nose/a.hpp")
        self.assert_fails(self.check(), "'nose' is no stage")

    def test_relative_includes_are_refused(self):
        self.header("noise/a.hpp", '#include "b.hpp"')
        self.assert_fails(self.check(), 'write "dpopt/..."')

    def test_a_header_outside_the_umbrella_is_reported(self):
        self.header("core/a.hpp")
        self.header("dpopt.hpp")
        self.assert_fails(self.check(), "include/dpopt/core/a.hpp: not reached from dpopt/dpopt.hpp")


class Headers(TreeTest):
    def check(self, *options):
        (self.root / "cmake").mkdir(exist_ok=True)
        return run("check_headers", "--root", self.root, *options)

    def test_a_missing_and_a_vanished_header_are_reported(self):
        first = self.header("core/a.hpp")
        self.header("mpi/b.hpp")
        self.assert_passes(self.check("--write"))
        self.assert_passes(self.check(), "2 headers")
        self.header("eigen/c.hpp")
        self.assert_fails(self.check(), "+    dpopt/eigen/c.hpp)")
        self.assert_passes(self.check("--write"))
        first.unlink()
        self.assert_fails(self.check(), "-    dpopt/core/a.hpp)")

    def test_a_header_needs_banner_and_pragma(self):
        self.write("include/dpopt/core/a.hpp", "#pragma once\n")
        self.write("include/dpopt/core/b.hpp", BANNER)
        self.assert_fails(self.check("--write"), "a.hpp: must open with", "b.hpp: has no '#pragma once'")

    def test_a_header_that_needs_another_first_does_not_compile_alone(self):
        self.header("core/a.hpp", "inline std::size_t none = 0;")
        self.header("core/b.hpp", "inline int none_either = 0;")
        self.assert_fails(run("header_self_sufficiency", "--root", self.root), "include/dpopt/core/a.hpp does not compile",
                          "1 of 2 headers compile alone")

    def test_a_warning_is_an_error(self):
        self.header("core/a.hpp", "inline int narrow(long x) { return x; }")
        self.assert_fails(run("header_self_sufficiency", "--root", self.root), "-Werror=conversion")


class CompileFail(TreeTest):
    GOOD = ("// error: size must be 4\n#ifdef DPOPT_CORRECTED\nint x[4];\n#else\nchar x[4];\n#endif\n"
            'static_assert(sizeof(x) == 4 * sizeof(int), "size must be 4");\nint main() {}\n')

    def check(self, text):
        return run("compile_fail", self.write("cases/case.cpp", text).parent)

    def test_the_sentence_is_found(self):
        self.assert_passes(self.check(self.GOOD), "refused case")

    def test_a_typo_cannot_pass(self):
        self.assert_fails(self.check(self.GOOD.replace("char x[4]", "chat x[4]").replace("static_assert", "//")),
                          "the compiler does not say: size must be 4")

    def test_another_sentence_fails(self):
        self.assert_fails(self.check(self.GOOD.replace("error: size must", "error: length must")),
                          "the compiler does not say: length must be 4")

    def test_every_sentence_is_needed(self):
        self.assert_fails(self.check("// error: and more\n" + self.GOOD), "the compiler does not say: and more")

    def test_the_sentence_in_the_source_does_not_count(self):
        self.assert_fails(self.check("// error: size matters\n#ifndef DPOPT_CORRECTED\nint x = nothing; // size matters\n"
                                     "#endif\n"), "the compiler does not say: size matters")

    def test_a_program_that_compiles_fails(self):
        self.assert_fails(self.check(self.GOOD.replace("char x", "int x")), "compiles, and must not")

    def test_a_correction_that_does_not_compile_fails(self):
        self.assert_fails(self.check(self.GOOD.replace("int main() {}", "int main() { retrun 0; }")),
                          "the corrected program does not compile")

    def test_a_case_without_sentence_or_correction_fails(self):
        self.assert_fails(self.check(self.GOOD.replace("// error: ", "// ")), "has no line '// error: <sentence>'")
        self.assert_fails(self.check("// error: x\nint main() { return x; }\n"), "has no corrected program")


class Readme(TreeTest):
    def test_the_first_block_is_the_program(self):
        program = BANNER.replace("/// @file\n", "") + "#include <cstdio>\n\nint main() {}\n"
        self.write("examples/first_program.cpp", program)
        self.write("README.md", "# x\n```sh\ntools/test\n```\n```cpp\nint main() { return 1; }\n```\n```cpp\nelse\n```\n")
        self.assert_fails(run("check_readme", "--root", self.root), "is not examples/first_program.cpp")
        self.assert_passes(run("check_readme", "--root", self.root, "--write"))
        self.assert_passes(run("check_readme", "--root", self.root))
        text = (self.root / "README.md").read_text(encoding="utf-8")
        self.assertIn("```cpp\n#include <cstdio>\n\nint main() {}\n```\n```cpp\nelse\n```\n", text)

    def test_the_source_in_the_documentation_is_the_tested_one(self):
        self.write("examples/first_program.cpp", "int main() {}\n")
        self.write("README.md", "```cpp\nint main() {}\n```\n")
        source = "struct elementwise_weight {\n  int x;\n};\nstatic_assert(true);\n"
        self.write("tests/gradients/documented_source_test.cpp", f"// x\n{source}int y;\n")
        self.write("docs/gradients.md", "```cpp\nint z;\n```\n```cpp\nstruct elementwise_weight {};\n```\n")
        self.assert_fails(run("check_readme", "--root", self.root), "elementwise_weight is not tests/gradients/")
        self.assert_passes(run("check_readme", "--root", self.root, "--write"))
        self.assert_passes(run("check_readme", "--root", self.root), "docs/gradients.md shows")
        text = (self.root / "docs" / "gradients.md").read_text(encoding="utf-8")
        self.assertEqual(text, f"```cpp\nint z;\n```\n```cpp\n{source}```\n")


class Docs(TreeTest):
    """A tree whose documentation speaks of x, which doc_names.hpp declares, and of one_more, which is the library's."""

    def setUp(self):
        super().setUp()
        self.header("one.hpp", "template <class T> T one_more(T x) { return x.next(); }")
        self.write("tests/support/doc_names.hpp",
                   '#include "dpopt/one.hpp"\nnamespace documented { struct number { number next(); }; extern number x; }\n')

    def check(self, text, *arguments):
        self.write("docs/a.md", text)
        return run("check_docs", "--root", self.root, *arguments)

    def test_statements_declarations_and_programs_compile(self):
        self.assert_passes(self.check("```cpp\none_more(x);\n```\n- y\n  ```cpp\n  x.next();\n  ```\n"
                                      "```cpp\ntemplate <class T>\nstruct z { T y; };\n```\n"
                                      "```cpp\n#include <vector>\nint main() {}\n```\n```sh\nelse\n```\n"),
                           "4 of 4 examples compile")

    def test_a_mistake_is_named_with_its_line(self):
        self.assert_fails(self.check("# a\n\n```cpp\nx.next();\nx.last();\n```\n"), "docs/a.md:5:")
        self.assert_fails(self.check("```cpp\nx.next()\n```\n"), "docs/a.md:")

    def test_what_an_example_instantiates_is_compiled_too(self):
        self.assert_fails(self.check("```cpp\none_more(1);\n```\n"), "one.hpp")

    def test_examples_of_missing_components_are_left_out(self):
        text = "```cpp\nx.next();\n```\n```cpp\nmpi(x);\n```\n"
        self.assert_fails(self.check(text))
        self.assert_passes(self.check(text, "--skip", "mpi"), "1 of 2 examples compile")

    def test_documents_without_examples_are_no_success(self):
        self.assert_fails(self.check("nothing"))


class Mutants(TreeTest):
    """Tests without Catch2 here: main() prints a failure as Catch2 does."""

    LINE = "-" * 79

    def setUp(self):
        super().setUp()
        self.write("include/dpopt/one.hpp", "inline int one() {\n  return 1;\n}\ninline int two() {\n  return 2;\n}\n")
        self.write("tests/support/main.cpp", "#include <cstdio>\nbool passes();\nint main() {\n  if (passes()) return 0;\n"
                   f'  std::puts("{self.LINE}\\none is\\none\\n  a section\\n{self.LINE}\\nfile.cpp:1");\n  return 1;\n}}\n')
        self.write("tests/one_test.cpp", '#include "dpopt/one.hpp"\nbool passes() { return one() == 1; }\n')

    def mutant(self, name, before, after, head="", file="include/dpopt/one.hpp"):
        self.write(f"tests/mutants/{name}.mutant", f"file: {file}\nwhy: because\ntests: tests/one_test.cpp\n{head}"
                   f"--- before\n{before}--- after\n{after}")

    def check(self, *names):
        return run("mutants", "--root", self.root, *names)

    def test_a_caught_mutant_names_its_test(self):
        self.mutant("zero", "  return 1;\n", "  return 0;\n")
        self.assert_passes(self.check(), "caught by one is one: zero", "1 of 1 mutants caught")

    def test_a_survivor_fails(self):
        self.mutant("zero", "  return 1;\n", "  return 0;\n")
        self.mutant("two", "  return 2;\n", "  return 3;\n")
        self.assert_fails(self.check(), "caught by one is one: zero", "SURVIVED two: because", "1 of 2 mutants caught")
        self.assert_passes(self.check("zero"))

    def test_a_mutant_must_apply_exactly_once(self):
        self.mutant("none", "  return 4;\n", "")
        self.mutant("twice", "  return", "  throw")
        self.mutant("file", "x\n", "y\n", file="include/dpopt/none.hpp")
        self.assert_fails(self.check(), "ERROR none: no longer applies: its text stands 0 times",
                          "ERROR file: no longer applies: include/dpopt/none.hpp does not exist")

    def test_the_layout_of_the_text_does_not_matter(self):
        self.mutant("zero", "inline int one()\n{ return 1;\n}\n", "inline int one() { return 0; } // not one\n")
        self.assert_passes(self.check(), "caught by one is one: zero")
        self.mutant("zero", "int one() { return 1; } inline int tw\n", "")
        self.assert_fails(self.check(), "its text stands 0 times")

    def test_a_compile_error_counts_only_where_expected(self):
        self.mutant("typo", "  return 1;\n", "  retrun 1;\n")
        self.assert_fails(self.check(), "ERROR typo: does not compile")
        self.mutant("typo", "  return 1;\n", "  retrun 1;\n", "expect: compile-error\n")
        self.assert_passes(self.check(), "caught by the compiler: typo")
        self.mutant("typo", "  return 1;\n", "  return 0;\n", "expect: compile-error\n")
        self.assert_fails(self.check(), "ERROR typo: compiles, and the compiler was to refuse it")

    def test_only_the_named_test_case_is_compiled(self):
        # More than one of these would not compile.
        self.write("tests/one_test.cpp", '#include "dpopt/one.hpp"\n#define TEST_CASE(name) bool passes()\n'
                   'TEST_CASE("one is one") { return one() == 1; }\n\n'
                   'TEST_CASE("nothing", "[tag]") {\n  if (true) {\n  }\n  return true;\n}\n'
                   'TEST_CASE(\n    "two "\n    "is \\"two\\"") {\n  return two() == 2;\n}\n')
        self.mutant("one", "  return 1;\n", "  return 0;\n", "caught by: one is one\n")
        self.mutant("two", "  return 2;\n", "  return 0;\n", 'caught by: two is "two"\n')
        self.assert_passes(self.check(), "caught by one is one: one", 'caught by two is "two": two')
        self.mutant("other", "  return 1;\n", "  return 0;\n", 'caught by: two is "two"\n')
        self.assert_fails(self.check("other"), "SURVIVED other")
        self.mutant("no_two", "inline int two()\n", "inline int three()\n", 'caught by: two is "two"\n')
        self.assert_fails(self.check("no_two"), "ERROR no_two: does not compile", "one_test.cpp:13:")
        self.mutant("none", "  return 1;\n", "  return 0;\n", "caught by: one is\n")
        for option in ("--tests-passed", "--list"):
            self.assert_fails(self.check(option, "none"), "ERROR none: 'caught by: one is' names 0 test cases of "
                              "tests/one_test.cpp; it has to be the whole name of one")

    def test_those_of_this_tree_apply(self):
        self.assert_passes(run("mutants", "--list"))

    def test_tests_that_fail_without_the_mutant_prove_nothing(self):
        self.write("tests/one_test.cpp", '#include "dpopt/one.hpp"\nbool passes() { return one() == 7; }\n')
        self.mutant("zero", "  return 1;\n", "  return 0;\n")
        self.assert_fails(self.check(), "ERROR zero: its test fails without it")

    def test_a_malformed_mutant_is_an_error(self):
        self.write("tests/mutants/bad.mutant", "file: x\ncolour: red\n--- before\na\n--- after\nb\n")
        self.assert_fails(self.check("--list"), "ERROR bad: unknown header line 'colour: red'")
        self.write("tests/mutants/bad.mutant", "file: x\nwhy: y\ntests: z\n--- after\nb\n")
        self.assert_fails(self.check("--list"), "needs '--- before' and '--- after' in turn")


class Ptx(TreeTest):
    """A tree with one kernel whose bits matter, and PTX as nvcc might write it."""

    def setUp(self):
        super().setUp()
        self.header("cuda/a.cuh", "template <class V>", "__global__ void add_integers(V* x) {}")
        self.write("tests/cuda/all_kernels.cu", '#include "dpopt/cuda/a.cuh"\n')

    def check(self, *lines, entry="add_integers"):
        text = "".join(f"  {line}\n" for line in lines)
        ptx = self.write("a.ptx", f".visible .entry {entry}(\n)\n{{\n{text}}}\n")
        return run("check_ptx", "--root", self.root, "--ptx", ptx)

    def test_what_changes_bits_or_costs_memory_is_refused(self):
        self.assert_passes(self.check("mul.f32 %f1, %f2, %f3;", "mad.lo.s32 %r1, %r2, %r3, %r4; // fma.rn.f32"))
        self.assert_fails(self.check("fma.rn.f32 %f1, %f2, %f3, %f4;"), "add_integers: fuses a product with a sum")
        self.assert_fails(self.check("call.uni _log,"), "calls a function")
        self.assert_fails(self.check(".local .align 4 .b8 __local_depot0[16];"), "local memory")

    def test_a_kernel_that_is_not_compiled_is_named(self):
        self.assert_fails(self.check(entry="another"), "add_integers: not compiled")

    def test_without_nvcc_it_is_skipped_but_for_the_list(self):
        check = [str(TOOLS / "check_ptx"), "--root", str(self.root)]
        absent = {**os.environ, "NVCC": str(self.root / "nvcc")}
        result = subprocess.run(check, env=absent, capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 77)
        self.assertIn("there is no nvcc", result.stdout)
        self.header("cuda/b.cuh", "template <class V>", "__global__ void __launch_bounds__(8)", "    b(V* x) {}")
        result = subprocess.run(check, env=absent, capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("does not include dpopt/cuda/b.cuh", result.stdout)


class GpuCheck(TreeTest):
    """tools/gpu-check with an nvcc that makes shell scripts, and a driver and a sanitizer that are some, too."""

    def setUp(self):
        super().setUp()
        self.script("nvcc", 'while [ "$1" != -o ]; do [ "$1" = -c ] && exec true; shift; done',
                    'printf \'#!/bin/sh\\n%s\\n\' "$PROGRAM" >"$2"; chmod +x "$2"')
        self.script("nvidia-smi", "echo GPU 0: none")
        self.script("compute-sanitizer", 'while [ -n "$1" ] && [ ! -x "$1" ]; do shift; done; UNDER=1 exec "$@"')
        self.absent = {**os.environ, "NVCC": str(self.root / "no nvcc")}

    def script(self, name, *lines):
        self.write(name, "".join(f"{line}\n" for line in ("#!/bin/sh", *lines))).chmod(0o755)

    def check(self, *arguments, program="echo all passed"):
        """(exit status, what it printed) where each program that is built runs the line `program`"""
        environment = {**os.environ, "NVCC": str(self.root / "nvcc"), "PROGRAM": program,
                       "PATH": f"{self.root}:{os.environ['PATH']}"}
        result = subprocess.run([str(TOOLS / "gpu-check"), *arguments], env=environment, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, check=False)
        return result.returncode, result.stdout

    def test_without_nvcc_or_a_gpu_it_is_skipped_with_a_sentence(self):
        result = subprocess.run([TOOLS / "gpu-check"], env=self.absent, capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 77)
        self.assertIn("there is no nvcc", result.stdout)
        self.script("nvidia-smi", "exit 9")
        if not Path("/dev/nvidia0").exists():
            status, said = self.check()
            self.assertEqual(status, 77)
            self.assertIn("there is no NVIDIA GPU on this machine; nothing was run on a device", said)

    def test_all_tests_run_but_those_of_the_executor(self):
        status, said = self.check()
        self.assertEqual(status, 0, said)
        on_device, on_executor = said.split("on the executor only: ")
        for path in (ROOT / "tests" / "cuda").glob("*_test.c*"):
            name = path.name.split("_test.")[0]
            if "\n// executor only: " in path.read_text(encoding="utf-8"):
                self.assertIn(name, on_executor.splitlines()[0].split())
            else:
                self.assertIn(f"\n{name}: all passed\n", on_device)
        self.assertIn("racecheck, row_norms: all passed", said)
        self.assertNotIn("racecheck, dp_optimizer", said)
        status, said = self.check("--no-sanitizer", "--only", "row_norms")
        self.assertEqual(status, 0, said)
        self.assertNotIn("racecheck, row_norms", said)

    def test_what_fails_is_named_and_the_others_run(self):
        wrong = 'case "$0" in */row_norms) echo 3 is not 4; exit 2 ;; esac; echo all passed'
        self.assert_fails(self.check(program=wrong), "3 is not 4", "not as on the CPU: row_norms;", "\nsources: all")
        under = 'case "$UNDER$0" in 1*/row_norms) echo a race; exit 1 ;; esac; echo all passed'
        self.assert_fails(self.check("--only", "row_norms", program=under), "a race", "memcheck, row_norms")

    def test_a_device_that_cannot_run_something_is_no_success(self):
        here = 'case "$0" in */device_check) exit 0 ;; esac; echo no shared memory; exit 77'
        status, said = self.check("--only", "sources", program=here)
        self.assertEqual(status, 77)
        self.assertIn("sources: not run: no shared memory", said)
        self.assertEqual(self.check(program="echo no GPU; exit 77")[0], 77)

    def test_build_only_names_what_it_builds_and_runs_nothing(self):
        self.assert_passes(self.check("--build-only", program="exit 1"), "the tests row_norms staged nccl compile")
        self.assert_passes(self.check("--build-only", "--only", "sources", "--only", "reduce", program="exit 1"),
                           "the tests sources reduce compile")
        self.assert_passes(self.check("--build-only", "--all", program="exit 1"), "golden_opacus")
        self.assert_fails(self.check("--only", "simt"), "no test 'simt' for a device; there are: ")

    def test_without_nccl_its_test_is_left_out_by_name(self):
        nvcc = (self.root / "nvcc").read_text(encoding="utf-8").splitlines()
        self.script("nvcc", 'for word in "$@"; do [ "$word" != -lnccl ] || exit 1; done', *nvcc[1:])
        self.assert_passes(self.check("--build-only"), "nccl.h and libnccl", "finds: nccl\n",
                           "the tests row_norms staged compile")
        status, said = self.check("--build-only", "--only", "nccl")
        self.assertEqual(status, 77, said)


class Bench(unittest.TestCase):
    def setUp(self):
        loader = importlib.machinery.SourceFileLoader("bench", str(TOOLS / "bench"))
        self.bench = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench", loader))
        loader.exec_module(self.bench)

    @staticmethod
    def entry(name, time, **more):
        return name, {"run_name": name, "cpu_time": time, "real_time": 9 * time, "time_unit": "us", **more}

    def test_pairs_by_question_and_arguments(self):
        rows = self.bench.rows_of("noise", dict([self.entry("q/ours/8", 3.0), self.entry("q/raw:loop/8", 2.0),
                                                 self.entry("q/ours/9/real_time", 5.0),
                                                 self.entry("q/raw:loop/9/real_time", 5.0)]),
                                  {"noise": {"q": {"goal": 1.1}}})
        self.assertEqual([(row["question"], row["ours"], row["reference"], row["ratio"], row["holds"]) for row in rows],
                         [("q/8", 3000.0, 2000.0, 1.5, False), ("q/9", 45000.0, 45000.0, 1.0, True)])
        self.assertEqual((rows[0]["reference_name"], rows[0]["unit"], rows[0]["better"]), ("loop", "ns", "lower"))

    def test_counted_bytes_are_better_when_higher(self):
        rows = self.bench.rows_of("noise", dict([self.entry("q/ours", 1.0, bytes_per_second=8e9),
                                                 self.entry("q/raw:loop", 1.0, bytes_per_second=10e9)]),
                                  {"noise": {"q": {"goal": 0.9}}})
        self.assertEqual([(row["ours"], row["unit"], row["ratio"], row["better"], row["holds"]) for row in rows],
                         [(8.0, "GB/s", 0.8, "higher", False)])

    def test_a_benchmark_alone_is_an_error(self):
        for names in (["q/ours"], ["q/raw:loop"], ["q"]):
            with self.assertRaises(SystemExit):
                self.bench.rows_of("noise", dict(self.entry(name, 1.0) for name in names), {})


class NoiseQuality(TreeTest):
    def look(self, *arguments, compiler=None):
        environment = {**os.environ, **({"CXX": str(compiler)} if compiler else {})}
        result = subprocess.run([str(TOOLS / "noise_quality"), "--threads", "1", *arguments], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, check=False, env=environment)
        return result.returncode, result.stdout

    def faulty(self, path, *changes):
        """A compiler that finds the header with a mistake in it first."""
        text = (ROOT / "include/dpopt" / path).read_text(encoding="utf-8")
        for before, after in changes:
            self.assertEqual(text.count(before), 1, before)
            text = text.replace(before, after)
        self.write(f"include/dpopt/{path}", text)
        wrapper = self.write("compiler", f'#!/bin/sh\nexec {os.environ.get("CXX", "g++")} "-I{self.root}/include" "$@"\n')
        wrapper.chmod(0o755)
        return wrapper

    def test_each_mechanism_passes_with_a_few_numbers(self):
        for of in ("counter", "secure", "hardened"):
            self.assert_passes(self.look("--of", of, "--draws", "2e5"), "Kolmogorov-Smirnov", "beyond 6 sigma",
                               "correlation of steps", "no fault found")

    def test_a_tail_that_ends_at_five_sigma_is_found(self):
        cut = self.faulty("noise/box_muller.hpp", ("+ (low + 0.5F) * 0x1p-24F", "+ 0x1p6F"))
        result = self.look("--draws", "1e8", compiler=cut)
        self.assert_fails(result, "FAULTS FOUND")
        self.assertRegex(result[1], r"beyond 5 sigma .* FAILED")

    def test_a_counter_that_forgets_the_parameter_or_the_step_is_found(self):
        for row, before, after in (("parameters", "(where.parameter << 4)", "(0 * where.parameter)"),
                                   ("steps", "static_cast<std::uint32_t>(where.step),", "0u,")):
            again = self.faulty("noise/stream_address.hpp", (before, after))
            result = self.look("--draws", "3e5", compiler=again)
            self.assert_fails(result, "FAULTS FOUND")
            self.assertRegex(result[1], rf"correlation of {row} .* FAILED")


class Build(unittest.TestCase):
    def test_cmake_and_meson_build_the_same_tests(self):
        """Meson takes its list from list_tests; CMake has all of it, under the same names."""
        if BUILD is None:
            self.skipTest("no --build")
        listed = set()
        for line in run("lib/list_tests")[1].splitlines():
            kind, name, ranks, _ = line.split()
            if (kind == "plain" and name in ("eigen", "blas")) or "mpi" in kind:
                continue
            listed.add(name)
        found = subprocess.run(["ctest", "-N"], cwd=BUILD, stdout=subprocess.PIPE, text=True, check=True).stdout
        names = {line.split(": ", 1)[1].strip() for line in found.splitlines() if "Test #" in line or "Test  #" in line}
        self.assertTrue(listed)
        self.assertEqual(listed - names, set())


if __name__ == "__main__":
    if "--build" in sys.argv:
        at = sys.argv.index("--build")
        BUILD = sys.argv[at + 1]
        del sys.argv[at:at + 2]
    unittest.main(verbosity=1)
