"""`compute_features`, relativity10, one thread: against numba, and against the memory it must read and write.

- **numba**: the same definitions in one compiled pass (`numba_relativity.py`), with output equal to 1e-6. Both sides
  write into a reused array. In a fresh array the kernel has to provide the pages, which costs both sides the same;
  those times are shown as well.
- **memory**: the sum of each input column, and an output filled with a constant. Both sides write into fresh arrays,
  as the function does by default.

The figures below the two claims show where the time goes, and a lower limit for any implementation of one series.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
from benchmark import Figure, each, interleaved, main, quartiles, ratio, sample_columns
from numba import njit
from numba_relativity import relativity10

import moola


@njit(error_model="numpy")
def _ema(high, low, out, alpha):  # type: ignore[no-untyped-def]
    """The exponential mean of the ranges. By its definition it needs three dependent operations per bar."""
    average = high[0] - low[0]
    for i in range(len(high)):
        average += alpha * ((high[i] - low[i]) - average)
        out[i] = average
    return out


def measure(_: argparse.Namespace) -> list[Figure]:
    """Both claims, and the parts of the time."""
    bars = sample_columns()
    n = len(bars[0])
    reused, chain = np.zeros((n, 10), np.float32), np.zeros(n)

    def numba() -> object:
        return relativity10(*bars, np.empty((n, 10), np.float32))

    def memory() -> object:
        return [column.sum() for column in bars], np.full((n, 10), 1.0, np.float32)

    difference = np.abs(numba() - moola.compute_features(*bars)).max()
    if not difference <= 1e-6:
        raise SystemExit(f"numba and moola differ by {difference}, so their times cannot be compared")
    rounds = interleaved(
        {
            "moola": lambda: moola.compute_features(*bars),
            "numba": numba,
            "memory": memory,
            "moola, array reused": lambda: moola.compute_features(*bars, out=reused),
            "numba, array reused": lambda: relativity10(*bars, reused),
            "memory, array reused": lambda: ([column.sum() for column in bars], reused.fill(1.0)),
            "the EMA alone": lambda: _ema(bars[1], bars[2], chain, 2 / 21),
        },
        rounds=15,
    )
    page_faults = [
        (fresh - again) / n * 1e9
        for fresh, again in zip(rounds.seconds["moola"], rounds.seconds["moola, array reused"], strict=True)
    ]
    return [
        ratio(
            rounds,
            "numba, array reused",
            "moola, array reused",
            "compute_features: times as fast as numba",
            "higher",
            claim="`compute_features`, relativity10, one thread, against the same definitions compiled with numba",
            bound=2.0,
        ),
        ratio(
            rounds,
            "moola",
            "memory",
            "compute_features: times the memory's time",
            "lower",
            claim="the same, against reading the input columns and writing the output once",
            bound=3.0,
        ),
        ratio(rounds, "numba", "moola", "  the first, into fresh arrays", "higher"),
        *(each(rounds, side, f"  {side}", n) for side in rounds.seconds),
        Figure(
            "  of moola's: pages of the fresh output",
            statistics.median(page_faults),
            "ns/bar",
            "lower",
            spread=quartiles(page_faults),
        ),
        Figure("  largest difference from numba", float(difference), "1", "lower"),
    ]


if __name__ == "__main__":
    main(measure)
