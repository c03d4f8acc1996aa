"""Pre-training on the CPU, jade_compact, batch 256: the cost of the loop around a step, and a comparison of speed.

- **in place**: forward pass, backward pass and optimizer step of the same model, on a batch that is already in memory.
- **plain**: nn.LSTM with its own dropout, and a DataLoader with two workers over the dense array, which calls
  `rng.choice` once per window.

All sides run in one process, a few steps of each in turn. Ranks and start-up are measured in separate processes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import torch
from benchmark import (
    MOOLA,
    WORK,
    Figure,
    Usage,
    interleaved,
    main,
    quartiles,
    ratio,
    run_process,
    sample_bars,
)
from torch import nn
from torch.utils.data import DataLoader, Dataset

import moola
import moola.data.fast_windowed_loader
from moola.devices.placement import place
from moola.models import Encoder, load_config
from moola.models.dropout import seed_dropout
from moola.training import pretrain
from moola.training.objective import MaskedAutoencoder, huber

BATCH, K, STEPS = 256, 105, 4
BARS, DENSE_BARS = 300_000, 60_000
MODEL = "jade_compact"


def store(layout: str = "bars") -> Path:
    """A store of the sample market. It is built if it does not exist."""
    bars = BARS if layout == "bars" else DENSE_BARS
    path = WORK / f"pretrain-{layout}-{bars}"
    if not path.exists():
        moola.build_features(sample_bars(bars), path, stamp="open", layout=layout, window_length=K)
    return path


class Plain(nn.Module):
    """The model in its simplest form."""

    def __init__(self, width: int) -> None:
        super().__init__()
        a = load_config(MODEL).model.architecture
        self.drop = nn.Dropout(a.input_dropout)
        self.lstm = nn.LSTM(
            width, a.hidden_size, 2, batch_first=True, bidirectional=True, dropout=a.recurrent_dropout
        )
        self.decoder = nn.Linear(2 * a.hidden_size, width)
        self.vector = nn.Parameter(torch.zeros(width))

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        made = self.decoder(self.lstm(self.drop(torch.where(mask[..., None], self.vector, x)))[0])
        weights = mask[..., None].float()
        return (huber(made, x) * weights).sum() / weights.sum() / x.shape[2]


class PerSample(Dataset):  # type: ignore[type-arg]
    """For each window, a row of the dense array and a mask."""

    def __init__(self, path: Path) -> None:
        opened = moola.FeatureStore.open(path)
        self.path, self.windows = path, opened.splits["train"].windows
        self.array: np.ndarray | None = None

    def __len__(self) -> int:
        return self.windows

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self.array is None:
            self.array = moola.FeatureStore.open(self.path).features
        mask = np.zeros(K, bool)
        mask[np.random.default_rng(i).choice(K, 15, replace=False)] = True
        return torch.from_numpy(np.array(self.array[i])), torch.from_numpy(mask)


def stepping(
    model: nn.Module, loss_of: Callable[[tuple[torch.Tensor, ...]], torch.Tensor], batches: Iterator[object]
) -> Callable[[], None]:
    """A few steps of training, without a loop around them."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def turn() -> None:
        for _ in range(STEPS):
            loss = loss_of(next(batches))  # type: ignore[arg-type]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return turn


def inside(path: Path, run: Path) -> Callable[[], Usage]:
    """Times steps inside `pretrain` by its reports. The first step is left out, because it starts everything."""

    def turn() -> Usage:
        shutil.rmtree(run, ignore_errors=True)
        at: list[float] = []

        class EnoughError(Exception):
            pass

        def report(_: object) -> None:
            at.append(time.perf_counter())
            if len(at) > STEPS:
                raise EnoughError

        with suppress(EnoughError):
            pretrain(
                path,
                run,
                model=MODEL,
                settings=["training.pretrain.log_every=1"],
                report=report,
                stride=1,
                say=lambda _: None,
            )
        return Usage(at[-1] - at[0], 0)

    return turn


def measure(_: argparse.Namespace) -> list[Figure]:
    """The claims, and the speeds behind the defaults."""
    path, dense = store(), store("windows")
    placement = place("cpu", "auto")
    loaders = moola.data.fast_windowed_loader.create_fast_dataloaders(path, BATCH, seed=0)
    batch = next(iter(loaders.train))
    width = batch[0].shape[2]
    config = load_config(MODEL).model

    def bare(threads: int, bf16: bool, batches: Iterator[object]) -> Callable[[], None]:
        torch.manual_seed(0)
        objective = MaskedAutoencoder(Encoder(width, config.architecture))
        seed_dropout(objective, 0)

        def loss(b: tuple[torch.Tensor, ...]) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
                sums = objective(*b)
            return objective.weighted(objective.mean(sums))

        turn = stepping(objective, loss, batches)

        def limited() -> None:
            before = torch.get_num_threads()
            torch.set_num_threads(threads)
            try:
                turn()
            finally:
                torch.set_num_threads(before)

        return limited

    cores = len(os.sched_getaffinity(0))
    plain = Plain(width)
    rows = DataLoader(PerSample(dense), batch_size=BATCH, shuffle=True, num_workers=2, drop_last=True)
    run = WORK / "pretrain-run"
    rounds = interleaved(
        {
            "moola": inside(path, run),
            "in place": bare(cores, placement.precision == "bf16", repeat(batch)),
            "plain": stepping(plain, lambda b: plain(*b), chain.from_iterable(repeat(rows))),
            **{
                f"in place, {threads} thread{'s' if threads > 1 else ''}, {precision}": bare(
                    threads, precision == "bf16", repeat(batch)
                )
                for threads in sorted({1, cores})
                for precision in ("fp32", "bf16")
            },
        },
        rounds=5,
        warm_up=1,
    )
    shutil.rmtree(run, ignore_errors=True)
    speed = {side: BATCH * STEPS / rounds.median(side) for side in rounds.seconds}
    figures = [
        ratio(
            rounds,
            "moola",
            "in place",
            "a step inside pretrain, in units of the bare model's",
            "lower",
            claim="a training step inside `moola pretrain`, against the bare model's step on data already in place",
            bound=1.05,
        ),
        ratio(
            rounds,
            "plain",
            "moola",
            "pretrain: times the plain way's windows/s",
            "higher",
            claim="windows per second on the CPU against nn.LSTM and a DataLoader over the dense array, 2 workers",
            bound=1.0,
        ),
        *(Figure(f"  {side}: windows/s", value, "1", "higher") for side, value in speed.items()),
    ]
    return [*figures, *_ranks(path), _start(path)]


def _ranks(path: Path) -> list[Figure]:
    """Compares two ranks of one thread each with one rank of two threads."""
    run = WORK / "pretrain-ranks"

    def speed(ranks: int) -> float:
        shutil.rmtree(run, ignore_errors=True)
        launch = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node",
            2,
            "--standalone",
            "-m",
            "moola",
        ]
        command = launch if ranks == 2 else [MOOLA]
        steps = 12
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = str(2 // ranks)
        try:
            run_process(
                *command, "pretrain", "--feature-dir", path, "--output", run, "--model", MODEL, "--epochs", 1,
                "--batch-size", BATCH // ranks, "--windows-per-epoch", steps * BATCH, "--stride", 52,
            )  # fmt: skip
        finally:
            os.environ.pop("OMP_NUM_THREADS")
            if before is not None:
                os.environ["OMP_NUM_THREADS"] = before
        lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        return next(line for line in lines if line["kind"] == "epoch")["timing"]["windows_per_second"]

    pairs = [(speed(2), speed(1)) for _ in range(3)]
    values = [two / one for two, one in pairs]
    shutil.rmtree(run, ignore_errors=True)
    return [
        Figure(
            "two ranks of one thread: times one rank of two threads",
            statistics.median(values),
            "x",
            "higher",
            claim="two ranks on two cores (one thread each) against one rank with two threads, windows/s",
            bound=0.9,
            spread=quartiles(values),
        )
    ]


_BARE_START = """
import torch
model = torch.nn.LSTM(10, 64, 2, batch_first=True, bidirectional=True)
optimizer = torch.optim.AdamW(model.parameters())
model(torch.randn(256, 105, 10))[0].square().mean().backward()
optimizer.step()
"""

_MOOLA_START = """
import os, sys
from moola.__main__ import main
import moola.cli
def stop_after_first(run):
    def called(*arguments):
        run(*arguments)
        os._exit(0)
    return called
class Finder:
    # Imports nothing earlier than `moola pretrain` does.
    def find_spec(self, name, path, target=None):
        if name == "moola.training.pretraining":
            sys.meta_path.remove(self)
            import importlib.util
            spec = importlib.util.find_spec(name)
            load = spec.loader.exec_module
            def patched(module):
                load(module)
                module.Step.__call__ = stop_after_first(module.Step.__call__)
            spec.loader.exec_module = patched
            return spec
sys.meta_path.insert(0, Finder())
main()
"""


def _start(path: Path) -> Figure:
    """The time from the start of the process to the end of its first step."""
    run = WORK / "pretrain-start"

    def moola_start() -> Usage:
        shutil.rmtree(run, ignore_errors=True)
        return run_process(
            sys.executable, "-c", _MOOLA_START, "pretrain", "--feature-dir", path, "--output", run, "--model", MODEL
        )  # fmt: skip

    rounds = interleaved(
        {"moola": moola_start, "bare": lambda: run_process(sys.executable, "-c", _BARE_START)},
        rounds=5,
        warm_up=1,
    )
    shutil.rmtree(run, ignore_errors=True)
    more = [a - b for a, b in zip(rounds.seconds["moola"], rounds.seconds["bare"], strict=True)]
    detail = {f"{side} s": round(rounds.median(side), 3) for side in rounds.seconds}
    return Figure(
        "start to the end of the first step: seconds more than bare",
        statistics.median(more),
        "s",
        "lower",
        claim="start of `moola pretrain` to the end of its first step, against nn.LSTM and AdamW in a fresh process",
        bound=1.0,
        spread=quartiles(more),
        detail=detail,  # type: ignore[arg-type]
    )


if __name__ == "__main__":
    main(measure)
