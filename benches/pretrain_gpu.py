"""Pre-training of jade on a GPU: the time of an epoch over 1.5 million windows, and of a step against its floor.

Batches are 256, 1024 and 4096, in fp32, TF32 and bf16. For each: the time of a step inside `pretrain`, and the time of
an epoch of 1.5 million windows at stride 1. The floor of a step is the longer of two times: its multiplications at the
rate of a large matrix product in that precision, and moving its weights, activations and gradients at the rate of a
copy. Without a GPU nothing is measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from itertools import product

import torch
from benchmark import BARS, WORK, Figure, main, sample_bars

import moola
from moola.models import load_config
from moola.training import pretrain

K, EPOCH, STEPS = 105, 1_500_000, 60
DEVICE = torch.device("cuda")


def seconds_of(work: object, rounds: int = 10) -> float:
    """The mean time of a call on the device, in seconds."""
    for _ in range(3):
        work()  # type: ignore[operator]
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(rounds):
        work()  # type: ignore[operator]
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / rounds


def measure(_: argparse.Namespace) -> list[Figure]:
    """Measures every combination in its own run."""
    if not torch.cuda.is_available():
        print("there is no GPU, so nothing is measured")
        return []
    path = WORK / "served-bars"
    if not path.exists():
        moola.build_features(sample_bars(BARS), path, stamp="open")
    width = len(moola.FeatureStore.open(path).feature_names)
    source = torch.empty(1 << 30, dtype=torch.uint8, device=DEVICE)
    bandwidth = 2 * source.nbytes / seconds_of(source.clone)
    rates = {}
    for name in ("fp32", "TF32", "bf16"):
        torch.backends.cuda.matmul.allow_tf32 = name == "TF32"
        a = torch.randn(8192, 8192, device=DEVICE, dtype=torch.bfloat16 if name == "bf16" else torch.float32)
        rates[name] = 2 * 8192**3 / seconds_of(lambda a=a: a @ a)
    figures = []
    architecture = load_config("jade").model.architecture
    h = architecture.hidden_size
    # Operations per bar: the forward pass, and twice as many in the backward pass. Two directions, four gates, input and
    # state.
    per_bar = 3 * 2 * 2 * 4 * h * ((width + h) + (2 * h + h))
    for batch, precision in product((256, 1024, 4096), ("fp32", "TF32", "bf16")):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "TF32"
        run = WORK / "pretrain-gpu"
        shutil.rmtree(run, ignore_errors=True)
        settings = ["training.pretrain.log_every=50"]
        pretrain(
            path,
            run,
            model="jade",
            settings=settings,
            device="cuda",
            precision="bf16" if precision == "bf16" else "fp32",
            epochs=2,
            stride=1,
            batch_size=batch,
            windows_per_epoch=STEPS * batch,
            say=lambda _: None,
        )
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        timing = [line["timing"] for line in lines if line["kind"] == "epoch"][-1]
        step = batch / timing["windows_per_second"]
        wide = 2 if precision == "bf16" else 4
        moved = wide * batch * K * 3 * (width + 2 * 12 * h)
        floor = max(batch * K * per_bar / rates[precision], moved / bandwidth)
        epoch = EPOCH / timing["windows_per_second"]
        name = f"GPU: jade, batch {batch}, {precision}"
        detail: dict[str, float | str] = {
            "gpu": torch.cuda.get_device_name(),
            "step ms": round(1e3 * step, 3),
            "floor ms": round(1e3 * floor, 3),
            "allocated MB": round(timing["allocated"] / 1e6),
        }
        figures.append(Figure(f"{name}: epoch of 1.5 M windows", epoch, "s", "lower", detail=detail))
        figures.append(
            Figure(f"{name}: step, in units of its floor", step / floor, "x", "lower", detail=detail)
        )
    shutil.rmtree(run, ignore_errors=True)
    best = min((f for f in figures if f.unit == "s"), key=lambda f: f.value)
    claim = "an epoch over 1.5 million windows, jade, stride 1"
    return [
        Figure(
            "GPU: the fastest epoch",
            best.value,
            "s",
            "lower",
            claim=claim,
            bound=10.0,
            detail={"which": best.name},
        ),
        *figures,
    ]


if __name__ == "__main__":
    main(measure)
