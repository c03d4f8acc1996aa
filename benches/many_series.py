"""Many series: two threads against one, over 64 series with the length of five years between them.

The threads are Python's, since `compute_features` lets go of the GIL: the way a notebook would do it. They write into
arrays that are used again, so that the pages of fresh ones, which are the kernel's work, do not count; fresh arrays
stand beside. Another figure: the engine's own threads, with the reading, writing and hashing of a store around them.
"""

from __future__ import annotations

import argparse
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from benchmark import BARS, WORK, Figure, each, interleaved, main, ratio, sample_columns

import moola

SERIES = 64


def measure(_: argparse.Namespace) -> list[Figure]:
    """The claim, and both sides."""
    columns = sample_columns()
    cuts = np.linspace(0, len(columns[0]), SERIES + 1).astype(int)
    series = [[column[a:b] for column in columns] for a, b in pairwise(cuts)]

    outs = [np.zeros((len(bars[0]), 10), np.float32) for bars in series]

    def fresh(bars: list[np.ndarray]) -> np.ndarray:
        return moola.compute_features(*bars)

    def again(bars: list[np.ndarray], out: np.ndarray) -> np.ndarray:
        return moola.compute_features(*bars, out=out)

    with ThreadPoolExecutor(2) as two, ThreadPoolExecutor(1) as one:
        rounds = interleaved(
            {
                "one thread": lambda: list(one.map(again, series, outs)),
                "two threads": lambda: list(two.map(again, series, outs)),
                "one thread, fresh arrays": lambda: list(one.map(fresh, series)),
                "two threads, fresh arrays": lambda: list(two.map(fresh, series)),
            },
            rounds=21,
        )
    return [
        ratio(
            rounds,
            "one thread",
            "two threads",
            f"{SERIES} series: two threads against one",
            "higher",
            claim="many series, two threads against one",
            bound=1.8,
        ),
        ratio(
            rounds,
            "one thread, fresh arrays",
            "two threads, fresh arrays",
            "  the same into fresh arrays",
            "higher",
        ),
        *(each(rounds, side, f"  {side}", BARS) for side in rounds.seconds),
        *_store_pass(columns, cuts),
    ]


def _store_pass(columns: list[np.ndarray], cuts: np.ndarray) -> list[Figure]:
    """The pass of `build_features` over a panel's bars, on one and on two threads."""
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
