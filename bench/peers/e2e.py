#!/usr/bin/env python3
# SPDX-FileCopyrightText: The dpopt authors
# SPDX-License-Identifier: Apache-2.0
"""Whole training steps of multilayer perceptrons, small convolutional networks and a transformer, ours and Opacus' in
turns on one thread, as JSON rows for tools/bench.

Usage: e2e.py LIBRARY [--quick], where LIBRARY is e2e_fill.cpp as a shared library. Our gradients are factored or written
out, clipped per layer or together; Opacus writes them out (flat, per layer) or uses ghost clipping, which leaves the
gradients of convolutions and LayerNorm written out. LIBRARY is compiled for this machine's processor, as torch's kernels
choose its instructions when they run. Same shapes, batches, losses and SGD. The last rows of a shape
compare the plain steps, and Opacus with its own.
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

KINDS = {"plain": 0, "factored per layer": 1, "factored flat": 2, "materialized per layer": 3, "materialized flat": 4,
         "factored flat without rows": 5}


class Mlp:
    def __init__(self, widths, batch):
        self.widths, self.batch = widths, batch
        self.name = "-".join(map(str, widths)) + f" B={batch}"

    def ours(self, library, kind):
        return library.dpopt_make_mlp((ctypes.c_int64 * len(self.widths))(*self.widths), len(self.widths), self.batch,
                                      kind)

    def model(self):
        layers = []
        for i, (inputs, outputs) in enumerate(zip(self.widths, self.widths[1:])):
            layers += ([torch.nn.ReLU()] if i > 0 else []) + [torch.nn.Linear(inputs, outputs)]
        return torch.nn.Sequential(*layers)

    def data(self):
        return torch.randn(self.batch, self.widths[0]), torch.arange(self.batch) % self.widths[-1]


class Cnn:
    def __init__(self, side, batch):
        self.side, self.batch = side, batch
        self.name = f"CNN {side}x{side} B={batch}"

    def ours(self, library, kind):
        return library.dpopt_make_cnn(self.side, self.batch, kind)

    def model(self):
        layers, channels, side = [], 1, self.side
        for out, stride in ((16, 1), (32, 2), (32, 2)):
            layers += [torch.nn.Conv2d(channels, out, 3, stride, 1), torch.nn.ReLU()]
            channels, side = out, (side + stride - 1) // stride
        return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(channels * side * side, 10))

    def data(self):
        return torch.randn(self.batch, 1, self.side, self.side), torch.arange(self.batch) % 10


class Block(torch.nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.q, self.k, self.v, self.o = (torch.nn.Linear(width, width) for _ in range(4))
        self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x):
        n = self.norm1(x)
        q, k, v = (f(n).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        of_heads = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.o(of_heads)
        return x + self.down(torch.relu(self.up(self.norm2(x))))


class Transformer:
    def __init__(self, layers, width, heads, positions, batch):
        self.shape, self.batch = (layers, width, heads, positions, batch), batch
        self.name = f"transformer {layers}x d={width} T={positions} B={batch}"

    def ours(self, library, kind):
        return library.dpopt_make_transformer(*self.shape, kind)

    def model(self):
        layers, width, heads, _, _ = self.shape
        return torch.nn.Sequential(*(Block(width, heads) for _ in range(layers)), torch.nn.Linear(width, 64))

    def data(self):
        _, width, _, positions, batch = self.shape
        return torch.randn(batch, positions, width), (torch.arange(batch * positions) % 64).view(batch, positions)


class Loss(torch.nn.Module):
    """Cross entropy; a sample's is the mean over its positions."""

    def __init__(self, reduction="mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, scores, labels):
        each = torch.nn.functional.cross_entropy(scores.flatten(0, -2), labels.flatten(), reduction="none")
        each = each.view(len(labels), -1).mean(1)
        return each.mean() if self.reduction == "mean" else each


def torch_step(shape, how):
    """A function that takes one step."""
    model = shape.model()
    parameters = len(list(model.parameters()))
    x, y = shape.data()
    loss_of = Loss()
    if how == "ghost":
        model = GradSampleModuleFastGradientClipping(model, max_grad_norm=1.0, use_ghost_clipping=True)
    elif how != "plain":
        model = GradSampleModule(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    options = {"noise_multiplier": 1.0, "expected_batch_size": shape.batch, "max_grad_norm": 1.0}
    if how == "ghost":
        optimizer = DPOptimizerFastGradientClipping(optimizer, **options)
        loss_of = DPLossFastGradientClipping(model, optimizer, loss_of)
    elif how == "flat":
        optimizer = DPOptimizer(optimizer, **options)
    elif how == "per layer":
        options["max_grad_norm"] = [1.0] * parameters
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


def rows_of(shape, library, rounds):
    ours = {kind: shape.ours(library, number) for kind, number in KINDS.items()}
    work = {kind: lambda t=t: library.dpopt_step(t) for kind, t in ours.items()}
    for how in ("plain", "flat", "per layer", "ghost"):
        work[f"torch {how}"] = torch_step(shape, how)
    ms = medians(work, rounds)
    for t in ours.values():
        library.dpopt_free(t)
    version = f"Opacus {opacus.__version__}"
    compared = (("factored per layer", "factored per layer", "torch per layer", f"{version}, materialized per layer"),
                ("factored flat", "factored flat", "torch flat", f"{version}, materialized flat"),
                ("factored flat against ghost", "factored flat", "torch ghost", f"{version}, ghost clipping"),
                ("factored flat without rows", "factored flat without rows", "torch flat",
                 f"{version}, materialized flat"),
                ("factored flat without rows against ghost", "factored flat without rows", "torch ghost",
                 f"{version}, ghost clipping"),
                ("materialized per layer", "materialized per layer", "torch per layer",
                 f"{version}, materialized per layer"),
                ("materialized flat", "materialized flat", "torch flat", f"{version}, materialized flat"),
                ("materialized flat against ghost", "materialized flat", "torch ghost", f"{version}, ghost clipping"),
                ("plain step", "plain", "torch plain", f"torch {torch.__version__}"),
                ("Opacus ghost over its plain step", "torch ghost", "torch plain", "torch, not private"),
                ("Opacus materialized flat over its plain step", "torch flat", "torch plain", "torch, not private"))
    return [{"question": f"{shape.name}, {question}", "ours": ms[mine], "reference": ms[other],
             "reference_name": label, "unit": "ms", "better": "lower"} for question, mine, other, label in compared]


def main():
    warnings.filterwarnings("ignore")
    library = ctypes.CDLL(sys.argv[1])
    whole = ctypes.c_int64
    for make, types in ((library.dpopt_make_mlp, [ctypes.POINTER(whole), *[whole] * 3]),
                        (library.dpopt_make_cnn, [whole] * 3), (library.dpopt_make_transformer, [whole] * 6)):
        make.restype = ctypes.c_void_p
        make.argtypes = types
    library.dpopt_step.argtypes = library.dpopt_free.argtypes = [ctypes.c_void_p]
    torch.set_num_threads(1)
    torch.manual_seed(1)
    rows = []
    if "--quick" in sys.argv[2:]:
        for shape in (Mlp([12, 16, 8, 10], 32), Cnn(6, 16), Transformer(2, 16, 2, 5, 8)):
            rows += rows_of(shape, library, 1)
    else:
        for shape, rounds in ((Mlp([64, 128, 64, 10], 256), 9), (Mlp([784, 512, 256, 10], 512), 5),
                              (Mlp([1024] * 4, 128), 9), (Cnn(8, 256), 9), (Cnn(28, 128), 9),
                              (Transformer(2, 256, 4, 128, 8), 7)):
            rows += rows_of(shape, library, rounds)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
