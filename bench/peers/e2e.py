#!/usr/bin/env python3
# SPDX-FileCopyrightText: The dpopt authors
# SPDX-License-Identifier: Apache-2.0
"""Whole training steps of three multilayer perceptrons, ours and Opacus' in turns on one thread, as JSON rows for
tools/bench.

Usage: e2e.py LIBRARY [--quick], where LIBRARY is e2e_fill.cpp as a shared library. Our gradients are factored, clipped
per layer or together; Opacus writes them out (flat, per layer) or uses ghost clipping. Same shapes, batches, loss and
SGD. The last rows of a shape compare the plain steps, and our factored step with our materialized one.
"""

import ctypes
import json
import statistics
import sys
import time
import warnings

import opacus
import torch
from opacus.grad_sample import GradSampleModule
from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping, DPPerLayerOptimizer
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

SHAPES = (([64, 128, 64, 10], 256), ([784, 512, 256, 10], 512), ([1024, 1024, 1024, 1024], 128))
KINDS = {"plain": 0, "factored per layer": 1, "factored flat": 2, "materialized per layer": 3, "materialized flat": 4}


def model_of(widths):
    layers = []
    for i, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
        layers += ([torch.nn.ReLU()] if i > 0 else []) + [torch.nn.Linear(inputs, outputs)]
    return torch.nn.Sequential(*layers)


def torch_step(widths, batch, how):
    """A function that takes one step."""
    model = model_of(widths)
    x = torch.randn(batch, widths[0])
    y = torch.arange(batch) % widths[-1]
    loss_of = torch.nn.CrossEntropyLoss()
    if how == "ghost":
        model = GradSampleModuleFastGradientClipping(model, max_grad_norm=1.0, use_ghost_clipping=True)
    elif how != "plain":
        model = GradSampleModule(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    options = {"noise_multiplier": 1.0, "expected_batch_size": batch, "max_grad_norm": 1.0}
    if how == "ghost":
        optimizer = DPOptimizerFastGradientClipping(optimizer, **options)
        loss_of = DPLossFastGradientClipping(model, optimizer, loss_of)
    elif how == "flat":
        optimizer = DPOptimizer(optimizer, **options)
    elif how == "per layer":
        options["max_grad_norm"] = [1.0] * (2 * (len(widths) - 1))
        optimizer = DPPerLayerOptimizer(optimizer, **options)

    def step():
        optimizer.zero_grad()
        loss_of(model(x), y).backward()
        optimizer.step()

    return step


def medians(work, rounds):
    """Milliseconds of each, in turns; the first turn warms up."""
    taken = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, step in work.items():
            start = time.thread_time()
            step()
            if turn > 0:
                taken[name].append((time.thread_time() - start) * 1e3)
    return {name: statistics.median(all_of) for name, all_of in taken.items()}


def main():
    warnings.filterwarnings("ignore")
    library = ctypes.CDLL(sys.argv[1])
    library.dpopt_make.restype = ctypes.c_void_p
    library.dpopt_make.argtypes = [ctypes.POINTER(ctypes.c_int64), ctypes.c_int64, ctypes.c_int64, ctypes.c_int64]
    library.dpopt_step.argtypes = library.dpopt_free.argtypes = [ctypes.c_void_p]
    torch.set_num_threads(1)
    torch.manual_seed(1)
    quick = "--quick" in sys.argv[2:]
    rows = []
    for widths, batch in SHAPES[:1] if quick else SHAPES:
        name = "-".join(map(str, widths)) + f" B={batch}"
        as_array = (ctypes.c_int64 * len(widths))(*widths)
        ours = {kind: library.dpopt_make(as_array, len(widths), batch, number) for kind, number in KINDS.items()}
        work = {kind: lambda t=t: library.dpopt_step(t) for kind, t in ours.items()}
        for how in ("plain", "flat", "per layer", "ghost"):
            work[f"torch {how}"] = torch_step(widths, batch, how)
        ms = medians(work, 1 if quick else 9 if batch < 512 else 5)
        for t in ours.values():
            library.dpopt_free(t)

        def row(question, mine, other, label, ms=ms, name=name):
            rows.append({"question": f"{name}, {question}", "ours": ms[mine], "reference": ms[other],
                         "reference_name": label, "unit": "ms", "better": "lower"})

        version = f"Opacus {opacus.__version__}"
        row("factored per layer", "factored per layer", "torch per layer", f"{version}, materialized per layer")
        row("factored flat", "factored flat", "torch flat", f"{version}, materialized flat")
        row("factored flat against ghost", "factored flat", "torch ghost", f"{version}, ghost clipping")
        row("materialized per layer", "materialized per layer", "torch per layer", f"{version}, materialized per layer")
        row("materialized flat", "materialized flat", "torch flat", f"{version}, materialized flat")
        row("plain step", "plain", "torch plain", f"torch {torch.__version__}")
        row("Opacus ghost over its plain step", "torch ghost", "torch plain", "torch, not private")
        row("Opacus materialized flat over its plain step", "torch flat", "torch plain", "torch, not private")
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
