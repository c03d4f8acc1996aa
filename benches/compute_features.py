"""`compute_features`, relativity10, one thread: against numba, and against the memory it must read and write.

Numba: the same definitions in one compiled pass (`numba_relativity.py`), output equal to 1e-6, both into an array used
again: the pages of a fresh one are the kernel's work, cost both sides the same, and stand beside. Memory: the sum of each
input column, and an output filled with a constant; both sides into fresh arrays, as the function does by default.
Below the two claims stands where the time goes, and what no implementation of one series can go below.
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
    """The one chain of operations that the definition does not let anyone shorten: three a bar, one after another."""
    average = high[0] - low[0]
    for i in range(len(high)):
        average += alpha * ((high[i] - low[i]) - average)
        out[i] = average
    return out


def measure(_: argparse.Namespace) -> list[Figure]:
    """Both claims, and the parts."""
    bars = sample_columns()
    n = len(bars[0])
    reused, chain = np.zeros((n, 10), np.float32), np.zeros(n)

    def numba() -> object:
        return relativity10(*bars, np.empty((n, 10), np.float32))

    def memory() -> object:
        return [column.sum() for column in bars], np.full((n, 10), 1.0, np.float32)

    difference = np.abs(numba() - moola.compute_features(*bars)).max()
    if not difference <= 1e-6:
        raise SystemExit(f"numba and moola differ by {difference}: compare nothing")
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
