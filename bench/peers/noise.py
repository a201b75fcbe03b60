#!/usr/bin/env python3
# SPDX-FileCopyrightText: The dpopt authors
# SPDX-License-Identifier: Apache-2.0
"""Normal numbers a second of one thread, counter_gaussian against torch in turns, as JSON rows for tools/bench.

Usage: noise.py LIBRARY [--quick], where LIBRARY is noise_fill.cpp as a shared library. Three references: torch.normal
as Opacus calls it (it makes a new tensor), normal_ into memory that is there, and normal_ followed by the addition,
which is what our add() does.
"""

import ctypes
import json
import statistics
import sys
import time

import torch


def main():
    library = ctypes.CDLL(sys.argv[1])
    quick = "--quick" in sys.argv[2:]
    count, rounds = (1 << 16, 2) if quick else (1 << 24, 9)
    torch.set_num_threads(1)
    rows = []
    for name, dtype in (("float", torch.float32), ("double", torch.float64)):
        add = getattr(library, f"dpopt_add_{name}")
        add.argtypes = [ctypes.c_uint64, ctypes.c_void_p, ctypes.c_int64]
        add.restype = None
        x = torch.zeros(count, dtype=dtype)
        scratch = torch.zeros(count, dtype=dtype)

        def fill_and_add(scratch=scratch, x=x):
            x.add_(scratch.normal_())

        work = {
            "ours": lambda step, add=add, x=x: add(step, x.data_ptr(), count),
            "torch.normal": lambda _, dtype=dtype: torch.normal(0.0, 1.0, (count,), dtype=dtype),
            "torch normal_": lambda _, scratch=scratch: scratch.normal_(),
            "torch normal_ and add_": lambda _, f=fill_and_add: f(),
        }
        seconds = {key: [] for key in work}
        for step in range(rounds + 1):  # the first turn warms up
            for key, run in work.items():
                start = time.thread_time()
                run(step)
                if step > 0:
                    seconds[key].append(time.thread_time() - start)
        rate = {key: count / statistics.median(all_of) / 1e6 for key, all_of in seconds.items()}
        for key in list(work)[1:]:
            rows.append({"question": f"counter_gaussian {name}", "ours": rate["ours"], "reference": rate[key],
                         "reference_name": f"{key}, {torch.__version__}", "unit": "M/s", "better": "higher"})
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
