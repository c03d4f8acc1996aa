"""Many series: two threads against one, over 64 series that have five years of bars in total.

The threads are Python's, because `compute_features` releases the GIL. Each thread takes the next series when it has
finished one. They write into reused arrays, so the kernel's work for the pages of fresh arrays does not count; times for
fresh arrays are shown as well. Another figure measures the engine's own threads, which also read, write and hash a
store.

Each thread has its own core. The single thread is timed on both cores in turn, and its speed is the mean of both. On a
shared machine, one core may be half as fast again as the other for a while, and "one thread" could mean either.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier

import numpy as np
from benchmark import BARS, WORK, Figure, Rounds, each, interleaved, main, quartiles, ratio, sample_columns

import moola

SERIES = 64
SIDES = ("one thread", "one thread on the other core", "two threads")


def measure(_: argparse.Namespace) -> list[Figure]:
    """The claim and both sides."""
    columns = sample_columns()
    cuts = np.linspace(0, len(columns[0]), SERIES + 1).astype(int)
    series = [[column[a:b] for column in columns] for a, b in pairwise(cuts)]

    outs = [np.zeros((len(bars[0]), 10), np.float32) for bars in series]

    def work_off(tasks: Iterable[tuple[list[np.ndarray], np.ndarray | None]]) -> None:
        for bars, out in tasks:
            moola.compute_features(*bars, out=out)

    def over(
        pool: ThreadPoolExecutor, threads: int, outs: list[np.ndarray] | list[None]
    ) -> Callable[[], None]:
        # The threads share an iterator. The GIL makes sure that each series is taken once.
        return lambda: list(pool.map(work_off, [iter(list(zip(series, outs, strict=True)))] * threads))

    first, second = sorted(os.sched_getaffinity(0))[:2]
    with _pool(first) as one, _pool(second) as other, _pool(first, second) as two:
        rounds = interleaved(
            {
                f"{name}{suffix}": over(pool, threads, arrays)
                for suffix, arrays in (("", outs), (", fresh arrays", [None] * SERIES))
                for name, pool, threads in zip(SIDES, (one, other, two), (1, 1, 2), strict=True)
            },
            rounds=21,
        )
    return [
        _gain(
            rounds,
            "",
            f"{SERIES} series: two threads against one",
            claim="many series, two threads against one",
            bound=1.8,
        ),
        _gain(rounds, ", fresh arrays", "  the same into fresh arrays"),
        *(each(rounds, side, f"  {side}", BARS) for side in rounds.seconds),
        *_store_pass(columns, cuts),
    ]


def _pool(*cores: int) -> ThreadPoolExecutor:
    """A pool with one started thread on each of these cores."""
    left = iter(cores)
    pool = ThreadPoolExecutor(len(cores), initializer=lambda: os.sched_setaffinity(0, {next(left)}))
    together = Barrier(len(cores))
    list(pool.map(lambda _: together.wait(), cores))
    return pool


def _gain(rounds: Rounds, suffix: str, name: str, **claim: object) -> Figure:
    """The speed of two threads, divided by the mean speed of one thread on both cores."""
    seconds = (rounds.seconds[f"{side}{suffix}"] for side in SIDES)
    gains = [2 / two / (1 / one + 1 / other) for one, other, two in zip(*seconds, strict=True)]
    return Figure(name, statistics.median(gains), "x", "higher", spread=quartiles(gains), **claim)  # type: ignore[arg-type]


def _store_pass(columns: list[np.ndarray], cuts: np.ndarray) -> list[Figure]:
    """The pass of `build_features` over a panel's bars, with one thread and with two."""
    from moola import _core

    folder = WORK / "many_series"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    np.save(folder / "bars.npy", np.column_stack(columns))
    spans = [(int(a), int(b - a)) for a, b in pairwise(cuts)]

    def write(threads: int) -> None:
        _core.write_features(folder, spans, "relativity10", None, threads)

    def clear() -> None:
        for name in ("features.npy", "valid.npy"):
            (folder / name).unlink(missing_ok=True)

    rounds = interleaved({"one": lambda: write(1), "two": lambda: write(2)}, rounds=7, between=clear)
    shutil.rmtree(folder)
    return [ratio(rounds, "one", "two", "  a store's pass, hashed and written: two against one", "higher")]


if __name__ == "__main__":
    main(measure)
