"""Batches on a GPU: the time until a batch is ready, against the time that its bytes take at memory bandwidth.

- **Ready**: consecutive batches of `create_fast_dataloaders(device="cuda")`, with the features on the device. The bytes
  of a batch are those that it reads and writes.
- **Bandwidth**: a copy of 1 GiB within the device, which reads 1 GiB and writes 1 GiB.
- **Streamed**: the same batches from the CPU through pinned memory, as for features that do not fit on the device.
- **Step**: one training step of `jade` in pre-training, batch 256, with the loader and with the same batch repeatedly.

Without a GPU nothing is measured.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from itertools import chain, repeat

import torch
from benchmark import BARS, WORK, Figure, interleaved, main, quartiles, sample_bars

import moola
from moola.data.device import DeviceWindowLoader
from moola.models import Encoder, load_config
from moola.training.objective import MaskedAutoencoder

BATCH, BATCHES, STEPS = 256, 200, 20
DEVICE = torch.device("cuda")


def measure(_: argparse.Namespace) -> list[Figure]:
    """All sides, in alternating order."""
    if not torch.cuda.is_available():
        print("there is no GPU, so nothing is measured")
        return []
    path = WORK / "served-bars"
    if not path.exists():
        moola.build_features(sample_bars(BARS), path, stamp="open")
    dataset = moola.FastWindowedDataset(path)

    def forever(resident: bool) -> Iterator[tuple[torch.Tensor, ...]]:
        loader = DeviceWindowLoader(
            dataset, BATCH, device=DEVICE, shuffle=True, drop_last=True, resident=resident
        )
        return chain.from_iterable(repeat(loader))

    resident, streamed = forever(True), forever(False)
    x, mask, valid = next(resident)
    objective = MaskedAutoencoder(Encoder(x.shape[2], load_config("jade").model.architecture)).to(DEVICE)
    optimizer = torch.optim.AdamW(objective.parameters(), fused=True)

    def take(batches: Iterator[tuple[torch.Tensor, ...]]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(BATCHES):
                next(batches)
            torch.cuda.synchronize()

        return run

    def train(batches: Iterator[tuple[torch.Tensor, ...]]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(STEPS):
                loss = objective.mean(objective(*next(batches)))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            torch.cuda.synchronize()

        return run

    source = torch.empty(1 << 30, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)

    def copy() -> None:
        for _ in range(10):
            target.copy_(source)
        torch.cuda.synchronize()

    rounds = interleaved(
        {
            "resident": take(resident),
            "streamed": take(streamed),
            "copy": copy,
            "step with the loader": train(resident),
            "step with one batch": train(repeat((x, mask, valid))),
        }
    )
    # A batch is written once, and its features and valid bars are also read. The mask is only written.
    moved = 2 * (x.nbytes + valid.nbytes) + mask.nbytes
    bandwidth = 20 * source.nbytes / rounds.median("copy")
    ready = [1e6 * seconds / BATCHES for seconds in rounds.seconds["resident"]]
    pinned = [1e6 * seconds / BATCHES for seconds in rounds.seconds["streamed"]]
    bytes_alone = 1e6 * moved / bandwidth
    ratios = rounds.ratios("step with the loader", "step with one batch")
    facts = {
        "gpu": torch.cuda.get_device_name(),
        "GB/s of a copy": round(bandwidth / 1e9),
        "us of its bytes at that rate": round(bytes_alone, 2),
    }
    return [
        Figure(
            "GPU: a batch ready, features on the device",
            statistics.median(ready) / 1e3,
            "ms",
            "lower",
            spread=(quartiles(ready)[0] / 1e3, quartiles(ready)[1] / 1e3),
            detail=facts,
        ),
        Figure(
            "GPU: times what its bytes take at memory bandwidth",
            statistics.median(ready) / bytes_alone,
            "x",
            "lower",
            detail=facts,
        ),
        Figure(
            "GPU: a batch ready, streamed through pinned memory",
            statistics.median(pinned) / 1e3,
            "ms",
            "lower",
            detail=facts,
        ),
        Figure(
            "GPU: step of jade, loader against one batch",
            statistics.median(ratios),
            "x",
            "lower",
            spread=quartiles(ratios),
            detail=facts
            | {s: f"{1e3 * rounds.median(s) / STEPS:.2f} ms" for s in rounds.seconds if s.startswith("step")},
        ),
    ]


if __name__ == "__main__":
    main(measure)
