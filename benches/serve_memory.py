"""Other costs of serving: memory over a long epoch, opening, and waiting during training.

- **Memory**: the growth of a process's own memory, without the page cache, over an epoch of 50 million windows. These
  are the windows of the sample market, forty times.
- **Opening**: the time from a store's path to its first batch, after `import torch`, in fresh processes.
- **Waiting**: the share of a training step that waits for `DeviceWindowLoader` on the CPU. Also the time of the whole
  step against a step with the same batch repeatedly, because the loader's threads run at the same time. The step is that
  of `jade_compact` in pre-training, batch 256, float32.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

from benchmark import BARS, WORK, Figure, main, quartiles, sample_bars

EPOCH = """
import json, sys
import numpy as np
from moola.data.fast_windowed_loader import create_fast_dataloaders

def own():
    # Anonymous memory. Mapped files do not count: they belong to the page cache.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon:"))

loader = create_fast_dataloaders([sys.argv[1]] * int(sys.argv[2]), seed=0, stride=1).train
batches = iter(loader)
for _ in range(20):
    next(batches)
before = peak = own()
served = 20
for i, batch in enumerate(batches):
    served += 1
    if i % 5000 == 0:
        peak = max(peak, own())
print(json.dumps({"growth": max(peak, own()) - before, "windows": served * 256}))
"""

OPENING = """
import torch, sys
from time import perf_counter
started = perf_counter()
from moola.data.fast_windowed_loader import create_fast_dataloaders
next(iter(create_fast_dataloaders(sys.argv[1]).train))
print(perf_counter() - started)
"""

WAITING = """
import json, sys
from time import perf_counter
import torch
from moola.data.fast_windowed_loader import create_fast_dataloaders
from moola.models import Encoder, load_config
from moola.training.objective import MaskedAutoencoder

loader = create_fast_dataloaders(sys.argv[1], seed=0).train
objective = MaskedAutoencoder(Encoder(len(loader.dataset.feature_names), load_config("jade_compact").model.architecture))
optimizer = torch.optim.AdamW(objective.parameters())

def step(x, mask, valid):
    loss = objective.mean(objective(x, mask, valid))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

batches, shares, ratios = iter(loader), [], []
for number in range(24):
    started = perf_counter()
    batch = next(batches)
    got = perf_counter()
    step(*batch)
    ended = perf_counter()
    step(*batch)
    if number >= 4:
        shares.append((got - started) / (ended - started))
        ratios.append((ended - started) / (perf_counter() - ended))
print(json.dumps([shares, ratios]))
"""


def run(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    # Allow compiled modules beside the sources, as after an install with pip.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout


def measure(_: argparse.Namespace) -> list[Figure]:
    """All figures, over one store."""
    import moola

    path = WORK / "served-bars"
    if not path.exists():
        moola.build_features(sample_bars(BARS), path, stamp="open")
    epoch = json.loads(run(EPOCH, path, 40))
    opening = [1000 * float(run(OPENING, path)) for _ in range(8)][1:]
    shares, ratios = json.loads(run(WAITING, path))
    shares = [100 * share for share in shares]
    return [
        Figure(
            "memory that grows over an epoch of 50 million windows",
            epoch["growth"] / 1e6,
            "MB",
            "lower",
            claim="growth of resident memory over an epoch of 50 million windows, page cache aside",
            bound=100.0,
            detail={"windows": epoch["windows"]},
        ),
        Figure(
            "opening a store and having the first batch",
            statistics.median(opening),
            "ms",
            "lower",
            claim="opening a store and having the first batch, after `import torch`",
            bound=50.0,
            spread=quartiles(opening),
        ),
        Figure(
            "waiting in a step of jade_compact, percent",
            statistics.median(shares),
            "1",
            "lower",
            claim="`DeviceWindowLoader` on the CPU, waiting time of a training step of batch 256",
            bound=2.0,
            spread=quartiles(shares),
        ),
        Figure(
            "the same step with the loader, against one batch again",
            statistics.median(ratios),
            "x",
            "lower",
            spread=quartiles(ratios),
        ),
    ]


if __name__ == "__main__":
    main(measure)
